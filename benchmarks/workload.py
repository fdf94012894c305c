"""The workload: a seeded sales history as actions in the order of recording, made as a stream in little memory.

Each deal is planned when it opens; what is planned waits in a heap until its time to be recorded has come. What a
deal goes through is so chosen that any part of it may be recorded late or taken back: its moves go strictly
forward, and nothing else rests on what comes between its opening and its closing.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any, NamedTuple

DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at: datetime) -> int:
    """A moment as microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    """Microseconds since 1970 as a moment."""
    return _EPOCH + timedelta(microseconds=at)


BEGIN = instant(datetime(2022, 1, 1, tzinfo=UTC))
END = instant(datetime(2025, 1, 1, tzinfo=UTC))
REDEFINED = instant(datetime(2023, 7, 3, tzinfo=UTC))
PIPELINE, SMALL = "sales", "renewals"
CURRENCIES = ("EUR", "USD", "GBP")
SEGMENTS = ("smb", "mid", "enterprise", "public")
TENDER_FROM = 50_000


class Shape(NamedTuple):
    """How large a workload is, and how much of it is out of order.

    `backdated` is the share of events recorded at least a day late, by `late_days` on average. `padding` more deals
    open in the first month and stay open.
    """

    deals: int
    backdated: float = 0.02
    late_days: float = 14
    padding: int = 0
    seed: int = 2024


SIZES = {
    "S": Shape(10_000),
    "M": Shape(100_000),
    "L": Shape(1_000_000),
    "H": Shape(100_000, backdated=0.30, late_days=120),
}


class Step(NamedTuple):
    """An action and when the clock reads as it is recorded, in microseconds since 1970."""

    recorded_at: int
    action: dict[str, Any]


def _stage(key: str, probability: str, rots_after_days: int | None) -> dict[str, Any]:
    shown = {"key": key, "name": key.capitalize(), "probability": probability}
    return shown if rots_after_days is None else shown | {"rots_after_days": rots_after_days}


STAGES = {
    (PIPELINE, 1): (
        _stage("lead", "0.1", 10),
        _stage("qualified", "0.2", 14),
        _stage("demo", "0.35", 14),
        _stage("proposal", "0.5", 21),
        _stage("negotiation", "0.65", None),
        _stage("contract", "0.85", 10),
    ),
    (PIPELINE, 2): (
        _stage("lead", "0.1", 10),
        _stage("qualified", "0.2", 14),
        _stage("discovery", "0.25", 14),
        _stage("demo", "0.35", 14),
        _stage("quote", "0.45", 14),
        _stage("tender", "0.5", 30),
        _stage("review", "0.65", None),
        _stage("closing", "0.85", 10),
    ),
    (SMALL, 1): (
        _stage("upcoming", "0.55", 45),
        _stage("offer", "0.7", 21),
        _stage("terms", "0.8", 14),
        _stage("signature", "0.9", 10),
    ),
}
MOVES: dict[str, Any] = {
    "proposal": [
        {"when": {"field": "value", "op": "ge", "value": str(TENDER_FROM)}, "to": "tender"},
        {"when": {"field": "attributes.segment", "op": "eq", "value": "public"}, "to": "tender"},
        {"to": "quote"},
    ],
    "negotiation": "review",
    "contract": "closing",
}
# The first stage of version 2 that is beyond each stage of version 1, however its conditions turn out.
_BEYOND = (1, 2, 4, 6, 7, 8)

_OWNERS = tuple(f"owner-{number:03}" for number in range(200))
_SOURCES = ("website", "referral", "partner", "outbound", "event", None)
_CHANGES = ("change_value",) * 8 + ("assign_deal",) * 5 + ("set_attributes",) * 3 + ("log_activity",) * 2
_LIFE_DAYS = 33  # on average, of 1,096: so about 3 % of all deals are open at any moment
_MIDDLE = 0.64  # the share of events that are neither an opening nor a closing: only they are recorded late
_CORRECTABLE = 0.80  # the share of events that are amended or retracted at all


