"""Who may: a hook of the host is asked before every action and every question, and what it refuses does not happen."""

import gc
import inspect
import io
from datetime import UTC, datetime

import msgspec
import pytest
from given import (
    B2B,
    CARE,
    STRICT,
    amend,
    assign,
    code_of,
    euro,
    given,
    merge,
    move,
    on,
    opening,
    retract,
    transfer,
    win,
)

from dealtrail import DealtrailError, Refused, Trail
from dealtrail.asking import Action, AskFunnelReport, AskListing, AskPipelineReport, Question, TimedQuestion
from dealtrail.domain.actions import KINDS, MoveDeal
from dealtrail.importing import Mapping, import_rows
from dealtrail.shorthand import Shorthand

STAGES = B2B["stages"]
NOW = on(100)


class Hook:
    """Remembers what it was asked, and refuses where `refuses` says so."""

    def __init__(self, refuses=lambda actor, request: False):
        self.asked = []
        self.refuses = refuses

    def __call__(self, actor, request):
        self.asked.append((actor, request))
        if self.refuses(actor, request):
            raise PermissionError(f"{actor} is on holiday")


def opened(hook, *past, path=":memory:"):
    trail = Trail.open(path, clock=lambda: NOW, authorize=hook)
    for action in past:
        trail.record({"by": "anna", **action})
    return trail


@pytest.fixture
def hook():
    return Hook()


@pytest.fixture
def trail(hook):
    with opened(hook, B2B, CARE, opening(2, value=euro(5), owner="anna")) as one:
        hook.asked.clear()
        yield one


# Every public method asks

NEEDS_NOBODY = {"open", "close", "acting", "restore"}
HOW = "give its question a struct in dealtrail/asking.py, and answer it `with self._asked(that)`"
METHODS = [name for name in dir(Trail) if not name.startswith("_") and name not in NEEDS_NOBODY]
SHORTHAND = [name for name, method in vars(Shorthand).items() if inspect.isfunction(method) and name != "record"]
# What a method needs, by the name of the parameter. The hook is asked before any of it is looked up.
ARGUMENTS = {
    "action": move(3, "qualified"),
    "actions": [move(3, "qualified")],
    "attributes": {"region": "north"},
    "cohort": "2026",
    "deal": "D",
    "dest": "/dev/null/none",
    "expected_close": "2026-05-01",
    "into": "E",
    "by": "anna",
    "key": "call",
    "keys": None,
    "kind": "call",
    "owner": "bram",
    "pipeline": "b2b",
    "reason": "by mistake",
    "stage": "qualified",
    "subject": "D",
    "stages": STAGES,
    "value": euro(7),
    "version": 1,
}


