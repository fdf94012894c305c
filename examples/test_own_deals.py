"""Two worlds that differ only in what is not Anna's: whatever she asks or does, she gets the same answer in both."""

import random
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import msgspec
import pytest
from own_deals import OwnDeals

from dealtrail import DealtrailError, Trail

KEYS = ("lead", "qualified", "proposal")
STAGES = [{"key": key, "name": key.title(), "probability": "0.5", "rots_after_days": 1} for key in KEYS]
DRAFT = {"stages": STAGES[:2], "moves": {"proposal": "qualified"}}
CURRENCIES = ("EUR", "USD")
# A UUID that a deal of Bram's bears in one world.
TOKEN = str(UUID(int=7))


def day(number):
    """Day 1 is the first of January 2026."""
    return datetime(2026, 1, 1, 9, tzinfo=UTC) + timedelta(days=number - 1)


NOW = day(100)


def opening(deal, owner, amount, **more):
    value = {"amount": str(amount), "currency": "EUR"}
    return {"action": "open_deal", "deal": deal, "pipeline": "b2b", "owner": owner, "value": value, **more}


def on(deal, action, **more):
    return {"action": action, "deal": deal, **more}


# What both worlds share, by the day on which it is recorded: all of Anna's deals, for as long as they are hers.
COMMON = [
    (1, {"action": "define_pipeline", "pipeline": "b2b", "stages": STAGES}),
    (2, opening("A1", "anna", 100, source="web")),
    (3, opening("A2", "anna", 200)),
    (4, opening("handed-on", "anna", 300)),
    (5, opening("taken-over", "bram", 400)),
    (6, opening("merged-away", "anna", 500)),
    (7, opening("merged-within", "anna", 600)),
    (8, opening("merged-and-back", "anna", 700)),
    (10, on("A1", "move_deal", stage="qualified")),
    (12, on("A1", "amend", version=1, source="fair", at=day(2))),
    (20, on("handed-on", "assign_deal", owner="bram")),
    (30, on("taken-over", "assign_deal", owner="anna")),
    (31, on("merged-within", "merge_deal", into="A2")),
    (50, opening("A3", "anna", 800)),
    (51, on("A3", "win_deal")),
]


def others(world):
    """What differs: Bram's own deals, what becomes of a deal in his hands, and into what Anna's was merged."""
    rnd = random.Random(world)
    names = [f"B{world}-{number}" for number in range(6)] + ["B"] + [TOKEN] * world
    script = [(13, opening(name, "bram", rnd.randint(1, 999), source=rnd.choice("abc"))) for name in names]
    for name in names[1:6]:
        script.append((15, on(name, "move_deal", stage=rnd.choice(["qualified", "proposal"]))))
        script.append((16 + rnd.randint(0, 80), on(name, rnd.choice(["win_deal", "lose_deal"]))))
    script += [
        (25, on("handed-on", "amend", version=1, source=f"told-{world}", at=day(4))),
        (26, on("handed-on", "change_value", value={"amount": str(world + 7), "currency": "USD"}, at=day(4))),
        (40, on("merged-away", "merge_deal", into=names[world])),
        (41, on("merged-and-back", "merge_deal", into=names[world])),
        (42, on("merged-and-back", "retract", version=2, reason="by mistake")),
    ]
    backdated = on("handed-on", "move_deal", stage="qualified", at=day(9))
    return script + [(27, backdated), (90, on("handed-on", "win_deal"))] * world


class World:
    """A store with such a past, and Anna's trail of it."""

    def __init__(self, stack, path, number):
        clock = {"now": NOW}
        self.everything = stack.enter_context(Trail.open(path, clock=lambda: clock["now"]))
        for at, action in sorted(COMMON + others(number), key=lambda step: step[0]):
            clock["now"] = day(at)
            self.everything.record({"at": clock["now"], "by": "office", **action})
        clock["now"] = NOW
        hook = OwnDeals(self.everything)
        self.anna = stack.enter_context(Trail.open(path, clock=lambda: NOW, authorize=hook)).acting("anna")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    with ExitStack() as stack:
        yield [World(stack, folder / f"{number}.db", number) for number in (0, 1)]


