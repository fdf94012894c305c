"""Pipelines and the versions of their definitions, as they are shown."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.times import moment
from dealtrail.projections.question import When


class DefinitionView(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a pipeline's definition; `in_force` at T as known at K."""

    pipeline: str
    name: str
    version: int
    occurred_at: datetime
    recorded_at: datetime
    stages: list[Any]
    moves: dict[str, Any]
    entry: list[str] | Literal["any"] = "any"
    back: list[str] | Literal["any"] = "any"
    skip: list[str] | Literal["any"] = "any"
    reasons: dict[str, list[str]] = {}
    reason_moves: dict[str, dict[str, str]] = {}
    assignment: dict[str, Any] | None = None
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
        **msgspec.json.decode(msgspec.json.encode(definition.said)),
        in_force=version == known.in_force(at.as_of).version,
    )
