"""What the pages show is what happens: blocks of code run, outputs are compared, links lead somewhere."""

import contextlib
import csv
import inspect
import io
import json
import re
import shlex
import tomllib
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import cli_page
import pytest
from click.testing import CliRunner

import dealtrail
from dealtrail import ConformanceReport, NextActions, Trail, asking, importing, templates
from dealtrail.cli.app import app
from dealtrail.domain.actions import KINDS, Action, DealAction, parse_action
from dealtrail.domain.assignment import parse_assignment
from dealtrail.domain.conditions import parse_moves
from dealtrail.domain.definitions import parse_stages
from dealtrail.domain.errors import SENTENCES, error
from dealtrail.domain.terms import parse_terms
from dealtrail.importing import Mapping
from dealtrail.projections.closing_report import (
    ClosingDeal,
    ClosingMonth,
    ClosingReport,
    ClosingStage,
    ClosingTotal,
)
from dealtrail.projections.conformance import (
    Conformed,
    DeviatingKind,
    Deviation,
    Loop,
    OtherVariants,
    Variant,
)
from dealtrail.projections.definitions import as_draft
from dealtrail.projections.funnel_report import FunnelReport, FunnelStage, FunnelTotal
from dealtrail.projections.holding import PERIOD_HOLDS
from dealtrail.projections.pipeline_report import PipelineFigures, PipelineReport, PipelineStage
from dealtrail.projections.todo import NextAction, OverdueDeal, StalledDeal, Waiting
from dealtrail.simulation import simulate

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(
    r'^```(?P<language>[a-z]*)(?: title="(?P<file>[^"\n]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)

# Commands that are shown but not run here, and why that is enough.
NOT_RUN = {
    "cd ": "a shell's own",
    "git clone": "it needs the address of a repository and a network",
    "python3 -m pip install": "these tests run on an installed package",
}
# Blocks of plain text that no code before them prints, by their first word, and what holds them.
TEXT_CHECKED_BY = {
    "Usage: dealtrail": "test_the_page_of_the_command_line_is_what_its_help_says",
    "closing report": "test_the_shape_of_the_closing_report_is_that_of_the_reference",
    "pipeline report": "test_the_shapes_of_the_reference_are_those_of_the_reports",
    "next actions": "test_the_shape_of_what_is_to_be_done_is_that_of_the_reference",
    "conformance report": "test_the_shape_of_the_conformance_report_is_that_of_the_reference",
    "from_at <= T": "test_the_condition_of_a_period_is_the_one_that_reports_use",
}


class Block(NamedTuple):
    """A fenced block: where it stands, its language, its text, and the file that it is said to be."""

    page: Path
    line: int
    language: str
    file: str | None
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match["language"], match["file"], match["text"])
        for match in FENCE.finditer(text)
    ]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo store, as `make demo` leaves it."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    now = None
    with Trail.open(path, clock=lambda: now) as trail:
        for day in simulate():
            now = day.recorded_at
            trail.record_all(day.actions)
    return path


