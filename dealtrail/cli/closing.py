"""When deals should close, as a command."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer
from dealtrail.cli.progress import waiting

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from dealtrail import ClosingReport


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
    answer(kind, report, lambda: _tables(report), lambda: _rows(report))


def _rows(report: "ClosingReport") -> Iterator[dict[str, Any]]:
    """The months of a report, or of each of its groups."""
    from msgspec import to_builtins

    if report.groups is None:
        yield from to_builtins(report.months)
        return
    for group in report.groups:
        for month in group.months:
            yield {"group": group.group, **to_builtins(month)}


def _tables(report: "ClosingReport") -> "Iterator[RenderableType]":
    from dealtrail.cli.report_tables import asked_of, named, provenance
    from dealtrail.cli.tables import add, table, text

    yield text(asked_of(report))
    for group in report.groups or ():
        yield _months(group, named(group.group))
        yield _stages(group)
    yield _months(report, None if report.groups is None else "all")
    yield _stages(report)
    if report.deals:
        made = table("Deal", "Owner", "Stage", "Expected\nclose", ">Days\nover", "At first", *_MOVED[1:3], *_MOVED[4:6])
        for one in report.deals:
            moved = (one.pushes, one.days_pushed, one.pulls, one.days_pulled)
            told = (one.deal, one.owner, one.stage, one.expected_close, one.days_over or None)
            add(made, (*told, one.first_expected_close, *moved))
        yield made
    yield text(provenance(report), "dim")


_MOVED = (">Pushed\ndeals", ">Pushes", ">Days\npushed", ">Pulled\ndeals", ">Pulls", ">Days\npulled")


def _months(figures: Any, title: str | None) -> "Table":
    from dealtrail.cli.tables import add, amounts, table

    made = table("Closes in", ">Deals", ">Value", ">Weighted value", ">Overdue", title=title)
    for place, month in enumerate(figures.months, 1):
        worth = (amounts(month.value), amounts(month.weighted_value))
        last = place == len(figures.months)
        add(made, (month.month or "no date", month.deals, *worth, month.overdue), end_section=last)
    total = figures.total
    add(made, ("Total", total.deals, amounts(total.value), amounts(total.weighted_value), total.overdue), style="bold")
    return made


def _stages(figures: Any) -> "Table":
    from dealtrail.cli.tables import add, table

    made = table("~Stage", ">Dated\ndeals", *_MOVED, ">Median days\nslipped")
    for place, stage in enumerate(figures.stages, 1):
        last = place == len(figures.stages)
        add(made, (stage.name, *_moved(stage)), style="" if stage.dated else "dim", end_section=last)
    add(made, ("Total", *_moved(figures.total)), style="bold")
    return made


def _moved(one: Any) -> tuple[Any, ...]:
    pushed, pulled = (one.pushed, one.pushes, one.days_pushed), (one.pulled, one.pulls, one.days_pulled)
    return one.dated, *pushed, *pulled, one.median_days_slipped