# An answer without what counts the whole log.
LOGWIDE = ("position", "digest")


def shown(answer):
    if isinstance(answer, msgspec.Struct):
        return {n: shown(getattr(answer, n)) for n in answer.__struct_fields__ if n not in LOGWIDE}
    if isinstance(answer, list):
        return [shown(one) for one in answer]
    return answer


def outcome(trail, method, *given, **asked):
    """What somebody gets: an answer, or the words of a refusal."""
    try:
        answer = getattr(trail, method)(*given, **asked)
        return shown(list(answer) if method == "follow" else answer)
    except DealtrailError as refusal:
        return str(refusal)


def allowed(answer):
    return not isinstance(answer, str)


MOMENTS = [
    {},
    {"as_of": day(11)},
    {"as_of": day(11), "known_at": day(11)},
    {"as_of": day(11), "known_at": day(5)},
    {"as_of": day(19), "known_at": day(19)},
    {"as_of": day(19), "known_at": day(27)},
    {"as_of": day(25), "known_at": day(25)},
    {"as_of": day(35), "known_at": day(35)},
    {"as_of": day(45), "known_at": day(45)},
    {"known_at": day(60)},
    {"as_of": day(60), "known_at": day(99)},
]
FILTERS = [
    {},
    {"owner": "anna"},
    {"owner": "bram"},
    {"owner": None},
    {"source": "web"},
    {"owner": "anna", "source": "b"},
]
GROUPS = [(), ("owner",), ("currency", "source")]
DEALS = ["A1", "A2", "A3", "handed-on", "taken-over", "merged-away", "merged-within", "merged-and-back"]
DEALS += ["B", "B0-1", "B1-1", "nobody", TOKEN, ""]


def reports():
    """Reports of every kind: method and arguments."""
    for at, where in product(MOMENTS, FILTERS):
        asked = {**at, "where": where, "group_by": ("owner", "source")}
        yield "pipeline_report", ("b2b",), asked
        for cohort in ("2026", "2026-01-01..2026-01-04"):
            yield "funnel_report", ("b2b",), {**asked, "cohort": cohort}
    for where, definition in product(FILTERS[:2], (1, 2, DRAFT)):
        yield "pipeline_report", ("b2b",), {"where": where, "definition": definition}
        yield "funnel_report", ("b2b",), {"where": where, "definition": definition, "cohort": "2026-02", "within": 5}


def listings():
    for at, where, owner, status in product(MOMENTS, FILTERS[:2], (None, "anna", "bram"), (None, "open", "merged")):
        yield "list_deals", ("b2b",), {**at, "where": where, "owner": owner, "status": status, "sort": "-value"}
    for after in DEALS:
        yield "list_deals", ("b2b",), {"owner": "anna", "after": after}


def to_do():
    for at, owner in product(MOMENTS, ("anna", "bram", None)):
        yield "next_actions", ("b2b",), {**at, "owner": owner}
        yield "closing_report", ("b2b",), {**at, "where": {"owner": owner}}
        yield "conformance", ("b2b",), {**at, "cohort": "2026", "where": {"owner": owner}}


def single():
    for at, deal in product(MOMENTS, DEALS):
        yield "deal", (deal,), at
        yield "history", (deal,), {name: known for name, known in at.items() if name == "known_at"}


def whole():
    for method in ("status", "last_recorded_at", "follow", "rebuild", "pipelines"):
        yield method, (), {}
    yield "definitions", ("b2b",), {}
    yield "preview_redefinition", ("b2b", STAGES[:1]), {"moves": {"qualified": "lead", "proposal": "lead"}}


def differences(worlds, questions):
    """The answers that are allowed, after each was compared between the worlds."""
    answers = []
    for method, given, asked in questions:
        one, other = (outcome(world.anna, method, *given, **asked) for world in worlds)
        assert one == other, (method, given, asked)
        answers += [one] if allowed(one) else []
    return answers


