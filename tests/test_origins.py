"""No statement, no format and no path is made of what came in: read off the code of the whole package."""

from pathlib import Path

import pytest
from origins import Code
from sinks import sinks

import dealtrail

# Where a part comes from elsewhere than the constants of the code, somebody looked where it does come from. By kind,
# file and function: the parts, and why they are sound. A new part fails the test, and so does an entry without a use.
REVIEWED = {
    ("sql", "projections/holding.py", "_held"): (
        {"select"},
        "its two callers, each and _counted, put it together of literals and of names that stand in _counted",
    ),
    ("sql", "projections/writing.py", "_Writer.flush"): ({"self._rows"}, "its keys are _TABLES"),
    ("sql", "store/reading.py", "Reading._last"): ({"column"}, "its two callers name a column by a literal"),
    ("sql", "projections/comparing.py", "_Comparison._rows"): (
        {"source", "table"},
        "its callers name tables of COLUMNS, and put a condition behind of names that stand in _OF_DEAL",
    ),
    ("format", "projections/holding.py", "_held"): ({"select"}, "as above: a literal with places for two literals"),
    ("format", "importing/mapping.py", "_fault"): (
        {"time_format"},
        "a format of times is what a mapping is asked for; strptime runs nothing, and what it refuses is refused here",
    ),
    ("format", "importing/translating.py", "Translator._written"): (
        {"self._mapping.time_formats"},
        "formats of times, each tried by _fault when the mapping was read",
    ),
    ("path", "trail.py", "Trail.open"): ({"path"}, "the path of the store, as its caller names it"),
    ("path", "store/log.py", "Log._inspect"): ({"self.path"}, "the store's own path"),
    ("path", "store/connections.py", "_cannot_open"): ({"path"}, "the store's own path"),
    ("path", "store/connections.py", "_Pool._create_connection"): ({"self.db_name"}, "the store's own path, as a URI"),
    ("path", "store/connections.py", "file_name"): ({"path"}, "the store's own path"),
    ("path", "store/connections.py", "inode"): ({"path"}, "the store's own path"),
    ("path", "projections/status.py", "_files"): ({"path"}, "the store's own path, escaped where it is a pattern"),
    ("path", "projections/health.py", "_writable"): ({"log.path"}, "the store's own path"),
    ("path", "projections/readmodel.py", "ReadModel._point"): ({"self._path"}, "the read model's own path"),
    ("path", "projections/readmodel.py", "ReadModel.as_it_stands"): (
        {"self._generations", "self._pointer", "ExitStack()"},
        "the read model's own path, and the whole number of a generation, which its own file names",
    ),
    ("path", "projections/generations.py", "Generations._found"): (
        {"self._beginning"},
        "the read model's own path, escaped as a pattern",
    ),
    ("path", "projections/generations.py", "remove"): (
        {"path"},
        "the read model's own path, and the whole number of a generation",
    ),
    ("path", "importing/mapping.py", "Mapping.load"): ({"path"}, "a file that the caller names"),
    ("path", "importing/rows.py", "CsvFile._bytes"): ({"source"}, "a file that the caller names"),
    ("path", "cli/options.py", "open_trail"): ({"click.get_current_context().meta"}, "--db or DEALTRAIL_DB"),
    ("path", "cli/values.py", "DefinitionFile.convert"): ({"value"}, "a file that the command line names"),
    ("path", "cli/options.py", "_master_key"): (
        {"click.get_current_context().meta"},
        "--master-key-file or its variable: a file that the operator names",
    ),
    ("path", "cli/forgetting.py", "forget"): ({"click.get_current_context().meta"}, "--db or DEALTRAIL_DB"),
    ("path", "cli/forgetting.py", "adopt_keys"): ({"click.get_current_context().meta"}, "--db or DEALTRAIL_DB"),
    ("path", "store/keys.py", "KeyFile._found"): ({"self.path"}, "the file of keys, as the caller names it"),
    ("path", "store/keys.py", "KeyFile._raw"): ({"self.path"}, "the file of keys, as the caller names it"),
    ("path", "tenants.py", "Tenants._opened"): (
        {"path"},
        "of a folder that the caller names and a slug, see Tenants.path",
    ),
    ("path", "store/copying.py", "back_up"): (
        {"path", "overwrite", "uuid4().hex"},
        "a file that the caller names, and a partial one beside it",
    ),
    ("path", "store/copying.py", "export"): (
        {"path", "overwrite", "uuid4().hex"},
        "a file that the caller names, and a partial one beside it",
    ),
    ("path", "store/copying.py", "verify_copy"): ({"copy"}, "the partial file of back_up"),
    ("path", "store/placing.py", "placed"): (
        {"path", "uuid4().hex"},
        "a file that the caller names, and a partial one beside it",
    ),
    ("path", "store/placing.py", "_rename"): ({"path", "partial"}, "those of placed"),
    ("path", "store/placing.py", "_sync"): ({"path"}, "those of placed, and their folder"),
    ("path", "store/lines.py", "LineFile.__init__"): ({"path"}, "a file that the caller names"),
    ("path", "store/restoring.py", "restore"): (
        {"path", "uuid4().hex"},
        "the path of the new store, as its caller names it, and a partial one beside it",
    ),
    ("path", "store/restoring.py", "_Told.__init__"): ({"files"}, "files that the caller names"),
    ("path", "templates/__init__.py", "_text"): (
        {"key"},
        "the name of a file of the package, looked up among them before",
    ),
    ("path", "cli/demo.py", "_say_what_next"): ({"sys.argv"}, "its own name, which is compared and never opened"),
    ("path", "cli/demo.py", "demo"): ({"file"}, "the file that the command line names for the demo"),
    ("path", "cli/demo.py", "_make_room"): ({"file"}, "the file that the command line names for the demo"),
    ("path", "cli/demo.py", "_remove"): ({"file"}, "the file that the command line names, and those beside it"),
}


