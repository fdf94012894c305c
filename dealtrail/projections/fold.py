"""The fold: the entries of one deal, step by step, become its rows in the read model. Pure.

A period is a time in which the deal did not change. It is valid on a rectangle of two times: business time
`[from_at, to_at)` and what was known at log positions `[known_from, known_to)`. An event that comes last in business
time ends the period before it: `to_at` says when, and `end_known` the position that made this known, before which the
period stood open. The period that stands open now is the deal's own row. A correction refolds the deal: periods that
it leaves as they were stay, the others are known only up to it.

A path is all that the funnel asks of a deal: the marks of its visits and of its ends. An event in order adds to it; a
correction that changes it begins another, and the one before is known only up to there.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from dealtrail.domain.conditions import Basis
from dealtrail.domain.deal import Placed, State, evolve, timeline
from dealtrail.domain.events import (
    DealDisqualified,
    DealLost,
    DealMerged,
    DealWon,
    Entry,
    EventRetracted,
)
from dealtrail.domain.reasons import REASONED
from dealtrail.domain.times import Instant

FOREVER = 2**62  # later than any moment, and beyond any position

_encode = msgspec.json.Encoder(order="sorted").encode


class Period(msgspec.Struct, gc=False):
    """A time in which the deal did not change; see the top of this page."""

    from_at: Instant
    to_at: Instant
    known_from: int
    end_known: int
    known_to: int
    state: State


class Mark(msgspec.Struct, frozen=True, array_like=True, cache_hash=True, gc=False):
    """A step of a path: a visit as it began (opened, moved, reopened, transferred) or an end (won, lost, …)."""

    kind: str
    pipeline: str
    definition: int
    stage: str


class Path(msgspec.Struct, gc=False):
    """The marks of a deal in their order: when each occurred, at which position it became known.

    `bases` holds, for each visit, the deal just after it began, and `reasons` why, for each loss and disqualification.
    The path is known on `[known_from, known_to)`.
    """

    known_from: int
    known_to: int = FOREVER
    opened_at: Instant = 0
    marks: list[Mark] = []
    ats: list[Instant] = []
    knowns: list[int] = []
    bases: list[Basis] = []
    reasons: list[str | None] = []

    def length(self, as_of: Instant, position: int) -> int:
        """How many marks had occurred by one moment and were known at a position."""
        return min(bisect_right(self.ats, as_of), bisect_right(self.knowns, position))

    def add(self, position: int, place: Placed, state: State) -> None:
        """What an event in order adds."""
        mark = _mark(place, state)
        if mark is not None:
            self.marks.append(mark)
            self.ats.append(place.occurred_at)
            self.knowns.append(position)
            if mark.stage:
                self.bases.append(state.visit.basis)
            elif mark.kind in REASONED:
                self.reasons.append(state.reason)


class PersonalPoint(NamedTuple):
    """The personal part of an event, as far as the deal shows it."""

    at: Instant
    root: int
    title: str | None
    personal: tuple[tuple[str, str], ...] | None


class Folding:
    """A deal as it is folded: its open period, its path, and the rows that it leaves behind.

    Begun anew it takes all entries of a deal; one that was restored takes those that come next, in order.
    """

    def __init__(self) -> None:
        self.last = (-FOREVER, 0)
        self.open: Period | None = None
        self.path = Path(0)
        self.ended: list[Period] = []
        self.past_paths: list[Path] = []
        self.personal: dict[PersonalPoint, int] = {}
        self.past_personal: list[tuple[PersonalPoint, int, int]] = []
        self._entries: list[Entry] = []
        self._placed: list[Placed] = []
        self._states: list[State] = []

    @property
    def state(self) -> State | None:
        """The deal now."""
        return None if self.open is None else self.open.state

    def fold(self, entries: Iterable[Entry]) -> "Folding":
        """Take entries in the order of their versions; those recorded together become known together, at the last."""
        step: list[Entry] = []
        for entry in entries:
            if step and step[0].recorded_at != entry.recorded_at:
                self._take(step)
                step = []
            step.append(entry)
        if step:
            self._take(step)
        return self

    def goes_on(self, entries: Iterable[Entry]) -> bool:
        """Whether entries only go on where the timeline ends."""
        last = self.last
        for entry in entries:
            place = (entry.occurred_at, entry.position)
            if place <= last or entry.amends is not None or type(entry.event) is EventRetracted:
                return False
            last = place
        return True

    def _take(self, step: list[Entry]) -> None:
        self._entries += step
        if self.goes_on(step):
            known = step[-1].position
            for entry in step:
                self._go_on(known, Placed(entry.occurred_at, entry.position, entry))
        else:
            self._correct(step)

    def _go_on(self, position: int, place: Placed) -> None:
        """An event in order: the open period ends and another begins, unless nothing changed."""
        before, at = self.open, place.occurred_at
        state = evolve(None if before is None else before.state, place)
        self.last = (at, place.root)
        if before is None:
            self.open = Period(at, FOREVER, position, position, FOREVER, state)
            self.path = Path(position, FOREVER, at, [], [], [], [], [])
        elif before.from_at == at and before.known_from == position:
            before.state = state  # nobody could ask between two events of one step and one moment
        elif not _same(state, before.state):
            before.to_at, before.end_known = at, position
            self.ended.append(before)
            self.open = Period(at, FOREVER, position, position, FOREVER, state)
        self._placed.append(place)
        self._states.append(state)
        self.path.add(position, place, state)
        if place.entry.personal is not None:
            for point in _personal(place):
                self.personal[point] = position

    def _correct(self, step: list[Entry]) -> None:
        """A corrected timeline: rows that it leaves as they were stay."""
        position = step[-1].position
        self._refold(step)
        placed, states = self._placed, self._states
        self.last = (placed[-1].occurred_at, placed[-1].root)
        self._correct_periods(position, placed, states)
        self._correct_path(position, placed, states)
        points = dict.fromkeys(point for place in placed for point in _personal(place))
        for point in [point for point in self.personal if point not in points]:
            self.past_personal.append((point, self.personal.pop(point), position))
        for point in points:
            self.personal.setdefault(point, position)

    def _refold(self, step: list[Entry]) -> None:
        """The timeline with a step in it; what comes before all of the step stays as it was folded."""
        if any(entry.amends is not None or type(entry.event) is EventRetracted for entry in step):
            self._placed, same = timeline(self._entries), 0
        else:
            new = [Placed(entry.occurred_at, entry.position, entry) for entry in step]
            same = bisect_left(self._placed, min(new))
            self._placed = [*self._placed[:same], *sorted(self._placed[same:] + new)]
        del self._states[same:]
        state = self._states[-1] if same else None
        for place in self._placed[same:]:
            state = evolve(state, place)
            self._states.append(state)

    def _correct_periods(self, position: int, placed: list[Placed], states: list[State]) -> None:
        wanted = _periods(placed, states)
        if self.open is not None:
            self.ended.append(self.open)
        for period in self.ended:
            if period.known_to == FOREVER:
                state = wanted.get((period.from_at, period.to_at))
                if state is not None and _same(state, period.state):
                    del wanted[period.from_at, period.to_at]
                else:
                    period.known_to = position
        for (from_at, to_at), state in wanted.items():
            self.ended.append(Period(from_at, to_at, position, position, FOREVER, state))
        self.open = next(period for period in self.ended if period.to_at == period.known_to == FOREVER)
        self.ended = [period for period in self.ended if period is not self.open]

    def _correct_path(self, position: int, placed: list[Placed], states: list[State]) -> None:
        path = Path(position, FOREVER, states[-1].opened_at, [], [], [], [], [])
        for place, state in zip(placed, states, strict=True):
            path.add(position, place, state)
        before = self.path
        same_ways = before.marks == path.marks and before.ats == path.ats and before.reasons == path.reasons
        if not same_ways or _encode(before.bases) != _encode(path.bases):
            if before.marks:
                before.known_to = position
                self.past_paths.append(before)
            self.path = path


def _same(one: State, other: State) -> bool:
    """Whether two states say the same, down to the digits of an amount and the type of an attribute: 1 is not true."""
    return one is other or (
        one == other
        and (one.value is other.value or repr(one.value) == repr(other.value))
        and (one.attributes is other.attributes or _encode(one.attributes) == _encode(other.attributes))
    )


def _periods(placed: list[Placed], states: list[State]) -> dict[tuple[Instant, Instant], State]:
    """The periods of a whole timeline by their ends; of events at one moment only the last shows."""
    begun: list[tuple[Instant, State]] = []
    for place, state in zip(placed, states, strict=True):
        if begun and begun[-1][0] == place.occurred_at:
            begun.pop()
        if not begun or not _same(begun[-1][1], state):
            begun.append((place.occurred_at, state))
    ends = [at for at, _ in begun[1:]] + [FOREVER]
    return {(at, end): state for (at, state), end in zip(begun, ends, strict=True)}


_ENDS: dict[type, str] = {DealWon: "won", DealLost: "lost", DealDisqualified: "disqualified", DealMerged: "merged"}


def _mark(place: Placed, state: State) -> Mark | None:
    """The visit that an event began, or the end that it was."""
    visit = state.visit
    if visit.root == place.root:
        return Mark(visit.begun, visit.pipeline, visit.definition, visit.stage)
    event = place.entry.event
    kind = _ENDS.get(type(event))
    if kind is None:
        return None
    # A win tells under which version it was recorded, and so does a reason. Where it is not stored, that is the version
    # of the visit: the event is older than all lists of reasons, and no version between could have renamed any.
    under = event.definition or visit.definition if isinstance(event, DealWon | DealLost | DealDisqualified) else 0
    return Mark(kind, visit.pipeline, under, "")


def _personal(place: Placed) -> list[PersonalPoint]:
    part = place.entry.personal
    if part is None or (part.title is None and part.personal is None):
        return []
    named = None if part.personal is None else tuple(part.personal.items())
    return [PersonalPoint(place.occurred_at, place.root, part.title, named)]
