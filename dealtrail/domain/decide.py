"""Deciding: an action, and what is known when its turn comes, become entries of the log, or a refusal."""

from typing import Any

import msgspec

from dealtrail.domain.actions import (
    PERSONAL,
    Action,
    Amend,
    AssignDeal,
    ChangeExpectedClose,
    ChangeValue,
    CompleteAction,
    DealAction,
    DefinePipeline,
    DisqualifyDeal,
    LogActivity,
    LoseDeal,
    MergeDeal,
    MoveDeal,
    OpenDeal,
    RedefinePipeline,
    ReopenDeal,
    Retract,
    SetAttributes,
    TransferDeal,
    WinDeal,
    parse_like,
    personal_part,
)
from dealtrail.domain.deal import Deal, Placed, timeline
from dealtrail.domain.defining import decide_pipeline
from dealtrail.domain.distribution import distributed
from dealtrail.domain.errors import error
from dealtrail.domain.events import (
    ActionCompleted,
    ActivityLogged,
    AttributesSet,
    DealAssigned,
    DealDisqualified,
    DealEvent,
    DealLost,
    DealMerged,
    DealOpened,
    DealReopened,
    DealTransferred,
    DealWon,
    Entry,
    EventRetracted,
    ExpectedCloseChanged,
    Personal,
    StageEntered,
    ValueChanged,
    is_sealed,
)
from dealtrail.domain.judging import judge, judge_timeline
from dealtrail.domain.making import new_event, opening, preceding
from dealtrail.domain.times import Instant, instant
from dealtrail.domain.turns import Known, Turn, entry_of, expect, first_time, occurred_at

_ACTION_OF: dict[type[Any], type[DealAction]] = {
    DealOpened: OpenDeal,
    StageEntered: MoveDeal,
    ValueChanged: ChangeValue,
    DealAssigned: AssignDeal,
    ExpectedCloseChanged: ChangeExpectedClose,
    AttributesSet: SetAttributes,
    ActionCompleted: CompleteAction,
    ActivityLogged: LogActivity,
    DealWon: WinDeal,
    DealLost: LoseDeal,
    DealDisqualified: DisqualifyDeal,
    DealReopened: ReopenDeal,
    DealTransferred: TransferDeal,
    DealMerged: MergeDeal,
}


def decide(action: Action, known: Known, turn: Turn) -> list[Entry]:
    """The entries that an action adds to the log; the very entry of the first time where its `id` was used before.

    Whoever records them tells the two apart by the position: one before `turn.position` stands in the log already.
    Errors: every rule of `docs/reference.md`, its code in the table of refusals.
    """
    if isinstance(action, DefinePipeline | RedefinePipeline):
        return decide_pipeline(action, known, turn)
    assert isinstance(action, DealAction)  # noqa: S101
    return _decide_deal(action, known, turn)


def _decide_deal(action: DealAction, known: Known, turn: Turn) -> list[Entry]:
    if isinstance(action, OpenDeal):
        return _open(action, known, turn)
    deal = known.deal(action.deal)
    if deal is None:
        raise error("unknown_deal", "deal", deal=action.deal)
    stream = f"deal:{deal.id}"
    first = first_time(action, stream, known)
    if first is not None:
        return [first]
    expect(action, deal.version)
    at = occurred_at(action, turn)
    if isinstance(action, Retract):
        return _retract(action, deal, known, turn, at)
    if isinstance(action, Amend):
        return _amend(action, deal, known, turn)
    event = new_event(action, preceding(deal.placed, at, turn.position), deal, known, at)
    entry = entry_of(stream, deal.version + 1, turn, at, event, action)
    _judge_with(deal, entry, known)
    return [entry]


def _open(action: OpenDeal, known: Known, turn: Turn) -> list[Entry]:
    name = action.deal or action.id or turn.new_deal
    stream = f"deal:{name}"
    first = first_time(action, stream, known)
    if first is not None:
        return [first]
    if known.deal(name) is not None:
        raise error("deal_exists", "deal", deal=name)
    expect(action, 0)
    at = occurred_at(action, turn)
    event = opening(action, name, known, at)
    if not event.owner:
        event = distributed(event, known.pipelines[event.pipeline], known)
    return [entry_of(stream, 1, turn, at, event, action)]


