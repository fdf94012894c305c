"""Pipelines and their definitions: stages, moves with conditions, and how a stage is read under a later version."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dealtrail.domain.allowed import Allowed
from dealtrail.domain.errors import DealtrailError, error, nearest
from dealtrail.domain.money import Money
from dealtrail.domain.texts import Key, Word, shaped
from dealtrail.domain.times import DAY, Instant

OUTCOMES = ("won", "lost", "disqualified")

# A number as text at the door: no exponent, no underscore, no digits of another alphabet, as in an amount.
_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,100})?", re.ASCII)

Scalar = str | int | float | bool
Attributes = Mapping[str, Scalar]


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


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A comparison of a field of the deal, as it was just after the event that began its visit."""

    field: Annotated[str, Meta(max_length=300, pattern=r"^(value|owner|source|attributes\.[^\x00-\x1f\x7f]+)\Z")]
    op: Literal["eq", "ne", "lt", "le", "gt", "ge", "in"]
    value: str | int | float | bool | list[str | int | float | bool]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of a conditional move: where `when` holds (or is absent), the visit is read as stage `to`."""

    to: Key
    when: Condition | None = None


Move = str | tuple[Rule, ...]


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owner in a group: one of weight 2 gets twice as many leads as one of weight 1, a paused one none."""

    owner: Word
    weight: Annotated[int, Meta(ge=1, le=1_000)] = 1
    paused: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Owners, and the rule by which each new lead goes to one of them."""

    rule: Literal["round_robin", "least_open_deals"]
    owners: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=100)]


class Assignment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets the deals that are opened without owner: a group of owners, chosen as a move chooses a stage."""

    groups: Annotated[Mapping[Key, Group], Meta(min_length=1, max_length=100)]
    choose: Move


class Basis(msgspec.Struct, frozen=True, gc=False):
    """What conditions may look at: the deal as it was just after the event that began a visit."""

    value: Money | None
    owner: str | None
    source: str | None
    attributes: Attributes


class Definition(Allowed, frozen=True):
    """A numbered version of a pipeline's stages; `moves` says what became of the version before."""

    version: int
    occurred_at: Instant
    recorded_at: Instant
    position: int
    stages: tuple[Stage, ...]
    moves: Mapping[str, Move]
    assignment: Assignment | None = None

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

    def followed_by(
        self,
        stages: tuple[Stage, ...],
        moves: Mapping[str, Move],
        at: Instant,
        position: int,
        now: Instant,
        allowed: Mapping[str, Any],
    ) -> "Pipeline":
        """The pipeline with its next version, checked against the one before. Errors: unknown_stage, missing_move."""
        before = self.latest
        definition = Definition(before.version + 1, at, now, position, stages, moves, **allowed)
        for stage in before.stages:
            if not definition.has(stage.key) and stage.key not in definition.moves:
                raise error("missing_move", "moves", key=stage.key)
        for key, move in definition.moves.items():
            targets = (move,) if isinstance(move, str) else tuple(rule.to for rule in move)
            for owner, names in ((before, (key,)), (definition, targets)):
                for name in names:
                    if not owner.has(name):
                        raise self.unknown_stage(name, owner, f"moves.{key}")
        return msgspec.structs.replace(self, definitions=(*self.definitions, definition)).checked()

    def checked(self) -> "Pipeline":
        """The pipeline itself, where the lists of its newest version name stages of it. Errors: unknown_stage."""
        for kind, keys in self.latest.limits.items():
            for key in keys or ():
                if not self.latest.has(key):
                    raise self.unknown_stage(key, self.latest, kind)
        return self

    def unknown_stage(self, given: str, definition: Definition, field: str = "stage") -> DealtrailError:
        """The refusal of a key that a version has not."""
        near = nearest(given, (s.key for s in definition.stages))
        return error("unknown_stage", field, given=given, version=definition.version, pipeline=self.key, nearest=near)


def parse_stages(given: object) -> tuple[Stage, ...]:
    """The stages of a definition, checked.

    Errors: no_stages, duplicate_key, reserved_key, and those of their shape.
    """
    for place, stage in enumerate(given if isinstance(given, list | tuple) else ()):
        for name in ("probability", "rots_after_days"):
            number = stage.get(name) if isinstance(stage, Mapping) else None
            if isinstance(number, str) and not _DECIMAL.fullmatch(number):
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


