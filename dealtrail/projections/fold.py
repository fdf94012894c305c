"""The fold: all entries of one deal become its rows in the read model. Pure.

A period is a time in which the deal did not change. It is valid on a rectangle of two times: business time
`[from_at, to_at)` and what was known at log positions `[known_from, known_to)`. An event that comes last in business
time ends the period before it: that period keeps its row, `to_at` says when it ended and `end_known` the position
that made this known, before which it stood open. A correction refolds the deal: rows that it leaves as they were stay,
the others are known only up to it.

Visits (stays in a stage, and wins) and personal parts are points in business time, known in the same way.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import msgspec

from dealtrail.domain.deal import Placed, State, Visit, evolve, timeline
from dealtrail.domain.definitions import Basis
from dealtrail.domain.events import DealWon, Entry, EventRetracted
from dealtrail.domain.times import Instant

FOREVER = 2**62  # later than any moment, and beyond any position

_encode = msgspec.json.Encoder(order="sorted").encode


class Content(NamedTuple):
    """What a period says of a deal."""

    pipeline: str
    status: str
    definition: int
    stage: str
    visit_at: Instant
    visit_root: int
    amount: str | None
    currency: str | None
    owner: str | None
    source: str | None
    attributes: str
    expected_close: str | None
    completed: str
    opened_at: Instant
    closed_at: Instant | None
    reason: str | None
    merged_into: str | None
    subject: str


class Point(NamedTuple):
    """A visit as it began (`begun`: opened, moved, reopened, transferred) or a win (`begun`: won)."""

    at: Instant
    root: int
    begun: str
    pipeline: str
    definition: int
    stage: str
    amount: str | None
    currency: str | None
    owner: str | None
    source: str | None
    attributes: str


class PersonalPoint(NamedTuple):
    """The personal part of an event, as far as the deal shows it."""

    at: Instant
    root: int
    title: str | None
    personal: str | None


class Rows(NamedTuple):
    """The rows of one deal, each ready to be inserted."""

    periods: list[tuple[Any, ...]]
    visits: list[tuple[Any, ...]]
    personal: list[tuple[Any, ...]]


def deal_rows(entries: list[Entry]) -> Rows:
    """Every row of a deal, for all that was ever known of it; `entries` in the order of their versions.

    A deal is numbered by the position of its first entry.
    """
    number = entries[0].position
    periods = _Periods()
    visits, personal = _Points(), _Points()
    known: list[Entry] = []
    placed: list[Placed] = []
    state: State | None = None
    for position, step in _steps(entries):
        known += step
        new = [Placed(entry.occurred_at, entry.position, entry) for entry in step]
        if _in_order(placed, new):
            for place in new:
                state = evolve(state, place)
                periods.go_on(place.occurred_at, position, _content(state))
                visits.add(position, _points(place, state))
                personal.add(position, _personal(place))
            placed += new
        else:
            placed = timeline(known)
            states = list(_states(placed))
            state = states[-1]
            periods.correct(position, placed, states)
            visits.correct(position, [p for args in zip(placed, states, strict=True) for p in _points(*args)])
            personal.correct(position, [p for place in placed for p in _personal(place)])
    return Rows(
        [(number, *row[:5], *row[5]) for row in periods.rows],
        [(number, *row) for row in visits.rows()],
        [(number, *row) for row in personal.rows()],
    )


def _steps(entries: Iterable[Entry]) -> Iterator[tuple[int, list[Entry]]]:
    """The atomic steps: entries recorded together become known together, at the last of their positions."""
    for _, group in groupby(entries, key=lambda entry: entry.recorded_at):
        step = list(group)
        yield step[-1].position, step


def _in_order(placed: list[Placed], new: list[Placed]) -> bool:
    """Whether new entries only go on where the timeline ends."""
    places = [*placed[-1:], *new]
    return all(a < b for a, b in pairwise(places)) and not any(
        isinstance(place.entry.event, EventRetracted) or place.entry.amends is not None for place in new
    )


def _states(placed: list[Placed]) -> Iterator[State]:
    state: State | None = None
    for place in placed:
        state = evolve(state, place)
        yield state


def _content(state: State) -> Content:
    visit = state.visit
    return Content(
        visit.pipeline,
        state.status,
        visit.definition,
        visit.stage,
        visit.at,
        visit.root,
        *_facts(Basis(state.value, state.owner, state.source, state.attributes)),
        None if state.expected_close is None else state.expected_close.isoformat(),
        _encode(sorted(state.completed)).decode(),
        state.opened_at,
        state.closed_at,
        state.reason,
        state.merged_into,
        state.subject,
    )


def _facts(basis: Basis) -> tuple[str | None, str | None, str | None, str | None, str]:
    return (
        None if basis.value is None else format(basis.value.amount, "f"),
        None if basis.value is None else basis.value.currency,
        basis.owner,
        basis.source,
        _encode(basis.attributes).decode(),
    )


def _points(place: Placed, state: State) -> list[Point]:
    """The visit that an event began, or the win that it was."""
    visit: Visit = state.visit
    if visit.root == place.root:
        return [
            Point(
                visit.at,
                visit.root,
                visit.begun,
                visit.pipeline,
                visit.definition,
                visit.stage,
                *_facts(visit.basis),
            )
        ]
    event = place.entry.event
    if isinstance(event, DealWon):
        facts = _facts(Basis(state.value, state.owner, state.source, state.attributes))
        return [Point(place.occurred_at, place.root, "won", event.pipeline, event.definition, "", *facts)]
    return []


def _personal(place: Placed) -> list[PersonalPoint]:
    part = place.entry.personal
    if part is None or (part.title is None and part.personal is None):
        return []
    shown = None if part.personal is None else _encode(part.personal).decode()
    return [PersonalPoint(place.occurred_at, place.root, part.title, shown)]


class _Periods:
    """The periods of a deal: lists of from_at, to_at, known_from, end_known, known_to, content."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self._last: list[Any] | None = None

    def go_on(self, at: Instant, position: int, content: Content) -> None:
        """What an event in order says: the last period ends and another begins, unless nothing changed."""
        last = self._last
        if last is not None:
            if last[5] == content:
                return
            if last[0] == at and last[2] == position:
                last[5] = content  # nobody could ask between two events of one step and one moment
                return
            last[1], last[3] = at, position
        self._begin(at, FOREVER, position, content)

    def correct(self, position: int, placed: list[Placed], states: list[State]) -> None:
        """What a corrected timeline says: rows that it leaves as they were stay."""
        wanted = dict.fromkeys(_periods(placed, states))
        for row in self.rows:
            if row[4] != FOREVER:
                continue
            key = (row[0], row[1], row[5])
            if key in wanted:
                del wanted[key]
                if row[1] == FOREVER:
                    self._last = row
            else:
                row[4] = position
        for from_at, to_at, content in wanted:
            self._begin(from_at, to_at, position, content)

    def _begin(self, from_at: Instant, to_at: Instant, position: int, content: Content) -> None:
        row = [from_at, to_at, position, position, FOREVER, content]
        self.rows.append(row)
        if to_at == FOREVER:
            self._last = row


