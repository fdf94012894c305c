"""Deals and pipelines as commands: listings, one deal, its history, definitions."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer
from dealtrail.cli.progress import waiting
from dealtrail.cli.reports import with_year
from dealtrail.cli.values import facts, word

if TYPE_CHECKING:
    from dealtrail import DealView, DefinitionView, PipelineReport, Trail
    from dealtrail.projections.funnel_report import FunnelReport

_PAGE = 100
_LISTING = ("status", "owner", "sort", "limit", "after")
_CELL = ("field", "currency", "reason", "definition", "draft", "cohort", "within", "fiscal_year_start", "group")


@click.command()
@click.argument("name", metavar="PIPELINE")
@click.option("--stage", metavar="KEY", help="Only deals in that stage, or the stage of the cell.")
@options.where
@options.moments
@click.option("--status", metavar="STATUS", help="open, won, lost, disqualified or merged.")
@click.option("--owner", metavar="NAME", help="Only deals of that owner.")
@click.option(
    "--sort",
    metavar="FIELD",
    help="deal (default), opened_at, stage_since, expected_close or value; -FIELD turns it round.",
)
@click.option("--limit", metavar="COUNT", type=int, help=f"At most so many; default: {_PAGE}.")
@click.option("--after", metavar="DEAL", help="Those behind that deal: the next page.")
@click.option("--field", metavar="FIELD", help="The deals behind that field of a report, such as stalled or won.")
@click.option(
    "--group",
    metavar="NAME=VALUE",
    multiple=True,
    callback=lambda c, p, v: facts(v, "--group"),
    help="The group of the cell; repeatable.",
)
@click.option("--currency", metavar="CODE", help="The currency of the cell.")
@click.option("--reason", metavar="TEXT", help="Only that reason, behind lost or disqualified; null means none.")
@options.definition
@options.cohort(required=False)
@options.output("json", "csv")
@options.database()
def deals(name: str, kind: str, **asked: Any) -> None:
    """List deals, also those behind a cell of a report.

    \b
    dealtrail deals b2b --status open --owner anna --sort -value --limit 20
    dealtrail deals b2b --field stalled --stage proposal          behind a cell of the pipeline report
    dealtrail deals b2b --field lost --stage demo --cohort 2026-Q1 --group source=web    ... of the funnel

    A listing comes in pages. With --field the deals are all those behind that field of the pipeline report, or
    with --cohort of the funnel, under the same options as there; without --stage, of its total. Deals are shown
    as they are at --as-of.
    """
    given = {option for option, value in asked.items() if value not in (None, {}, ())}
    behind_cell = "field" in given
    stray = sorted(given.intersection(_LISTING if behind_cell else _CELL))
    if stray:
        option = f"--{stray[0].replace('_', '-')}"
        raise click.UsageError(f"{option} does not go with --field" if behind_cell else f"{option} needs --field")
    with options.open_trail() as trail, waiting("looking for deals"):
        found = _behind(trail, name, asked) if behind_cell else _page(trail, name, asked)
    tz = asked["tz"]

    def table() -> Any:
        from dealtrail.cli.deal_tables import deals_table

        return deals_table(found, tz)

    answer(kind, found, table, lambda: map(_row, found), _fields())
    limit = asked["limit"] or _PAGE
    if not behind_cell and kind == "table" and len(found) == limit:
        click.echo(f"{limit:,} deals; for those behind them: --after {found[-1].deal}", err=True)


def _page(trail: "Trail", name: str, asked: dict[str, Any]) -> "list[DealView]":
    taken = ("stage", "where", "as_of", "known_at", "tz", *_LISTING)
    return trail.list_deals(name, **{option: asked[option] for option in taken if asked[option] is not None})


def _behind(trail: "Trail", name: str, asked: dict[str, Any]) -> "list[DealView]":
    """The deals behind a cell; the report is grouped as the group says."""
    question = {option: asked[option] for option in ("as_of", "known_at", "tz", "where")}
    question["definition"] = options.chosen_definition(asked["definition"], asked["draft"])
    question["group_by"] = tuple(asked["group"])
    report: PipelineReport | FunnelReport
    if asked["cohort"] is None:
        if asked["within"] is not None or asked["fiscal_year_start"] is not None:
            raise click.UsageError("--within and --fiscal-year-start need --cohort")
        report = trail.pipeline_report(name, **question)
    else:
        of_funnel = {option: asked[option] for option in ("cohort", "within", "fiscal_year_start")}
        report = trail.funnel_report(name, **question, **with_year(of_funnel))
    cell = {option: asked[option] for option in ("stage", "field", "currency")}
    if asked["reason"] is not None:
        cell["reason"] = word(asked["reason"])
    return trail.deals(report, group=asked["group"] or None, **cell)


def _fields() -> tuple[str, ...]:
    from dealtrail import DealView

    names = [name for name in DealView.__struct_fields__ if name not in ("attributes", "personal")]
    place = names.index("value")
    return (*names[:place], "value.amount", "value.currency", *names[place + 1 :])


def _row(view: "DealView") -> dict[str, Any]:
    """A deal as a row of CSV: the columns of its value are there even where it has none."""
    from msgspec import to_builtins

    row: dict[str, Any] = to_builtins(view)
    row["value"] = row["value"] or {"amount": None, "currency": None}
    return row


@click.command()
@click.argument("name", metavar="DEAL")
@options.moments
@options.output("json", "csv")
@options.database()
def deal(name: str, kind: str, tz: str, **at: Any) -> None:
    """Show one deal, as it was at --as-of.

    Before its opening there is nothing to show: JSON says null.
    """
    with options.open_trail() as trail, waiting("looking for the deal"):
        found = trail.deal(name, tz=tz, **at)

    def table() -> Any:
        from dealtrail.cli.deal_tables import deal_facts
        from dealtrail.cli.tables import text

        return [text(f"{name} was not open yet") if found is None else deal_facts(found, tz)]

    answer(kind, found, table, lambda: [] if found is None else [_row(found)], _fields())


@click.command()
@click.argument("name", metavar="DEAL")
@options.as_known
@options.output("json", "csv")
@options.database()
def history(name: str, kind: str, tz: str, known_at: str | None) -> None:
    """Show every event of a deal, also what was taken back."""
    with options.open_trail() as trail, waiting("reading the log"):
        events = trail.history(name, known_at=known_at, tz=tz)

    def table() -> Any:
        from dealtrail.cli.deal_tables import history_table

        return [history_table(events, tz)]

    answer(kind, events, table, lambda: events)


@click.command()
@options.moments
@options.output("json", "csv")
@options.database()
def pipelines(kind: str, tz: str, **at: Any) -> None:
    """List the pipelines, each with its definition in force.

    CSV has a row for each stage.
    """
    with options.open_trail() as trail, waiting("reading the log"):
        _definitions(trail.pipelines(tz=tz, **at), kind, tz)


@click.command()
@click.argument("name", metavar="PIPELINE")
@options.moments
@options.output("json", "csv")
@options.database()
def definitions(name: str, kind: str, tz: str, **at: Any) -> None:
    """List the versions of a pipeline's definition.

    CSV has a row for each stage of each version.
    """
    with options.open_trail() as trail, waiting("reading the log"):
        _definitions(trail.definitions(name, tz=tz, **at), kind, tz)


def _definitions(found: "list[DefinitionView]", kind: str, tz: str) -> None:
    def table() -> Any:
        from dealtrail.cli.deal_tables import assignments_table, definitions_table, reasons_told

        given = [view for view in found if view.assignment is not None]
        return [definitions_table(found, tz), *reasons_told(found), *([assignments_table(given)] if given else [])]

    answer(kind, found, table, lambda: _stages(found), ("pipeline", "version", "in_force", "occurred_at", "stage"))


def _stages(found: "list[DefinitionView]") -> Iterator[dict[str, Any]]:
    for view in found:
        version = {name: getattr(view, name) for name in ("pipeline", "version", "in_force", "occurred_at")}
        for stage in view.stages:
            rest = {name: value for name, value in stage.items() if name != "key"}
            yield version | {"stage": stage["key"]} | rest
