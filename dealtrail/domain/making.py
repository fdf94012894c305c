"""Making: the event that an action on a deal becomes, its status judged and what it names looked up."""

from bisect import bisect_right

from dealtrail.domain.actions import (
    AssignDeal,
    ChangeExpectedClose,
    ChangeValue,
    CompleteAction,
    DealAction,
    DisqualifyDeal,
    LogActivity,
    LoseDeal,
    MergeDeal,
    MoveDeal,
    OpenDeal,
    ReopenDeal,
    SetAttributes,
    TransferDeal,
    WinDeal,
)
from dealtrail.domain.deal import Deal, Placed, State, fold, read
from dealtrail.domain.definitions import Definition
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
    ExpectedCloseChanged,
    StageEntered,
    ValueChanged,
)
from dealtrail.domain.judging import before_opening, judge_status
from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.reasons import check_reason
from dealtrail.domain.times import Instant
from dealtrail.domain.turns import Known, unknown_pipeline


def preceding(placed: tuple[Placed, ...], at: Instant, root: int) -> tuple[Placed, ...]:
    """What comes before (at, root) in a timeline."""
    return placed[: bisect_right(placed, (at, root), key=lambda place: (place.occurred_at, place.root))]


def new_event(action: DealAction, before: tuple[Placed, ...], deal: Deal, known: Known, at: Instant) -> DealEvent:
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


def opening(action: OpenDeal, deal: str, known: Known, at: Instant) -> DealOpened:
    """The opening of a deal, in a stage where one may begin.

    Errors: unknown_pipeline, unknown_stage, entry_not_allowed.
    """
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
