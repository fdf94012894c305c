"""What the workload's deals went through, worked out from its actions alone: the peers' tables rest on nothing of ours.

It knows only what the workload does: stages, values, owners and segments; no required actions, transfers or merges.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.workload import PIPELINE, REDEFINED, STAGES, Shape, instant, workload

FOREVER = 2**62


class Happening(NamedTuple):
    """What stands in a deal's timeline: `place` orders what occurred at one moment, `fact` is what it says."""

    at: int
    place: int
    kind: str
    fact: Any


class Period(NamedTuple):
    """A time in which a deal did not change; `place` is that of the action that began it, amounts are cents."""

    deal: int
    place: int
    pipeline: str
    status: str
    stage: str
    definition: int
    visit_at: int
    visit_cents: int | None
    visit_segment: str | None
    cents: int | None
    currency: str | None
    owner: str | None
    source: str | None
    from_at: int
    to_at: int


class Visit(NamedTuple):
    """A stay in a stage as it began, or (`begun` is won) a win."""

    deal: int
    begun_at: int
    place: int
    begun: str
    pipeline: str
    definition: int
    stage: str
    cents: int | None
    segment: str | None


def timelines(shape: Shape, known_at: int = FOREVER) -> Iterator[tuple[int, list[Happening]]]:
    """Each deal's number with what counts of what was recorded by a moment, in the order of occurrence."""
    deals: dict[str, dict[int, Happening]] = {}
    versions: dict[str, int] = {}
    for place, (recorded_at, action) in enumerate(workload(shape)):
        if recorded_at > known_at:
            break
        kind = action["action"]
        if kind.endswith("_pipeline"):
            continue
        deal = action["deal"]
        standing = deals.setdefault(deal, {})
        version = versions[deal] = versions.get(deal, 0) + 1
        if kind == "retract":
            del standing[action["version"]]
        elif kind == "amend":
            versions[deal] += 1
            old = standing.pop(action["version"])
            value = _value(action)
            fact = value if old.kind == "change_value" else (old.fact[0], value, *old.fact[2:])
            standing[version + 1] = old._replace(fact=fact)
        else:
            standing[version] = Happening(instant(action["at"]), place, kind, _fact(action))
    for deal, standing in deals.items():
        yield int(deal.removeprefix("D-")), sorted(standing.values())


def _value(action: dict[str, Any]) -> tuple[int | None, str | None]:
    value = action.get("value")
    return (None, None) if value is None else (int(value["amount"].replace(".", "")), value["currency"])


def _fact(action: dict[str, Any]) -> Any:
    match action["action"]:
        case "open_deal":
            segment = action["attributes"]["segment"]
            return action["pipeline"], _value(action), action["owner"], action.get("source"), segment
        case "move_deal" | "reopen_deal":
            return action["stage"]
        case "change_value":
            return _value(action)
        case "assign_deal":
            return action["owner"]
        case "set_attributes":
            return action["attributes"]["segment"]
    return None


_CLOSED = {"win_deal": "won", "lose_deal": "lost", "disqualify_deal": "disqualified"}


def rows(deal: int, timeline: list[Happening]) -> tuple[list[Period], list[Visit]]:
    """The periods and the visits of a deal."""
    periods: list[Period] = []
    visits: list[Visit] = []
    pipeline = status = ""
    visit: Visit | None = None
    cents: int | None = None
    currency = owner = source = segment = None
    for at, place, kind, fact in timeline:
        begun, stage = "", ""
        match kind:
            case "open_deal":
                pipeline, (cents, currency), owner, source, segment = fact
                status, begun, stage = "open", "opened", STAGES[pipeline, 1][0]["key"]
            case "move_deal":
                begun, stage = "moved", fact
            case "reopen_deal":
                status, begun, stage = "open", "reopened", fact
            case "change_value":
                cents, currency = fact
            case "assign_deal":
                owner = fact
            case "set_attributes":
                segment = fact
            case "log_activity":
                continue
            case _:
                status = _CLOSED[kind]
        definition = 2 if pipeline == PIPELINE and at >= REDEFINED else 1
        if begun or status == "won" != (periods[-1].status if periods else ""):
            point = Visit(deal, at, place, begun or "won", pipeline, definition, stage, cents, segment)
            visits.append(point)
            visit = point if begun else visit
        assert visit is not None
        if periods:
            last = periods.pop()
            if last.from_at < at:
                periods.append(last._replace(to_at=at))
        where = (pipeline, status, visit.stage, visit.definition, visit.begun_at, visit.cents, visit.segment)
        periods.append(Period(deal, place, *where, cents, currency, owner, source, at, FOREVER))
    return periods, visits
