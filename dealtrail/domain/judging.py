"""Judging: the rules that an event must keep on the state just before it, and a timeline as a whole."""

from collections.abc import Sequence
from typing import Any

from dealtrail.domain.deal import Pipelines, Placed, State, evolve, read
from dealtrail.domain.definitions import Definition
from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.events import (
    ActionCompleted,
    DealDisqualified,
    DealEvent,
    DealLost,
    DealOpened,
    DealReopened,
    DealTransferred,
    DealWon,
    ExpectedCloseChanged,
    StageEntered,
)
from dealtrail.domain.times import Instant, iso

_NAME_A_PIPELINE = StageEntered | ActionCompleted | DealWon | DealReopened | DealLost | DealDisqualified
_NEED_OPEN = (
    StageEntered,
    ExpectedCloseChanged,
    ActionCompleted,
    DealWon,
    DealLost,
    DealDisqualified,
    DealTransferred,
)


def judge(deal: str, state: State, place: Placed, pipelines: Pipelines, when: str = "") -> None:
    """Refuse an event that breaks a rule on the state just before it; `when` says which, where it is an older one.

    Errors: deal_merged, deal_not_open, deal_not_closed, other_pipeline, same_pipeline, already_in_stage,
    action_not_in_stage, back_not_allowed, skip_not_allowed, required_action_missing.
    """
    event = place.entry.event
    judge_status(deal, state, event, when)
    if isinstance(event, DealTransferred):
        if event.pipeline == state.pipeline:
            raise error("same_pipeline", "pipeline", deal=deal, pipeline=event.pipeline, when=when)
        return
    if not isinstance(event, _NAME_A_PIPELINE) or event.pipeline is None:
        return
    if event.pipeline != state.pipeline:
        raise error("other_pipeline", "pipeline", deal=deal, pipeline=state.pipeline, stored=event.pipeline, when=when)
    if isinstance(event, DealLost | DealDisqualified):
        return
    pipeline = pipelines[event.pipeline]
    under = pipeline.version(max(state.visit.definition, event.definition))
    here = read(pipeline, state.visit, under.version)
    if isinstance(event, ActionCompleted):
        known = [action.key for action in under.stage(here).actions]
        if event.key not in known:
            raise error("action_not_in_stage", "key", key=event.key, stage=here, known=", ".join(known) or "none")
        return
    from_place, to_place = under.index(here), len(under.stages)
    if not isinstance(event, DealWon):
        there = read(pipeline, evolve(state, place).visit, under.version)
        if there == here and isinstance(event, StageEntered):
            raise error("already_in_stage", "stage", deal=deal, stage=here, when=when)
        to_place = under.index(there)
    against = under.against(under.keys, from_place, to_place)
    if against is not None:
        raise under.refusal(against, deal=deal, when=when)
    if isinstance(event, DealReopened) or to_place < from_place:
        return
    missing = _missing_actions(state, under, here)
    if missing:
        raise error("required_action_missing", "key", deal=deal, stage=here, missing=", ".join(missing), when=when)


def judge_status(deal: str, state: State, event: DealEvent | Any, when: str = "") -> None:
    """Refuse an event that the status of the deal does not allow.

    Errors: deal_merged, deal_not_open, deal_not_closed.
    """
    if state.status == "merged":
        raise error("deal_merged", "deal", deal=deal, into=state.merged_into, when=when)
    if isinstance(event, DealReopened):
        if state.status == "open":
            raise error("deal_not_closed", "deal", deal=deal, when=when)
    elif isinstance(event, _NEED_OPEN) and state.status != "open":
        raise error("deal_not_open", "deal", deal=deal, status=state.status, when=when)


def judge_timeline(deal: str, placed: Sequence[Placed], pipelines: Pipelines, recorded: int) -> State:
    """The state after a whole timeline in which every rule holds; entries after version `recorded` are the new ones.

    Errors: before_opening, and as `judge`; the first event that breaks a rule gives the code.
    """
    opening = next(place for place in placed if isinstance(place.entry.event, DealOpened))
    if opening is not placed[0]:
        raise before_opening(deal, opening.occurred_at, _when(placed[0], recorded))
    state = evolve(None, opening)
    for place in placed[1:]:
        judge(deal, state, place, pipelines, _when(place, recorded))
        state = evolve(state, place)
    return state


def before_opening(deal: str, opened: Instant, when: str = "") -> DealtrailError:
    """The refusal of something that would occur before the deal."""
    return error("before_opening", "at", deal=deal, opened=iso(opened), when=when)


def _when(place: Placed, recorded: int) -> str:
    """Which older event would break, and when it occurs; nothing for a new one."""
    if place.entry.version > recorded:
        return ""
    return f" when its event {place.entry.version} occurs ({iso(place.occurred_at)})"


def _missing_actions(state: State, under: Definition, stage: str) -> list[str]:
    """The required actions of a stage that were not completed since the deal was last put into a stage."""
    return [a.key for a in under.stage(stage).actions if a.required and a.key not in state.completed]
