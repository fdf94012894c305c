"""Pipelines and the versions of their definitions, as they are shown."""

from datetime import datetime
from typing import Any

import msgspec

from dealtrail.domain.definitions import Pipeline
from dealtrail.domain.times import moment
from dealtrail.projections.question import When


class DefinitionView(msgspec.Struct, frozen=True):
    """A version of a pipeline's definition; `in_force` at T as known at K."""

    pipeline: str
    name: str
    version: int
    occurred_at: datetime
    recorded_at: datetime
    stages: list[Any]
    moves: dict[str, Any]
    reasons: dict[str, list[str]]
    reason_moves: dict[str, dict[str, str]]
    in_force: bool


def definition_view(known: Pipeline, version: int, at: When) -> DefinitionView:
    """A version of a pipeline, with whether it is in force at T."""
    definition = known.version(version)
    return DefinitionView(
        pipeline=known.key,
        name=known.name,
        version=version,
        occurred_at=moment(definition.occurred_at),
        recorded_at=moment(definition.recorded_at),
        stages=msgspec.to_builtins(definition.stages),
        moves=msgspec.to_builtins(definition.moves),
        reasons={outcome: list(listed) for outcome, listed in definition.reasons.items()},
        reason_moves=msgspec.to_builtins(definition.reason_moves),
        in_force=version == known.in_force(at.as_of).version,
    )
