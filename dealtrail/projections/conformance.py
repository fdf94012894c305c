"""Conformance: how the deals of a cohort really went, against what a definition allows; their paths and loops."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from itertools import chain
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dealtrail.domain.allowed import KINDS, Kind
from dealtrail.domain.conditions import Scalar
from dealtrail.domain.definitions import Definition
from dealtrail.domain.texts import shaped
from dealtrail.domain.times import Instant, moment, quantile_days, share
from dealtrail.projections.definitions import known_pipeline, lens_of
from dealtrail.projections.funnel_report import AskedOfCohort, Cohort
from dealtrail.projections.journeys import Journey, journeys
from dealtrail.projections.provenance import heading
from dealtrail.projections.question import Asked, When, grouped
from dealtrail.projections.readmodel import ReadModel
from dealtrail.projections.ways import CLOSED, OUTCOMES, Step, Way, way_of
from dealtrail.store.log import Log


class DeviatingKind(msgspec.Struct, frozen=True):
    """How many steps go against one of the lists, and of how many deals."""

    kind: Kind
    count: int
    deals: int


class Deviation(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Steps from one stage to another that are not allowed; `from` is null for an entry, `to` may be `won`."""

    kind: Kind
    from_: str | None
    to: str
    count: int
    deals: int


class Variant(msgspec.Struct, frozen=True):
    """A path: the stages of its visits in order, the deals that went it, and what became of them."""

    stages: list[str]
    deals: int
    share: float | None
    conforming: int
    won: int
    lost: int
    disqualified: int
    open: int
    transferred: int
    win_rate: float | None
    median_days_to_close: float | None


class OtherVariants(msgspec.Struct, frozen=True):
    """The paths beyond the limit: how many they are, and the deals that went them."""

    variants: int
    deals: int
    share: float | None


class Loop(msgspec.Struct, frozen=True):
    """A stage that deals entered again: how many did, and how many times in all."""

    stage: str
    deals: int
    times: int


class Conformed(msgspec.Struct, frozen=True, kw_only=True):
    """The figures: shares to 4 decimals, days of 86,400 s to 2 decimals."""

    deals: int
    conforming: int
    conforming_share: float | None
    kinds: list[DeviatingKind]
    deviations: list[Deviation]
    variants: list[Variant]
    other_variants: OtherVariants
    loops: list[Loop]


class ConformanceGroup(Conformed, frozen=True):
    """The figures of the deals of one group."""

    group: dict[str, Scalar | None]


class Figures(Conformed, frozen=True, kw_only=True):
    """What the report says, apart from where it came from."""

    groups: list[ConformanceGroup] | None


class ConformanceReport(Figures, frozen=True):
    """How a cohort went by a moment, as known at another, against a definition, with where it came from."""

    question: dict[str, Any]
    pipeline: str
    cohort: Cohort
    as_of: datetime
    known_at: datetime
    position: int
    definition: int
    draft: bool
    within: int | float | None
    limit: int
    content_digest: str
    digest: str


def conformance(
    log: Log, model: ReadModel, key: str, at: When, asked: Asked, of_cohort: AskedOfCohort, limit: object
) -> ConformanceReport:
    """The report; see `Process.conformance`."""
    shown: int = shaped(limit, Annotated[int, Meta(ge=0, le=10_000)], "limit")
    with model.answering(at.position) as c:
        lens = lens_of(known_pipeline(c, key, at.position), asked.definition, at)
        found = journeys(c, lens, at, of_cohort.period, of_cohort.span, asked.where, asked.group_by)
    made = figures([way_of(journey, lens.under) for journey in found], lens.under, asked.group_by, shown)
    question = asked.shown() | of_cohort.shown() | {"limit": shown}
    return ConformanceReport(
        cohort=Cohort(*map(moment, of_cohort.period)),
        within=of_cohort.within,
        limit=shown,
        **heading(log, "conformance", at, lens, question, made),
    )


