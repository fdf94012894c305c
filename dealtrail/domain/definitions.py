"""The definition of a pipeline: its stages, what became of those of the version before, and its terms."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta

from dealtrail.domain.conditions import DECIMAL, Move
from dealtrail.domain.errors import error
from dealtrail.domain.terms import Terms
from dealtrail.domain.texts import Key, Word, shaped, unique, without_nulls
from dealtrail.domain.times import DAY, Instant

OUTCOMES = ("won", "lost", "disqualified")


class StageAction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sales-process action of a stage; a required one must be completed before the deal may go on."""

    key: Key
    name: Word
    required: bool = False


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage: its key, its name, the probability of winning from it, and when a deal in it is stalled."""

    key: Key
    name: Word
    probability: Annotated[Decimal, Meta(description="0..1, as the decimal that was written")]
    rots_after_days: Decimal | None = None
    actions: Annotated[tuple[StageAction, ...], Meta(max_length=100)] = ()

    @property
    def rots_after(self) -> Instant | None:
        """The time in the stage after which a deal is stalled."""
        return None if self.rots_after_days is None else int(Fraction(self.rots_after_days) * DAY)


class Definition(Terms, frozen=True):
    """A numbered version of a pipeline's stages; `moves` and `reason_moves` say what became of the version before."""

    version: int
    occurred_at: Instant
    recorded_at: Instant
    position: int
    stages: tuple[Stage, ...]
    moves: Mapping[str, Move]

    def index(self, key: str) -> int:
        """The place of a stage in this version's order, from 0; KeyError where it has none of that key."""
        for place, stage in enumerate(self.stages):
            if stage.key == key:
                return place
        raise KeyError(key)

    def has(self, key: str) -> bool:
        """Whether this version has a stage of that key."""
        return any(stage.key == key for stage in self.stages)

    def stage(self, key: str) -> Stage:
        """The stage of a key."""
        return self.stages[self.index(key)]

    @property
    def keys(self) -> list[str]:
        """The keys of the stages, in order."""
        return [stage.key for stage in self.stages]


def parse_stages(given: object) -> tuple[Stage, ...]:
    """The stages of a definition, checked.

    Errors: no_stages, duplicate_key, reserved_key, and those of their shape.
    """
    for place, stage in enumerate(given if isinstance(given, list | tuple) else ()):
        for name in ("probability", "rots_after_days"):
            number = stage.get(name) if isinstance(stage, Mapping) else None
            if isinstance(number, str) and not DECIMAL.fullmatch(number):
                raise error("invalid_field", f"stages[{place}].{name}", why='give a number, or its text such as "0.25"')
    shape = Annotated[tuple[Stage, ...], Meta(max_length=100)]
    stages: tuple[Stage, ...] = shaped(without_nulls(given), shape, "stages")
    if not stages:
        raise error("no_stages", "stages")
    unique([stage.key for stage in stages], "stages")
    for place, stage in enumerate(stages):
        where = f"stages[{place}]"
        if stage.key in OUTCOMES:
            raise error("reserved_key", f"{where}.key", given=stage.key)
        _decimal_between(stage.probability, 1, f"{where}.probability")
        if stage.rots_after_days is not None:
            _decimal_between(stage.rots_after_days, 100_000, f"{where}.rots_after_days")
        unique([action.key for action in stage.actions], f"{where}.actions")
    return stages


def _decimal_between(number: Decimal, most: int, where: str) -> None:
    exponent = number.as_tuple().exponent
    if not number.is_finite() or not 0 <= number <= most or not isinstance(exponent, int) or exponent < -30:
        raise error("invalid_field", where, why=f"give a number from 0 to {most} with at most 30 decimals")
