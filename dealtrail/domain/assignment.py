"""Assignments: what a definition says of the distribution of leads, checked, and what an opening says of it."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dealtrail.domain.conditions import Condition, Move, parse_move
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.texts import Key, Word, shaped, unique, without_nulls

# What the group is called of an assignment that is itself one group.
ONLY_GROUP = "all"


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owner in a group: one of weight 2 gets twice as many leads as one of weight 1, a paused one none."""

    owner: Word
    weight: Annotated[int, Meta(ge=1, le=1_000)] = 1
    paused: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Owners, and the rule by which each new lead goes to one of them."""

    rule: Literal["round_robin", "least_open_deals"]
    owners: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=100)]

    @property
    def taking(self) -> list[Member]:
        """The owners who are not paused, in the order of the list."""
        return [member for member in self.owners if not member.paused]


class Assignment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets the deals that are opened without owner: a group of owners, chosen as a move chooses a stage."""

    groups: Annotated[Mapping[Key, Group], Meta(min_length=1, max_length=100)]
    choose: Move


class Assigned(msgspec.Struct, frozen=True):
    """By which rule a deal that was opened without owner got the one whom the opening names, and why that one.

    `when` is the condition that chose the group, None where none had to hold. Since version `since` of the definition,
    in which the group became what it is, it was lead `number` of this owner and lead `of` of the group; `open_deals`,
    with the rule of that name, counts the owner's open deals in the pipeline before it.
    """

    group: str
    when: Condition | None
    rule: str
    weight: int
    since: int
    number: int
    of: int
    open_deals: int | None


def parse_assignment(given: object) -> Assignment | None:
    """The assignment of a definition, checked: one group, or several with the rules that choose among them.

    Errors: invalid_assignment, invalid_condition, duplicate_key, nobody_to_assign, unknown_group, and of its shape.
    """
    if given is None:
        return None
    given = without_nulls(given)
    if not isinstance(given, Mapping):
        raise error("invalid_assignment", "assignment")
    if "groups" not in given and "choose" not in given:
        return Assignment(groups={ONLY_GROUP: _group_of(given, ONLY_GROUP, "assignment")}, choose=ONLY_GROUP)
    if set(given) != {"groups", "choose"}:
        raise error("invalid_assignment", "assignment")
    several = given["groups"]
    if not isinstance(several, Mapping) or not 1 <= len(several) <= 100:
        raise error("invalid_assignment", "assignment.groups")
    groups = {key: _group_of(group, key, f"assignment.groups.{key}"[:100]) for key, group in several.items()}
    choose = parse_move(given["choose"], "assignment.choose", "invalid_assignment")
    for key in (choose,) if isinstance(choose, str) else (rule.to for rule in choose):
        if key not in groups:
            raise error("unknown_group", "assignment.choose", given=key, nearest=nearest(key, groups))
    return Assignment(groups=groups, choose=choose)


def _group_of(given: object, key: str, where: str) -> Group:
    shaped(key, Key, f"{where}.key")
    group: Group = shaped(given, Group, where)
    unique([member.owner for member in group.owners], f"{where}.owners")
    if not group.taking:
        raise error("nobody_to_assign", f"{where}.owners", group=key)
    return group
