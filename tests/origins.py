"""Reads the package's code: which statements, formats and paths are made of more than its own constants, and of what.

An expression is followed back to where its parts come from: through local names, constants of modules, functions of
the package and what they return. What is left are its *origins*: parameters, attributes, what other code returned.
"""

import ast
import builtins
from collections import defaultdict
from pathlib import Path

from sinks import FUNCTIONS, returned, sinks, within

# What these give of a constant is constant.
_VIEWS = {"items", "keys", "values", "copy", "strip", "lower", "upper"}
_MODULES = {"os.path", "msgspec.json", "msgspec.structs"}
# Results of these are numbers, whatever they are given.
_NUMBERS = {"len", "int", "ord", "range", "round"}


class Code:
    """The modules of a package, by their dotted names."""

    def __init__(self, sources):
        self.modules = {name: _Module(self, name, file, text) for name, (file, text) in sources.items()}

    @classmethod
    def of(cls, folder):
        """Every module below a package's folder."""
        sources = {}
        for path in sorted(Path(folder).rglob("*.py")):
            file = path.relative_to(folder)
            name = ".".join([Path(folder).name, *file.with_suffix("").parts]).removesuffix(".__init__")
            sources[name] = (file.as_posix(), path.read_text(encoding="utf-8"))
        return cls(sources)

    def findings(self):
        """By kind, file and function: the origins of the statements, formats and paths that are not constant."""
        found = defaultdict(set)
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                for kind, made in sinks(module, node):
                    origins = made if isinstance(made, set) else module.origins(made)
                    if origins:
                        found[kind, module.file, module.function_name(node)] |= origins
        return dict(found)


