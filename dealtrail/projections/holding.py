"""What holds at (T, K): which deals stand in which cell, found without a look at any that do not.

A deal is either as its own row says (it has been so since `from_at`, and still is) or as one of its periods says.
A period is found by the class of its length: of those of class n only the ones that began less than 2^n before T can
hold at T, however long the history is. Where K is earlier than what the read model knows, a period whose end was not
known by then stood open: it is found in the same way, by the class of its length in positions.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.times import Instant
from dealtrail.projections.fold import Path
from dealtrail.projections.question import Facts, Lens, When
from dealtrail.projections.rows import LENGTH_CLASSES, Cell, attributes_of, class_reach, integers_of, marks_of, path_of

_LENGTHS = ", ".join(f"({number}, {class_reach(number)})" for number in LENGTH_CLASSES)
_POSITIONS = ", ".join(f"({number}, {1 << number})" for number in range(54))

_CHOSEN = "cell WHERE cell.id IN (SELECT value FROM json_each(:cells))"
_NOW = (
    "deal AS held INDEXED BY deal_stands"
    " ON held.cell = chosen.id AND held.from_at <= :as_of AND held.known_from <= :position"
)
_BY_LENGTH = (
    "length CROSS JOIN period AS held INDEXED BY period_holds"
    " ON held.cell = chosen.id AND held.length_class = length.class AND held.from_at > :as_of - length.reach"
    " AND held.from_at <= :as_of AND held.to_at > :as_of AND held.known_from <= :position AND held.known_to > :position"
)
_BY_KNOWN_LENGTH = (
    "span CROSS JOIN period AS held INDEXED BY period_known"
    " ON held.cell = chosen.id AND held.known_class = span.class AND held.known_from > :position - span.reach"
    " AND held.known_from <= :position AND held.end_known > :position AND held.known_to > :position"
    " AND held.from_at <= :as_of AND held.to_at <= :as_of"
)
# The rows of one deal that hold, in the same words but without the classes.
PERIOD_HOLDS = (
    "held.from_at <= :as_of AND (held.to_at > :as_of OR held.end_known > :position)"
    " AND held.known_from <= :position AND held.known_to > :position"
)


class Stay(NamedTuple):
    """The visit that a deal is in: its stage by index, and since when."""

    stage: int
    since: Instant


class Tally(NamedTuple):
    """Deals of one cell that share what they are grouped by: since when each is in its visit, the sum of their amounts.

    `deals` are their numbers, in the same order as `sinces`, where they were asked for.
    """

    stage: int
    facts: Facts
    millionths: int
    sinces: list[Instant]
    deals: list[int]


class One(NamedTuple):
    """A deal that stands in a cell, by its number; `completed` are its actions as a column holds them."""

    number: int
    stay: Stay
    facts: Facts
    millionths: int
    opened_at: Instant
    expected_close: str | None
    completed: str


def cells(c: SQLiteCursor, lens: Lens, status: str | None) -> dict[int, Cell]:
    """The cells of a pipeline and a status, by their numbers; without a status all but those of merged deals."""
    c.execute(
        "SELECT id, pipeline, status, definition, stage, currency FROM cell WHERE pipeline = :pipeline"
        " AND (status = :status OR (:status IS NULL AND status <> 'merged')) AND definition <= :under ORDER BY id",
        {"pipeline": lens.pipeline.key, "status": status, "under": lens.number},
    )
    return {row[0]: tuple(row[1:]) for row in c.fetchall()}


def tallies(
    c: SQLiteCursor, at: When, lens: Lens, known: Mapping[int, Cell], by: Iterable[str] = (), *, deals: bool = False
) -> list[Tally]:
    """The deals of these cells at (T, K), counted together where no look at each of them is needed.

    `by` names the fields that they must be told apart by: owner, source, attributes. The stage of a cell is known
    from its own where the definition read under neither splits nor merges it; else the deal's path is read.
    """
    plain, others = {}, []
    for number, cell in known.items():
        stage = lens.plain(cell[2], cell[3])
        if stage is None:
            others.append(number)
        else:
            plain[number] = stage
    apart = each(c, at, lens, {number: known[number] for number in others})
    return _counted(c, at, by, known, plain, deals=deals) + [
        Tally(one.stay.stage, one.facts, one.millionths, [one.stay.since], [one.number]) for one in apart
    ]


def _counted(
    c: SQLiteCursor,
    at: When,
    by: Iterable[str],
    known: Mapping[int, Cell],
    plain: Mapping[int, int],
    *,
    deals: bool,
) -> list[Tally]:
    fields = [name for name in ("owner", "source", "attributes") if name in by]
    columns = ", ".join(f"held.{name}" if name in fields else "NULL" for name in ("owner", "source", "attributes"))
    numbers = "group_concat(held.{number})" if deals else "''"
    select = (
        f"SELECT chosen.id, {columns}, sum(held.high), sum(held.low), group_concat(held.visit_at), {numbers}"
        " FROM {table}" + "".join([" GROUP BY chosen.id", *(f", held.{name}" for name in fields)])
    )
    result = []
    for cell, owner, source, attributes, high, low, sinces, of_deals in _held(c, at, list(plain), select):
        facts = Facts(known[cell][4], owner, source, attributes_of(attributes or "{}"))
        amount = high * 10**9 + low
        result.append(Tally(plain[cell], facts, amount, integers_of(f"[{sinces}]"), integers_of(f"[{of_deals}]")))
    return result


def each(c: SQLiteCursor, at: When, lens: Lens, known: Mapping[int, Cell]) -> list[One]:
    """The deals of these cells at (T, K), one by one."""
    rows = _held(
        c,
        at,
        list(known),
        "SELECT chosen.id, held.owner, held.source, held.attributes, held.high, held.low, held.visit_at,"
        " held.opened_at, held.expected_close, held.completed, held.{number} FROM {table}",
    )
    plain = {number: lens.plain(cell[2], cell[3]) for number, cell in known.items()}
    stay_of = stays(c, at, {lens.pipeline.key: lens}, [row[-1] for row in rows if plain[row[0]] is None])
    result = []
    for cell, owner, source, attributes, high, low, visit_at, *others, number in rows:
        stage = plain[cell]
        stay = stay_of[number] if stage is None else Stay(stage, visit_at)
        facts = Facts(known[cell][4], owner, source, attributes_of(attributes))
        result.append(One(number, stay, facts, high * 10**9 + low, *others))
    return result


def _held(c: SQLiteCursor, at: When, chosen: list[int], select: str) -> list[tuple[Any, ...]]:
    """The rows of some cells that hold at (T, K); `select` has places for the table and the name of its numbers."""
    if not chosen:
        return []
    values = {**at.values, "cells": msgspec.json.encode(chosen).decode()}
    c.execute("SELECT CAST(value AS INTEGER) FROM checkpoint WHERE name = 'position'")
    earlier = at.position < c.fetchone()[0]
    rows: list[tuple[Any, ...]] = []
    for table, number, needed in (
        (_NOW, "number", True),
        (_BY_LENGTH, "deal", True),
        (_BY_KNOWN_LENGTH, "deal", earlier),
    ):
        if needed:
            # CROSS JOIN fixes the order of the loops: cell by cell, class by class, so that nothing is sorted.
            c.execute(
                f"WITH length (class, reach) AS (VALUES {_LENGTHS}), span (class, reach) AS (VALUES {_POSITIONS})"
                + select.format(table=f"(SELECT id FROM {_CHOSEN}) AS chosen CROSS JOIN {table}", number=number),
                values,
            )
            rows += c.fetchall()
    return rows


def paths(c: SQLiteCursor, at: When, numbers: Iterable[int]) -> dict[int, Path]:
    """The paths of deals as known at K, cut off after (T, K)."""
    columns = "opened_into, opened_at, path_from, last_known, shape, ats, knowns, bases, reasons, marks"
    c.execute(
        f"SELECT number, {columns} FROM json_each(:numbers) AS given JOIN deal ON deal.number = given.value"
        " JOIN shape ON shape.id = deal.shape WHERE path_from <= :position UNION ALL"
        f" SELECT deal, {columns} FROM json_each(:numbers) AS given JOIN past_path ON past_path.deal = given.value"
        " JOIN shape ON shape.id = past_path.shape WHERE path_from <= :position AND path_to > :position",
        {"numbers": msgspec.json.encode(list(numbers)).decode(), "position": at.position},
    )
    found = {}
    for number, *row, marks in c.fetchall():
        path = path_of(row, marks_of(marks))
        length = path.length(at.as_of, at.position)
        path.marks = path.marks[:length]
        found[number] = path
    return found


def stays(c: SQLiteCursor, at: When, lenses: Mapping[str, Lens], numbers: Iterable[int]) -> dict[int, Stay]:
    """The visit that each deal is in at (T, K), read under the version of its pipeline."""
    return {number: stay(path, lenses) for number, path in paths(c, at, numbers).items() if path.marks}


def stay(path: Path, lenses: Mapping[str, Lens]) -> Stay:
    """The visit at the end of a path.

    Visits that follow one another and read as one stage are one; a reopening and a transfer begin a new one.
    A pipeline without a lens is passed over: a deal comes back from it by a transfer.
    """
    current: Stay | None = None
    bases = iter(path.bases)
    for mark, at in zip(path.marks, path.ats, strict=False):  # the marks may have been cut off
        if not mark.stage:
            continue
        basis = next(bases)
        if mark.pipeline in lenses:
            index = lenses[mark.pipeline].place(mark.stage, mark.definition, basis)
            if current is None or mark.kind != "moved" or current.stage != index:
                current = Stay(index, at)
    assert current is not None  # noqa: S101  a path begins with a visit
    return current
