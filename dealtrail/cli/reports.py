"""The two reports as commands."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer
from dealtrail.cli.progress import waiting

if TYPE_CHECKING:
    from dealtrail import FunnelReport, PipelineReport


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

    answer(kind, report, table, lambda: _rows(report))


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

    answer(kind, report, table, lambda: _rows(report))


def with_year(question: dict[str, Any]) -> dict[str, Any]:
    """A question without a `fiscal_year_start` that was not given: the trail's default stands in one place."""
    return {name: value for name, value in question.items() if name != "fiscal_year_start" or value is not None}


def _rows(report: "PipelineReport | FunnelReport") -> Iterator[dict[str, Any]]:
    """The stages of a report, or of each of its groups."""
    from msgspec import to_builtins

    if report.groups is None:
        yield from to_builtins(report.stages)
        return
    for group in report.groups:
        for stage in group.stages:
            yield {"group": group.group, **to_builtins(stage)}