@pytest.mark.parametrize("questions", [reports, listings, to_do, single, whole], ids=lambda one: one.__name__)
def test_no_answer_tells_the_worlds_apart(worlds, questions):
    asked = list(questions())
    answers = differences(worlds, asked)
    assert 0 < len(answers) < len(asked)


@pytest.mark.parametrize(
    "question",
    [
        ("pipeline_report", ("b2b",), {"group_by": "owner"}),
        ("funnel_report", ("b2b",), {"cohort": "2026", "where": {"owner": "anna"}}),
        ("list_deals", ("b2b",), {"status": "merged", "owner": "anna"}),
        ("deal", ("handed-on",), {"as_of": day(11)}),
        ("deal", ("merged-away",), {}),
        ("history", ("merged-and-back",), {}),
        ("deal", (TOKEN,), {}),
    ],
)
def test_the_same_question_without_the_hook_does(worlds, question):
    method, given, asked = question
    one, other = (outcome(world.everything, method, *given, **asked) for world in worlds)
    assert one != other


def test_no_figure_has_a_deal_behind_it_that_is_anothers_or_tells_the_worlds_apart(worlds):
    seen = 0
    for at, funnel in product(MOMENTS, ({}, {"cohort": "2026-01-01..2026-01-04"}, {"cohort": "2026-02"})):
        method = "funnel_report" if funnel else "pipeline_report"
        asked = {**at, **funnel, "where": {"owner": "anna"}, "group_by": "source"}
        if not allowed(outcome(worlds[0].anna, method, "b2b", **asked)):
            continue
        made = [getattr(world.anna, method)("b2b", **asked) for world in worlds]
        for group in (None, *(found.group for found in made[0].groups)):
            cell = {"group": group, "stage": "lead"}
            one, other = (outcome(w.anna, "deals", report, **cell) for w, report in zip(worlds, made, strict=True))
            assert one == other
            assert {deal["owner"] for deal in one} <= {"anna"}
            seen += len(one)
    assert seen > 30


def test_a_report_about_conformance_has_no_deals_behind_it_for_owners(worlds):
    report = worlds[0].everything.conformance("b2b", cohort="2026-02", where={"owner": "anna"})
    assert "forbidden" in outcome(worlds[0].anna, "deals", report)


def forged(report, **changes):
    """A report as a client may send it back, changed."""
    told = msgspec.to_builtins(report)
    told["question"] |= changes.pop("question", {})
    return told | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"question": {"where": {}}},
        {"question": {"where": {"owner": "bram"}}},
        {"question": {"definition": 2}},
        {"position": 1_000},
        {"as_of": "2026-02-10T09:00:00Z"},
        {"as_of": "2999-01-01T00:00:00Z", "known_at": "2999-01-01T00:00:00Z"},
        {"question": {"nonsense": 1}},
    ],
)
@pytest.mark.parametrize("kind", ["pipeline", "funnel"])
def test_a_report_that_was_not_made_here_has_no_deals_behind_it(worlds, changes, kind):
    for world in worlds:
        asked = {"where": {"owner": "anna"}, "as_of": day(11), "known_at": day(11)}
        funnel = {"cohort": "2026-01"} if kind == "funnel" else {}
        report = getattr(world.anna, f"{kind}_report")("b2b", **asked, **funnel)
        assert allowed(outcome(world.anna, "deals", report))
        assert "forbidden" in outcome(world.anna, "deals", forged(report, **changes))


# What is allowed is what is hers


def test_an_owner_sees_all_that_is_hers(worlds):
    anna = worlds[0].anna
    open_deals = [deal.deal for deal in anna.list_deals("b2b", owner="anna", status="open")]
    assert open_deals == ["A1", "A2", "merged-and-back", "taken-over"]
    report = anna.pipeline_report("b2b", where={"owner": "anna"})
    assert (report.total.deals, str(report.total.value["EUR"])) == (4, "1400.00")  # 100 + 200 + 700 + 400
    then = anna.pipeline_report("b2b", where={"owner": "anna"}, as_of=day(11), known_at=day(11))
    assert then.total.deals == 6  # A1, A2, handed-on and three that were not merged yet
    assert anna.deal("handed-on", as_of=day(11), known_at=day(11)).owner == "anna"
    assert [event.event for event in anna.history("taken-over")] == ["deal_opened", "deal_assigned"]
    assert [event.event for event in anna.history("handed-on", known_at=day(19))] == ["deal_opened"]
    assert anna.deal("merged-within").merged_into == "A2"
    february = anna.funnel_report("b2b", cohort="2026-02", where={"owner": "anna"})
    assert (february.total.cohort, february.total.won) == (1, 1)


