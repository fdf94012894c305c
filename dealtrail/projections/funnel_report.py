"""The funnel report: of a cohort, how many deals went through each stage, how fast, and where they dropped out."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from itertools import chain, repeat
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.definitions import Basis, Scalar
from dealtrail.domain.errors import error
from dealtrail.domain.times import DAY, Instant, days, quantile, share
from dealtrail.projections.fold import Mark
from dealtrail.projections.question import Facts, Lens, When, columns_of, fits, grouped
from dealtrail.projections.rows import bases_of, integers_of, marks_of


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
    """What became of deals of the cohort that went the same way, in the stages of the version read under.

    `furthest` is the furthest stage visited, `entered` every stage that they were in, and `passes` for each stage gone
    beyond the marks of their path between which that lies: first entering it, first being beyond it afterwards.
    `ats` says for each deal when the marks occurred, `deals` their numbers.
    """

    facts: Facts
    status: str
    furthest: int
    entered: frozenset[int]
    passes: dict[int, tuple[int, int]]
    ats: list[list[Instant]]
    deals: list[int]

    def reached(self, index: int) -> bool:
        """Whether they came to a stage or beyond; a deal that is won has passed every stage."""
        return self.status == "won" or self.furthest >= index

    def passed(self, index: int) -> bool:
        """Whether they came beyond a stage."""
        return self.status == "won" or self.furthest > index

    def ended(self, index: int, status: str) -> bool:
        """Whether a stage is the furthest, with that status."""
        return self.status == status and self.furthest == index

    def spans(self, index: int) -> list[Instant]:
        """How long each deal took to pass a stage."""
        if index not in self.passes:
            return []
        entered, beyond = self.passes[index]
        return [ats[beyond] - ats[entered] for ats in self.ats]


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

_COLUMNS = "opened_at, last_known, shape, ats, knowns, bases"
_COHORT = (
    " WHERE opened_into = :pipeline AND opened_at >= :from AND opened_at < :until AND opened_at <= :as_of"
    " AND path_from <= :position"
)
_ROWS = (
    f"SELECT number, {_COLUMNS} FROM deal INDEXED BY deal_opened {_COHORT} UNION ALL"
    f" SELECT deal, {_COLUMNS} FROM past_path INDEXED BY past_path_opened {_COHORT} AND path_to > :position"
)


def journeys(
    c: SQLiteCursor,
    lens: Lens,
    at: When,
    cohort: tuple[Instant, Instant],
    within: Instant | None,
    where: Mapping[str, Scalar | None],
    group_by: Iterable[str],
) -> list[Journey]:
    """What became of the deals opened into the pipeline in a period, but for those merged by T.

    `within` microseconds from its opening only count for each deal; filter and groups look at the deal as it opened.
    """
    c.execute(_ROWS, {**at.values, "pipeline": lens.pipeline.key, "from": cohort[0], "until": cohort[1]})
    rows = c.fetchall()
    c.execute("SELECT id, marks FROM shape WHERE id IN (SELECT value FROM json_each(?))", (_ids(rows),))
    ways = {number: _Way(marks_of(marks), lens) for number, marks in c.fetchall()}
    fields = tuple(columns_of(where, group_by))
    found: dict[Any, Journey] = {}
    for number, opened_at, last_known, shape, ats_text, knowns, bases_text in rows:
        ats = integers_of(ats_text)
        until = at.as_of - opened_at
        length = len(ats) if ats[-1] <= until else bisect_right(ats, until)
        if last_known > at.position:
            length = min(length, bisect_right(integers_of(knowns), at.position))
        way = ways[shape]
        if way.merged < length:
            continue
        if within is not None and ats[length - 1] > within:
            length = bisect_right(ats, within, 0, length)
        bases = bases_of(bases_text) if fields or way.conditional else []
        facts = _as_opened(bases[0], fields) if fields else _NOTHING
        read = way.read(length, bases)
        key = (shape, length, read, _encode(facts) if fields else None)
        journey = found.get(key)
        if journey is None:
            journey = found[key] = way.journey(length, read, facts)
        journey.ats.append(ats)
        journey.deals.append(number)
    return [journey for journey in found.values() if fits(where, journey.facts)]


def _ids(rows: list[tuple[Any, ...]]) -> str:
    return msgspec.json.encode({row[3] for row in rows}).decode()


_NOTHING = Facts(None, None, None, {})
_encode = msgspec.json.Encoder(order="sorted").encode


def _as_opened(basis: Basis, fields: Iterable[str]) -> Facts:
    """What a deal had as it opened, as far as it is asked for: deals with the rest unlike are counted together."""
    return Facts(
        basis.value.currency if basis.value is not None and "currency" in fields else None,
        basis.owner if "owner" in fields else None,
        basis.source if "source" in fields else None,
        basis.attributes if "attributes" in fields else {},
    )


class _Way:
    """The marks of a path, as they are read under a definition: the same for all deals that have them, mostly."""

    def __init__(self, marks: tuple[Mark, ...], lens: Lens) -> None:
        self._marks = marks
        self._lens = lens
        kinds = [mark.kind for mark in marks]
        self.merged = kinds.index("merged") if "merged" in kinds else len(kinds)
        own = {mark.definition for mark in marks if mark.stage and mark.pipeline == lens.pipeline.key}
        self.conditional = any(
            not isinstance(move, str)
            for definition in lens.pipeline.definitions[min(own, default=0) : lens.under.version]
            for move in definition.moves.values()
        )
        self._read: dict[int, tuple[int | None, ...]] = {}

    def read(self, length: int, bases: list[Basis]) -> tuple[int | None, ...]:
        """For each of the first marks the stage by its place, beyond the last one for a win; None outside of both."""
        if self.conditional:
            return tuple(self._places(length, iter(bases)))
        if length not in self._read:
            self._read[length] = tuple(self._places(length, repeat(_NO_BASIS)))
        return self._read[length]

    def _places(self, length: int, bases: Iterator[Basis]) -> Iterator[int | None]:
        key, beyond_all = self._lens.pipeline.key, len(self._lens.under.stages)
        for mark in self._marks[:length]:
            if mark.stage:
                basis = next(bases)
                yield self._lens.place(mark.stage, mark.definition, basis) if mark.pipeline == key else None
            else:
                yield beyond_all if mark.kind == "won" and mark.pipeline == key else None

    def journey(self, length: int, read: tuple[int | None, ...], facts: Facts) -> Journey:
        """What became of deals that went this way, without a deal yet."""
        path = [(index, place) for place, index in enumerate(read) if index is not None]
        entered = {index for index, _ in path if index < len(self._lens.under.stages)}
        passes: dict[int, tuple[int, int]] = {}
        for index in entered:
            first = next(place for there, place in path if there == index)
            beyond = next((place for there, place in path if place > first and there > index), None)
            if beyond is not None:
                passes[index] = (first, beyond)
        visit = next(mark for mark in reversed(self._marks[:length]) if mark.stage)
        last = self._marks[length - 1]
        status = "transferred" if visit.pipeline != self._lens.pipeline.key else "open" if last.stage else last.kind
        return Journey(facts, status, max(entered), frozenset(entered), passes, [], [])


_NO_BASIS = Basis(None, None, None, {})


def figures(journeys: list[Journey], lens: Lens, group_by: tuple[str, ...]) -> Figures:
    """The figures of the report over its cohort: per stage of the definition in order, in total, and per group."""
    groups = [
        FunnelGroup(group, _stages(members, lens), _total(members)) for group, members in grouped(journeys, group_by)
    ]
    return Figures(_stages(journeys, lens), _total(journeys), groups if group_by else None)


def _stages(cohort: list[Journey], lens: Lens) -> list[FunnelStage]:
    rows = []
    deals = sum(len(journey.deals) for journey in cohort)
    for index, stage in enumerate(lens.under.stages):
        count = {field: sum(len(j.deals) for j in cohort if holds(j, index)) for field, holds in STAGE_FIELDS.items()}
        spans = sorted(chain.from_iterable(journey.spans(index) for journey in cohort))
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
                conversion_from_start=share(count["reached"], deals),
                conversion_to_next=share(count["passed"], count["reached"]),
                median_days_to_pass=None if median is None else days(median),
                p90_days_to_pass=None if p90 is None else days(p90),
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
    )


def window(within: object) -> Instant | None:
    """A number of days as microseconds. Errors: invalid_field."""
    if within is None:
        return None
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 <= within <= 1_000_000:
        raise error("invalid_field", "within", why="give a number of days, 0 or more")
    return int(Fraction(str(within)) * DAY)