class _Module:
    def __init__(self, code, name, file, text):
        self.code, self.name, self.file = code, name, file
        self.tree = ast.parse(text)
        self.parent = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.imported, self.external = {}, set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                self.external |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (node.module or "", alias.name)
        self.uses_sqlite_utils = any(source == "sqlite_utils" for source, _ in self.imported.values())
        self.defined = {one.name for one in ast.walk(self.tree) if isinstance(one, (*FUNCTIONS, ast.ClassDef))}
        self._bound = {}

    # Where their parts come from

    def origins(self, node, seen=frozenset()):
        """Where an expression's parts come from, but for constants of the code."""
        key = (self.name, id(node))
        if key in seen or node is None:
            return set()
        seen = seen | {key}

        def of(*parts):
            return set().union(*(self.origins(part, seen) for part in parts))

        match node:
            case ast.Constant() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return set()
            case ast.JoinedStr(values=parts) | ast.BoolOp(values=parts):
                return of(*parts)
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                return of(*parts)
            case ast.Dict(keys=keys, values=values):
                return of(*keys, *values)
            case ast.DictComp(key=key, value=value):
                return of(key, value)
            case ast.FormattedValue(value=part, format_spec=spec):
                return of(part, spec)
            case ast.BinOp(left=left, right=right):
                return of(left, right)
            case ast.IfExp(body=one, orelse=other):
                return of(one, other)
            case ast.Starred(value=part) | ast.UnaryOp(operand=part) | ast.NamedExpr(value=part):
                return of(part)
            case ast.Subscript(value=part):
                return of(part)  # whatever the index: what is chosen stands in the code
            case ast.GeneratorExp(elt=part) | ast.ListComp(elt=part) | ast.SetComp(elt=part):
                return of(part)
            case ast.Name():
                return self._of_name(node, seen)
            case ast.Attribute():
                return self._of_attribute(node, seen)
            case ast.Call():
                return self._of_result(node, seen)
        return {ast.unparse(node)}

    def _of_name(self, node, seen):
        for function in self._functions_around(node):
            bound = self.bindings(function)
            if node.id in bound:
                return set().union(*(self._of_binding(value, node.id, seen) for value in bound[node.id]))
        return self.global_origins(node.id, seen)

    def _of_binding(self, value, name, seen):
        return {name} if value is None else self.origins(value, seen)

    def global_origins(self, name, seen):
        """Where a name of the module comes from."""
        bound = self.bindings(self.tree)
        if name in bound:
            return set().union(*(self._of_binding(value, name, seen) for value in bound[name]))
        if name in self.imported:
            source, original = self.imported[name]
            if source in self.code.modules:
                is_module = f"{source}.{original}" in self.code.modules
                return set() if is_module else self.code.modules[source].global_origins(original, seen)
            return set()
        return set() if name in self.defined | self.external or hasattr(builtins, name) else {name}

    def _of_attribute(self, node, seen):
        if isinstance(node.value, ast.Name):
            source = ".".join(part for part in self.imported.get(node.value.id, ()) if part)
            if source in self.code.modules:
                return self.code.modules[source].global_origins(node.attr, seen)
            if node.value.id in self.external and ast.unparse(node) in _MODULES:
                return set()
        return {ast.unparse(node)}

    def _of_result(self, node, seen):
        called = ast.unparse(node.func)
        if called in _NUMBERS:
            return set()
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        origins = set().union(*(self.origins(value, seen) for value in given))
        module, function = self._called(node)
        if function is not None:
            own = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
            made = set().union(*(module.origins(value, seen) for value in returned(function)))
            return origins | (made - own)
        if isinstance(node.func, ast.Attribute):
            origins |= self.origins(node.func.value, seen)
            known = given or isinstance(node.func.value, ast.Constant | ast.JoinedStr) or origins
            known = known or node.func.attr in _VIEWS
        else:
            known = given
        return origins if known else {ast.unparse(node)}

    def _called(self, node):
        """The function of the package that a call goes to, with its module, where that can be told."""
        if isinstance(node.func, ast.Name):
            source, name = self.imported.get(node.func.id, (self.name, node.func.id))
            module = self.code.modules.get(source)
            around = module.tree if module else None
        elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("self", "cls"):
            module, name, around = self, node.func.attr, self._class_around(node)
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            source = ".".join(part for part in self.imported.get(node.func.value.id, ()) if part)
            module, name = self.code.modules.get(source), node.func.attr
            around = module.tree if module else None
        else:
            return None, None
        for one in ast.iter_child_nodes(around) if around is not None else ():
            if isinstance(one, FUNCTIONS) and one.name == name:
                return module, one
        return None, None

    # Names

    def bindings(self, scope):
        """By name what it may hold in a function or a module; None where that comes from outside, as a parameter."""
        if scope not in self._bound:
            bound = self._bound[scope] = defaultdict(list)
            if isinstance(scope, FUNCTIONS):
                for argument in ast.walk(scope.args):
                    if isinstance(argument, ast.arg):
                        bound[argument.arg].append(None)
            for node in within(scope):
                self._bind(bound, node)
        return self._bound[scope]

    def _bind(self, bound, node):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    _assign(bound, target, value)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                _assign(bound, target, value)
            case ast.AugAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
                _assign(bound, target, value)
            case ast.For(target=target, iter=many) | ast.comprehension(target=target, iter=many):
                _assign_each(bound, target, many)
            case ast.withitem(optional_vars=target, context_expr=value) if target is not None:
                _assign(bound, target, value)
            case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name) if name is not None:
                bound[name].append(None)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=verb), args=given) if verb in (
                *("append", "extend", "insert", "add", "update", "setdefault"),
            ):
                if name in bound:
                    bound[name] += given

    def _functions_around(self, node):
        while node in self.parent:
            node = self.parent[node]
            if isinstance(node, FUNCTIONS):
                yield node

    def _class_around(self, node):
        while node in self.parent:
            node = self.parent[node]
            if isinstance(node, ast.ClassDef):
                return node
        return None

    def function_name(self, node):
        """The name of the function that a node stands in, with its class."""
        names = [] if not isinstance(node, FUNCTIONS) else [node.name]
        while node in self.parent:
            node = self.parent[node]
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                names.append(node.name)
        return ".".join(reversed(names)) or "(module)"


def _assign(bound, target, value):
    if isinstance(target, ast.Name):
        bound[target.id].append(value)
    elif isinstance(target, ast.Starred):
        _assign(bound, target.value, value)
    elif isinstance(target, ast.Tuple | ast.List):
        parts = value.elts if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts) else None
        for place, one in enumerate(target.elts):
            _assign(bound, one, parts[place] if parts else value)


def _assign_each(bound, target, many):
    rows = many.elts if isinstance(many, ast.Tuple | ast.List) else [many]
    for row in rows:
        _assign(bound, target, row)
