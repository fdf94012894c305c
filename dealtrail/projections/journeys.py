"""Journeys: what became of the deals of a cohort, those that went the same way counted together."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.conditions import Basis, Scalar
from dealtrail.domain.reasons import REASONED, read_reason
from dealtrail.domain.times import Instant
from dealtrail.projections.fold import Mark
from dealtrail.projections.question import Facts, Lens, When, columns_of, fits
from dealtrail.projections.rows import bases_of, integers_of, marks_of, reasons_of


class Journey(msgspec.Struct, frozen=True):
    """What became of deals of the cohort that went the same way, in the stages of the version read under.

    `furthest` is the furthest stage visited, `entered` every stage that they were in, and `passes` for each stage gone
    beyond the marks of their path between which that lies: first entering it, first being beyond it afterwards.
    `marks` are those that count, `read` is each by its place: that of its stage, the one beyond the last stage for a
    win, None for another end and for another pipeline. `ats` says for each deal when its marks occurred, later ones
    too; `deals` are their numbers, `reasons` why they were lost or disqualified, in the words of that version, where
    they are that.
    """

    facts: Facts
    status: str
    furthest: int
    entered: frozenset[int]
    passes: dict[int, tuple[int, int]]
    marks: tuple[Mark, ...]
    read: tuple[int | None, ...]
    ats: list[list[Instant]]
    deals: list[int]
    reasons: list[str | None]

    def reached(self, index: int) -> bool:
        """Whether they came to a stage or beyond; a deal that is won has passed every stage."""
        return self.status == "won" or self.furthest >= index

    def passed(self, index: int) -> bool:
        """Whether they came beyond a stage."""
        return self.status == "won" or self.furthest > index

    def ended(self, index: int, status: str) -> bool:
        """Whether a stage is the furthest, with that status."""
        return self.status == status and self.furthest == index

    def deals_for(self, reason: str | None) -> list[int]:
        """The deals that were lost or disqualified for that reason; None: for none that was told."""
        return [deal for deal, given in zip(self.deals, self.reasons, strict=True) if given == reason]

    def spans(self, index: int) -> list[Instant]:
        """How long each deal took to pass a stage."""
        if index not in self.passes:
            return []
        entered, beyond = self.passes[index]
        return [ats[beyond] - ats[entered] for ats in self.ats]


_COLUMNS = "opened_at, last_known, shape, ats, knowns, bases, reasons"
_COHORT = (
    " WHERE opened_into = :pipeline AND opened_at >= :from AND opened_at < :until AND opened_at <= :as_of"
    " AND path_from <= :position"
)
# What is known of these deals, and has occurred in them, lies whole before T and K: they are taken shape by shape.
_WHOLE = "last_at <= :as_of AND last_known <= :position"
_BY_SHAPE = (
    "SELECT shape, group_concat(ats), group_concat(number), group_concat(reasons)"
    f" FROM deal INDEXED BY deal_opened {_COHORT} AND {_WHOLE} GROUP BY shape"
)
_ROWS = (
    f"SELECT number, {_COLUMNS} FROM deal INDEXED BY deal_opened {_COHORT} AND NOT (:by_shape AND {_WHOLE}) UNION ALL"
    f" SELECT deal, {_COLUMNS} FROM past_path INDEXED BY past_path_opened {_COHORT} AND path_to > :position"
)
_MANY_INTEGERS = msgspec.json.Decoder(list[list[int]])
_MANY_REASONS = msgspec.json.Decoder(list[list[str | None]])


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
    fields = tuple(columns_of(where, group_by))
    by_shape = not fields and within is None and not _conditional(lens, 1)
    values = {**at.values, "pipeline": lens.pipeline.key, "from": cohort[0], "until": cohort[1], "by_shape": by_shape}
    lots: list[tuple[Any, ...]] = []
    if by_shape:
        c.execute(_BY_SHAPE, values)
        lots = c.fetchall()
    c.execute(_ROWS, values)
    rows = c.fetchall()
    shapes = {row[0] for row in lots} | {row[3] for row in rows}
    c.execute(_SHAPES, (msgspec.json.encode(shapes).decode(),))
    ways = {number: _Way(marks_of(marks), lens) for number, marks in c.fetchall()}
    found: dict[Any, Journey] = {}
    _take_whole(lots, ways, found)
    for number, opened_at, last_known, shape, ats_text, knowns, bases_text, reasons_text in rows:
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
        own = found.get(key)
        if own is None:
            own = found[key] = way.journey(length, read, facts)
        own.ats.append(ats)
        own.deals.append(number)
        if own.status in REASONED:
            own.reasons.append(way.reason(length, reasons_of(reasons_text)))
    return [journey for journey in found.values() if fits(where, journey.facts)]


def _take_whole(lots: list[tuple[Any, ...]], ways: Mapping[int, "_Way"], found: dict[Any, Journey]) -> None:
    """The deals whose whole path counts, those of a shape at once."""
    for shape, ats_of_all, numbers, reasons_of_all in lots:
        way = ways[shape]
        length = way.length
        if way.merged < length:
            continue
        read = way.read(length, [])
        journey = found[shape, length, read, None] = way.journey(length, read, _NOTHING)
        journey.ats.extend(_MANY_INTEGERS.decode(f"[{ats_of_all}]"))
        journey.deals.extend(integers_of(f"[{numbers}]"))
        if journey.status in REASONED:
            journey.reasons.extend(way.reason(length, own) for own in _MANY_REASONS.decode(f"[{reasons_of_all}]"))


_SHAPES = "SELECT id, marks FROM shape WHERE id IN (SELECT value FROM json_each(?))"


def _conditional(lens: Lens, since: int) -> bool:
    """Whether a stage recorded under a version, or a later one, is read by conditions on the deal."""
    definitions = lens.pipeline.definitions[since : lens.under.version]
    return any(not isinstance(move, str) for definition in definitions for move in definition.moves.values())


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
        self.length = len(marks)
        self.conditional = _conditional(lens, min(own, default=0))
        self._read: dict[int, tuple[int | None, ...]] = {}
        self._ended: dict[int, int] = {}
        self._reasons: dict[tuple[int, str], str | None] = {}

    def read(self, length: int, bases: list[Basis]) -> tuple[int | None, ...]:
        """For each of the first marks the stage by its place, beyond the last one for a win; None outside of both."""
        if self.conditional:
            return tuple(self._places(length, iter(bases)))
        if length not in self._read:
            self._read[length] = tuple(self._places(length, repeat(_NO_BASIS)))
        return self._read[length]

    def reason(self, length: int, reasons: list[str | None]) -> str | None:
        """The reason of the end that is the last of the first marks; `reasons` are those of the whole path."""
        if length not in self._ended:
            self._ended[length] = sum(mark.kind in REASONED for mark in self._marks[:length])
        given = reasons[self._ended[length] - 1]
        if given is None:
            return None
        key = (length, given)
        if key not in self._reasons:
            last, definitions = self._marks[length - 1], self._lens.pipeline.definitions
            self._reasons[key] = read_reason(definitions, last.kind, given, last.definition, self._lens.under.version)
        return self._reasons[key]

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
        marks = self._marks[:length]
        last = marks[-1]
        visit = next(mark for mark in reversed(marks) if mark.stage)
        status = "transferred" if visit.pipeline != self._lens.pipeline.key else "open" if last.stage else last.kind
        return Journey(facts, status, max(entered), frozenset(entered), passes, marks, read, [], [], [])


_NO_BASIS = Basis(None, None, None, {})
