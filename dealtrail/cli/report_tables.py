"""The reports as tables."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from dealtrail.cli.tables import add, amounts, at, bar, is_roomy, percent, scalar, shown, table, text

if TYPE_CHECKING:
    from dealtrail import ClosingReport, ConformanceReport, FunnelReport, NextActions, PipelineReport

# A line names so many reasons; where they are free texts there may be as many as deals.
_REASONS = 5

_MOVED = (">Pushed\ndeals", ">Pushes", ">Days\npushed", ">Pulled\ndeals", ">Pulls", ">Days\npulled")


def pipeline_tables(report: "PipelineReport") -> Iterator[RenderableType]:
    """What was asked, a table for each group, one of all, and where it came from."""
    yield text(_asked_of(report))
    for group in report.groups or ():
        yield _pipeline_table(group, _named(group.group))
    yield _pipeline_table(report, None if report.groups is None else "all")
    yield text(_provenance(report), "dim")


def funnel_tables(report: "FunnelReport") -> Iterator[RenderableType]:
    """What was asked, a table and a sentence for each group, those of all, and where it came from."""
    yield text(_asked_of_cohort(report))
    for group in report.groups or ():
        yield _funnel_table(group, _named(group.group))
        yield from _reasons(group)
        yield text(_outcome(group.total))
    yield _funnel_table(report, None if report.groups is None else "all")
    yield from _reasons(report)
    yield text(_outcome(report.total))
    yield text(_provenance(report), "dim")


def conformance_tables(report: "ConformanceReport") -> Iterator[RenderableType]:
    """What was asked, a sentence and tables for each group, those of all, and where it came from."""
    yield text(_asked_of_cohort(report))
    for group in report.groups or ():
        yield from _conformed(group, _named(group.group))
    yield from _conformed(report, None if report.groups is None else "all")
    yield text(_provenance(report), "dim")


def closing_tables(report: "ClosingReport") -> Iterator[RenderableType]:
    """What was asked, what should close when and how dates slipped, of each group and of all, and the deals."""
    yield text(_asked_of(report))
    for group in report.groups or ():
        yield _closing_months(group, _named(group.group))
        yield _slipping_stages(group)
    yield _closing_months(report, None if report.groups is None else "all")
    yield _slipping_stages(report)
    if report.deals:
        made = table("Deal", "Owner", "Stage", "Expected\nclose", ">Days\nover", "At first", *_MOVED[1:3], *_MOVED[4:6])
        for one in report.deals:
            moved = (one.pushes, one.days_pushed, one.pulls, one.days_pulled)
            told = (one.deal, one.owner, one.stage, one.expected_close, one.days_over or None)
            add(made, (*told, one.first_expected_close, *moved))
        yield made
    yield text(_provenance(report), "dim")


def todo_tables(found: "NextActions") -> Iterator[RenderableType]:
    """What was asked, a table for each list, and where it came from."""
    yield text(_asked_of(found))
    own = ("Deal", "Owner", "Stage", ">Days\nin stage")
    more: dict[str, tuple[tuple[str, ...], Any]] = {
        "actions": (("~Action", "Required"), lambda one: (one.name, "required" if one.required else "")),
        "stalled": ((">Days\nover",), lambda one: (one.days_over,)),
        "unowned": ((), lambda one: ()),
        "overdue": (("Expected\nclose", ">Days\nover"), lambda one: (one.expected_close, one.days_over)),
    }
    titles = {"actions": "To do", "stalled": "Stalled", "unowned": "Without owner", "overdue": "Past expected close"}
    for name, (columns, cells) in more.items():
        rows = getattr(found, name)
        if not rows:
            yield text(f"{titles[name]}: none")
            continue
        made = table(*own, *columns, title=f"{titles[name]}: {len(rows):,}")
        for one in rows:
            add(made, (one.deal, one.owner, one.stage, one.days_in_stage, *cells(one)))
        yield made
    yield text(_provenance(found), "dim")


def _conformed(figures: Any, title: str | None) -> Iterator[RenderableType]:
    told = ", ".join(f"{kind.kind} {shown(kind.count)}" for kind in figures.kinds)
    share = "" if figures.conforming_share is None else f" ({percent(figures.conforming_share)})"
    heading = "" if title is None else f"\n{title}: "
    yield text(
        f"{heading}{shown(figures.conforming)} of {shown(figures.deals)} deals conform{share}; steps against it: {told}"
    )
    if figures.deviations:
        made = table("Against", "From", "To", ">Steps", ">Deals")
        for one in figures.deviations:
            add(made, (one.kind, one.from_ or "(begins)", one.to, one.count, one.deals))
        yield made
    yield _paths_table(figures)
    if figures.loops:
        made = table("Entered again", ">Deals", ">Times")
        for loop in figures.loops:
            add(made, (loop.stage, loop.deals, loop.times))
        yield made


def _paths_table(figures: Any) -> Table:
    counts = (">Won", ">Lost", ">Dis-\nqual.", ">Open", ">Trans-\nferred")
    made = table("~Path", ">Deals", ">of all", ">Con-\nform", *counts, ">Win\nrate", ">Median\ndays")
    for one in figures.variants:
        ends = (one.won, one.lost, one.disqualified, one.open, one.transferred)
        rates = (percent(one.win_rate), one.median_days_to_close)
        add(made, (" → ".join(one.stages), one.deals, percent(one.share), one.conforming, *ends, *rates))
    rest = figures.other_variants
    if rest.variants:
        nothing = ("",) * (len(counts) + 3)
        add(made, (f"{rest.variants:,} other paths", rest.deals, percent(rest.share), *nothing), style="dim")
    return made


def _pipeline_table(figures: Any, title: str | None) -> Table:
    made = table("~Stage", ">Deals", "", ">Value", ">Weighted value", ">Median\ndays", ">Stalled", title=title)
    most = max(stage.deals for stage in figures.stages)
    for place, stage in enumerate(figures.stages, 1):
        last = place == len(figures.stages)
        add(made, _standing(stage.name, stage, most), style="" if stage.deals else "dim", end_section=last)
    add(made, _standing("Total", figures.total, 0), style="bold")
    return made


def _standing(name: str, figures: Any, most: int) -> tuple[object, ...]:
    return (
        name,
        figures.deals,
        bar(figures.deals, most, 10),
        amounts(figures.value),
        amounts(figures.weighted_value),
        figures.median_days_in_stage,
        figures.stalled,
    )


def _funnel_table(figures: Any, title: str | None) -> Table:
    columns: dict[str, Callable[[Any], object]] = {
        "~Stage": lambda stage: stage.name,
        ">Rea-\nched": lambda stage: stage.reached,
        "": lambda stage: bar(stage.reached, figures.total.cohort, 12),
        ">of all": lambda stage: percent(stage.conversion_from_start),
        ">Passed": lambda stage: stage.passed,
        ">of\nthose": lambda stage: percent(stage.conversion_to_next),
        ">En-\ntered": lambda stage: stage.entered,
        ">Open": lambda stage: stage.open,
        ">Lost": lambda stage: stage.lost,
        ">Dis-\nqual.": lambda stage: stage.disqualified,
        ">Trans-\nferred": lambda stage: stage.transferred,
        ">Median\ndays": lambda stage: stage.median_days_to_pass,
        ">p90\ndays": lambda stage: stage.p90_days_to_pass,
    }
    if not is_roomy():
        del columns[""]
    made = table(*columns, title=title)
    for stage in figures.stages:
        add(made, (cell(stage) for cell in columns.values()), style="" if stage.reached else "dim")
    return made


def _reasons(figures: Any) -> Iterator[Table]:
    """Why deals were lost or disqualified, by the stage that they came to; nothing where nobody said why."""
    rows = []
    for outcome in ("lost", "disqualified"):
        for name, reasons in [*((one.name, one.reasons) for one in figures.stages), ("Total", figures.total.reasons)]:
            counts = getattr(reasons, outcome)
            if any(count.reason is not None for count in counts):
                more = f", and {len(counts) - _REASONS:,} more" if len(counts) > _REASONS else ""
                told = ", ".join(f"{scalar(count.reason)} {shown(count.deals)}" for count in counts[:_REASONS])
                rows.append((outcome.capitalize(), name, told + more))
    if rows:
        made = table("Outcome", "~Stage", "~Reasons")
        for row in rows:
            add(made, row, style="bold" if row[1] == "Total" else "")
        yield made


def _outcome(total: Any) -> str:
    rates = ""
    if total.win_rate is not None:
        rates = f"; win rate {percent(total.win_rate)}"
    if total.close_rate is not None:
        rates += f", close rate {percent(total.close_rate)}"
    counts = ("won", "lost", "disqualified", "open", "transferred")
    told = ", ".join(f"{shown(getattr(total, count))} {count}" for count in counts)
    return f"{shown(total.cohort)} deals: {told}{rates}"


def _closing_months(figures: Any, title: str | None) -> Table:
    made = table("Closes in", ">Deals", ">Value", ">Weighted value", ">Overdue", title=title)
    for place, month in enumerate(figures.months, 1):
        worth = (amounts(month.value), amounts(month.weighted_value))
        last = place == len(figures.months)
        add(made, (month.month or "no date", month.deals, *worth, month.overdue), end_section=last)
    total = figures.total
    add(made, ("Total", total.deals, amounts(total.value), amounts(total.weighted_value), total.overdue), style="bold")
    return made


def _slipping_stages(figures: Any) -> Table:
    made = table("~Stage", ">Dated\ndeals", *_MOVED, ">Median days\nslipped")
    for place, stage in enumerate(figures.stages, 1):
        last = place == len(figures.stages)
        add(made, (stage.name, *_moved(stage)), style="" if stage.dated else "dim", end_section=last)
    add(made, ("Total", *_moved(figures.total)), style="bold")
    return made


def _moved(one: Any) -> tuple[Any, ...]:
    pushed, pulled = (one.pushed, one.pushes, one.days_pushed), (one.pulled, one.pulls, one.days_pulled)
    return one.dated, *pushed, *pulled, one.median_days_slipped


def _asked_of_cohort(report: Any) -> str:
    tz = report.question["tz"]
    within = "" if report.within is None else f", {report.within:,} days from each opening"
    opened = f"deals opened from {at(report.cohort.from_, tz)} until {at(report.cohort.until, tz)}{within}"
    return f"{_asked_of(report)}\n{opened}"


def _asked_of(report: Any) -> str:
    """What a report was asked, in a line."""
    tz = report.question["tz"]
    definition = f"a draft after version {report.definition}" if report.draft else f"definition {report.definition}"
    where = ", ".join(f"{name} = {scalar(value)}" for name, value in report.question.get("where", {}).items())
    return (
        f"{report.pipeline} as of {at(report.as_of, tz)}, as known at {at(report.known_at, tz)} ({tz}), {definition}"
        + (f", where {where}" if where else "")
    )


def _named(group: dict[str, Any]) -> str:
    """The values of a group."""
    return ", ".join(f"{name} = {scalar(value)}" for name, value in group.items())


def _provenance(report: Any) -> str:
    """Where a report came from."""
    return f"position {report.position:,}\ncontent digest {report.content_digest}\ndigest         {report.digest}"
