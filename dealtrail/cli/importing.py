"""Importing many actions: lines of whatever source are recorded and reported in one way."""

import sys
import zlib
from collections import deque
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from dealtrail.cli import options
from dealtrail.cli.formats import answer, json_text
from dealtrail.cli.progress import Ticker
from dealtrail.cli.recording import with_actor
from dealtrail.cli.values import one_line
from dealtrail.domain.errors import DealtrailError, error

if TYPE_CHECKING:
    from dealtrail import Trail
    from dealtrail.importing import Mapping

_BOM = b"\xef\xbb\xbf"
_SHOWN_CHARACTERS = 500
# What is kept of what was refused: however much of a file is bad, it does not fill the memory.
_KEPT_CHARACTERS = 10_000
_LISTED_ROWS = 1_000
# JSON can hold twenty times its length in lists; of a line this long it is seen at once whether it is an action.
_LONG_BYTES = 4_096


class Line(NamedTuple):
    """A line of a source: its number from 1, its text, and the action that it holds or what is wrong with it."""

    number: int
    text: str
    action: dict[str, Any] | DealtrailError


@click.command("import")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@click.option(
    "--map", "mapping", metavar="TOML", type=click.Path(), help="Read FILE as a CSV event log, by this mapping."
)
@click.option("--cases", metavar="CSV", type=click.File("rb"), help="With --map: a file with one row for each case.")
@click.option("--dry-run", is_flag=True, help="Tell what would be recorded and what refused, and record nothing.")
@click.option("--atomic", is_flag=True, help="Record nothing at all if any line is refused.")
@options.actor
@options.output("json")
@options.database()
@click.pass_context
def import_(
    ctx: click.Context,
    file: IO[bytes],
    mapping: str | None,
    cases: IO[bytes] | None,
    dry_run: bool,
    atomic: bool,
    actor: str | None,
    kind: str,
) -> None:
    """Import actions from JSON Lines, or an event log by a mapping.

    FILE is - for stdin; either may be compressed with gzip. Each line is one action and a step of its own.
    Those that are refused are reported on stderr, with the number of the line, the code, and the line; the good
    ones are recorded. The exit code is 1 if any was refused. Give each action an `id`, and the same file may be
    imported again after it was mended: what was recorded already is not recorded twice. A line has at most
    1,048,576 bytes; one that is longer is the last that is read. As JSON the answer lists the first thousand that
    were refused, each with the first 10,000 characters of its line, and `bad` counts all of them.

    With --map, FILE is the event log of another program: a CSV file with a row for each event, which the mapping
    turns into actions (see docs/importing.md). The same file, or a later one, may be imported again: only new
    rows count.

    --dry-run and --atomic keep other writers waiting until they are done.
    """
    if mapping is not None:
        if atomic or ctx.get_parameter_source("actor") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--map goes with neither --atomic nor --actor: the rows say who did what")
        from dealtrail.importing import Mapping

        by = Mapping.load(mapping)  # before a store is founded for it
        with _trail(dry_run) as trail:
            result = import_mapped(trail, file, cases, by, dry_run=dry_run)
        tell(result, kind)
        return
    if cases is not None:
        raise click.UsageError("--cases goes with --map")
    with _trail(dry_run) as trail:
        result = import_lines(trail, json_lines(file), actor=actor, dry_run=dry_run, atomic=atomic)
    tell(result, kind)


def _trail(dry_run: bool) -> "Trail":
    """The store to import into; a rehearsal for one that is not there needs none."""
    if dry_run:
        try:
            return options.open_trail()
        except DealtrailError as refusal:
            if refusal.code != "no_store":
                raise
            from dealtrail import Trail

            return Trail.open(":memory:")
    return options.open_trail(create=True)


def json_lines(file: IO[bytes]) -> Iterator[Line]:
    """The lines of a file of JSON objects, empty ones left out; plain or compressed, as its first bytes tell.

    A line that is too long is the last: nobody knows whether it ends.
    """
    from dealtrail.importing.rows import MAX_LINE_BYTES, unpacked

    name = str(getattr(file, "name", "the input"))
    number = 0
    try:
        stream = unpacked(file, name)
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                yield Line(number, "", error("line_too_long", path=name, line=number, most=MAX_LINE_BYTES))
                return
            if number == 1:
                raw = raw.removeprefix(_BOM)
            text = raw.decode("utf-8", "replace").strip("\r\n")
            if text.strip():
                yield Line(number, text[:_KEPT_CHARACTERS], _read(raw))
    except DealtrailError as refusal:
        yield Line(number + 1, "", refusal.with_traceback(None))
    except (OSError, EOFError, zlib.error) as trouble:
        yield Line(number + 1, "", error("invalid_json", why=f"the file cannot be read any further: {trouble}"))