@pytest.fixture
def namespace(tmp_path, monkeypatch):
    """The names of a page, in an empty folder; a trail that the page leaves open is closed."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    yield names
    for trail in {id(one): one for one in names.values() if isinstance(one, Trail)}.values():
        trail.close()


def run_python(block, namespace):
    """What a block prints."""
    # Lines before the block make the line numbers of a traceback those of the page.
    code = compile("\n" * block.line + block.text, str(block.page), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)  # noqa: S102
    return printed.getvalue()


def check_json(text):
    """One value: an action, the stages, moves or assignment of a definition, or a condition."""
    value = json.loads(text)
    if isinstance(value, list):
        parse_stages(value)
    elif "action" in value:
        parse_action(value)
    elif "owners" in value or "choose" in value:
        parse_assignment(value)
    elif "op" in value:
        parse_moves({"old": [{"when": value, "to": "new"}, {"to": "other"}]})
    else:
        parse_moves(value)


def check_line(text):
    """An action, as it stands in an import or in a history, or what a history has around its actions."""
    value = json.loads(text)
    value.pop("recorded_at", None)
    if "dealtrail" not in value:
        check_json(json.dumps(value))


def check_toml(text):
    """A mapping, or a definition; one that shows reasons may leave out the stages."""
    held = tomllib.loads(text)
    if "activities" in held:
        Mapping.parse(text)
    else:
        draft = as_draft({"stages": None} | {name: value for name, value in held.items() if name != "name"})
        if "reasons" not in held:
            parse_stages(held["stages"])
        parse_moves(draft.moves)
        parse_terms(draft)


def check_console(block):
    """Ours are run and their outputs compared, targets of make exist, any other command is listed above."""
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    first, *shown = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert (first, bool(shown)) == ("", True), f"{block}: it begins with no command"
    for command, _, output in (part.partition("\n") for part in shown):
        program, *words = shlex.split(command)
        if program in ("dealtrail", ".venv/bin/dealtrail"):
            check_command(block, command, words, output)
        elif program == "make":
            assert words[0] in targets, f"{block}: no such target: {words[0]}"
        else:
            assert command.startswith(tuple(NOT_RUN)), f"{block}: {command} is not checked"


def check_command(block, command, words, output):
    """A command without an output must succeed. In an output `…` stands for anything, on a line alone for lines."""
    file = Path(words[-1]) if words[-2:-1] == [">"] else None
    result = CliRunner().invoke(app, words[:-2] if file else words, prog_name="dealtrail")
    if file:
        file.write_text(result.stdout, encoding="utf-8")
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{block}: {result.exception!r}"
    if not output.strip():
        assert result.exit_code == 0, f"{block}: {command}\n{result.output}"
        return
    pattern = re.escape(output.strip()).replace("\\\n…\\\n", r"\n(.*\n)*").replace("…", ".*")
    assert re.fullmatch(pattern, result.output.strip()), f"{block}: {command} prints:\n{result.output}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_does_what_the_page_says(page, namespace, tmp_path, request):
    printed = None
    if "demo.db" in page.read_text(encoding="utf-8"):
        store = request.getfixturevalue("demo")
        (tmp_path / "demo.db").write_bytes(store.read_bytes())
    for block in blocks(page):
        if block.language == "text" and printed is not None:
            assert printed.rstrip() == block.text.rstrip(), f"{block} is not what the code before it prints"
            printed = None
            continue
        assert not printed, f"{block}: the block before it prints what the page does not show:\n{printed}"
        printed = None
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        match block.language:
            case "python":
                printed = run_python(block, namespace)
            case "json":
                check_json(block.text)
            case "jsonl":
                for line in block.text.splitlines():
                    check_line(line)
            case "toml":
                check_toml(block.text)
            case "csv":
                assert len({len(row) for row in csv.reader(block.text.splitlines())}) == 1
            case "console":
                check_console(block)
            case "text":
                assert any(block.text.startswith(known) for known in TEXT_CHECKED_BY), f"{block} is not checked"
            case other:
                raise AssertionError(f"{block}: nothing here checks a block of {other or 'no language'}")
    assert not printed, f"the last block prints what the page does not show:\n{printed}"


def anchors(page):
    """The anchors of a page's headings, as its builder makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    words = (re.sub(r"[^\w\s-]", "", match["text"].replace("`", "")) for match in HEADING.finditer(text))
    return {re.sub(r"[-\s]+", "-", word.strip().lower()) for word in words}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_to_a_page_and_to_a_heading_of_it(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in (match["target"] for match in LINK.finditer(text)):
        if target.startswith("https://"):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), f"{target}: no such file"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