def figures(ways: list[Way], under: Definition, group_by: tuple[str, ...], limit: int) -> Figures:
    """The figures of the report over its cohort, in total and per group."""
    groups = [
        ConformanceGroup(group, **_conformed(members, under, limit)) for group, members in grouped(ways, group_by)
    ]
    return Figures(groups=groups if group_by else None, **_conformed(ways, under, limit))


def _conformed(ways: list[Way], under: Definition, limit: int) -> dict[str, Any]:
    deals = sum(way.size for way in ways)
    conforming = sum(way.size for way in ways if not way.against)
    variants = _variants(ways, under, deals)
    rest = sum(variant.deals for variant in variants[limit:])
    return {
        "deals": deals,
        "conforming": conforming,
        "conforming_share": share(conforming, deals),
        "kinds": _kinds(ways),
        "deviations": _deviations(ways, under),
        "variants": variants[:limit],
        "other_variants": OtherVariants(len(variants[limit:]), rest, share(rest, deals)),
        "loops": _loops(ways, under),
    }


def _kinds(ways: list[Way]) -> list[DeviatingKind]:
    of_kind = {kind: [(sum(step[0] == kind for step in way.against), way.size) for way in ways] for kind in KINDS}
    return [
        DeviatingKind(kind, sum(steps * deals for steps, deals in found), sum(deals for steps, deals in found if steps))
        for kind, found in of_kind.items()
    ]


def _deviations(ways: list[Way], under: Definition) -> list[Deviation]:
    """Those of which there are most first, then in the order of kinds and stages."""
    counts: Counter[Step] = Counter()
    deals: Counter[Step] = Counter()
    for way in ways:
        for step, times in Counter(way.against).items():
            counts[step] += times * way.size
            deals[step] += way.size
    names = [*under.keys, "won"]
    order = sorted(counts, key=lambda s: (-counts[s], KINDS.index(s[0]), -1 if s[1] is None else s[1], s[2]))
    return [
        Deviation(step[0], None if step[1] is None else names[step[1]], names[step[2]], counts[step], deals[step])
        for step in order
    ]


def _variants(ways: list[Way], under: Definition, deals: int) -> list[Variant]:
    """The most common first, then in the order of their stages."""
    members: dict[tuple[int, ...], list[Way]] = {}
    for way in ways:
        members.setdefault(way.visits, []).append(way)
    keys = under.keys
    rows = [
        (-sum(way.size for way in some), visits, _variant([keys[place] for place in visits], some, deals))
        for visits, some in members.items()
    ]
    return [variant for _, _, variant in sorted(rows, key=lambda row: row[:2])]


def _variant(stages: list[str], ways: list[Way], deals: int) -> Variant:
    outcomes = dict.fromkeys(OUTCOMES, 0)
    for way in ways:
        outcomes[way.status] += way.size
    size = sum(outcomes.values())
    lengths = sorted(chain.from_iterable(_days_to_close(way.journey) for way in ways))
    return Variant(
        stages=stages,
        deals=size,
        share=share(size, deals),
        conforming=sum(way.size for way in ways if not way.against),
        **outcomes,
        win_rate=share(outcomes["won"], size),
        median_days_to_close=quantile_days(lengths, Fraction(1, 2)),
    )


def _days_to_close(journey: Journey) -> Iterable[Instant]:
    """How long each deal took from its opening to the end that it has, where it is closed."""
    last = len(journey.marks) - 1
    return [ats[last] for ats in journey.ats] if journey.status in CLOSED else []


def _loops(ways: list[Way], under: Definition) -> list[Loop]:
    """The stages that deals entered again, in order."""
    found = []
    for place, key in enumerate(under.keys):
        again = [(way.visits.count(place) - 1, way.size) for way in ways if way.visits.count(place) > 1]
        if again:
            times = sum(times * deals for times, deals in again)
            found.append(Loop(key, sum(deals for _, deals in again), times))
    return found
