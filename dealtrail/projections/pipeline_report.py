"""The pipeline report: how many deals, worth what, stand in each stage at a moment, and for how long."""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.definitions import Scalar
from dealtrail.domain.money import rounded, times, total
from dealtrail.domain.times import Instant, days, quantile
from dealtrail.projections.question import (
    PERIOD_HOLDS,
    Facts,
    Lens,
    When,
    facts,
    fits,
    grouped,
)
from dealtrail.projections.visits import stays, visits


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


class Standing(msgspec.Struct, frozen=True):
    """An open deal at the moment of the report: its stage by index, since when, and what it is worth."""

    deal: int
    index: int
    since: Instant
    facts: Facts


class Figures(msgspec.Struct, frozen=True):
    """What the report says, apart from where it came from."""

    stages: list[PipelineStage]
    total: PipelineFigures
    groups: list[PipelineGroup] | None


# The deals behind each field of a stage or of the total.
FIELDS: dict[str, Callable[[Standing, Lens, Instant], bool]] = {
    "deals": lambda deal, lens, at: True,
    "value": lambda deal, lens, at: deal.facts.value is not None,
    "weighted_value": lambda deal, lens, at: deal.facts.value is not None,
    "median_days_in_stage": lambda deal, lens, at: True,
    "stalled": lambda deal, lens, at: is_stalled(deal, lens, at),
}

_OPEN = f"period.pipeline = :pipeline AND period.status = 'open' AND {PERIOD_HOLDS}"


def standing(c: SQLiteCursor, lens: Lens, at: When, where: dict[str, Scalar | None]) -> list[Standing]:
    """The deals that are open and in the pipeline at (T, K), with the filter's values as they are at T."""
    values = {"pipeline": lens.pipeline.key}
    chosen = f"SELECT period.deal AS number FROM period WHERE {_OPEN}"
    stay_of = stays(visits(c, at, chosen, values), {lens.pipeline.key: lens})
    c.execute(
        f"SELECT deal, amount, currency, owner, source, attributes FROM period WHERE {_OPEN} ORDER BY deal",
        {**at.values, **values},
    )
    found = ((row[0], facts(*row[1:])) for row in c.fetchall())
    return [Standing(deal, *stay_of[deal], of_deal) for deal, of_deal in found if fits(where, of_deal)]


def figures(deals: list[Standing], lens: Lens, at: Instant, group_by: tuple[str, ...]) -> Figures:
    """The figures of the report over its deals: per stage of the definition in order, in total, and per group."""
    groups = [
        PipelineGroup(group, _stages(members, lens, at), _sum(members, lens, at))
        for group, members in grouped(deals, group_by)
    ]
    return Figures(_stages(deals, lens, at), _sum(deals, lens, at), groups if group_by else None)


def is_stalled(deal: Standing, lens: Lens, at: Instant) -> bool:
    """Whether a deal has been in its stage for longer than the stage allows."""
    limit = lens.under.stages[deal.index].rots_after
    return limit is not None and at - deal.since > limit


def _stages(deals: Iterable[Standing], lens: Lens, at: Instant) -> list[PipelineStage]:
    by_stage: list[list[Standing]] = [[] for _ in lens.under.stages]
    for deal in deals:
        by_stage[deal.index].append(deal)
    return [
        PipelineStage(stage.key, stage.name, *msgspec.structs.astuple(_sum(there, lens, at)))
        for stage, there in zip(lens.under.stages, by_stage, strict=True)
    ]


def _sum(deals: list[Standing], lens: Lens, at: Instant) -> PipelineFigures:
    """Counts, exact sums rounded once, and the median of the days in stage."""
    amounts: dict[str, list[Decimal]] = {}
    weighted: dict[str, list[Decimal]] = {}
    for deal in deals:
        if deal.facts.value is not None:
            amount, currency = deal.facts.value.amount, deal.facts.value.currency
            amounts.setdefault(currency, []).append(amount)
            probability = lens.under.stages[deal.index].probability
            weighted.setdefault(currency, []).append(times(amount, probability))
    median = quantile(sorted(at - deal.since for deal in deals), Fraction(1, 2))
    return PipelineFigures(
        deals=len(deals),
        value={currency: rounded(total(amounts[currency]), currency) for currency in sorted(amounts)},
        weighted_value={currency: rounded(total(weighted[currency]), currency) for currency in sorted(weighted)},
        median_days_in_stage=None if median is None else days(median),
        stalled=sum(is_stalled(deal, lens, at) for deal in deals),
    )
