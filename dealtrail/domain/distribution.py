"""The distribution of leads: whose turn it is when a deal is opened without owner."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Protocol

import msgspec

from dealtrail.domain.assignment import Assigned, Assignment, Group, Member
from dealtrail.domain.conditions import Basis, Condition, chosen
from dealtrail.domain.events import DealOpened
from dealtrail.domain.pipelines import Pipeline


class Had(msgspec.Struct, frozen=True):
    """What an owner had of a group before: how many leads that count, and the log position of the last of all."""

    leads: int = 0
    last: int = 0


class Leads(Protocol):
    """What the distribution asks of all that was recorded before."""

    def had(self, pipeline: str, group: str, since: int) -> Mapping[str, Had]:
        """What each owner had of a group before; the leads that count are those since that version."""
        ...

    def open_deals(self, pipeline: str, owners: Iterable[str]) -> Mapping[str, int]:
        """How many open deals each of these owners has in a pipeline."""
        ...


def distributed(event: DealOpened, pipeline: Pipeline, leads: Leads) -> DealOpened:
    """An opening without owner, with the one whom the definition that it names gives it to, if that says anything."""
    assignment = pipeline.version(event.definition).assignment
    if assignment is None:
        return event
    key, when = _group_for(assignment, Basis(event.value, None, event.source, event.attributes))
    group, since = assignment.groups[key], pipeline.counted_since(event.definition, key)
    fewest = group.rule == "least_open_deals"
    open_deals = leads.open_deals(pipeline.key, [one.owner for one in group.owners]) if fewest else {}
    had = leads.had(pipeline.key, key, since)
    member = whose_turn(group, had, open_deals)
    why = Assigned(
        group=key,
        when=when,
        rule=group.rule,
        weight=member.weight,
        since=since,
        number=had.get(member.owner, Had()).leads + 1,
        of=sum(one.leads for one in had.values()) + 1,
        open_deals=open_deals.get(member.owner, 0) if fewest else None,
    )
    return msgspec.structs.replace(event, owner=member.owner, assigned=why)


def _group_for(assignment: Assignment, basis: Basis) -> tuple[str, Condition | None]:
    """The key of the group that a new deal falls to, and the condition that chose it."""
    if isinstance(assignment.choose, str):
        return assignment.choose, None
    rule = chosen(assignment.choose, basis)
    return rule.to, rule.when


def whose_turn(group: Group, had: Mapping[str, Had], open_deals: Mapping[str, int]) -> Member:
    """The owner who gets the next lead of a group.

    It is the one who would then have the least for their weight: of the group's leads that count, or of open deals.
    Of equals it is who waits longest for a lead of the group, whoever never had one before all others; then who stands
    first in the list. A round robin leaves out who would get ahead of their share: of n leads an owner of weight w
    among W in all has less than n·w÷W + 1. That is the quota method of Balinski and Young (1975), under which everyone
    is always within one of their exact share.
    """
    candidates = group.taking
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
