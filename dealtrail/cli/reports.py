"""The reports as commands."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer
from dealtrail.cli.progress import waiting

if TYPE_CHECKING:
    from dealtrail import NextActions


@click.command()
@click.argument("name", metavar="PIPELINE")
@options.report
@options.group_by
@options.output("json", "csv")
@options.database()
def pipeline(name: str, kind: str, definition: str | None, draft: dict[str, Any] | None, **question: Any) -> None:
    """Report how many open deals, worth what, stand in each stage.

    \b
    dealtrail pipeline b2b --as-of 2026-03-31                          the truth about that day, as known today
    dealtrail pipeline b2b --as-of 2026-03-31 --known-at 2026-03-31    what a person saw on that day
    dealtrail pipeline b2b --definition current                        under the latest definition

    CSV has a row for each stage, of each group where there are groups, and no totals.
    """
    chosen = options.chosen_definition(definition, draft)
    with options.open_trail() as trail, waiting("reporting"):
        report = trail.pipeline_report(name, definition=chosen, **question)

    def table() -> Any:
        from dealtrail.cli.report_tables import pipeline_tables

        return pipeline_tables(report)

    answer(kind, report, table, lambda: _rows(report, "stages"))


@click.command()
@click.argument("name", metavar="PIPELINE")
@options.cohort(required=True)
@options.report
@options.group_by
@options.output("json", "csv")
@options.database()
def funnel(name: str, kind: str, definition: str | None, draft: dict[str, Any] | None, **question: Any) -> None:
    """Report how far the deals opened in a period came, and how fast.

    \b
    dealtrail funnel b2b --cohort 2026-Q1
    dealtrail funnel b2b --cohort 2026-Q1 --within 90 --group-by source
    dealtrail funnel b2b --cohort 2025-Q4 --as-of 2025-12-31 --definition current

    --where and --group-by look at a deal as it opened. CSV has a row for each stage, of each group where there are
    groups, and no totals.
    """
    chosen = options.chosen_definition(definition, draft)
    with options.open_trail() as trail, waiting("reporting"):
        report = trail.funnel_report(name, definition=chosen, **with_year(question))

    def table() -> Any:
        from dealtrail.cli.report_tables import funnel_tables

        return funnel_tables(report)

    answer(kind, report, table, lambda: _rows(report, "stages"))


@click.command()
@click.argument("name", metavar="PIPELINE")
@options.cohort(required=True)
@options.report
@options.group_by
@click.option("--limit", metavar="COUNT", type=int, default=20, help="Tell apart so many paths; default: 20.")
@options.output("json", "csv")
@options.database()
def paths(name: str, kind: str, definition: str | None, draft: dict[str, Any] | None, **question: Any) -> None:
    """Report how the deals opened in a period really went: deviations from what is allowed, paths, loops.

    \b
    dealtrail paths b2b --cohort 2026-Q1
    dealtrail paths b2b --cohort 2026-Q1 --group-by owner --limit 5
    dealtrail paths b2b --cohort 2025 --draft strict.toml       against a definition that did not exist then

    --where and --group-by look at a deal as it opened. CSV has a row for each path, of each group where there are
    groups.
    """
    chosen = options.chosen_definition(definition, draft)
    with options.open_trail() as trail, waiting("reporting"):
        report = trail.conformance(name, definition=chosen, **with_year(question))

    def table() -> Any:
        from dealtrail.cli.report_tables import conformance_tables

        return conformance_tables(report)

    answer(kind, report, table, lambda: _rows(report, "variants"), _fields_of_paths())


@click.command()
@click.argument("name", metavar="PIPELINE")
@options.report
@options.group_by
@options.output("json", "csv")
@options.database()
def closing(name: str, kind: str, definition: str | None, draft: dict[str, Any] | None, **question: Any) -> None:
    """Report when the open deals should close, and how often their dates were moved.

    \b
    dealtrail closing b2b
    dealtrail closing b2b --group-by owner
    dealtrail closing b2b --as-of 2026-03-31 --known-at 2026-03-31     as a person saw it on that day

    First come the months and what should close in them, then for each stage how often and by how many days the dates
    of its deals were pushed or pulled since they opened, then those deals that are overdue or were moved. CSV has a
    row for each month, of each group where there are groups.
    """
    chosen = options.chosen_definition(definition, draft)
    with options.open_trail() as trail, waiting("reporting"):
        report = trail.closing_report(name, definition=chosen, **question)

    def table() -> Any:
        from dealtrail.cli.report_tables import closing_tables

        return closing_tables(report)

    answer(kind, report, table, lambda: _rows(report, "months"))


@click.command()
@click.argument("name", metavar="PIPELINE")
@click.option("--owner", metavar="NAME", help="Only deals of that owner.")
@options.moments
@options.output("json", "csv")
@options.database()
def todo(name: str, kind: str, **asked: Any) -> None:
    """Tell what is to be done for the open deals, and which of them are neglected.

    \b
    dealtrail todo b2b --owner anna
    dealtrail todo b2b --as-of 2026-03-31 --known-at 2026-03-31        what was to be done on that day

    First come the actions of each deal's stage that are not done, the required and the longest waiting first; then
    deals that are stalled, without owner, or past their expected close. CSV has a row for each, its list in front.
    """
    with options.open_trail() as trail, waiting("looking for what is to be done"):
        found = trail.next_actions(name, **asked)

    def table() -> Any:
        from dealtrail.cli.report_tables import todo_tables

        return todo_tables(found)

    answer(kind, found, table, lambda: _rows_of_lists(found), _fields_of_lists())


def with_year(question: dict[str, Any]) -> dict[str, Any]:
    """A question without a `fiscal_year_start` that was not given: the trail's default stands in one place."""
    return {name: value for name, value in question.items() if name != "fiscal_year_start" or value is not None}


def _rows(report: Any, of: str) -> Iterator[dict[str, Any]]:
    """The rows of a report, such as its stages, or of each of its groups."""
    from msgspec import to_builtins

    if report.groups is None:
        yield from to_builtins(getattr(report, of))
        return
    for group in report.groups:
        for row in getattr(group, of):
            yield {"group": group.group, **to_builtins(row)}


def _fields_of_paths() -> tuple[str, ...]:
    from dealtrail.projections.conformance import Variant

    return Variant.__struct_fields__


def _rows_of_lists(found: "NextActions") -> Iterator[dict[str, Any]]:
    """A row for each entry of each list, with all columns that any of them has."""
    from msgspec import to_builtins

    for name in ("actions", "stalled", "unowned", "overdue"):
        for one in getattr(found, name):
            yield dict.fromkeys(_fields_of_lists()) | {"list": name} | to_builtins(one)


def _fields_of_lists() -> tuple[str, ...]:
    from dealtrail.projections.todo import NextAction, OverdueDeal

    return tuple(dict.fromkeys(("list", *NextAction.__struct_fields__, *OverdueDeal.__struct_fields__)))
