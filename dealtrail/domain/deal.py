"""A deal: its timeline, and the fold of its events into a state."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any, Literal

import msgspec

from dealtrail.domain.conditions import Attributes, Basis, Scalar
from dealtrail.domain.events import (
    ActionCompleted,
    ActivityLogged,
    AttributesSet,
    DealAssigned,
    DealDisqualified,
    DealLost,
    DealMerged,
    DealOpened,
    DealReopened,
    DealTransferred,
    DealWon,
    Entry,
    EventRetracted,
    ExpectedCloseChanged,
    StageEntered,
    ValueChanged,
)
from dealtrail.domain.money import Money
from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.times import Instant

Status = Literal["open", "won", "lost", "disqualified", "merged"]
Begun = Literal["opened", "moved", "reopened", "transferred"]
Pipelines = Mapping[str, Pipeline]


# None of these can be part of a cycle: the garbage collector need not look at them, and a log holds millions.
class Placed(msgspec.Struct, frozen=True, order=True, gc=False):
    """An entry at its place in a timeline: by when it occurred, then by the position of what it stands for."""

    occurred_at: Instant
    root: int
    entry: Entry


class Visit(msgspec.Struct, frozen=True, gc=False):
    """A stay in a stage, as recorded: where, since when, begun by what, and the deal just after it began."""

    pipeline: str
    definition: int
    stage: str
    at: Instant
    root: int
    begun: Begun
    basis: Basis


class State(msgspec.Struct, frozen=True, gc=False):
    """A deal at a moment: the fold of its timeline up to then."""

    status: Status
    visit: Visit
    opened_at: Instant
    subject: str
    value: Money | None
    owner: str | None
    source: str | None
    expected_close: date | None
    attributes: Attributes
    completed: tuple[str, ...] = ()
    closed_at: Instant | None = None
    reason: str | None = None
    merged_into: str | None = None

    @property
    def pipeline(self) -> str:
        """The pipeline that the deal is in."""
        return self.visit.pipeline


def timeline(entries: Iterable[Entry]) -> list[Placed]:
    """The entries that count, in their order: none that was retracted, and no retraction.

    An entry that amends another stands at the position of the one that it replaces.
    """
    retracted: set[int] = set()
    roots: dict[int, int] = {}
    for entry in entries:
        roots[entry.version] = entry.position if entry.amends is None else roots[entry.amends]
        if isinstance(entry.event, EventRetracted):
            retracted.add(entry.version)
            retracted.add(entry.event.version)
    return sorted(
        Placed(entry.occurred_at, roots[entry.version], entry) for entry in entries if entry.version not in retracted
    )


def fold(placed: Iterable[Placed]) -> State | None:
    """The state after a timeline; None after none."""
    state: State | None = None
    for place in placed:
        state = evolve(state, place)
    return state


def evolve(state: State | None, place: Placed) -> State:
    """The state after one more event of the timeline, whose first is the opening."""
    event = place.entry.event
    return _AFTER[type(event)](state, event, place)


def _opened(event: DealOpened, place: Placed) -> State:
    basis = Basis(event.value, event.owner, event.source, event.attributes)
    visit = Visit(event.pipeline, event.definition, event.stage, place.occurred_at, place.root, "opened", basis)
    return State(
        status="open",
        visit=visit,
        opened_at=place.occurred_at,
        subject=event.subject,
        value=event.value,
        owner=event.owner,
        source=event.source,
        expected_close=event.expected_close,
        attributes=event.attributes,
    )


def _visiting(state: State, event: StageEntered | DealReopened | DealTransferred, place: Placed, begun: Begun) -> State:
    basis = Basis(state.value, state.owner, state.source, state.attributes)
    visit = Visit(event.pipeline, event.definition, event.stage, place.occurred_at, place.root, begun, basis)
    return _with(state, visit=visit, completed=())


_with = msgspec.structs.replace

# A table, since `isinstance` and `match` cost more than all the rest of a fold where they are asked of each event.
_AFTER: dict[type[Any], Callable[[Any, Any, Placed], State]] = {
    DealOpened: lambda _, event, place: _opened(event, place),
    StageEntered: lambda state, event, place: _visiting(state, event, place, "moved"),
    ValueChanged: lambda state, event, _: _with(state, value=event.value),
    DealAssigned: lambda state, event, _: _with(state, owner=event.owner),
    ExpectedCloseChanged: lambda state, event, _: _with(state, expected_close=event.expected_close),
    AttributesSet: lambda state, event, _: _with(state, attributes=_merged(state.attributes, event.attributes)),
    ActionCompleted: lambda state, event, _: _completed(state, event.key),
    ActivityLogged: lambda state, event, _: state,
    DealWon: lambda state, event, place: _closed(state, "won", place, value=event.value or state.value),
    DealLost: lambda state, event, place: _closed(state, "lost", place, reason=event.reason),
    DealDisqualified: lambda state, event, place: _closed(state, "disqualified", place, reason=event.reason),
    DealReopened: lambda state, event, place: _visiting(
        _with(state, status="open", closed_at=None, reason=None), event, place, "reopened"
    ),
    DealTransferred: lambda state, event, place: _visiting(state, event, place, "transferred"),
    DealMerged: lambda state, event, place: _closed(state, "merged", place, merged_into=event.into),
}


def _merged(attributes: Attributes, changed: Mapping[str, Scalar | None]) -> Attributes:
    return {name: value for name, value in {**attributes, **changed}.items() if value is not None}


def _completed(state: State, key: str) -> State:
    return state if key in state.completed else _with(state, completed=(*state.completed, key))


def _closed(state: State, status: Status, place: Placed, reason: str | None = None, **more: Any) -> State:
    return _with(state, status=status, closed_at=place.occurred_at, reason=reason, **more)


def read(pipeline: Pipeline, visit: Visit, under: int) -> str:
    """The stage of a visit, read under a version."""
    return pipeline.read(visit.stage, visit.definition, under, visit.basis)


class Deal(msgspec.Struct, frozen=True, gc=False):
    """A deal as the log knows it: all its entries, the timeline that counts, and the state after it."""

    id: str
    entries: tuple[Entry, ...]
    placed: tuple[Placed, ...]
    state: State

    @classmethod
    def of(cls, deal: str, entries: Iterable[Entry]) -> "Deal":
        """A deal from its entries, version 1 first."""
        known = tuple(entries)
        placed = tuple(timeline(known))
        state = fold(placed)
        assert state is not None  # noqa: S101  an opening is never retracted, only amended
        return cls(deal, known, placed, state)

    @property
    def version(self) -> int:
        """How many events of the deal were recorded."""
        return len(self.entries)

    def followed_by(self, entries: Iterable[Entry]) -> "Deal":
        """The deal after more entries; one that comes last in business time is folded alone."""
        new = tuple(entries)
        if len(new) == 1 and new[0].amends is None and not isinstance(new[0].event, EventRetracted):
            place = Placed(new[0].occurred_at, new[0].position, new[0])
            if place > self.placed[-1]:
                state = evolve(self.state, place)
                return Deal(self.id, (*self.entries, *new), (*self.placed, place), state)
        return Deal.of(self.id, (*self.entries, *new))
