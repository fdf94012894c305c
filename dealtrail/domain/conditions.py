"""Conditions on a deal, and the rules that choose by them: what an old stage is read as, and who gets a lead."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dealtrail.domain.errors import error
from dealtrail.domain.money import Money
from dealtrail.domain.texts import Key, shaped

# A number as text at the door: no exponent, no underscore, no digits of another alphabet, as in an amount.
DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,100})?", re.ASCII)

Scalar = str | int | float | bool
Attributes = Mapping[str, Scalar]


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


class Basis(msgspec.Struct, frozen=True, gc=False):
    """What conditions may look at: the deal as it was just after the event that began a visit."""

    value: Money | None
    owner: str | None
    source: str | None
    attributes: Attributes


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
    return _decimal(given) is not None and not (isinstance(given, str) and not DECIMAL.fullmatch(given))
