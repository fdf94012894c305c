"""Auditing a store: the head to be kept elsewhere, the verification of all of it, the check of a report."""

from typing import IO, TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer, json_text
from dealtrail.cli.progress import Ticker, waiting
from dealtrail.domain.errors import DealtrailError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dealtrail import Difference, Finding, LaterEvent, ReportCheck, Verification

_SHOWN = 20


@click.command()
@options.output("json")
@options.database()
def head(kind: str) -> None:
    """Print the end of the log as POSITION:CHAIN, in one line to be kept elsewhere.

    `dealtrail verify --head POSITION:CHAIN` tells later whether the log still begins with what it held now.
    """
    with options.open_trail() as trail:
        found = trail.head()
    click.echo(json_text(found) if kind == "json" else str(found))


@click.command()
@click.option("--head", "kept", metavar="POSITION:CHAIN", help="A head of this log that was kept elsewhere.")
@options.output("json")
@options.database()
def verify(kept: str | None, kind: str) -> None:
    """Verify the whole store: recompute what the log and the read model say.

    The chain over every column of every event, numbering, times, tables and triggers, SQLite's own integrity check;
    then everything is folded again and the read model compared row by row. The first wrong position, or the row, is
    named, and the exit code is 1.

    Without --head nobody can see that the end of the log was cut off, that all of it was written anew with a new
    chain, or that an older copy was put in its place: keep what `dealtrail head` prints elsewhere.
    """
    from dealtrail.projections.verification import unopened

    try:
        with options.open_trail() as trail, Ticker("verifying") as progress:
            found = trail.verify(kept, progress)
    except DealtrailError as refusal:
        if refusal.code not in ("damaged", "not_a_store"):
            raise
        found = unopened(refusal)
    answer(kind, found, lambda: _verification(found), list)
    _exit(found.ok)


def _verification(found: "Verification") -> "Iterator[Any]":
    from dealtrail.cli.tables import text

    if found.ok:
        read = "there is no read model to compare"
        if found.read_position is not None:
            read = f"the read model agrees up to position {found.read_position:,}"
        yield text(f"The log is sound up to position {found.position:,}, and {read}.", "green")
    else:
        yield from _findings(found.findings)
    if found.head is not None:
        yield text(f"head {found.head}")


def _findings(found: "Iterable[Finding]") -> "Iterator[Any]":
    from dealtrail.cli.tables import add, table

    made = table("Kind", ">Position", "Row", "~What is wrong")
    for one in found:
        row = "" if one.table is None else f"{one.table} {one.row or ''}".strip()
        add(made, (one.kind, one.position, row, one.why), style="red")
    yield made


@click.command("check-report")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@options.output("json")
@options.database()
def check_report(file: IO[bytes], kind: str) -> None:
    """Make a report again by its own question, and tell whether it is the same, or what differs.

    FILE is a report as JSON (--format json of `pipeline`, `funnel`, `paths`, `todo` and `closing`), or - for stdin. The
    exit code is 1 where the log does not give the very same report, down to its digest. What the same question would
    say otherwise as known now is shown too, with the later events that explain it.
    """
    from dealtrail import parse_json

    given = parse_json(file.read())
    with options.open_trail() as trail, waiting("making the report again"):
        found = trail.check_report(given)
    answer(kind, found, lambda: _check(found), list)
    _exit(found.ok)


def _check(found: "ReportCheck") -> "Iterator[Any]":
    from dealtrail.cli.tables import text

    if found.ok:
        yield text(f"The log gives the very same report, at position {found.position:,}.", "green")
    else:
        yield from _findings(found.findings)
    if found.differences:
        yield from _differences("What differs", "In the report", "From the log", found.differences)
    if found.since:
        yield from _differences("What the same question says as known now", "Then", "Now", found.since)
        yield from _events(found.events)
    elif found.ok:
        yield text("The same question says the same as known now.")


def _differences(title: str, before: str, after: str, found: "list[Difference]") -> "Iterator[Any]":
    from dealtrail.cli.tables import add, table

    made = table("Where", "Field", f"~{before}", f"~{after}", title=title)
    for one in found:
        add(made, (one.where, one.field, json_text(one.report), json_text(one.log)))
    yield made


def _events(found: "list[LaterEvent]") -> "Iterator[Any]":
    from dealtrail.cli.tables import add, at, table, text

    made = table(">Position", "Deal or pipeline", "Event", "Occurred", "Recorded", "By", title="Recorded since")
    for one in found[:_SHOWN]:
        of = one.deal if one.pipeline is None else f"pipeline {one.pipeline}"
        add(made, (one.position, of, one.event, at(one.occurred_at), at(one.recorded_at), one.by))
    yield made
    if len(found) > _SHOWN:
        yield text(f"and {len(found) - _SHOWN:,} more; --format json shows all.")


def _exit(ok: bool) -> None:
    if not ok:
        click.get_current_context().exit(1)
