"""The funnel report: of a cohort, how many deals went through each stage, how fast, and where they dropped out."""

from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.definitions import Scalar
from dealtrail.domain.errors import error
from dealtrail.domain.times import DAY, Instant, days, quantile, share
from dealtrail.projections.fold import FOREVER
from dealtrail.projections.question import (
    PERIOD_HOLDS,
    VISIT_KNOWN,
    Facts,
    Lens,
    When,
    facts,
    fits,
    grouped,
)
from dealtrail.projections.visits import Seen, visits


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


class Journey(msgspec.Struct, frozen=True):
    """What became of one deal of the cohort, in the stages of the version read under.

    `furthest` is the furthest stage that it visited, `entered` every stage that it was in, and `to_pass` the time
    from first entering a stage to first being beyond it afterwards.
    """

    deal: int
    facts: Facts
    status: str
    furthest: int
    entered: frozenset[int]
    to_pass: dict[int, Instant]

    def reached(self, index: int) -> bool:
        """Whether it came to a stage or beyond; a deal that is won has passed every stage."""
        return self.status == "won" or self.furthest >= index

    def passed(self, index: int) -> bool:
        """Whether it came beyond a stage."""
        return self.status == "won" or self.furthest > index

    def ended(self, index: int, status: str) -> bool:
        """Whether a stage is the furthest of a deal of that status."""
        return self.status == status and self.furthest == index


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
    "median_days_to_pass": lambda journey, index: index in journey.to_pass,
    "p90_days_to_pass": lambda journey, index: index in journey.to_pass,
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

_COHORT = (
    "visit.begun = 'opened' AND visit.pipeline = :pipeline AND visit.at >= :from AND visit.at < :until"
    f" AND visit.at <= :as_of AND {VISIT_KNOWN}"
)
_AT_HORIZON = PERIOD_HOLDS.replace(":as_of", "min(:as_of, visit.at + :within)")


def journeys(
    c: SQLiteCursor,
    lens: Lens,
    at: When,
    cohort: tuple[Instant, Instant],
    within: Instant | None,
    where: dict[str, Scalar | None],
) -> list[Journey]:
    """What became of each deal opened into the pipeline in a period, but for those merged by T.

    `within` microseconds from its opening only count for each deal; the filter looks at the deal as it opened.
    """
    values = {
        "pipeline": lens.pipeline.key,
        "from": cohort[0],
        "until": cohort[1],
        "within": FOREVER - max(cohort[1], at.as_of) if within is None else within,
    }
    c.execute(
        "SELECT visit.deal, visit.at, period.pipeline, period.status, visit.amount, visit.currency, visit.owner,"
        " visit.source, visit.attributes"
        f" FROM visit JOIN period ON period.deal = visit.deal AND {_AT_HORIZON}"
        f" WHERE {_COHORT} AND NOT EXISTS (SELECT 1 FROM period WHERE period.deal = visit.deal"
        f" AND period.status = 'merged' AND {PERIOD_HOLDS}) ORDER BY visit.deal",
        {**at.values, **values},
    )
    opened = {}
    for deal, opened_at, pipeline, status, *columns in c.fetchall():
        as_opened = facts(*columns)
        if fits(where, as_opened):
            status = status if pipeline == lens.pipeline.key else "transferred"
            opened[deal] = (min(at.as_of, opened_at + values["within"]), status, as_opened)
    seen: dict[int, list[Seen]] = {deal: [] for deal in opened}
    chosen = f"SELECT visit.deal AS number FROM visit WHERE {_COHORT}"
    for visit in visits(c, at, chosen, values):
        if visit.deal in opened and visit.at <= opened[visit.deal][0] and visit.pipeline == lens.pipeline.key:
            seen[visit.deal].append(visit)
    return [_journey(deal, of_deal, status, seen[deal], lens) for deal, (_, status, of_deal) in opened.items()]


def _journey(deal: int, of_deal: Facts, status: str, seen: list[Seen], lens: Lens) -> Journey:
    beyond_all = len(lens.under.stages)
    path = [(visit.place(lens), visit.at) for visit in seen]
    entered = {index for index, _ in path if index < beyond_all}
    to_pass: dict[int, Instant] = {}
    for index in entered:
        first = next(place for place, (there, _) in enumerate(path) if there == index)
        beyond = next((at for there, at in path[first + 1 :] if there > index), None)
        if beyond is not None:
            to_pass[index] = beyond - path[first][1]
    return Journey(deal, of_deal, status, max(entered), frozenset(entered), to_pass)


def figures(journeys: list[Journey], lens: Lens, group_by: tuple[str, ...]) -> Figures:
    """The figures of the report over its cohort: per stage of the definition in order, in total, and per group."""
    groups = [
        FunnelGroup(group, _stages(members, lens), _total(members)) for group, members in grouped(journeys, group_by)
    ]
    return Figures(_stages(journeys, lens), _total(journeys), groups if group_by else None)


def _stages(cohort: list[Journey], lens: Lens) -> list[FunnelStage]:
    rows = []
    for index, stage in enumerate(lens.under.stages):
        count = {field: sum(holds(j, index) for j in cohort) for field, holds in STAGE_FIELDS.items()}
        spans = sorted(j.to_pass[index] for j in cohort if index in j.to_pass)
        median, p90 = quantile(spans, Fraction(1, 2)), quantile(spans, Fraction(9, 10))
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
                conversion_from_start=share(count["reached"], len(cohort)),
                conversion_to_next=share(count["passed"], count["reached"]),
                median_days_to_pass=None if median is None else days(median),
                p90_days_to_pass=None if p90 is None else days(p90),
            )
        )
    return rows


def _total(cohort: list[Journey]) -> FunnelTotal:
    count = {field: sum(holds(j) for j in cohort) for field, holds in TOTAL_FIELDS.items()}
    closed = count["won"] + count["lost"] + count["disqualified"]
    return FunnelTotal(
        cohort=count["cohort"],
        won=count["won"],
        lost=count["lost"],
        disqualified=count["disqualified"],
        open=count["open"],
        transferred=count["transferred"],
        win_rate=share(count["won"], len(cohort)),
        close_rate=share(count["won"], closed),
    )


def window(within: object) -> Instant | None:
    """A number of days as microseconds. Errors: invalid_field."""
    if within is None:
        return None
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 <= within <= 1_000_000:
        raise error("invalid_field", "within", why="give a number of days, 0 or more")
    return int(Fraction(str(within)) * DAY)
