"""Pipelines: their definitions, one after the other, and how a stage is read under a later one."""

import msgspec

from dealtrail.domain.allowed import KINDS
from dealtrail.domain.assignment import Group
from dealtrail.domain.conditions import Basis, chosen
from dealtrail.domain.definitions import Definition
from dealtrail.domain.errors import DealtrailError, error, nearest
from dealtrail.domain.events import Entry, PipelineDefined, PipelineRedefined
from dealtrail.domain.reasons import check_reason_moves
from dealtrail.domain.times import Instant


class Pipeline(msgspec.Struct, frozen=True):
    """A pipeline with its definitions, version 1 first."""

    key: str
    name: str
    definitions: tuple[Definition, ...]

    @property
    def latest(self) -> Definition:
        """The newest version."""
        return self.definitions[-1]

    def in_force(self, at: Instant) -> Definition:
        """The version in force at a moment: the newest that had come into force; 1 from the beginning of time."""
        for definition in reversed(self.definitions[1:]):
            if definition.occurred_at <= at:
                return definition
        return self.definitions[0]

    def version(self, number: int) -> Definition:
        """The definition of a number. Errors: unknown_definition."""
        if not 1 <= number <= len(self.definitions):
            raise error(
                "unknown_definition",
                "definition",
                pipeline=self.key,
                given=number,
                latest=len(self.definitions),
            )
        return self.definitions[number - 1]

    def read(self, stage: str, recorded: int, under: int, basis: Basis) -> str:
        """A stage recorded under one version, read under a later one: by the moves of each version between."""
        for definition in self.definitions[recorded:under]:
            move = definition.moves.get(stage, stage)
            stage = move if isinstance(move, str) else chosen(move, basis).to
        return stage

    def counted_since(self, version: int, group: str) -> int:
        """The version since which the leads of a group count: the one in which it became what it is in `version`."""
        while version > 1 and self._group(version - 1, group) == self._group(version, group):
            version -= 1
        return version

    def _group(self, version: int, key: str) -> Group | None:
        assignment = self.version(version).assignment
        return None if assignment is None else assignment.groups.get(key)

    def followed_by(self, definition: Definition) -> "Pipeline":
        """The pipeline with its next version."""
        return msgspec.structs.replace(self, definitions=(*self.definitions, definition))

    def checked(self) -> "Pipeline":
        """The pipeline itself, where its newest version fits the one before, and names stages and reasons that are.

        Errors: unknown_stage, missing_move, unknown_reason, missing_reason_move.
        """
        *earlier, latest = self.definitions
        if earlier:
            self._check_moves(earlier[-1], latest)
        for kind in KINDS:
            for key in getattr(latest, kind) or ():
                if not latest.has(key):
                    raise self.unknown_stage(key, latest, kind)
        if earlier:
            check_reason_moves(self.key, earlier, latest)
        return self

    def _check_moves(self, before: Definition, after: Definition) -> None:
        for stage in before.stages:
            if not after.has(stage.key) and stage.key not in after.moves:
                raise error("missing_move", "moves", key=stage.key)
        for key, move in after.moves.items():
            targets = (move,) if isinstance(move, str) else tuple(rule.to for rule in move)
            for owner, names in ((before, (key,)), (after, targets)):
                for name in names:
                    if not owner.has(name):
                        raise self.unknown_stage(name, owner, f"moves.{key}")

    def unknown_stage(self, given: str, definition: Definition, field: str = "stage") -> DealtrailError:
        """The refusal of a key that a version has not."""
        near = nearest(given, (s.key for s in definition.stages))
        return error("unknown_stage", field, given=given, version=definition.version, pipeline=self.key, nearest=near)


def redefined(pipeline: Pipeline | None, entry: Entry) -> Pipeline:
    """A pipeline after one more entry of its stream."""
    event = entry.event
    coordinates = (entry.version, entry.occurred_at, entry.recorded_at, entry.position)
    if isinstance(event, PipelineDefined):
        key = entry.stream.removeprefix("pipeline:")
        return Pipeline(key, event.name, (Definition(*coordinates, event.stages, {}, **event.said),))
    assert pipeline is not None  # noqa: S101
    assert isinstance(event, PipelineRedefined)  # noqa: S101
    return pipeline.followed_by(Definition(*coordinates, event.stages, event.moves, **event.said))
