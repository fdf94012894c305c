"""The turn of an action: what is known when it comes, and what is done alike for every action."""

from typing import Protocol

import msgspec

from dealtrail.domain.actions import (
    PERSONAL,
    Action,
    Amend,
    PipelineAction,
    personal_part,
    request_digest,
)
from dealtrail.domain.deal import Deal, Pipelines
from dealtrail.domain.distribution import Leads
from dealtrail.domain.errors import DealtrailError, error, nearest
from dealtrail.domain.events import Entry, Event, Personal, is_sealed
from dealtrail.domain.times import Instant, instant, moment


class Known(Leads, Protocol):
    """What an action may be judged on: everything recorded before it."""

    @property
    def pipelines(self) -> Pipelines:
        """Every pipeline with its definitions."""
        ...

    def deal(self, deal: str) -> Deal | None:
        """A deal, or None where no event of it was ever recorded."""
        ...

    def recorded(self, stream: str, id: str) -> Entry | None:
        """The entry that an action of that idempotency key left in a stream."""
        ...

    def readable(self, entry: Entry) -> Personal | None:
        """The personal part of an entry of a deal; texts whose subject is forgotten stay sealed."""
        ...


class Turn(msgspec.Struct, frozen=True):
    """When and where an action is recorded: its recorded_at, the next log position, and an id for a new deal.

    `clock_behind_us` is by how much the clock was behind that recorded_at.
    """

    recorded_at: Instant
    position: int
    new_deal: str
    clock_behind_us: int = 0


def first_time(action: Action, stream: str, known: Known) -> Entry | None:
    """The entry of the first time that this very action was recorded. Errors: id_reused.

    A text that was erased since cannot be compared: then the rest decides.
    """
    if action.id is None:
        return None
    entry = known.recorded(stream, action.id)
    if entry is None:
        return None
    changes = action.changes if isinstance(action, Amend) else {n: getattr(action, n, None) for n in PERSONAL}
    given = {n: changes[n] for n in PERSONAL if changes.get(n) is not None}
    stored = (known.readable(entry) if given else None) or Personal()
    pairs = [(getattr(stored, n), text) for n, text in given.items()]
    same_person = all(is_sealed(old) or (old or None) == (text or None) for old, text in pairs)
    if entry.request != request_digest(action) or not same_person:
        raise error("id_reused", "id", id=action.id, version=entry.version)
    return entry


def expect(action: Action, version: int) -> None:
    """Refuse an action that expects another version of its stream. Errors: conflict."""
    if action.expected_version is not None and action.expected_version != version:
        raise error("conflict", "expected_version", expected=action.expected_version, version=version)


def occurred_at(action: Action, turn: Turn) -> Instant:
    """When the action says that it happened; now, where it does not say. Errors: future_time."""
    if action.at is None:
        return turn.recorded_at
    at = instant(action.at)
    if at > turn.recorded_at:
        raise error("future_time", "at", now=moment(turn.recorded_at).isoformat())
    return at


def entry_of(stream: str, version: int, turn: Turn, at: Instant, event: Event, action: Action) -> Entry:
    """An event of an action, with its coordinates in the log."""
    return Entry(
        stream=stream,
        version=version,
        position=turn.position,
        recorded_at=turn.recorded_at,
        occurred_at=at,
        event=event,
        by=action.by,
        id=action.id,
        request=None if action.id is None else request_digest(action),
        personal=None if isinstance(action, Amend | PipelineAction) else personal_part(action),
        clock_behind_us=turn.clock_behind_us,
    )


def unknown_pipeline(key: str, known: Known) -> DealtrailError:
    """The refusal of a pipeline that is not there."""
    return error("unknown_pipeline", "pipeline", pipeline=key, nearest=nearest(key, known.pipelines))