def findings(text, **others):
    """What is found in a module of this text."""
    sources = {"shop.store": ("store.py", text)} | {
        f"shop.{name}": (f"{name}.py", more) for name, more in others.items()
    }
    return {(kind, function): parts for (kind, _, function), parts in Code(sources).findings().items()}


def test_no_statement_format_or_path_is_made_of_what_came_in():
    found = Code.of(Path(dealtrail.__file__).parent).findings()
    unknown = {place: parts for place, parts in found.items() if parts != REVIEWED.get(place, (None,))[0]}
    assert unknown == {}, "look where these parts come from; if it is from the code, say so in REVIEWED"
    assert set(REVIEWED) - set(found) == set(), "these entries are not needed any more"


def test_every_statement_of_the_package_is_looked_at():
    """That the reading of the code is not blind: it sees as many calls as a plain search of the text finds."""
    folder = Path(dealtrail.__file__).parent
    code = Code.of(folder)
    modules = code.modules.values()
    seen = sum(kind == "sql" for module in modules for node in module.parent for kind, _ in sinks(module, node))
    written = sum(path.read_text(encoding="utf-8").count(".execute") for path in folder.rglob("*.py"))
    assert seen >= written > 40


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ("def f(c, deal): c.execute(f'SELECT * FROM event WHERE id = {deal}')", "sql", {"deal"}),
        ("def f(c, deal): c.execute('SELECT ' + deal)", "sql", {"deal"}),
        ("def f(c, deal): c.execute('SELECT %s' % deal)", "sql", {"deal"}),
        ("def f(c, deal): c.execute('SELECT {}'.format(deal))", "sql", {"deal"}),
        ("def f(c, deal): c.execute('SELECT {d}'.format(d=deal))", "sql", {"deal"}),
        ("def f(c, deal): c.executemany(' '.join(['SELECT', deal]), [])", "sql", {"deal"}),
        ("def f(c, deal): c.executescript(deal)", "sql", {"deal"}),
        ("def f(c, deal): c.execute(sql=deal)", "sql", {"deal"}),
        ("def f(c, deal):\n s = 'SELECT'\n s += deal\n c.execute(s)", "sql", {"deal"}),
        ("def f(c, deal):\n s = ['SELECT']\n s.append(deal)\n c.execute(' '.join(s))", "sql", {"deal"}),
        ("def f(c, deals):\n for d in deals: c.execute(d)", "sql", {"deals"}),
        ("def f(c, deals): [c.execute(d) for d in deals]", "sql", {"deals"}),
        ("def f(c, deal): c.execute(s := 'SELECT ' + deal)", "sql", {"deal"}),
        ("def f(c, deal):\n match deal:\n  case str(x) as y: c.execute(y)", "sql", {"y"}),
        ("def f(c, row): c.execute(row['sql'])", "sql", {"row"}),
        ("f = lambda c, deal: c.execute(deal)", "sql", {"deal"}),
        ("class A:\n def f(self, c): c.execute(f'SELECT {self.deal}')", "sql", {"self.deal"}),
        ("def made(deal): return 'SELECT ' + deal\ndef f(c, deal): c.execute(made(deal))", "sql", {"deal"}),
        ("def f(c): c.execute(input())", "sql", {"input()"}),
        ("import sys\ndef f(c): c.execute(sys.stdin.read())", "sql", {"sys.stdin"}),
        ("def f(c, deal):\n run = c.execute\n run(deal)", "sql", {"c.execute under another name"}),
        ("def f(c, deal): c.execute('SELECT 1' if deal else deal)", "sql", {"deal"}),
        ("from sqlite_utils import Database\ndef f(db, deal): db.create_view('v', deal)", "sql", {"deal"}),
        ("from sqlite_utils import Database\ndef f(db, deal): db.table(deal).create_index(['a'])", "sql", {"deal"}),
        ("def f(deal): return deal.format(1)", "format", {"deal"}),
        ("def f(deal, more): return deal % more", "format", {"deal"}),
        ("def f(deal): return deal % (1, 2)", "format", {"deal"}),
        ("def f(deal): return f'{1:{deal}}'", "format", {"deal"}),
        ("def f(deal): return format(1, deal)", "format", {"deal"}),
        ("def f(at, deal): return at.strftime(deal)", "format", {"deal"}),
        ("def f(logger, deal): logger.warning(f'no {deal}')", "format", {"deal"}),
        ("def f(deal): open(f'/deals/{deal}')", "path", {"deal"}),
        ("from pathlib import Path\ndef f(folder): return Path(folder)", "path", {"folder"}),
        ("from pathlib import Path\ndef f(deal): (Path('/deals') / deal).write_text('')", "path", {"deal"}),
        ("import os\ndef f(deal): os.replace('a', deal)", "path", {"deal"}),
        ("import os\ndef f(deal): os.remove(os.path.join('/deals', deal))", "path", {"deal"}),
        ("from os import remove\ndef f(deal): remove(deal)", "path", {"deal"}),
        ("import sqlite3\ndef f(deal): sqlite3.connect('/deals/' + deal)", "path", {"deal"}),
        ("import shutil\ndef f(deal): shutil.copy('a', deal)", "path", {"deal"}),
    ],
)  # fmt: skip
def test_a_part_that_comes_in_is_found(text, kind, parts):
    found = {one: of for (one, _), of in findings(text).items()}
    assert found.get(kind) == parts