def _retract(action: Retract, deal: Deal, known: Known, turn: Turn, at: Instant) -> list[Entry]:
    old = _standing(deal, action.version)
    if isinstance(old.event, DealOpened):
        raise error("is_opening", "version", deal=deal.id, version=action.version)
    event = EventRetracted(action.version, action.reason)
    entry = entry_of(f"deal:{deal.id}", deal.version + 1, turn, at, event, action)
    judge_timeline(deal.id, timeline((*deal.entries, entry)), known.pipelines, deal.version)
    return [entry]


def _amend(action: Amend, deal: Deal, known: Known, turn: Turn) -> list[Entry]:
    """One step of two: the old event retracted, the new one recorded and judged in its place."""
    old = _standing(deal, action.version)
    kind = _ACTION_OF[type(old.event)]
    if "pipeline" in action.changes:
        raise error("pipeline_not_amendable", "pipeline")
    for name in action.changes:
        if name not in kind.__struct_fields__:
            raise error("unknown_field", name[:100])
    part = known.readable(old) or Personal()
    erased = {name: getattr(part, name) for name in PERSONAL if is_sealed(getattr(part, name))}
    part = msgspec.structs.replace(part, **dict.fromkeys(erased))
    changed = parse_like(kind, _as_action(old, part, deal.id) | action.changes)
    at = old.occurred_at if action.at is None else instant(action.at)
    retraction = Entry(
        stream=f"deal:{deal.id}",
        version=deal.version + 1,
        position=turn.position,
        recorded_at=turn.recorded_at,
        occurred_at=turn.recorded_at,
        event=EventRetracted(action.version, None),
        by=action.by,
        clock_behind_us=turn.clock_behind_us,
    )
    root = next(place.root for place in deal.placed if place.entry.version == action.version)
    others = tuple(place for place in deal.placed if place.entry.version != action.version)
    if isinstance(changed, OpenDeal):
        event: DealEvent = opening(changed, deal.id, known, at)
        if isinstance(old.event, DealOpened) and "owner" not in action.changes:
            event = msgspec.structs.replace(event, assigned=old.event.assigned)
    else:
        before = preceding(others, at, root)
        if before:  # what comes earlier must hold without the old event before the new one is judged after it
            judge_timeline(deal.id, before, known.pipelines, deal.version)
        event = new_event(changed, before, deal, known, at)
    entry = msgspec.structs.replace(
        entry_of(f"deal:{deal.id}", deal.version + 2, turn, at, event, action),
        position=turn.position + 1,
        amends=action.version,
        personal=personal_part(changed, {n: text for n, text in erased.items() if n not in action.changes}),
    )
    placed = timeline((*deal.entries, retraction, entry))
    judge_timeline(deal.id, placed, known.pipelines, deal.version)
    return [retraction, entry]


def _judge_with(deal: Deal, entry: Entry, known: Known) -> None:
    """Judge a new entry in its place, and every event that comes after it there."""
    new = Placed(entry.occurred_at, entry.position, entry)
    if new > deal.placed[-1]:
        judge(deal.id, deal.state, new, known.pipelines)
    else:
        judge_timeline(deal.id, sorted((*deal.placed, new)), known.pipelines, deal.version)


def _standing(deal: Deal, version: int) -> Entry:
    """An event that can still be retracted or amended."""
    if not 1 <= version <= deal.version:
        raise error("unknown_version", "version", deal=deal.id, version=version)
    entry = deal.entries[version - 1]
    if isinstance(entry.event, EventRetracted):
        raise error("is_retraction", "version", deal=deal.id, version=version)
    if all(place.entry.version != version for place in deal.placed):
        raise error("already_retracted", "version", deal=deal.id, version=version)
    return entry


def _as_action(entry: Entry, part: Personal, deal: str) -> dict[str, Any]:
    """The fields of an event, and its personal part, in the shape of the action that made it."""
    kind = _ACTION_OF[type(entry.event)]
    own = msgspec.structs.asdict(entry.event) | {name: getattr(part, name) for name in PERSONAL}
    return {name: value for name, value in own.items() if name in kind.__struct_fields__} | {"deal": deal}
