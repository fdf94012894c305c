"""The pipeline report: how many deals, worth what, stand in each stage at a moment, and for how long."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.conditions import Scalar
from dealtrail.domain.definitions import Stage
from dealtrail.domain.money import of_millionths, rounded, times, total
from dealtrail.domain.times import Instant, quantile_days
from dealtrail.projections.definitions import known_pipeline, lens_of
from dealtrail.projections.holding import Tally, cells, tallies
from dealtrail.projections.provenance import heading
from dealtrail.projections.question import Asked, Lens, When, columns_of, fits, grouped
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log


class PipelineFigures(msgspec.Struct, frozen=True):
    """Deals counted and summed: amounts by currency, days of 86,400 s to 2 decimals (None over no deals)."""

    deals: int
    value: dict[str, Decimal]
    weighted_value: dict[str, Decimal]
    median_days_in_stage: float | None
    stalled: int


class PipelineStage(msgspec.Struct, frozen=True):
    """The figures of one stage, as in `PipelineFigures`."""

    stage: str
    name: str
    deals: int
    value: dict[str, Decimal]
    weighted_value: dict[str, Decimal]
    median_days_in_stage: float | None
    stalled: int


class PipelineGroup(msgspec.Struct, frozen=True):
    """The figures of the deals of one group."""

    group: dict[str, Scalar | None]
    stages: list[PipelineStage]
    total: PipelineFigures


class PipelineReport(msgspec.Struct, frozen=True):
    """A pipeline at a moment, as known at another, with where it came from."""

    question: dict[str, Any]
    pipeline: str
    as_of: datetime
    known_at: datetime
    position: int
    definition: int
    draft: bool
    content_digest: str
    digest: str
    stages: list[PipelineStage]
    total: PipelineFigures
    groups: list[PipelineGroup] | None


class Figures(msgspec.Struct, frozen=True):
    """What the report says, apart from where it came from."""

    stages: list[PipelineStage]
    total: PipelineFigures
    groups: list[PipelineGroup] | None


# Which of the deals stand behind each field of a stage or of the total.
FIELDS: dict[str, Callable[[Tally, Lens, Instant], list[int]]] = {
    "deals": lambda tally, lens, at: tally.deals,
    "value": lambda tally, lens, at: tally.deals if tally.facts.currency else [],
    "weighted_value": lambda tally, lens, at: tally.deals if tally.facts.currency else [],
    "median_days_in_stage": lambda tally, lens, at: tally.deals,
    "stalled": lambda tally, lens, at: _stalled_deals(tally, lens, at),
}


def pipeline_report(log: Log, model: ReadModel, key: str, at: When, asked: Asked) -> PipelineReport:
    """The report; see `Trail.pipeline_report`."""
    with model.answering(at.position) as c:
        lens = lens_of(known_pipeline(c, key, at.position), asked.definition, at)
        found = standing(c, lens, at, asked.where, asked.group_by)
    made = figures(found, lens, at.as_of, asked.group_by)
    return PipelineReport(**heading(log, "pipeline", at, lens, asked.shown(), made))


def standing(
    c: SQLiteCursor,
    lens: Lens,
    at: When,
    where: Mapping[str, Scalar | None],
    group_by: Iterable[str],
    *,
    deals: bool = False,
) -> list[Tally]:
    """The deals that are open and in the pipeline at (T, K), with the filter's values as they are at T."""
    found = tallies(c, at, lens, cells(c, lens, "open"), columns_of(where, group_by), deals=deals)
    return [tally for tally in found if fits(where, tally.facts)]


def figures(found: list[Tally], lens: Lens, at: Instant, group_by: tuple[str, ...]) -> Figures:
    """The figures of the report over its deals: per stage of the definition in order, in total, and per group."""
    groups = [PipelineGroup(group, *_rows(members, lens, at)) for group, members in grouped(found, group_by)]
    stages, total = _rows(found, lens, at)
    return Figures(stages, total, groups if group_by else None)


def _rows(found: Iterable[Tally], lens: Lens, at: Instant) -> tuple[list[PipelineStage], PipelineFigures]:
    by_stage: list[list[Tally]] = [[] for _ in lens.under.stages]
    for tally in found:
        by_stage[tally.stage].append(tally)
    sums = [_sum(there, stage, at) for stage, there in zip(lens.under.stages, by_stage, strict=True)]
    stages = [
        PipelineStage(stage.key, stage.name, *msgspec.structs.astuple(one.figures()))
        for stage, one in zip(lens.under.stages, sums, strict=True)
    ]
    return stages, _together(sums).figures()


class _Sum(msgspec.Struct, frozen=True):
    """Exact sums by currency, and the time that each deal has spent in its stage, ascending."""

    value: dict[str, Decimal]
    weighted_value: dict[str, Decimal]
    spans: list[Instant]
    stalled: int

    def figures(self) -> PipelineFigures:
        """Counts, sums rounded once, and the median of the days in stage."""
        return PipelineFigures(
            deals=len(self.spans),
            value=_rounded(self.value),
            weighted_value=_rounded(self.weighted_value),
            median_days_in_stage=quantile_days(self.spans, Fraction(1, 2)),
            stalled=self.stalled,
        )


def _sum(found: list[Tally], stage: Stage, at: Instant) -> _Sum:
    millionths: dict[str, int] = {}
    for tally in found:
        if tally.facts.currency is not None:
            millionths[tally.facts.currency] = millionths.get(tally.facts.currency, 0) + tally.millionths
    value = {currency: of_millionths(count) for currency, count in millionths.items()}
    weighted = {currency: times(amount, stage.probability) for currency, amount in value.items()}
    spans = sorted(at - since for tally in found for since in tally.sinces)
    limit = stage.rots_after
    stalled = 0 if limit is None else len(spans) - bisect_right(spans, limit)
    return _Sum(value, weighted, spans, stalled)


def _together(sums: list[_Sum]) -> _Sum:
    value: dict[str, Decimal] = {}
    weighted: dict[str, Decimal] = {}
    for one in sums:
        for currency, amount in one.value.items():
            value[currency] = total([value.get(currency, Decimal(0)), amount])
            weighted[currency] = total([weighted.get(currency, Decimal(0)), one.weighted_value[currency]])
    # Sorting joins what is sorted already in one pass.
    return _Sum(value, weighted, sorted(span for one in sums for span in one.spans), sum(one.stalled for one in sums))


def _rounded(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {currency: rounded(amounts[currency], currency) for currency in sorted(amounts)}


def _stalled_deals(tally: Tally, lens: Lens, at: Instant) -> list[int]:
    """The deals that have been in their stage for longer than it allows."""
    limit = lens.under.stages[tally.stage].rots_after
    spans = zip(tally.deals, tally.sinces, strict=True)
    return [] if limit is None else [deal for deal, since in spans if at - since > limit]
