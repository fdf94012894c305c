"""Deals at (T, K): one, a page of them, or those behind a cell of a report."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.conditions import Scalar
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.events import Personal
from dealtrail.domain.money import Money
from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.texts import Word, shaped
from dealtrail.domain.times import moment
from dealtrail.projections.definitions import known_pipelines, lens_of, pipeline_among, stage_index
from dealtrail.projections.holding import PERIOD_HOLDS, One, cells, each, stays
from dealtrail.projections.question import Lens, When, fits
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log
from dealtrail.store.sealing import Opening

STATUSES = ("open", "won", "lost", "disqualified", "merged")
Where = Mapping[str, Scalar | None]
# By what a listing can be sorted; a deal's id is put in where the value is empty.
SORTS: dict[str, Callable[[One], Any]] = {
    "deal": lambda one: "",
    "opened_at": lambda one: (one.opened_at,),
    "stage_since": lambda one: (one.stay.since,),
    "expected_close": lambda one: one.expected_close,
    "value": lambda one: None if one.facts.currency is None else (one.facts.currency, one.millionths),
}


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


def views(c: SQLiteCursor, log: Log, at: When, known: Mapping[str, Pipeline], numbers: Iterable[int]) -> list[DealView]:
    """The deals of these numbers, in the order of their ids; one that T does not reach is left out."""
    chosen = list(numbers)
    values = {**at.values, "numbers": msgspec.json.encode(chosen).decode()}
    lenses = {key: Lens(pipeline, pipeline.in_force(at.as_of), False) for key, pipeline in known.items()}
    stay_of = stays(c, at, lenses, chosen)
    parts = _personal(c, values)
    c.execute(_HELD, values)
    rows = sorted(c.fetchall(), key=lambda row: row[1])
    with log.reading() as reading:
        versions = reading.versions_at([f"deal:{row[1]}" for row in rows], at.position)
        opening = Opening(reading, log.vault)
        opening.fetch(part for of_deal in parts.values() for part in of_deal)
        shown = {number: _shown(opening, deal, parts[number]) for number, deal, *_ in rows if number in parts}
    return [_view(row, stay_of, lenses, shown, versions[f"deal:{row[1]}"]) for row in rows]


_COLUMNS = (
    "given.value, {id}, pipeline, status, stage, definition, held.opened_at, held.closed_at, held.amount, currency,"
    " held.owner, held.source, held.attributes, held.expected_close, held.completed, held.reason, held.merged_into,"
    " held.subject"
)
_HELD = (
    f"SELECT {_COLUMNS.format(id='held.deal')} FROM json_each(:numbers) AS given"
    " JOIN deal AS held ON held.number = given.value AND held.from_at <= :as_of AND held.known_from <= :position"
    " JOIN cell ON cell.id = held.cell UNION ALL"
    f" SELECT {_COLUMNS.format(id='deal.deal')} FROM json_each(:numbers) AS given"
    f" JOIN period AS held ON held.deal = given.value AND {PERIOD_HOLDS}"
    " JOIN cell ON cell.id = held.cell JOIN deal ON deal.number = given.value"
)


def _view(
    row: tuple[Any, ...],
    stay_of: Mapping[int, Any],
    lenses: Mapping[str, Lens],
    shown: Mapping[int, Any],
    version: int,
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
        version=version,
    )


def _personal(c: SQLiteCursor, values: Mapping[str, Any]) -> dict[int, list[Personal]]:
    """The titles and the personal maps of each deal in their order, as they are stored."""
    c.execute(
        "SELECT personal.deal, title, personal FROM json_each(:numbers) AS given"
        " JOIN personal ON personal.deal = given.value WHERE at <= :as_of AND known_from <= :position"
        " AND known_to > :position ORDER BY personal.deal, at, personal.root",
        values,
    )
    parts: dict[int, list[Personal]] = {}
    for number, title, personal in c.fetchall():
        named = None if personal is None else msgspec.json.decode(personal)
        parts.setdefault(number, []).append(Personal(title, None, named))
    return parts


def _shown(opening: Opening, deal: str, parts: Iterable[Personal]) -> tuple[str | None, dict[str, str]]:
    """The title and the personal map of a deal, later ones over earlier ones."""
    title: str | None = None
    personal: dict[str, str] = {}
    for part in (opening.shown(deal, stored) for stored in parts):
        title = part.title or title
        personal |= part.personal or {}
    return title, personal


def numbers_of(c: SQLiteCursor, deals: list[str]) -> list[int]:
    """The numbers of the deals of these ids that were ever recorded."""
    c.execute(
        "SELECT number FROM json_each(?) AS given JOIN deal ON deal.deal = given.value",
        (msgspec.json.encode(deals).decode(),),
    )
    return [row[0] for row in c.fetchall()]


def deal(log: Log, model: ReadModel, name: str, at: When) -> DealView | None:
    """One deal at (T, K); see `Trail.deal`."""
    with model.answering(at.position) as c:
        numbers = numbers_of(c, [name])
        if not numbers or numbers[0] > at.position:
            raise error("unknown_deal", "deal", deal=name)
        found = views(c, log, at, known_pipelines(c, at.position), numbers)
    return found[0] if found else None


def list_deals(
    log: Log,
    model: ReadModel,
    key: str,
    at: When,
    status: str | None,
    stage: str | None,
    owner: str | None,
    where: Where,
    sort: str,
    limit: int,
    after: str | None,
) -> list[DealView]:
    """A page of the deals in a pipeline; see `Trail.list_deals`."""
    owner = shaped(owner, Word | None, "owner")
    if status is not None and status not in STATUSES:
        why = f"give one of {', '.join(STATUSES)}{nearest(status, STATUSES)}"
        raise error("invalid_field", "status", why=why)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise error("invalid_field", "limit", why="give a whole number from 1")
    with model.answering(at.position) as c:
        known = known_pipelines(c, at.position)
        lens = lens_of(pipeline_among(known, key), "as_of", at)
        index = None if stage is None else stage_index(lens, stage)
        names = page(c, listed(c, at, lens, status, owner, index, where), sort, limit, after)
        found = views(c, log, at, known, numbers_of(c, names))
    by_name = {view.deal: view for view in found}
    return [by_name[name] for name in names]


def listed(
    c: SQLiteCursor, at: When, lens: Lens, status: str | None, owner: str | None, stage: int | None, where: Where
) -> list[One]:
    """The deals that are in a pipeline at (T, K); merged ones only where they are asked for."""
    found = each(c, at, lens, cells(c, lens, status))
    return [
        one
        for one in found
        if owner in (None, one.facts.owner) and stage in (None, one.stay.stage) and fits(where, one.facts)
    ]


def page(c: SQLiteCursor, found: list[One], sort: str, limit: int, after: str | None) -> list[str]:
    """The ids of at most `limit` deals in an order, beginning behind the deal `after`; `-` turns the order round.

    Deals that have no such date or value come last either way.
    """
    field = sort.removeprefix("-") if isinstance(sort, str) else ""
    if field not in SORTS:
        raise error(
            "invalid_field",
            "sort",
            why=f"give one of {', '.join(SORTS)}, with - in front to turn it round{nearest(field, SORTS)}",
        )
    ids = ids_of(c, [one.number for one in found])
    ordered = sorted(((ids[one.number], SORTS[field](one)) for one in found), key=lambda pair: pair[0])
    has = [(deal, value or deal) for deal, value in ordered if value is not None]
    has.sort(key=lambda pair: pair[1], reverse=sort.startswith("-"))
    names = [deal for deal, _ in has] + [deal for deal, value in ordered if value is None]
    if after is not None:
        if after not in names:
            raise error("invalid_field", "after", why="it is not a deal of this listing")
        names = names[names.index(after) + 1 :]
    return names[:limit]


def ids_of(c: SQLiteCursor, numbers: list[int]) -> dict[int, str]:
    """The ids of deals by their numbers."""
    c.execute(
        "SELECT number, deal FROM json_each(?) AS given JOIN deal ON deal.number = given.value",
        (msgspec.json.encode(numbers).decode(),),
    )
    return dict(c.fetchall())
