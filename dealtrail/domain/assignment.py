"""The distribution of leads: what a definition says of it, checked, and whose turn it is."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import msgspec

from dealtrail.domain.definitions import (
    Assignment,
    Basis,
    Condition,
    Group,
    Member,
    Pipeline,
    chosen,
    parse_move,
    unique,
    without_nulls,
)
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.events import Assigned
from dealtrail.domain.texts import Key, shaped

# What the group is called of an assignment that is itself one group.
ONLY_GROUP = "all"


class Had(msgspec.Struct, frozen=True):
    """What an owner had of a group before: how many leads that count, and the log position of the last of all."""

    leads: int = 0
    last: int = 0


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
    if not _taking(group):
        raise error("nobody_to_assign", f"{where}.owners", group=key)
    return group


def group_for(assignment: Assignment, basis: Basis) -> tuple[str, Condition | None]:
    """The key of the group that a new deal falls to, and the condition that chose it."""
    if isinstance(assignment.choose, str):
        return assignment.choose, None
    rule = chosen(assignment.choose, basis)
    return rule.to, rule.when


def counted_since(pipeline: Pipeline, version: int, key: str) -> int:
    """The version since which the leads of a group count: the one in which it became what it is in `version`."""
    group = _group(pipeline, version, key)
    while version > 1 and _group(pipeline, version - 1, key) == group:
        version -= 1
    return version


def _group(pipeline: Pipeline, version: int, key: str) -> Group | None:
    assignment = pipeline.version(version).assignment
    return None if assignment is None else assignment.groups.get(key)


def whose_turn(group: Group, had: Mapping[str, Had], open_deals: Mapping[str, int]) -> Member:
    """The owner who gets the next lead of a group.

    It is the one who would then have the least for their weight: of the group's leads that count, or of open deals.
    Of equals it is who waits longest for a lead of the group, whoever never had one before all others; then who stands
    first in the list. A round robin leaves out who would get ahead of their share: of n leads an owner of weight w
    among W in all has less than n·w÷W + 1. That is the quota method of Balinski and Young (1975), under which everyone
    is always within one of their exact share.
    """
    candidates = _taking(group)
    none = Had()
    if group.rule == "round_robin":
        count = {member.owner: had.get(member.owner, none).leads for member in candidates}
        weights, following = sum(member.weight for member in candidates), sum(count.values()) + 1
        candidates = [one for one in candidates if count[one.owner] * weights < following * one.weight]
    else:
        count = {member.owner: open_deals.get(member.owner, 0) for member in candidates}
    return min(
        candidates,
        key=lambda one: (Fraction(count[one.owner] + 1, one.weight), had.get(one.owner, none).last),
    )


def assigned(
    group: tuple[str, Group, Condition | None], since: int, had: Mapping[str, Had], open_deals: Mapping[str, int]
) -> tuple[str, Assigned]:
    """The owner whose turn it is in a group that a condition chose, and why."""
    key, among, when = group
    member = whose_turn(among, had, open_deals)
    own = had.get(member.owner, Had())
    of_rule = among.rule == "least_open_deals"
    return member.owner, Assigned(
        group=key,
        when=when,
        rule=among.rule,
        weight=member.weight,
        since=since,
        number=own.leads + 1,
        of=sum(one.leads for one in had.values()) + 1,
        open_deals=open_deals.get(member.owner, 0) if of_rule else None,
    )


def _taking(group: Group) -> Sequence[Member]:
    """The owners of a group who are not paused, in the order of the list."""
    return [member for member in group.owners if not member.paused]