def test_every_test_that_the_page_of_promises_names_is_there():
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:examples/)?test_\w+\.py)::(test_\w+)`", page)
    assert len(named) >= 20
    missing = []
    for file, name in named:
        home = ROOT if file.startswith("examples/") else ROOT / "tests"
        if not re.search(rf"^def {name}\(", (home / file).read_text(encoding="utf-8"), re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_page_stands_in_the_navigation():
    shown = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not re.search(rf"[- ]{re.escape(page)}$", shown, re.MULTILINE)] == []


PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (dealtrail, asking, importing, templates)
    for name in package.__all__
}


def test_every_public_name_stands_once_on_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_of_its_own(name):
    public = PUBLIC[name]
    assert (public.__doc__ or "").strip(), name
    if inspect.isfunction(public):
        return
    methods = {n: m for n, m in vars(public).items() if inspect.isfunction(m) or isinstance(m, classmethod | property)}
    silent = [n for n, method in methods.items() if not n.startswith("_") and not (method.__doc__ or "").strip()]
    assert silent == []


def test_the_page_of_the_command_line_is_what_its_help_says():
    """Where it is not: `make docs-cli`."""
    assert cli_page.PAGE.read_text(encoding="utf-8") == cli_page.page()


# The reference against the code


def reference():
    return (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def rows(heading):
    """The rows of the tables under a heading, each a list of cells."""
    section = re.split(rf"^#+ {re.escape(heading)}$", reference(), flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]


def test_the_table_of_actions_names_every_action_with_every_field_and_no_other():
    told = {}
    for names, fields, *_ in (row for row in rows("The actions") if len(row) == 3):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", fields))) - {"at"}
    common = set(Action.__struct_fields__) | {"personal", "changes"}
    assert told == {name: set(kind.__struct_fields__) - common for name, kind in KINDS.items()}


def test_the_table_of_common_fields_names_what_every_action_takes():
    told = {row[0].strip("`") for row in rows("The actions") if len(row) == 2 and row[0].startswith("`")}
    assert told == set(Action.__struct_fields__)
    assert set(DealAction.__struct_fields__) == {*Action.__struct_fields__, "deal", "personal"}


def test_the_table_of_refusals_names_the_class_of_each():
    told = {row[0].strip("`"): row[3] for row in rows("Refusals") if row[0].startswith("`")}
    anything = dict.fromkeys(re.findall(r"{(\w+)}", " ".join(SENTENCES.values())), "")
    anything.pop("field", None)
    assert told == {code: type(error(code, None, **anything)).__name__ for code in SENTENCES}


@pytest.mark.parametrize(
    ("heading", "stage", "total"),
    [
        ("The pipeline report", PipelineStage, PipelineFigures),
        ("The funnel report", FunnelStage, FunnelTotal),
        ("The conformance report", Variant, Conformed),
        ("The closing report", ClosingMonth, ClosingStage),
    ],
)
def test_every_figure_of_a_report_has_its_formula(heading, stage, total):
    told = {name for row in rows(heading) for name in re.findall(r"`(\w+)`", row[0])}
    figures = {*stage.__struct_fields__, *total.__struct_fields__} - {"stage", "name"}
    assert figures - told == set()


def text_block(page, beginning):
    return next(block.text for block in blocks(ROOT / page) if block.text.startswith(beginning))


def test_the_shapes_of_the_reference_are_those_of_the_reports():
    text = text_block("docs/reference.md", "pipeline report")
    prose = {"pipeline", "report", "list", "of", "null", "or", "group", "from", "until"}
    shown = [set(re.findall(r"\w+", part)) for part in text.split("funnel report")]
    for names, report, stage, total in (
        (shown[0], PipelineReport, PipelineStage, PipelineFigures),
        (shown[1], FunnelReport, FunnelStage, FunnelTotal),
    ):
        fields = {*report.__struct_fields__, *stage.__struct_fields__, *total.__struct_fields__}
        assert names - prose == fields - prose


def shape_in_the_reference(beginning):
    """The names of a report's own fields, and those of each field that is listed below them."""
    head, *parts = re.split(r"^ +(\w+):", text_block("docs/reference.md", beginning), flags=re.MULTILINE)
    listed = dict(zip(parts[::2], (set(re.findall(r"\w+", text)) for text in parts[1::2]), strict=True))
    return set(re.findall(r"\w+", head.removeprefix(beginning))), listed


def test_the_shape_of_what_is_to_be_done_is_that_of_the_reference():
    named, listed = shape_in_the_reference("next actions")
    shapes = {"actions": NextAction, "stalled": StalledDeal, "unowned": Waiting, "overdue": OverdueDeal}
    assert listed == {name: {*shape.__struct_fields__, "list", "of"} for name, shape in shapes.items()}
    assert named | listed.keys() == set(NextActions.__struct_fields__)


def test_the_shape_of_the_conformance_report_is_that_of_the_reference():
    named, listed = shape_in_the_reference("conformance report")
    shapes = {"kinds": DeviatingKind, "deviations": Deviation, "variants": Variant, "other_variants": OtherVariants}
    for name, shape in (shapes | {"loops": Loop}).items():
        assert listed[name] - {"list", "of"} == set(shape.__struct_encode_fields__)
    assert (named - {"from", "until"}) | listed.keys() == set(ConformanceReport.__struct_fields__)
    assert listed.keys() - {"groups"} <= set(Conformed.__struct_fields__)


def test_the_shape_of_the_closing_report_is_that_of_the_reference():
    prose = {"closing", "report", "list", "of", "null", "or", "as", "a", "with", "group"}
    shown = set(re.findall(r"\w+", text_block("docs/reference.md", "closing report")))
    kinds = (ClosingReport, ClosingMonth, ClosingStage, ClosingTotal, ClosingDeal)
    assert shown - prose == {field for kind in kinds for field in kind.__struct_fields__}


def test_the_condition_of_a_period_is_the_one_that_reports_use():
    """Both conditions, asked about every arrangement of the two ends around the two moments."""
    shown = text_block("docs/decisions/periods.md", "from_at <= T")
    used = PERIOD_HOLDS.replace("held.", "").replace(":as_of", "T").replace(":position", "p")
    names = ("T", "p", "from_at", "to_at", "known_from", "known_to", "end_known")
    for values in product((0, 1, 2), repeat=len(names)):
        known = dict(zip(names, values, strict=True))
        held = eval(" ".join(shown.split()), {}, known)  # noqa: S307
        assert held == eval(used.replace("AND", "and").replace("OR", "or"), {}, known)  # noqa: S307
