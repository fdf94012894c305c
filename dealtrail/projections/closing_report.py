"""The closing report: when the open deals should close, which are overdue, and how often their dates were moved."""

from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.conditions import Scalar
from dealtrail.domain.times import DAY, Instant, day_of, quantile_days
from dealtrail.projections import pipeline_report
from dealtrail.projections.deals import ids_of
from dealtrail.projections.definitions import known_pipeline, lens_of
from dealtrail.projections.holding import One, Tally, cells, each
from dealtrail.projections.provenance import heading
from dealtrail.projections.question import Asked, Facts, Lens, When, fits, grouped
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log


class ClosingMonth(msgspec.Struct, frozen=True):
    """The deals that should close in a month, such as `2026-03`; None for those without a date."""

    month: str | None
    deals: int
    value: dict[str, Decimal]
    weighted_value: dict[str, Decimal]
    overdue: int


class Slippage(msgspec.Struct, frozen=True):
    """How often and by how many days dates were moved since the deals opened: pushed to later, pulled to earlier ones.

    `dated` deals ever had a date; `median_days_slipped` is over these, from a deal's first date to its last.
    """

    deals: int
    dated: int
    overdue: int
    pushed: int
    pushes: int
    days_pushed: int
    pulled: int
    pulls: int
    days_pulled: int
    median_days_slipped: float | None


class ClosingStage(Slippage, frozen=True):
    """The slippage of the deals that are in a stage."""

    stage: str
    name: str


class ClosingTotal(Slippage, frozen=True):
    """The slippage of all deals, and what they are worth."""

    value: dict[str, Decimal]
    weighted_value: dict[str, Decimal]


class ClosingGroup(msgspec.Struct, frozen=True):
    """The figures of the deals of one group."""

    group: dict[str, Scalar | None]
    months: list[ClosingMonth]
    stages: list[ClosingStage]
    total: ClosingTotal


class ClosingDeal(msgspec.Struct, frozen=True):
    """A deal that is overdue or whose date was moved; `days_over` is 0 where it is not overdue."""

    deal: str
    owner: str | None
    stage: str
    expected_close: date | None
    days_over: int
    first_expected_close: date
    pushes: int
    days_pushed: int
    pulls: int
    days_pulled: int


class Figures(msgspec.Struct, frozen=True):
    """What the report says, apart from where it came from."""

    months: list[ClosingMonth]
    stages: list[ClosingStage]
    total: ClosingTotal
    deals: list[ClosingDeal]
    groups: list[ClosingGroup] | None


class ClosingReport(msgspec.Struct, frozen=True):
    """The closing dates of a pipeline at a moment, as known at another, with where they came from."""

    question: dict[str, Any]
    pipeline: str
    as_of: datetime
    known_at: datetime
    position: int
    definition: int
    draft: bool
    content_digest: str
    digest: str
    months: list[ClosingMonth]
    stages: list[ClosingStage]
    total: ClosingTotal
    deals: list[ClosingDeal]
    groups: list[ClosingGroup] | None


class Dated(msgspec.Struct, frozen=True):
    """An open deal with the dates that it had one after the other, and for how many days it is overdue."""

    deal: str
    one: One
    dates: list[date]
    days_over: int

    @property
    def facts(self) -> Facts:
        """What filters and groups look at."""
        return self.one.facts

    @property
    def moves(self) -> list[int]:
        """By how many days the date was moved each time: to a later one, or (below 0) to an earlier one."""
        return [(after - before).days for before, after in pairwise(self.dates)]


def closing_report(log: Log, model: ReadModel, key: str, at: When, asked: Asked) -> ClosingReport:
    """The report; see `Process.closing_report`."""
    today = day_of(at.as_of, asked.tz)
    with model.answering(at.position) as c:
        lens = lens_of(known_pipeline(c, key, at.position), asked.definition, at)
        found = [one for one in each(c, at, lens, cells(c, lens, "open")) if fits(asked.where, one.facts)]
        numbers = [one.number for one in found]
        ids, dates = ids_of(c, numbers), _dates(c, at, numbers)
    rows = [Dated(ids[one.number], one, dates.get(one.number, []), _days_over(one, today)) for one in found]
    rows.sort(key=lambda row: (-row.days_over, row.deal))
    made = Figures(
        *_figures(rows, lens, at.as_of),
        deals=[_deal(row, lens) for row in rows if row.days_over or row.moves],
        groups=[ClosingGroup(group, *_figures(of, lens, at.as_of)) for group, of in grouped(rows, asked.group_by)]
        if asked.group_by
        else None,
    )
    return ClosingReport(**heading(log, "closing", at, lens, asked.shown(), made))


