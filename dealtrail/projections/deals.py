"""Deals at (T, K): one, a page of them, or those behind a cell of a report."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.definitions import Pipeline, Scalar
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.money import Money
from dealtrail.domain.times import moment
from dealtrail.projections.question import PERIOD_HOLDS, Lens, When, facts, fits
from dealtrail.projections.visits import stays, visits

STATUSES = ("open", "won", "lost", "disqualified", "merged")
SORTS = ("deal", "opened_at", "stage_since", "expected_close", "value")


class DealView(msgspec.Struct, frozen=True):
    """A deal at (T, K): `stage` is read under version `definition`, that in force at T as known at K.

    `recorded_stage` and `recorded_definition` say what was recorded; `version` counts its events by K, for use as
    `expected_version`; `completed` are the actions completed since it was last put into a stage.
    """

    deal: str
    pipeline: str
    status: str
    stage: str
    definition: int
    stage_since: datetime
    recorded_stage: str
    recorded_definition: int
    opened_at: datetime
    closed_at: datetime | None
    value: Money | None
    owner: str | None
    source: str | None
    expected_close: date | None
    attributes: dict[str, Scalar]
    completed: list[str]
    reason: str | None
    merged_into: str | None
    subject: str
    title: str | None
    personal: dict[str, str]
    version: int


def views(c: SQLiteCursor, at: When, known: Mapping[str, Pipeline], numbers: Iterable[int]) -> list[DealView]:
    """The deals of these numbers, in the order of their ids; one that T does not reach is left out."""
    values = {"numbers": msgspec.json.encode(sorted(numbers)).decode()}
    chosen = "SELECT value AS number FROM json_each(:numbers)"
    lenses = {key: Lens(pipeline, pipeline.in_force(at.as_of), False) for key, pipeline in known.items()}
    stay_of = stays(visits(c, at, chosen, values), lenses)
    shown = _personal(c, at, chosen, values)
    c.execute(
        "SELECT deal.number, deal.deal, pipeline, status, stage, definition, opened_at, closed_at, amount, currency,"
        " owner, source, attributes, expected_close, completed, reason, merged_into, subject"
        f" FROM ({chosen}) AS chosen JOIN period ON period.deal = chosen.number AND {PERIOD_HOLDS}"
        " JOIN deal ON deal.number = period.deal ORDER BY deal.deal",
        {**at.values, **values},
    )
    return [_view(row, stay_of, lenses, shown) for row in c.fetchall()]


def _view(
    row: tuple[Any, ...], stay_of: Mapping[int, Any], lenses: Mapping[str, Lens], shown: Mapping[int, Any]
) -> DealView:
    number, deal, pipeline, status, stage, definition, opened_at, closed_at, *rest = row
    amount, currency, owner, source, attributes, expected_close, completed, reason, merged_into, subject = rest
    under = lenses[pipeline].under
    title, personal = shown.get(number, (None, {}))
    return DealView(
        deal=deal,
        pipeline=pipeline,
        status=status,
        stage=under.stages[stay_of[number].stage].key,
        definition=under.version,
        stage_since=moment(stay_of[number].since),
        recorded_stage=stage,
        recorded_definition=definition,
        opened_at=moment(opened_at),
        closed_at=None if closed_at is None else moment(closed_at),
        value=None if amount is None else Money(Decimal(amount), currency),
        owner=owner,
        source=source,
        expected_close=None if expected_close is None else date.fromisoformat(expected_close),
        attributes=msgspec.json.decode(attributes),
        completed=msgspec.json.decode(completed),
        reason=reason,
        merged_into=merged_into,
        subject=subject,
        title=title,
        personal=personal,
        version=0,
    )


def _personal(
    c: SQLiteCursor, at: When, chosen: str, values: Mapping[str, Any]
) -> dict[int, tuple[str | None, dict[str, str]]]:
    """The title and the personal map of each deal, later ones over earlier ones."""
    c.execute(
        f"SELECT personal.deal, title, personal FROM ({chosen}) AS chosen"
        " JOIN personal ON personal.deal = chosen.number WHERE at <= :as_of AND known_from <= :position"
        " AND known_to > :position ORDER BY personal.deal, at, root",
        {**at.values, **values},
    )
    shown: dict[int, tuple[str | None, dict[str, str]]] = {}
    for number, title, personal in c.fetchall():
        before = shown.get(number, (None, {}))
        named = {} if personal is None else msgspec.json.decode(personal)
        shown[number] = (title or before[0], before[1] | named)
    return shown


def number_of(c: SQLiteCursor, deal: str) -> int | None:
    """The number of a deal, None where it was never recorded."""
    c.execute("SELECT number FROM deal WHERE deal = ?", (deal,))
    row = c.fetchone()
    return row[0] if row else None


def in_pipeline(
    c: SQLiteCursor,
    at: When,
    pipeline: str,
    status: str | None,
    owner: object,
    where: dict[str, Scalar | None],
) -> list[int]:
    """The numbers of the deals that are in a pipeline at (T, K); merged ones only where they are asked for."""
    c.execute(
        "SELECT deal, amount, currency, owner, source, attributes FROM period"
        f" WHERE pipeline = :pipeline AND {PERIOD_HOLDS} AND ((:status IS NULL AND status <> 'merged')"
        " OR status = :status) AND (:owner IS NULL OR owner = :owner)",
        {**at.values, "pipeline": pipeline, "status": status, "owner": owner},
    )
    return [row[0] for row in c.fetchall() if fits(where, facts(*row[1:]))]


def page(found: list[DealView], sort: str, limit: int, after: str | None) -> list[DealView]:
    """At most `limit` deals in an order, beginning behind the deal `after`; `-` in front of `sort` turns it round.

    Deals that have no such date or value come last either way.
    """
    field = sort.removeprefix("-") if isinstance(sort, str) else sort
    if field not in SORTS:
        raise error(
            "invalid_field",
            "sort",
            why=f"give one of {', '.join(SORTS)}, with - in front to turn it round{nearest(field, SORTS)}",
        )
    ordered = sorted(found, key=lambda view: view.deal)
    has = [view for view in ordered if getattr(view, field) is not None]
    has.sort(key=lambda view: _sort_value(view, field), reverse=sort.startswith("-"))
    ordered = has + [view for view in ordered if getattr(view, field) is None]
    if after is not None:
        place = next((n for n, view in enumerate(ordered, 1) if view.deal == after), None)
        if place is None:
            raise error("invalid_field", "after", why="it is not a deal of this listing")
        ordered = ordered[place:]
    return ordered[:limit]


def _sort_value(view: DealView, field: str) -> Any:
    value = getattr(view, field)
    return (value.currency, value.amount) if isinstance(value, Money) else value