def _read(raw: bytes) -> dict[str, Any] | DealtrailError:
    from dealtrail.domain.actions import parse_action
    from dealtrail.domain.texts import parse_json

    try:
        found = parse_json(raw)
        if len(raw) > _LONG_BYTES:
            parse_action(found)
    except DealtrailError as refusal:
        return refusal.with_traceback(None)
    return found


def import_lines(
    trail: "Trail", lines: Iterator[Line], *, actor: str | None, dry_run: bool, atomic: bool
) -> dict[str, Any]:
    """Record the lines of a source, and report those that are refused on stderr as they come.

    Returns the counts `lines`, `recorded`, `repeated`, `bad`, whether anything was kept, and of what was `refused`
    the first thousand.
    """
    # The trail reads ahead of what it tells: the lines that it has not told about yet wait here.
    waiting: deque[Line] = deque()

    def actions() -> Iterator[dict[str, Any] | DealtrailError]:
        for line in lines:
            waiting.append(line)
            yield line.action if isinstance(line.action, DealtrailError) else with_actor(line.action, actor)

    recorded = repeated = bad = done = 0
    refused: list[dict[str, Any]] = []
    with Ticker("importing") as progress:
        for done, outcome in enumerate(trail.record_each(actions(), atomic=atomic, dry_run=dry_run), 1):
            line = waiting.popleft()
            repeated += outcome.repeated
            recorded += outcome.refused is None and not outcome.repeated
            if outcome.refused is not None:
                bad += 1
                _keep(refused, _refusal(line, outcome.refused))
            progress(done)
    kept = not dry_run and not (atomic and bad)
    return {
        "lines": done,
        "recorded": recorded if kept or dry_run else 0,
        "repeated": repeated,
        "bad": bad,
        "refused": refused,
        "dry_run": dry_run,
        "kept": kept,
    }


def import_mapped(
    trail: "Trail", events: IO[bytes], cases: IO[bytes] | None, mapping: "Mapping", *, dry_run: bool
) -> dict[str, Any]:
    """Record the rows of an event log, and report the bad ones on stderr as they come.

    Returns the counts of a `Tally`, whether anything was kept, and of what was `refused` the first thousand.
    """
    import msgspec

    from dealtrail.importing import BadRow, import_rows

    refused: list[dict[str, Any]] = []

    def report(row: BadRow) -> None:
        line = Line(row.line, json_text(row.row)[:_KEPT_CHARACTERS], row.refused)
        _keep(refused, _refusal(line, row.refused, f"{row.file}, line") | {"file": row.file})

    with Ticker("importing") as progress:
        tally = import_rows(trail, mapping, events, cases, dry_run=dry_run, report=report, progress=progress)
    return msgspec.structs.asdict(tally) | {"refused": refused, "dry_run": dry_run, "kept": not dry_run}


def _keep(refused: list[dict[str, Any]], told: dict[str, Any]) -> None:
    """A mapping that forgot one activity may refuse millions of rows: not all of them stay in memory."""
    if len(refused) < _LISTED_ROWS:
        refused.append(told)


def _refusal(line: Line, refusal: DealtrailError, where: str = "line") -> dict[str, Any]:
    click.echo(f"{one_line(where)} {line.number}: {one_line(str(refusal))}", err=True)
    if line.text:
        cut = "…" if len(line.text) > _SHOWN_CHARACTERS else ""
        click.echo(f"    {one_line(line.text[:_SHOWN_CHARACTERS])}{cut}", err=True)
    return {
        "line": line.number,
        "code": refusal.code,
        "message": refusal.message,
        "field": refusal.field,
        "text": line.text,
    }


def tell(result: dict[str, Any], kind: str) -> None:
    """Say on stdout what became of an import, and exit with 1 if anything was refused."""

    def table() -> Any:
        from dealtrail.cli.tables import text

        counts = f"{result['recorded']:,} recorded"
        if result["repeated"]:
            counts += f", {result['repeated']:,} recorded before"
        if result.get("ignored"):
            counts += f", {result['ignored']:,} ignored"
        counts = f"{counts}, {result['bad']:,} refused"
        if result["dry_run"]:
            counts = f"A dry run, nothing was recorded. It would be: {counts}"
        elif not result["kept"]:
            refused, lines = f"{result['bad']:,}", f"{result['lines']:,}"
            counts = f"Nothing was recorded, since {refused} of {lines} lines were refused"
        return [text(counts)]

    answer(kind, result, table, list)
    if result["refused"]:
        sys.exit(1)