def _periods(placed: list[Placed], states: list[State]) -> list[tuple[Instant, Instant, Content]]:
    """The periods of a whole timeline; of events at one moment only the last shows."""
    begun: list[tuple[Instant, Content]] = []
    for place, state in zip(placed, states, strict=True):
        content = _content(state)
        if begun and begun[-1][0] == place.occurred_at:
            begun.pop()
        if not begun or begun[-1][1] != content:
            begun.append((place.occurred_at, content))
    ends = [at for at, _ in begun[1:]] + [FOREVER]
    return [(at, end, content) for (at, content), end in zip(begun, ends, strict=True)]


class _Points:
    """Points in business time, each with the positions from which and up to which it was known."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}
        self._past: list[tuple[Any, ...]] = []

    def add(self, position: int, points: Iterable[tuple[Any, ...]]) -> None:
        """Points that became known."""
        for point in points:
            self._known[point] = position

    def correct(self, position: int, points: list[Any]) -> None:
        """All points of a corrected timeline."""
        for point in self._known.keys() - set(points):
            self._past.append((*point, self._known.pop(point), position))
        self.add(position, (point for point in points if point not in self._known))

    def rows(self) -> list[tuple[Any, ...]]:
        """Every point that was ever known."""
        return sorted(self._past, key=repr) + [(*point, since, FOREVER) for point, since in self._known.items()]
