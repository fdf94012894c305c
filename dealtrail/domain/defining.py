"""Deciding on a definition of a pipeline: the first one, or the next."""

from dealtrail.domain.actions import DefinePipeline, RedefinePipeline
from dealtrail.domain.conditions import parse_moves
from dealtrail.domain.definitions import parse_stages
from dealtrail.domain.errors import error
from dealtrail.domain.events import Entry, Event, PipelineDefined, PipelineRedefined
from dealtrail.domain.pipelines import redefined
from dealtrail.domain.terms import parse_terms
from dealtrail.domain.turns import Known, Turn, entry_of, expect, first_time, occurred_at, unknown_pipeline


def decide_pipeline(action: DefinePipeline | RedefinePipeline, known: Known, turn: Turn) -> list[Entry]:
    """The entry of a definition that fits the one before, or that of the first time. Errors: those of a definition."""
    stages = parse_stages(action.stages)
    moves = parse_moves(action.moves if isinstance(action, RedefinePipeline) else None)
    terms = parse_terms(action)
    pipeline = known.pipelines.get(action.pipeline)
    if isinstance(action, RedefinePipeline) and pipeline is None:
        raise unknown_pipeline(action.pipeline, known)
    stream = f"pipeline:{action.pipeline}"
    first = first_time(action, stream, known)
    if first is not None:
        return [first]
    if isinstance(action, DefinePipeline) and pipeline is not None:
        raise error("pipeline_exists", "pipeline", pipeline=action.pipeline)
    version = len(pipeline.definitions) if pipeline else 0
    expect(action, version)
    at = occurred_at(action, turn)
    event: Event
    if pipeline is None:
        event = PipelineDefined(action.name or action.pipeline, stages, **terms.said)  # type: ignore[union-attr]
    else:
        if at < pipeline.latest.occurred_at:
            raise error("definition_before_previous", "at", previous=pipeline.latest.version)
        event = PipelineRedefined(stages, moves, **terms.said)
    entry = entry_of(stream, version + 1, turn, at, event, action)
    redefined(pipeline, entry).checked()
    return [entry]