def needed(name, trail):
    """The arguments without which a method cannot be called."""
    known = ARGUMENTS | {"report": trail.pipeline_report("b2b")}
    parameters = list(inspect.signature(getattr(Trail, name)).parameters.values())[1:]
    wanted = [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    missing = set(wanted) - set(known)
    assert not missing, f"say in ARGUMENTS how Trail.{name} is called: {missing}"
    return {one: known[one] for one in wanted}


def refusal_of(method, arguments):
    """With what a method refuses, at the call or in what it yields first."""
    try:
        found = method(**arguments)
        outcome = next(iter(found))
    except DealtrailError as refusal:
        return refusal
    return outcome.refused


@pytest.mark.parametrize("name", METHODS)
def test_every_public_method_of_a_trail_asks_the_hook_and_is_refused_where_it_raises(name):
    with given(B2B, opening(2)).trail as free:
        arguments = needed(name, free)
    hook = Hook()
    with opened(hook, B2B, opening(2)) as trail:
        before = trail.acting("anna").status().position
        hook.asked.clear()
        hook.refuses = lambda actor, request: True
        refusal = refusal_of(getattr(trail.acting("anna"), name), arguments)
        assert [actor for actor, _ in hook.asked] == ["anna"], f"Trail.{name} asks nobody: {HOW}"
        (request,) = (request for _, request in hook.asked)
        hook.refuses = lambda actor, request: False
        assert trail.acting("anna").status().position == before
    assert (refusal.code, str(refusal.__cause__)) == ("forbidden", "anna is on holiday")
    if name in SHORTHAND:
        assert isinstance(request, KINDS[name])
    elif name.startswith("record"):
        assert isinstance(request, MoveDeal)
    else:
        assert isinstance(request, Question)
        assert request.name == name


@pytest.mark.parametrize("name", sorted({*METHODS} - {"record", "record_all", "record_each"}))
def test_a_method_that_is_allowed_asks_once(name):
    with given(B2B, opening(2)).trail as free:
        arguments = needed(name, free)
    hook = Hook()
    with opened(hook, B2B, opening(2)) as trail:
        hook.asked.clear()
        try:
            found = getattr(trail.acting("anna"), name)(**arguments)
            list(found if name == "follow" else ())
        except DealtrailError as refusal:
            assert refusal.code != "forbidden"
        assert len(hook.asked) == 1


def test_every_action_has_a_method_and_every_shorthand_is_one():
    assert set(SHORTHAND) == set(KINDS)


# What a refusal is


def test_a_refusal_of_the_hook_is_forbidden_says_what_it_said_and_records_nothing(trail, hook):
    hook.refuses = lambda actor, request: True
    with pytest.raises(Refused) as caught:
        trail.move_deal("D", "qualified", by="anna")
    refusal = caught.value
    assert str(refusal) == "forbidden: anna may not do this: anna is on holiday"
    assert isinstance(refusal.__cause__, PermissionError)
    hook.refuses = lambda actor, request: False
    assert trail.acting("anna").deal("D").version == 1


def test_a_hook_that_fails_lets_nobody_through(trail, hook):
    hook.refuses = lambda actor, request: request.no_such_field
    with pytest.raises(Refused) as caught:
        trail.acting("anna").deal("D")
    assert (caught.value.code, type(caught.value.__cause__)) == ("forbidden", AttributeError)


def test_a_refusal_without_words_names_the_exception(trail, hook):
    def refuses(actor, request):
        raise PermissionError

    hook.refuses = refuses
    with pytest.raises(Refused, match="anna may not do this: PermissionError"):
        trail.acting("anna").deal("D")


def test_whoever_interrupts_the_hook_interrupts_the_program(trail, hook):
    def refuses(actor, request):
        raise KeyboardInterrupt

    hook.refuses = refuses
    with pytest.raises(KeyboardInterrupt):
        trail.acting("anna").deal("D")


def test_an_authorize_that_cannot_be_called_is_refused():
    assert code_of(Trail.open, ":memory:", authorize="anna") == "invalid_field"


# Actions


def test_an_action_needs_its_by_where_there_is_a_hook(trail, hook):
    assert code_of(trail.move_deal, "D", "qualified") == "missing_field"
    assert hook.asked == []
    trail.move_deal("D", "qualified", by="bram")
    ((actor, request),) = hook.asked
    assert (actor, request.deal, request.stage, request.by) == ("bram", "D", "qualified", "bram")


def test_an_action_of_one_who_acts_is_recorded_as_theirs_and_nobody_acts_as_another(trail, hook):
    anna = trail.acting("anna")
    anna.move_deal("D", "qualified")
    assert anna.history("D")[-1].by == "anna"
    hook.asked.clear()
    assert code_of(anna.move_deal, "D", "proposal", by="bram") == "forbidden"
    assert hook.asked == []
    anna.move_deal("D", "proposal", by="anna")


def test_without_a_hook_one_who_acts_is_recorded_all_the_same():
    past = given(B2B, opening(2))
    past.trail.acting("anna").move_deal("D", "qualified")
    assert past.trail.history("D")[-1].by == "anna"
    assert code_of(past.trail.acting("anna").move_deal, "D", "proposal", by="bram") == "forbidden"
    past.trail.move_deal("D", "proposal")


def test_the_hook_sees_the_action_as_it_will_be_recorded(trail, hook):
    anna = trail.acting("anna")
    anna.amend("D", 1, at="2026-01-02T01:00:00+01:00", owner="bram", source=None)
    ((_, request),) = hook.asked
    assert (request.version, request.changes) == (1, {"owner": "bram", "source": None})
    assert request.at == datetime(2026, 1, 2, tzinfo=UTC)


def test_a_batch_is_refused_whole_and_says_which_action_may_not(trail, hook):
    hook.refuses = lambda actor, request: getattr(request, "deal", None) == "F"
    batch = [opening(3, deal="E"), opening(3, deal="F"), opening(3, deal="G")]
    with pytest.raises(DealtrailError) as caught:
        trail.acting("anna").record_all(batch)
    assert (caught.value.code, caught.value.facts["index"]) == ("forbidden", 1)
    assert code_of(trail.acting("anna").deal, "E") == "unknown_deal"
    with pytest.raises(DealtrailError) as caught:
        trail.acting("anna").record_all([opening(3, deal="E"), opening(3, deal="")])
    assert (caught.value.code, caught.value.facts["index"]) == ("invalid_deal", 1)


@pytest.mark.parametrize("atomic", [False, True])
def test_of_many_steps_those_that_may_not_be_are_reported_as_others_are(trail, hook, atomic):
    hook.refuses = lambda actor, request: getattr(request, "deal", None) == "F"
    steps = [opening(3, deal="E"), opening(3, deal="F"), opening(3, deal=""), opening(3, deal="E"), {"by": "cleo"}]
    found = list(trail.acting("anna").record_each(steps, atomic=atomic))
    codes = [one.refused and one.refused.code for one in found]
    assert codes == [None, "forbidden", "invalid_deal", "deal_exists", "missing_field"]
    known = [] if atomic else ["E"]
    assert [deal.deal for deal in trail.acting("anna").list_deals("b2b")] == ["D", *known]


PAST = [
    STRICT,
    CARE,
    opening(2, value=euro("12.50"), owner="anna", attributes={"seats": 3, "region": None}, title="Bikes"),
    opening(2, deal="E", id="e-1"),
    {"action": "complete_action", "deal": "D", "key": "call", "at": on(3), "personal": {"name": "Ann"}},
    move(4, "qualified"),
    {"action": "change_value", "deal": "D", "value": None, "at": on(5)},
    {"action": "set_attributes", "deal": "D", "attributes": {"region": "north"}, "at": on(5)},
    assign(6, None),
    retract(6),
    amend(1, at=on(1, 5), owner=None, source="web"),
    {"action": "redefine_pipeline", "pipeline": "b2b", "stages": STAGES, "at": on(7)},
    transfer(8),
    merge(9),
]


def test_what_passes_a_hook_is_recorded_as_it_is_without_one(tmp_path):
    """The same digests of requests, so the same `id` in the same words is known again with and without a hook."""
    past = [{"by": "anna", **action} for action in PAST]
    logs = []
    for hook in (None, Hook()):
        with Trail.open(":memory:", clock=lambda: NOW, authorize=hook) as trail:
            trail.record_all(past)
            with trail._log.reading() as reading:
                logs.append(reading.following(0, 100))
    assert logs[0] == logs[1]
    assert len(logs[0]) == len(PAST) + 1  # an amendment is two events


MAPPING = """
[pipeline]
key = "b2b"
[columns]
case = "case"
activity = "activity"
time = "time"
[activities]
opens = { new = "lead" }
"""


def test_an_import_asks_for_every_row_and_is_recorded_as_of_whoever_imports(trail, hook):
    rows = b"case,activity,time\nE,new,2026-01-03T09:00:00Z\nF,new,2026-01-03T09:00:00Z\n"
    hook.refuses = lambda actor, request: getattr(request, "deal", None) == "F"
    bad = []
    tally = import_rows(trail.acting("olga"), Mapping.parse(MAPPING), io.BytesIO(rows), report=bad.append)
    assert (tally.recorded, [one.refused.code for one in bad]) == (1, ["forbidden"])
    assert trail.acting("olga").history("E")[0].by == "olga"
    assert code_of(import_rows, trail, Mapping.parse(MAPPING), io.BytesIO(rows)) == "forbidden"


# Questions


def test_a_question_of_nobody_is_refused_and_says_how_to_ask(trail, hook):
    with pytest.raises(DealtrailError, match=r"ask through trail\.acting"):
        trail.deal("D")
    assert code_of(trail.pipeline_report, "b2b") == "forbidden"
    assert hook.asked == []


def test_the_hook_sees_a_question_as_it_is_answered(trail, hook):
    anna = trail.acting("anna")
    given_where = {"owner": "anna", "attributes.seats": 3.0}
    report = anna.pipeline_report("b2b", as_of="2026-01-05", group_by="source", where=given_where, tz="Europe/Paris")
    ((actor, request),) = hook.asked
    assert actor == "anna"
    assert isinstance(request, AskPipelineReport)
    assert (request.as_of, request.known_at) == (report.as_of, report.known_at)
    assert request.as_of == datetime(2026, 1, 5, 22, 59, 59, 999_999, tzinfo=UTC)
    assert (request.group_by, request.where, request.tz) == (("source",), report.question["where"], "Europe/Paris")
    assert request.where == {"owner": "anna", "attributes.seats": 3}

    hook.asked.clear()
    funnel = anna.funnel_report("b2b", cohort="2026-Q1", within=90.0, as_of="2999-01-01")
    ((_, request),) = hook.asked
    assert isinstance(request, AskFunnelReport)
    assert (request.cohort, request.within, request.fiscal_year_start) == ("2026-Q1", 90, 1)
    assert (request.as_of, request.known_at) == (funnel.as_of, funnel.known_at)
    assert request.as_of < on(101)

    hook.asked.clear()
    anna.deals(msgspec.to_builtins(report), stage="lead", group={"source": None})
    ((_, request),) = hook.asked
    assert (request.report, request.stage, request.group) == (report, "lead", {"source": None})
    assert (request.as_of, request.known_at) == (report.as_of, report.known_at)

    hook.asked.clear()
    anna.list_deals("b2b", owner="anna", sort="-value", limit=5)
    ((_, request),) = hook.asked
    assert isinstance(request, AskListing)
    assert (request.owner, request.where, request.sort, request.limit) == ("anna", {}, "-value", 5)


def test_a_question_can_be_written_down_with_who_asked(trail, hook):
    asked = {"as_of": "2026-01-05", "known_at": "2026-01-06"}
    assert code_of(trail.acting("anna").deal, "D", **asked) == "unknown_deal"
    ((_, request),) = hook.asked
    assert isinstance(request, TimedQuestion)
    assert msgspec.json.decode(msgspec.json.encode(request)) == {
        "question": "deal",
        "deal": "D",
        "as_of": "2026-01-05T23:59:59.999999Z",
        "known_at": "2026-01-06T23:59:59.999999Z",
    }


def test_the_hook_may_ask_another_trail_of_the_same_store_while_a_batch_is_recorded(tmp_path):
    path = tmp_path / "sales.db"
    owners = []
    with Trail.open(path, clock=lambda: NOW) as free:
        free.record_all([B2B, opening(2, owner="anna")])

        def hook(actor, request):
            if isinstance(request, Action) and request.deal == "D":
                owners.append(free.deal("D").owner)

        with Trail.open(path, clock=lambda: NOW, authorize=hook) as trail:
            anna = trail.acting("anna")
            outcomes = list(anna.record_each([move(3, "qualified"), win(4)], atomic=True))
    assert [one.refused for one in outcomes] == [None, None]
    assert owners == ["anna", "anna"]


# Views


def test_closing_a_view_closes_nothing_and_closing_the_trail_closes_its_views(trail):
    with trail.acting("anna") as anna:
        anna.deal("D")
    anna.deal("D")
    trail.close()
    assert code_of(anna.deal, "D") == "closed"


def test_one_who_acts_cannot_act_as_another(trail):
    assert code_of(trail.acting("anna").acting, "bram") == "forbidden"
    assert code_of(trail.acting, "") == "invalid_field"
    assert code_of(trail.acting, None) == "missing_field"


def test_a_view_keeps_its_trail_open():
    anna = given(B2B, opening(2)).trail.acting("anna")
    gc.collect()
    assert anna.deal("D").deal == "D"