def test_a_part_that_comes_through_another_module_is_found():
    text = "from shop.sql import made, HEAD\ndef f(c, deal): c.execute(HEAD + made('x') + deal)"
    assert findings(text, sql="HEAD = 'SELECT '\ndef made(name): return f'{name} FROM '") == {("sql", "f"): {"deal"}}
    more = "import os\nHEAD = os.environ['SQL']\ndef made(name): return name + TAIL\nTAIL = input()"
    assert findings(text, sql=more) == {("sql", "f"): {"deal", "input()", "os.environ"}}


@pytest.mark.parametrize(
    "text",
    [
        "def f(c, deal): c.execute('SELECT 1 FROM event WHERE id = ?', (deal,))",
        "T = 'event'\ndef f(c, deal): c.execute(f'SELECT 1 FROM {T} WHERE id = ?', (deal,))",
        "def f(c, down): c.execute('SELECT 1 ORDER BY x ' + ('DESC' if down else 'ASC'))",
        "T = {'a': 'event'}\ndef f(c, which): c.execute(f'SELECT 1 FROM {T[which]}')",
        "T = ('a', 'b')\ndef f(c):\n for t in T: c.execute(f'DELETE FROM {t}')",
        "def f(c, given): c.execute(f\"SELECT 1 WHERE x IN ({','.join('?' * len(given))})\", given)",
        "def f(number): return number % 12",
        "def f(deal): return '%s' % deal",
        "def f(deal): return 'a {deal}'.format(deal=deal)",
        "def f(text): return text.replace('a', 'b')",
    ],
)
def test_what_is_made_of_constants_alone_is_passed(text):
    assert findings(text) == {}
