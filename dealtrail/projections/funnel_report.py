"""The funnel report: of a cohort, how many deals went through each stage, how fast, and where they dropped out."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from itertools import chain
from typing import Any

import msgspec

from dealtrail.domain.conditions import Scalar
from dealtrail.domain.errors import error
from dealtrail.domain.periods import parse_period
from dealtrail.domain.reasons import REASONED
from dealtrail.domain.times import DAY, Instant, moment, quantile_days, share, zone
from dealtrail.projections.definitions import known_pipeline, lens_of
from dealtrail.projections.journeys import Journey, journeys
from dealtrail.projections.provenance import heading
from dealtrail.projections.question import Asked, Lens, When, grouped, plain_number
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log


class ReasonCount(msgspec.Struct, frozen=True):
    """How many deals have a reason; None for those without one."""

    reason: str | None
    deals: int


class ReasonCounts(msgspec.Struct, frozen=True):
    """The lost and the disqualified deals by reason: the most first, equal ones by their text, None last."""

    lost: list[ReasonCount]
    disqualified: list[ReasonCount]


class FunnelStage(msgspec.Struct, frozen=True):
    """The figures of one stage: deals, shares to 4 decimals, days of 86,400 s to 2 decimals.

    Always `reached = passed + open + lost + disqualified + transferred`.
    """

    stage: str
    name: str
    entered: int
    reached: int
    passed: int
    open: int
    lost: int
    disqualified: int
    transferred: int
    conversion_from_start: float | None
    conversion_to_next: float | None
    median_days_to_pass: float | None
    p90_days_to_pass: float | None
    reasons: ReasonCounts


class FunnelTotal(msgspec.Struct, frozen=True):
    """The figures of the whole cohort."""

    cohort: int
    won: int
    lost: int
    disqualified: int
    open: int
    transferred: int
    win_rate: float | None
    close_rate: float | None
    reasons: ReasonCounts


class FunnelGroup(msgspec.Struct, frozen=True):
    """The figures of the deals of one group."""

    group: dict[str, Scalar | None]
    stages: list[FunnelStage]
    total: FunnelTotal


class Cohort(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A half-open period of openings."""

    from_: datetime
    until: datetime


class FunnelReport(msgspec.Struct, frozen=True):
    """What became of a cohort by a moment, as known at another, with where it came from."""

    question: dict[str, Any]
    pipeline: str
    cohort: Cohort
    as_of: datetime
    known_at: datetime
    position: int
    definition: int
    draft: bool
    within: int | float | None
    content_digest: str
    digest: str
    stages: list[FunnelStage]
    total: FunnelTotal
    groups: list[FunnelGroup] | None


class Figures(msgspec.Struct, frozen=True):
    """What the report says, apart from where it came from."""

    stages: list[FunnelStage]
    total: FunnelTotal
    groups: list[FunnelGroup] | None


# The deals behind each field of a stage; of a share, those that it counts.
STAGE_FIELDS: dict[str, Callable[[Journey, int], bool]] = {
    "entered": lambda journey, index: index in journey.entered,
    "reached": lambda journey, index: journey.reached(index),
    "passed": lambda journey, index: journey.passed(index),
    "open": lambda journey, index: journey.ended(index, "open"),
    "lost": lambda journey, index: journey.ended(index, "lost"),
    "disqualified": lambda journey, index: journey.ended(index, "disqualified"),
    "transferred": lambda journey, index: journey.ended(index, "transferred"),
    "conversion_from_start": lambda journey, index: journey.reached(index),
    "conversion_to_next": lambda journey, index: journey.passed(index),
    "median_days_to_pass": lambda journey, index: index in journey.passes,
    "p90_days_to_pass": lambda journey, index: index in journey.passes,
}
# The deals behind each field of the total.
TOTAL_FIELDS: dict[str, Callable[[Journey], bool]] = {
    "cohort": lambda journey: True,
    "won": lambda journey: journey.status == "won",
    "lost": lambda journey: journey.status == "lost",
    "disqualified": lambda journey: journey.status == "disqualified",
    "open": lambda journey: journey.status == "open",
    "transferred": lambda journey: journey.status == "transferred",
    "win_rate": lambda journey: journey.status == "won",
    "close_rate": lambda journey: journey.status == "won",
}