@pytest.mark.parametrize(
    ("method", "given", "asked"),
    [
        ("deal", ("taken-over",), {"as_of": day(11), "known_at": day(11)}),  # it was Bram's then
        ("deal", ("handed-on",), {}),
        ("deal", ("handed-on",), {"as_of": day(11)}),  # as corrected in other hands
        ("history", ("handed-on",), {}),
        ("history", ("taken-over",), {"known_at": day(11)}),
        ("deal", ("merged-away",), {}),
        ("history", ("merged-and-back",), {}),
        ("pipeline_report", ("b2b",), {"group_by": "owner"}),
        ("funnel_report", ("b2b",), {"cohort": "2026-01", "where": {"owner": "anna"}}),  # handed-on is among them
        ("list_deals", ("b2b",), {"status": "merged", "owner": "anna"}),
        ("next_actions", ("b2b",), {}),
        ("conformance", ("b2b",), {"cohort": "2026-02", "where": {"owner": "anna"}}),
        ("closing_report", ("b2b",), {"where": {"owner": "anna"}}),  # it also tells of moves under an owner before
    ],
)
def test_what_was_or_became_anothers_is_forbidden(worlds, method, given, asked):
    for world in worlds:
        assert "forbidden" in outcome(world.anna, method, *given, **asked)


# Actions


ACTIONS = [
    *(on(deal, "log_activity", kind="call") for deal in DEALS if deal),
    *(on("A1", "merge_deal", into=into) for into in ("B", "B0-1", "nobody", "handed-on")),
    *(on(deal, "merge_deal", into="A1") for deal in ("B", "nobody", "handed-on")),
    on("merged-within", "amend", version=2, into="B"),
    on("merged-within", "amend", version=2, into="A1"),
    opening("B", "anna", 1),
    opening("nobody", "anna", 1),
    opening(None, "anna", 1, id="B"),
    opening(None, "bram", 1),
    on("handed-on", "assign_deal", owner="anna"),
    on("B", "retract", version=1, reason="mine now"),
    {"action": "define_pipeline", "pipeline": "own", "stages": STAGES},
    {"action": "redefine_pipeline", "pipeline": "b2b", "stages": STAGES},
]


def test_no_refusal_of_an_action_tells_the_worlds_apart(worlds):
    """Rehearsed, so that the worlds stay as they are."""
    found = []
    for world in worlds:
        outcomes = [next(world.anna.record_each([action], dry_run=True)) for action in ACTIONS]
        found.append([None if one.refused is None else str(one.refused) for one in outcomes])
    assert found[0] == found[1]
    went = [action.get("deal") for action, refusal in zip(ACTIONS, found[0], strict=True) if refusal is None]
    # The rest of hers is refused by rules of its own: a merged deal, a batch that is none of hers.
    assert went == ["A1", "A2", "A3", "taken-over", "merged-and-back", "merged-within"]


def test_an_owner_opens_deals_under_an_id_that_nobody_else_can_have_chosen(tmp_path):
    with Trail.open(tmp_path / "sales.db") as everything:
        everything.define_pipeline("b2b", STAGES)
        with Trail.open(tmp_path / "sales.db", authorize=OwnDeals(everything)) as trail:
            anna = trail.acting("anna")
            made = anna.open_deal("b2b", owner="anna").deal
            again = str(UUID(int=1))
            for _ in range(2):
                assert anna.open_deal("b2b", owner="anna", id=again).deal == again
            anna.assign_deal(made, "bram")
            assert "forbidden" in outcome(anna, "deal", made)
            assert trail.acting("bram").deal(made).owner == "bram"
            assert [deal.deal for deal in anna.list_deals("b2b", owner="anna")] == [again]