def workload(shape: Shape) -> Iterator[Step]:
    """Every step in order of recording, the same for the same shape; no action of it is refused."""
    rng = Random(shape.seed)
    yield Step(BEGIN, _definition(PIPELINE, 1, BEGIN))
    yield Step(BEGIN, _definition(SMALL, 1, BEGIN))
    waiting: list[tuple[int, int, _Life, int]] = []
    redefinition = _Life("", [(REDEFINED, _definition(PIPELINE, 2, REDEFINED), None)])
    heappush(waiting, (REDEFINED, -1, redefinition, 0))
    for number, (opens_at, padding) in enumerate(_openings(rng, shape)):
        while waiting and waiting[0][0] <= opens_at:
            yield _next(waiting)
        life = _padding(rng, number, opens_at) if padding else _life(rng, number, opens_at, shape)
        for place, (recorded_at, _, _) in enumerate(life.events):
            if recorded_at < END:
                heappush(waiting, (recorded_at, number * 100 + place, life, place))
    while waiting:
        yield _next(waiting)


class _Life:
    """What a deal goes through: (recorded_at, action, the place of the event that it corrects)."""

    __slots__ = ("deal", "events", "recorded", "versions")

    def __init__(self, deal: str, events: list[tuple[int, dict[str, Any], int | None]]) -> None:
        self.deal = deal
        self.events = events
        self.recorded = 0
        self.versions: dict[int, int] = {}


def _next(waiting: list[tuple[int, int, _Life, int]]) -> Step:
    """The next step; only here the version of an event that is corrected is known."""
    recorded_at, _, life, place = heappop(waiting)
    _, action, corrects = life.events[place]
    life.recorded += 2 if action["action"] == "amend" else 1
    life.versions[place] = life.recorded
    if corrects is not None:
        action["version"] = life.versions[corrects]
    return Step(recorded_at, action)


def _openings(rng: Random, shape: Shape) -> Iterator[tuple[int, bool]]:
    """When each deal opens, and whether it is there to stay: the padding in the first month, the others all along."""
    padding = sorted(BEGIN + int(rng.random() * 30 * DAY) for _ in range(shape.padding))
    rest = [BEGIN + int((n + rng.random()) * (END - BEGIN) / shape.deals) for n in range(shape.deals)]
    if not padding:
        return ((at, False) for at in rest)
    return iter(sorted([(at, False) for at in rest] + [(at, True) for at in padding]))


def _definition(pipeline: str, version: int, at: int) -> dict[str, Any]:
    shown = {"pipeline": pipeline, "stages": STAGES[pipeline, version], "at": moment(at), "by": "sales-ops"}
    if version == 1:
        return {"action": "define_pipeline", "name": pipeline.capitalize(), **shown}
    return {"action": "redefine_pipeline", "moves": MOVES, **shown}


def _value(rng: Random, currency: str) -> dict[str, str]:
    return {"amount": f"{int(rng.lognormvariate(10, 1))}.{rng.randrange(100):02}", "currency": currency}


def _opening(rng: Random, deal: str, at: int, pipeline: str, currency: str) -> dict[str, Any]:
    owner = rng.choice(_OWNERS)
    action = {
        "action": "open_deal",
        "deal": deal,
        "pipeline": pipeline,
        "title": f"Account {rng.randrange(10**6)}",
        "owner": owner,
        "expected_close": date.fromordinal(moment(at).toordinal() + rng.randrange(20, 90)),
        "attributes": {"segment": rng.choice(SEGMENTS)},
        "at": moment(at),
        "by": owner,
    }
    source = rng.choice(_SOURCES)
    if source is not None:
        action["source"] = source
    if rng.random() < 0.88:
        action["value"] = _value(rng, currency)
    return action


def _padding(rng: Random, number: int, at: int) -> _Life:
    deal = f"D-{number:07}"
    opening = _opening(rng, deal, at, PIPELINE, rng.choice(CURRENCIES))
    moved_at = at + int(rng.random() * 10 * DAY)
    stage = rng.choice(STAGES[PIPELINE, 1][1:])["key"]
    move = {"action": "move_deal", "deal": deal, "stage": stage, "at": moment(moved_at), "by": opening["by"]}
    return _Life(deal, [(at, opening, None), (moved_at, move, None)])