# Each period says which date the deal had in it. One that ended where it began, as was known at K, was never seen.
_DATES = (
    "SELECT number, from_at, expected_close FROM json_each(:numbers) AS given JOIN deal ON deal.number = given.value"
    " WHERE from_at <= :as_of AND known_from <= :position AND expected_close IS NOT NULL UNION ALL"
    " SELECT deal, from_at, expected_close FROM json_each(:numbers) AS given CROSS JOIN period INDEXED BY period_deal"
    " ON period.deal = given.value WHERE from_at <= :as_of AND known_from <= :position AND known_to > :position"
    " AND (to_at > from_at OR end_known > :position) AND expected_close IS NOT NULL ORDER BY 1, 2"
)


def _dates(c: SQLiteCursor, at: When, numbers: list[int]) -> dict[int, list[date]]:
    """For each deal the dates that it had by (T, K), one after the other; a time without any is passed over."""
    c.execute(_DATES, {**at.values, "numbers": msgspec.json.encode(numbers).decode()})
    return {
        number: [date.fromisoformat(text) for text, _ in groupby(row[2] for row in rows)]
        for number, rows in groupby(c.fetchall(), key=lambda row: row[0])
    }


def _days_over(one: One, today: date) -> int:
    """For how many days a deal is overdue: one that should have closed yesterday is for 1."""
    expected = today if one.expected_close is None else date.fromisoformat(one.expected_close)
    return max(0, (today - expected).days)


def _figures(rows: list[Dated], lens: Lens, at: Instant) -> tuple[list[ClosingMonth], list[ClosingStage], ClosingTotal]:
    by_month: dict[str | None, list[Dated]] = {}
    for row in rows:
        by_month.setdefault(row.one.expected_close and row.one.expected_close[:7], []).append(row)
    months = [
        ClosingMonth(month, len(there), *_amounts(there, lens, at), sum(row.days_over > 0 for row in there))
        for month, there in sorted(by_month.items(), key=lambda pair: (pair[0] is None, pair[0]))
    ]
    stages = [
        ClosingStage(
            **_slippage([row for row in rows if row.one.stay.stage == index]), stage=stage.key, name=stage.name
        )
        for index, stage in enumerate(lens.under.stages)
    ]
    value, weighted_value = _amounts(rows, lens, at)
    return months, stages, ClosingTotal(**_slippage(rows), value=value, weighted_value=weighted_value)


def _amounts(rows: list[Dated], lens: Lens, at: Instant) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Value and weighted value, summed and rounded as in the pipeline report."""
    ones = [row.one for row in rows]
    tallies = [Tally(one.stay.stage, one.facts, one.millionths, [one.stay.since], [one.number]) for one in ones]
    total = pipeline_report.figures(tallies, lens, at, ()).total
    return total.value, total.weighted_value


def _slippage(rows: list[Dated]) -> dict[str, Any]:
    """The figures of `Slippage`, by name."""
    later = [[move for move in row.moves if move > 0] for row in rows]
    earlier = [[-move for move in row.moves if move < 0] for row in rows]
    slipped = sorted((row.dates[-1] - row.dates[0]).days * DAY for row in rows if row.dates)
    return {
        "deals": len(rows),
        "dated": len(slipped),
        "overdue": sum(row.days_over > 0 for row in rows),
        "pushed": sum(map(bool, later)),
        "pushes": sum(map(len, later)),
        "days_pushed": sum(map(sum, later)),
        "pulled": sum(map(bool, earlier)),
        "pulls": sum(map(len, earlier)),
        "days_pulled": sum(map(sum, earlier)),
        "median_days_slipped": quantile_days(slipped, Fraction(1, 2)),
    }


def _deal(row: Dated, lens: Lens) -> ClosingDeal:
    one = row.one
    moved = _slippage([row])
    return ClosingDeal(
        deal=row.deal,
        owner=one.facts.owner,
        stage=lens.under.stages[one.stay.stage].key,
        expected_close=None if one.expected_close is None else date.fromisoformat(one.expected_close),
        days_over=row.days_over,
        first_expected_close=row.dates[0],
        **{name: moved[name] for name in ("pushes", "days_pushed", "pulls", "days_pulled")},
    )
