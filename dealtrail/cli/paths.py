"""The report about conformance as a command."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer
from dealtrail.cli.progress import waiting
from dealtrail.cli.reports import with_year

if TYPE_CHECKING:
    from dealtrail import ConformanceReport


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

    answer(kind, report, table, lambda: _rows(report), _fields())


def _rows(report: "ConformanceReport") -> Iterator[dict[str, Any]]:
    """The paths of a report, or of each of its groups."""
    from msgspec import to_builtins

    if report.groups is None:
        yield from to_builtins(report.variants)
        return
    for group in report.groups:
        for variant in group.variants:
            yield {"group": group.group, **to_builtins(variant)}


def _fields() -> tuple[str, ...]:
    from dealtrail.projections.conformance import Variant

    return Variant.__struct_fields__
