"""Pipelines and the versions of their definitions, as they are shown."""

from datetime import datetime
from typing import Any, Literal

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
    entry: list[str] | Literal["any"]
    back: list[str] | Literal["any"]
    skip: list[str] | Literal["any"]
    in_force: bool
    assignment: dict[str, Any] | None = None


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
        **{kind: "any" if keys is None else list(keys) for kind, keys in definition.limits.items()},
        in_force=version == known.in_force(at.as_of).version,
        assignment=msgspec.to_builtins(definition.assignment),
    )