def without_nulls(given: object) -> object:
    """Stages, their actions and the like without fields that are null: an optional one is absent then."""
    if isinstance(given, Mapping):
        return {name: without_nulls(value) for name, value in given.items() if value is not None}
    return [without_nulls(one) for one in given] if isinstance(given, list | tuple) else given


def parse_moves(given: object) -> Mapping[str, Move]:
    """The moves of a definition: by old key, a new key or a list of rules, checked for their shape.

    Errors: invalid_moves, invalid_condition, and those of their shape.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise error("invalid_moves", "moves")
    moves: dict[str, Move] = {}
    for key, move in given.items():
        where = f"moves.{key}"[:100]
        shaped(key, Key, where)
        moves[key] = parse_move(move, where, "invalid_moves")
    return moves


def parse_move(given: object, where: str, code: str) -> Move:
    """A key, or rules that are tried in order, checked for their shape.

    Errors: `code`, where it is neither or not the last rule alone has no condition; invalid_condition; invalid_key.
    """
    if isinstance(given, str):
        key: str = shaped(given, Key, where)
        return key
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= 100:
        raise error(code, where)
    rules = tuple(_rule(rule, f"{where}[{place}]") for place, rule in enumerate(given))
    if rules[-1].when is not None or any(rule.when is None for rule in rules[:-1]):
        raise error(code, where)
    return rules


def _rule(given: object, where: str) -> Rule:
    given = msgspec.to_builtins(given) if isinstance(given, Rule) else given
    if isinstance(given, Mapping) and given.get("when") is not None:
        try:
            condition = msgspec.convert(given["when"], Condition)
        except (msgspec.ValidationError, RecursionError):
            raise error("invalid_condition", f"{where}.when", given=given["when"]) from None
        members = condition.value if isinstance(condition.value, list) else [condition.value]
        of_value = condition.field == "value"
        fits = isinstance(condition.value, list) == (condition.op == "in") and len(members) <= 1000
        if not fits or (of_value and not all(_is_decimal(member) for member in members)):
            raise error("invalid_condition", f"{where}.when", given=given["when"])
    rule: Rule = shaped(given, Rule, where)
    return rule


def chosen(rules: tuple[Rule, ...], basis: Basis) -> Rule:
    """The first rule that holds; the last always does."""
    return next(rule for rule in rules if rule.when is None or holds(rule.when, basis))


def holds(condition: Condition, basis: Basis) -> bool:
    """Whether a condition holds; a missing field, or one of another type, satisfies only `ne`."""
    field, op, wanted = condition.field, condition.op, condition.value
    found: Any
    if field == "value":
        found = None if basis.value is None else basis.value.amount
        wanted = [_decimal(w) for w in wanted] if isinstance(wanted, list) else _decimal(wanted)  # type: ignore[assignment,misc]
    elif field in ("owner", "source"):
        found = getattr(basis, field)
    else:
        found = basis.attributes.get(field.removeprefix("attributes."))
    if op == "in":
        return any(_comparable(found, member) and found == member for member in wanted)  # type: ignore[union-attr]
    if not _comparable(found, wanted):
        return op == "ne"
    match op:
        case "eq":
            return bool(found == wanted)
        case "ne":
            return bool(found != wanted)
        case "lt":
            return bool(found < wanted)
        case "le":
            return bool(found <= wanted)
        case "gt":
            return bool(found > wanted)
        case "ge":
            return bool(found >= wanted)


def _comparable(one: object, other: object) -> bool:
    return kind(one) is not None and kind(one) == kind(other)


def kind(value: object) -> str | None:
    """The type of a value as rules, filters and groups see it; None for a missing one."""
    match value:
        case None:
            return None
        case bool():
            return "boolean"
        case str():
            return "text"
        case _:
            return "number"


def _decimal(given: object) -> Decimal | None:
    """A string or number as the decimal that was written."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        number = Decimal(str(given))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _is_decimal(given: object) -> bool:
    return _decimal(given) is not None and not (isinstance(given, str) and not _DECIMAL.fullmatch(given))


def _decimal_between(number: Decimal, most: int, where: str) -> None:
    exponent = number.as_tuple().exponent
    if not number.is_finite() or not 0 <= number <= most or not isinstance(exponent, int) or exponent < -30:
        raise error("invalid_field", where, why=f"give a number from 0 to {most} with at most 30 decimals")


def unique(keys: list[str], where: str) -> None:
    """Refuse a key that stands twice. Errors: duplicate_key."""
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise error("duplicate_key", where, given=key)