class AskedOfCohort(msgspec.Struct, frozen=True):
    """What the funnel is asked beside the rest: the cohort's period, and for how long each deal is followed."""

    cohort: str
    within: int | float | None
    fiscal_year_start: int
    period: tuple[Instant, Instant]
    span: Instant | None

    @classmethod
    def parsed(cls, cohort: object, within: object, fiscal_year_start: object, tz: str) -> "AskedOfCohort":
        """The arguments, checked. Errors: invalid_period, invalid_tz, invalid_field."""
        if type(fiscal_year_start) is not int or not 1 <= fiscal_year_start <= 12:
            raise error("invalid_field", "fiscal_year_start", why="give a month, 1 to 12")
        period = parse_period(cohort, zone(tz), fiscal_year_start)
        return cls(str(cohort), plain_number(within), fiscal_year_start, period, window(within))

    def shown(self) -> dict[str, Any]:
        """As a question repeats them."""
        return {"cohort": self.cohort, "within": self.within, "fiscal_year_start": self.fiscal_year_start}


def funnel_report(
    log: Log, model: ReadModel, key: str, at: When, asked: Asked, of_cohort: AskedOfCohort
) -> FunnelReport:
    """The report; see `Trail.funnel_report`."""
    with model.answering(at.position) as c:
        lens = lens_of(known_pipeline(c, key, at.position), asked.definition, at)
        found = journeys(c, lens, at, of_cohort.period, of_cohort.span, asked.where, asked.group_by)
    made = figures(found, lens, asked.group_by)
    return FunnelReport(
        cohort=Cohort(*map(moment, of_cohort.period)),
        within=of_cohort.within,
        **heading(log, "funnel", at, lens, asked.shown() | of_cohort.shown(), made),
    )


def figures(cohort: list[Journey], lens: Lens, group_by: tuple[str, ...]) -> Figures:
    """The figures of the report over its cohort: per stage of the definition in order, in total, and per group."""
    groups = [
        FunnelGroup(group, _stages(members, lens), _total(members)) for group, members in grouped(cohort, group_by)
    ]
    return Figures(_stages(cohort, lens), _total(cohort), groups if group_by else None)


def _stages(cohort: list[Journey], lens: Lens) -> list[FunnelStage]:
    rows = []
    deals = sum(len(journey.deals) for journey in cohort)
    for index, stage in enumerate(lens.under.stages):
        count = {field: sum(len(j.deals) for j in cohort if holds(j, index)) for field, holds in STAGE_FIELDS.items()}
        spans = sorted(chain.from_iterable(journey.spans(index) for journey in cohort))
        rows.append(
            FunnelStage(
                stage=stage.key,
                name=stage.name,
                entered=count["entered"],
                reached=count["reached"],
                passed=count["passed"],
                open=count["open"],
                lost=count["lost"],
                disqualified=count["disqualified"],
                transferred=count["transferred"],
                conversion_from_start=share(count["reached"], deals),
                conversion_to_next=share(count["passed"], count["reached"]),
                median_days_to_pass=quantile_days(spans, Fraction(1, 2)),
                p90_days_to_pass=quantile_days(spans, Fraction(9, 10)),
                reasons=_reasons([journey for journey in cohort if journey.furthest == index]),
            )
        )
    return rows


def _total(cohort: list[Journey]) -> FunnelTotal:
    count = {field: sum(len(j.deals) for j in cohort if holds(j)) for field, holds in TOTAL_FIELDS.items()}
    closed = count["won"] + count["lost"] + count["disqualified"]
    return FunnelTotal(
        cohort=count["cohort"],
        won=count["won"],
        lost=count["lost"],
        disqualified=count["disqualified"],
        open=count["open"],
        transferred=count["transferred"],
        win_rate=share(count["won"], count["cohort"]),
        close_rate=share(count["won"], closed),
        reasons=_reasons(cohort),
    )


def _reasons(cohort: list[Journey]) -> ReasonCounts:
    return ReasonCounts(*(_by_reason([j for j in cohort if j.status == outcome]) for outcome in REASONED))


def _by_reason(ended: list[Journey]) -> list[ReasonCount]:
    counts = Counter(chain.from_iterable(journey.reasons for journey in ended))
    order = sorted(counts, key=lambda reason: (-counts[reason], reason is None, reason or ""))
    return [ReasonCount(reason, counts[reason]) for reason in order]


def window(within: object) -> Instant | None:
    """A number of days as microseconds. Errors: invalid_field."""
    if within is None:
        return None
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 <= within <= 1_000_000:
        raise error("invalid_field", "within", why="give a number of days, 0 or more")
    return int(Fraction(str(within)) * DAY)
