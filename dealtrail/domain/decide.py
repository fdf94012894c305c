"""Deciding: an action, and what is known when its turn comes, become entries of the log, or a refusal."""

from bisect import bisect_right
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
from dealtrail.domain.deal import (
    Deal,
    Placed,
    State,
    before_opening,
    fold,
    judge,
    judge_status,
    judge_timeline,
    read,
    timeline,
)
from dealtrail.domain.defining import decide_pipeline
from dealtrail.domain.definitions import Definition
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
from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.reasons import check_reason
from dealtrail.domain.times import Instant, instant
from dealtrail.domain.turns import Known, Turn, entry_of, expect, first_time, occurred_at, unknown_pipeline

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
    event = _new_event(action, _before(deal.placed, at, turn.position), deal, known, at)
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
    event = _opening(action, name, known, at)
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
        event: DealEvent = _opening(changed, deal.id, known, at)
        if isinstance(old.event, DealOpened) and "owner" not in action.changes:
            event = msgspec.structs.replace(event, assigned=old.event.assigned)
    else:
        before = _before(others, at, root)
        if before:  # what comes earlier must hold without the old event before the new one is judged after it
            judge_timeline(deal.id, before, known.pipelines, deal.version)
        event = _new_event(changed, before, deal, known, at)
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


def _before(placed: tuple[Placed, ...], at: Instant, root: int) -> tuple[Placed, ...]:
    """What comes before (at, root) in a timeline."""
    return placed[: bisect_right(placed, (at, root), key=lambda place: (place.occurred_at, place.root))]


def _new_event(action: DealAction, before: tuple[Placed, ...], deal: Deal, known: Known, at: Instant) -> DealEvent:
    """The event of an action that would come next in a timeline: its status judged, its stage looked up."""
    state = deal.state if len(before) == len(deal.placed) else fold(before)
    if state is None:
        raise before_opening(deal.id, deal.placed[0].occurred_at)
    return _event(action, deal.id, state, known, at)


def _event(action: DealAction, deal: str, state: State, known: Known, at: Instant) -> DealEvent:
    """The event of an action on a deal in a state; what it says of stages and definitions is looked up here."""
    pipeline = known.pipelines[state.pipeline]
    definition = pipeline.in_force(at)
    here = (pipeline.key, definition.version)
    event: DealEvent
    match action:
        case MoveDeal():
            event = StageEntered(*here, action.stage)
        case ChangeValue():
            event = ValueChanged(action.value)
        case AssignDeal():
            event = DealAssigned(action.owner)
        case ChangeExpectedClose():
            event = ExpectedCloseChanged(action.expected_close)
        case SetAttributes():
            event = AttributesSet(action.attributes)
        case CompleteAction():
            event = ActionCompleted(*here, action.key)
        case LogActivity():
            event = ActivityLogged(action.kind)
        case WinDeal():
            event = DealWon(*here, action.value)
        case LoseDeal():
            event = DealLost(action.reason, *(here if action.reason is not None else ()))
        case DisqualifyDeal():
            event = DealDisqualified(action.reason, *(here if action.reason is not None else ()))
        case ReopenDeal():
            event = DealReopened(*here, action.stage or read(pipeline, state.visit, definition.version))
        case TransferDeal():
            event = DealTransferred(action.pipeline, 0, action.stage or "")
        case MergeDeal():
            event = DealMerged(action.into)
        case _:
            raise AssertionError(f"{type(action).__name__} has no event of its own")
    judge_status(deal, state, event)
    match event:
        case StageEntered() | DealReopened():
            _known_stage(pipeline, definition, event.stage)
        case DealLost():
            check_reason("lost", event.reason, pipeline.key, definition)
        case DealDisqualified():
            check_reason("disqualified", event.reason, pipeline.key, definition)
        case DealTransferred():
            event = _transfer(event, deal, state, known, at)
        case DealMerged():
            _judge_merge(deal, event.into, known)
    return event


def _transfer(event: DealTransferred, deal: str, state: State, known: Known, at: Instant) -> DealTransferred:
    target = known.pipelines.get(event.pipeline)
    if target is None:
        raise unknown_pipeline(event.pipeline, known)
    if event.pipeline == state.pipeline:
        raise error("same_pipeline", "pipeline", deal=deal, pipeline=event.pipeline)
    return DealTransferred(event.pipeline, *_first_or_named(target, event.stage, at))


def _opening(action: OpenDeal, deal: str, known: Known, at: Instant) -> DealOpened:
    pipeline = known.pipelines.get(action.pipeline)
    if pipeline is None:
        raise unknown_pipeline(action.pipeline, known)
    return DealOpened(
        action.pipeline,
        *_first_or_named(pipeline, action.stage, at),
        subject=action.subject or deal,
        value=action.value,
        owner=action.owner,
        source=action.source,
        expected_close=action.expected_close,
        attributes={k: v for k, v in (action.attributes or {}).items() if v is not None},
    )


def _first_or_named(pipeline: Pipeline, stage: str | None, at: Instant) -> tuple[int, str]:
    """The version in force and its stage of that key, by default its first, if a deal may begin there."""
    definition = pipeline.in_force(at)
    if stage:
        _known_stage(pipeline, definition, stage)
    stage = stage or definition.stages[0].key
    against = definition.against(definition.keys, None, definition.index(stage))
    if against is not None:
        raise definition.refusal(against, pipeline=pipeline.key)
    return definition.version, stage


def _judge_merge(deal: str, into: str, known: Known) -> None:
    if into == deal:
        raise error("merge_into_itself", "into", deal=deal)
    target = known.deal(into)
    if target is None:
        raise error("merge_into_unknown", "into", into=into)
    if target.state.status == "merged":
        raise error("merge_into_merged", "into", into=into)


def _known_stage(pipeline: Pipeline, definition: Definition, stage: str) -> None:
    if not definition.has(stage):
        raise pipeline.unknown_stage(stage, definition)


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