def _life(rng: Random, number: int, opens_at: int, shape: Shape) -> _Life:
    """What a deal goes through from its opening to its closing, its corrections after that."""
    deal = f"D-{number:07}"
    pipeline = SMALL if rng.random() < 0.1 else PIPELINE
    currency = rng.choice(CURRENCIES)
    opening = _opening(rng, deal, opens_at, pipeline, currency)
    by = opening["by"]
    closes_at = opens_at + int(rng.gammavariate(2, _LIFE_DAYS / 2) * DAY) + 1_000
    events: list[tuple[int, dict[str, Any], int | None]] = [(opens_at, opening, None)]

    def add(at: int, recorded_at: int, action: str, **fields: Any) -> None:
        events.append((recorded_at, {"action": action, "deal": deal, **fields, "at": moment(at), "by": by}, None))

    for at, stage in _path(rng, pipeline, opens_at, closes_at):
        add(at, _recorded_at(rng, at, shape), "move_deal", stage=stage)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 2, 3, 3))):
        at = rng.randrange(opens_at + 1, closes_at)
        action = rng.choice(_CHANGES)
        add(at, _recorded_at(rng, at, shape), action, **_change(rng, action, currency))
    _close(rng, closes_at, STAGES[pipeline, 1][0]["key"], add)
    for place in range(len(events)):
        if rng.random() < 0.01 / _CORRECTABLE:
            _correct(rng, events, place, deal, currency)
    return _Life(deal, events)


def _path(rng: Random, pipeline: str, opens_at: int, closes_at: int) -> Iterator[tuple[int, str]]:
    """The moves of a deal, each strictly beyond the stage before under the definition of its time."""
    version, index = 1, 0
    if pipeline == PIPELINE and opens_at >= REDEFINED:
        version = 2
    for at in sorted(rng.randrange(opens_at + 1, closes_at) for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))):
        least = index + 1
        if pipeline == PIPELINE and version == 1 and at >= REDEFINED:
            version, least = 2, _BEYOND[index]
        index = least + (rng.random() < 0.15)
        stages = STAGES[pipeline, version]
        if index >= len(stages):
            return
        yield at, stages[index]["key"]


def _change(rng: Random, action: str, currency: str) -> dict[str, Any]:
    match action:
        case "change_value":
            return {"value": _value(rng, currency)}
        case "assign_deal":
            return {"owner": rng.choice(_OWNERS)}
        case "set_attributes":
            return {"attributes": {"segment": rng.choice(SEGMENTS)}}
    return {"kind": rng.choice(("call", "mail", "meeting"))}


def _close(rng: Random, at: int, first: str, add: Any) -> None:
    """Win, lose or disqualify; now and then a lost deal comes back for some weeks."""
    luck = rng.random()
    if luck < 0.25:
        add(at, at, "win_deal")
    elif luck < 0.45:
        add(at, at, "disqualify_deal", reason="not-a-fit")
    else:
        add(at, at, "lose_deal", reason=rng.choice(("price", "timing", "no-decision")))
        if luck < 0.46:
            again = at + int((1 + rng.random() * 20) * DAY)
            add(again, again, "reopen_deal", stage=first)
            until = again + int((1 + rng.random() * 40) * DAY)
            add(until, until, "lose_deal", reason="timing")


def _recorded_at(rng: Random, at: int, shape: Shape) -> int:
    """When something is recorded: as it happens, or at least a day and on average `late_days` later."""
    if rng.random() >= shape.backdated / _MIDDLE or at > END - 2 * DAY:
        return at
    late = DAY + int(rng.gammavariate(4, (shape.late_days - 1) / 4) * DAY)
    return min(at + late, at + DAY + int(rng.random() * (END - at - DAY)))


def _correct(rng: Random, events: list[Any], place: int, deal: str, currency: str) -> None:
    """Amend an event that gives a value, retract any other that nothing rests on."""
    recorded_at, wrong, _ = events[place]
    at = recorded_at + int((0.1 + rng.random() * 5) * DAY)
    correction: dict[str, Any] = {"deal": deal, "by": "sales-ops"}
    match wrong["action"]:
        case "open_deal" | "change_value":
            correction |= {"action": "amend", "value": _value(rng, currency)}
        case "move_deal" | "assign_deal" | "set_attributes" | "log_activity":
            correction |= {"action": "retract", "reason": "entered by mistake", "at": moment(at)}
        case _:
            return
    events.append((at, correction, place))
