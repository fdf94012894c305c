"""Where the code of the package runs a statement, fills a format or opens a path: what it is then given."""

import ast

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SQL = {"execute", "executemany", "executescript"}
SQLITE_UTILS = {
    *("add_column", "add_foreign_key", "count_where", "create", "create_index", "create_table", "create_view"),
    *("delete_where", "enable_fts", "pks_and_rows_where", "query", "rows_where", "table", "transform", "view"),
}
LOGGING = {"debug", "info", "warning", "error", "exception", "critical"}
OPENS = {
    *("open", "io.open", "gzip.open", "Path", "glob", "iglob", "sqlite3.connect", "Trail.open", "Log"),
    *("os.path.exists", "os.path.isfile", "os.path.isdir", "os.path.getsize", "os.path.getmtime"),
}
ON_A_PATH = {
    *("read_text", "read_bytes", "write_text", "write_bytes", "unlink", "touch", "mkdir", "rmdir", "exists", "is_file"),
    *("is_dir", "iterdir", "glob", "rglob", "rename", "symlink_to", "hardlink_to", "chmod"),
}
OF_THE_SYSTEM = {
    *("open", "remove", "unlink", "rename", "replace", "renames", "mkdir", "makedirs", "rmdir", "removedirs", "stat"),
    *("lstat", "link", "symlink", "chmod", "chown", "truncate", "listdir", "scandir", "access", "utime", "readlink"),
}


def sinks(module, node):
    """The expressions of a node that are run as SQL, used as a format, or taken for a path."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and not _is_number(module, node.right):
        yield "format", node.left
    elif isinstance(node, ast.FormattedValue) and node.format_spec is not None:
        yield "format", node.format_spec
    elif isinstance(node, ast.Attribute) and node.attr in SQL and not _is_called(module, node):
        yield "sql", {f"{ast.unparse(node)} under another name"}
    elif isinstance(node, FUNCTIONS) and node.name.startswith("construct_") and node.name.endswith("statements"):
        yield from (("sql", value) for value in returned(node))
    elif isinstance(node, ast.Call):
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        yield from _of_call(module, node, given, ast.unparse(node.func))


def _of_call(module, node, given, called):
    last = called.rpartition(".")[2]
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    if receiver is not None and last in SQL:
        yield from (("sql", value) for value in given[:1])
    elif receiver is not None and last in SQLITE_UTILS and module.uses_sqlite_utils:
        yield from (("sql", value) for value in given)
    elif receiver is not None and last in ("format", "format_map"):
        yield "format", receiver
    elif last in ("strftime", "strptime") and given:
        yield "format", given[-1]
    elif called == "format" and len(given) == 2:
        yield "format", given[1]
    elif module.imported.get(called) == ("string", "Template") and given:
        yield "format", given[0]
    elif receiver is not None and last in LOGGING and "log" in ast.unparse(receiver).lower():
        yield from (("format", value) for value in given[:1])
    elif _opens(module, called, last) and given:
        yield "path", given[0]
        if called in ("os.rename", "os.replace", "os.link", "os.symlink") or called.startswith("shutil."):
            yield from (("path", value) for value in given[1:2])
    elif called.startswith("tempfile.") or module.imported.get(called, ("",))[0] == "tempfile":
        yield from (("path", value) for value in given)
    elif receiver is not None and last in ON_A_PATH:
        yield from (("path", value) for value in [receiver, *given[:1]])


def _opens(module, called, last):
    source = module.imported.get(called, ("", ""))[0]
    if called == "Path" and source != "pathlib":
        return False
    return (
        called in OPENS
        or called.startswith("shutil.")
        or (called.startswith("os.") and last in OF_THE_SYSTEM and called.count(".") == 1)
        or (source in ("os", "os.path", "shutil", "sqlite3") and last in {*OF_THE_SYSTEM, "connect", "exists"})
    )


def _is_number(module, node):
    if isinstance(node, ast.Name) and len(module.bindings(module.tree).get(node.id, ())) == 1:
        node = module.bindings(module.tree)[node.id][0]
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_called(module, node):
    parent = module.parent.get(node)
    return isinstance(parent, ast.Call) and parent.func is node


def returned(function):
    """What a function returns or yields."""
    for node in within(function):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and node.value is not None:
            yield node.value


def within(scope):
    """Every node of a function or module, but for those of the functions within it, in the order of the text."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        yield node
        yield from within(node)
