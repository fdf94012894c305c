"""The naive model against figures worked out by hand."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from naive_model import Model, Refused

MICROSECOND = timedelta(microseconds=1)


def on(day, hour=0):
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def stage(key, probability=0.1, required=(), **more):
    actions = [{"key": name, "name": name, "required": True} for name in required]
    return {"key": key, "name": key.title(), "probability": probability, "actions": actions, **more}


LEAD = stage("lead", 0.1, rots_after_days=5)
QUALIFIED = stage("qualified", 0.3)
PROPOSAL = stage("proposal", 0.5)
STAGES = [LEAD, QUALIFIED, PROPOSAL]


class Log:
    """A model and a shorter way of writing actions; everything is recorded on its own day unless told."""

    def __init__(self, stages=None):
        self.model = Model()
        self.do("define_pipeline", 1, pipeline="b2b", stages=stages or STAGES)

    def do(self, action, day, clock=None, deal="D", **fields):
        at = day if isinstance(day, datetime) or day is None else on(day)
        if "pipeline" not in action:
            fields["deal"] = deal
        clock = on(clock) if isinstance(clock, int) else clock or at
        return self.model.record({"action": action, "at": at, **fields}, clock)

    def refused(self, *args, **fields):
        with pytest.raises(Refused) as caught:
            self.do(*args, **fields)
        return caught.value.code

    def open(self, day, deal="D", **fields):
        return self.do("open_deal", day, deal=deal, pipeline=fields.pop("pipeline", "b2b"), **fields)

    def move(self, day, to, deal="D", **fields):
        return self.do("move_deal", day, deal=deal, stage=to, **fields)

    def redefine(self, day, stages, moves=None, clock=None):
        return self.do("redefine_pipeline", day, clock, pipeline="b2b", stages=stages, moves=moves or {})

    def deal(self, deal="D", **question):
        return self.model.deal(deal, clock=on(31), **question)

    def report(self, **question):
        return self.model.pipeline_report("b2b", clock=on(31), **question)

    def funnel(self, **question):
        return self.model.funnel_report("b2b", clock=on(31), **{"cohort": "2026-01", **question})


def row(report, key):
    return next(row for row in report["stages"] if row["stage"] == key)


def figures(report, key, *fields):
    return tuple(row(report, key)[field] for field in fields)


def test_a_backdated_move_is_seen_at_its_moment_only_by_who_knows_it():
    log = Log()
    log.open(1)
    log.move(5, "qualified", clock=10)
    assert log.deal(as_of=on(6), known_at=on(10) - MICROSECOND)["stage"] == "lead"
    assert log.deal(as_of=on(6), known_at=on(10))["stage"] == "qualified"
    assert log.deal(as_of=on(5) - MICROSECOND)["stage"] == "lead"
    report = log.report(as_of=on(7))
    assert figures(report, "qualified", "deals", "median_days_in_stage") == (1, 2.0)
    assert log.report(as_of=on(7), known_at=on(7))["position"] == 2


def test_an_amended_event_stands_where_the_first_one_stood():
    log = Log()
    log.open(1)
    log.do("assign_deal", 2, owner="anna")
    log.do("assign_deal", 2, owner="bob")
    assert log.do("amend", None, clock=3, version=2, owner="carla")["version"] == 5
    assert log.deal()["owner"] == "bob"  # carla stands before bob, as anna did
    log.do("amend", None, clock=4, version=5, owner="dora")
    assert log.deal()["owner"] == "bob"
    log.do("retract", None, clock=5, version=3, reason="mistake")
    assert log.deal()["owner"] == "dora"
    assert log.deal(known_at=on(4))["owner"] == "bob"
    assert log.refused("amend", None, clock=6, version=2, owner="x") == "already_retracted"
    assert log.refused("retract", None, clock=6, version=4, reason="x") == "is_retraction"


def test_a_later_event_that_would_break_gives_the_code():
    log = Log()
    log.open(1)
    log.do("lose_deal", 5)
    log.do("reopen_deal", 6)
    log.move(7, "qualified")
    assert log.refused("retract", None, clock=8, version=2, reason="x") == "deal_not_closed"
    assert log.refused("retract", None, clock=8, version=3, reason="x") == "deal_not_open"
    assert log.refused("move_deal", on(3), clock=8, stage="lead") == "already_in_stage"
    assert log.refused("move_deal", on(6, 12), clock=8, stage="qualified") == "already_in_stage"
    assert log.refused("amend", on(6), clock=8, version=1) == "before_opening"
    assert log.refused("assign_deal", on(9), clock=8, owner="x") == "future_time"
    assert len(log.model.events) == 5


def test_a_condition_looks_at_the_deal_just_after_its_visit_began():
    log = Log()
    log.open(1, value={"amount": "100", "currency": "EUR"})
    log.do("change_value", 3, value={"amount": "5000", "currency": "EUR"})
    rules = [{"when": {"field": "value", "op": "ge", "value": "1000"}, "to": "big"}, {"to": "small"}]
    log.redefine(5, [stage("small"), stage("big"), QUALIFIED, PROPOSAL], {"lead": rules})
    assert log.deal(as_of=on(10))["stage"] == "small"  # 100 when it was opened, 5000 or not
    log.do("amend", None, clock=12, version=1, value={"amount": "2000", "currency": "EUR"})
    assert log.deal(as_of=on(10))["stage"] == "big"
    assert log.deal(as_of=on(10), known_at=on(11))["stage"] == "small"
    assert log.deal(as_of=on(4))["stage"] == "lead"


def test_visits_that_a_definition_merges_are_one_unless_a_reopening_parts_them():
    log = Log()
    for deal in ("D", "E"):
        log.open(1, deal, clock=2)
        log.move(5, "qualified", deal, clock=6)
    log.do("lose_deal", 7, deal="E")
    log.do("reopen_deal", 8, deal="E")
    log.redefine(9, [QUALIFIED, PROPOSAL], {"lead": "qualified"})
    report = log.report(as_of=on(11), group_by=("owner",))
    # D since the 1st: 10 days; E since the reopening on the 8th: 3 days.
    assert figures(report, "qualified", "deals", "median_days_in_stage") == (2, 6.5)
    assert report["groups"][0]["group"] == {"owner": None}
    # Under the first definition, in force on the 8th, D is there since the 5th.
    before = log.report(as_of=on(8) - MICROSECOND, definition=1)
    assert figures(before, "qualified", "deals") == (1,)
    assert log.model.deals_behind(before, "qualified", "deals") == ["D"]
    draft = {"stages": [stage("all", 1)], "moves": {"qualified": "all", "proposal": "all"}}
    what_if = log.report(as_of=on(11), definition=draft)
    assert (what_if["definition"], what_if["draft"]) == (2, True)
    assert figures(what_if, "all", "deals", "median_days_in_stage") == (2, 6.5)


def test_required_actions_are_those_of_the_newer_version():
    log = Log([stage("new"), *STAGES])
    log.open(1, stage="lead")
    log.move(8, "qualified")
    log.redefine(5, [stage("new", required=["hello"]), *STAGES], clock=9)
    # The visit would begin under 2, the move of the 8th was recorded under 1: 2 holds, and asks for hello.
    assert log.refused("move_deal", on(6), clock=10, stage="new") == "required_action_missing"
    # A visit under 1 and a move under 1: nothing is asked.
    log.move(4, "new", clock=10)
    # Between them, under 2, the same stage does have the action.
    assert log.refused("move_deal", on(6), clock=10, stage="proposal") == "required_action_missing"
    assert log.refused("complete_action", on(4, 12), clock=10, key="hello") == "action_not_in_stage"
    assert log.refused("win_deal", on(6), clock=10) == "required_action_missing"
    log.do("complete_action", 6, clock=10, key="hello")
    log.move(7, "proposal", clock=10)
    assert log.deal()["stage"] == "qualified"


def test_of_two_definitions_at_one_moment_the_newer_is_in_force():
    log = Log()
    log.redefine(5, [stage("a")], {"lead": "a", "qualified": "a", "proposal": "a"})
    log.redefine(5, [stage("b")], {"a": "b"}, clock=6)
    log.open(5, clock=7)
    assert log.deal()["stage"] == "b"
    assert log.report(as_of=on(5))["definition"] == 3
    assert log.report(as_of=on(4))["definition"] == 1
    assert log.report(as_of=on(4), definition=2)["definition"] == 2
    assert log.report(as_of=on(5), known_at=on(5))["definition"] == 2
    for number, as_of, code in ((2, on(5), "cannot_restate"), (4, on(5), "unknown_definition")):
        with pytest.raises(Refused) as caught:
            log.report(as_of=as_of, definition=number)
        assert caught.value.code == code


def test_a_redefinition_keeps_the_order_of_time_and_leads_every_key_somewhere():
    log = Log()
    log.redefine(5, [stage("b")], {"lead": "b", "qualified": "b", "proposal": "b"})

    def code(day, to, moves):
        what = {"clock": 8, "pipeline": "b2b", "stages": [stage(to)], "moves": moves}
        return log.refused("redefine_pipeline", on(day), **what)

    assert code(4, "b", {}) == "definition_before_previous"
    assert code(7, "c", {}) == "missing_move"
    assert code(7, "b", {"lead": "b"}) == "unknown_stage"
    assert code(7, "b", {"b": "lead"}) == "unknown_stage"
    rule = {"when": {"field": "value", "op": "gt", "value": 1}, "to": "b"}
    assert code(7, "b", {"b": [rule]}) == "invalid_moves"


def test_a_batch_shares_its_moment_and_an_id_in_it_counts_once():
    log = Log()
    opening = {"action": "open_deal", "id": "X", "pipeline": "b2b"}
    assign = {"action": "assign_deal", "deal": "X", "owner": "anna", "id": "a"}
    results = log.model.record_all([opening, opening, assign], on(1))  # the clock stands
    assert {result["deal"] for result in results} == {"X"}
    assert [(result["version"], result["position"]) for result in results] == [(1, 2), (1, 2), (2, 3)]
    log.model.record({"action": "assign_deal", "deal": "X", "owner": "bob"}, on(1) - timedelta(hours=1))
    moments = [event["recorded_at"] - on(1) for event in log.model.events]
    assert moments == [timedelta(0), MICROSECOND, MICROSECOND, 2 * MICROSECOND]
    assert log.deal("X", known_at=on(1) + MICROSECOND)["owner"] == "anna"
    assert log.deal("X", known_at=on(1)) is None
    new = {"action": "assign_deal", "deal": "X", "owner": "x", "id": "new"}
    stale = {**new, "id": "n", "expected_version": 3}
    for last, code in (({**assign, "owner": "z"}, "id_reused"), (stale, "conflict")):
        with pytest.raises(Refused) as caught:
            log.model.record_all([new, last], on(2))
        assert caught.value.code == code
    # The refused batches took neither an id nor a position.
    assert log.model.record({**new, "owner": "other", "expected_version": 3}, on(2))["position"] == 5


def test_within_counts_what_occurred_up_to_its_last_moment():
    log = Log()
    log.open(on(2, 12))
    log.move(on(4, 12), "qualified")
    log.move(on(4, 12) + MICROSECOND, "proposal")
    report = log.funnel(within=2)
    assert figures(report, "lead", "entered", "passed", "median_days_to_pass") == (1, 1, 2.0)
    assert figures(report, "qualified", "entered", "reached", "passed", "open") == (1, 1, 0, 1)
    assert figures(log.funnel(within=1), "lead", "passed", "open", "median_days_to_pass") == (0, 1, None)
    assert figures(log.funnel(), "proposal", "entered", "open", "conversion_from_start") == (1, 1, 1.0)


def test_a_transferred_deal_is_left_to_the_other_pipeline_until_it_comes_back():
    log = Log()
    log.do("define_pipeline", 1, pipeline="other", stages=[stage("x")])
    log.open(2, "A")
    log.move(3, "qualified", "A")
    log.do("transfer_deal", 4, deal="A", pipeline="other")
    log.do("win_deal", 5, deal="A")
    log.open(2, "B", clock=5)
    log.do("transfer_deal", 3, clock=5, deal="B", pipeline="other")
    log.do("lose_deal", 4, clock=5, deal="B")
    log.do("reopen_deal", 5, deal="B")
    log.do("transfer_deal", 6, deal="B", pipeline="b2b")
    log.do("lose_deal", 7, deal="B")
    report = log.funnel()
    fields = ("entered", "reached", "passed", "lost", "transferred", "median_days_to_pass")
    assert figures(report, "lead", *fields) == (2, 2, 1, 1, 0, 1.0)
    assert figures(report, "qualified", *fields) == (1, 1, 0, 0, 1, None)
    assert report["total"] == {
        "cohort": 2,
        "won": 0,
        "lost": 1,
        "disqualified": 0,
        "open": 0,
        "transferred": 1,
        "win_rate": 0.0,
        "close_rate": 0.0,
        "reasons": {"lost": [{"reason": None, "deals": 1}], "disqualified": []},
    }
    assert log.model.deals_behind(report, None, "transferred") == ["A"]
    assert figures(log.funnel(as_of=on(5)), "lead", "transferred", "lost") == (1, 0)
    assert log.refused("transfer_deal", on(2, 12), clock=8, deal="B", pipeline="other") == "same_pipeline"


def test_a_win_that_was_reopened_passed_the_stage_but_is_not_won():
    log = Log()
    log.open(2)
    log.do("win_deal", 5)
    log.do("reopen_deal", 7, stage="qualified")
    report = log.funnel()
    assert figures(report, "lead", "passed", "open", "median_days_to_pass") == (1, 0, 3.0)
    assert figures(report, "qualified", "entered", "open", "median_days_to_pass") == (1, 1, None)
    assert [report["total"][field] for field in ("won", "win_rate", "close_rate")] == [0, 0.0, None]
    log.do("win_deal", 9)
    report = log.funnel()
    assert figures(report, "qualified", "passed", "open", "median_days_to_pass") == (1, 0, 2.0)
    assert figures(report, "proposal", "entered", "reached", "passed", "conversion_to_next") == (0, 1, 1, 1.0)
    assert log.refused("transfer_deal", on(6), clock=10, pipeline="b2b") == "deal_not_open"


def test_a_visit_without_length_was_a_visit():
    log = Log()
    log.open(2)
    log.move(2, "qualified", clock=3)
    log.move(2, "lead", clock=3)
    log.move(4, "proposal")
    report = log.funnel()
    assert figures(report, "lead", "entered", "median_days_to_pass") == (1, 0.0)
    assert figures(report, "qualified", "entered", "median_days_to_pass") == (1, 2.0)


def test_percentiles_interpolate():
    log = Log()
    for days in (1, 2, 3, 4):
        log.open(1, f"D{days}", clock=6)
        log.move(1 + days, "qualified", f"D{days}", clock=6)
    report = log.funnel()
    # 0.9 × 3 = 2.7, so 3 + 0.7 × (4 − 3).
    assert figures(report, "lead", "median_days_to_pass", "p90_days_to_pass") == (2.5, 3.7)
    third = log.funnel(as_of=on(2), group_by=("owner",))["groups"][0]
    assert row(third, "qualified")["conversion_from_start"] == 0.25


def test_sums_are_rounded_once_half_to_even():
    log = Log()
    values = ["0.005 USD", "0.005 USD", "25 JPY", "1.00 EUR", "-1 EUR", "-0.0004 KWD"]
    for number, value in enumerate(values):
        amount, currency = value.split()
        log.open(1, f"D{number}", value={"amount": amount, "currency": currency})
    log.open(1, "without")
    report = log.report(as_of=on(6))
    total = {currency: str(amount) for currency, amount in report["total"]["value"].items()}
    assert total == {"EUR": "0.00", "JPY": "25", "KWD": "0.000", "USD": "0.01"}
    # A tenth of 25 yen is 2.5, and goes to the even 2.
    assert row(report, "lead")["weighted_value"]["JPY"] == Decimal(2)
    assert figures(report, "lead", "deals", "stalled") == (7, 0)  # five days are not more than five
    assert log.report(as_of=on(6) + MICROSECOND)["total"]["stalled"] == 7


def test_a_deal_merged_after_its_window_is_out_and_a_retraction_brings_it_back():
    log = Log()
    for deal in ("A", "B", "C"):
        log.open(2, deal)
    log.do("merge_deal", 20, deal="A", into="B")
    assert log.funnel(within=5)["total"]["cohort"] == 2
    assert log.funnel(within=5, as_of=on(19))["total"]["cohort"] == 3
    assert log.report()["total"]["deals"] == 2
    assert log.deal("A")["status"] == "merged"
    assert log.refused("merge_deal", on(21), deal="B", into="A") == "merge_into_merged"
    assert log.refused("merge_deal", on(21), deal="B", into="B") == "merge_into_itself"
    assert log.refused("merge_deal", on(21), deal="A", into="Z") == "deal_merged"
    assert log.refused("log_activity", on(21), deal="A", kind="call") == "deal_merged"
    log.do("merge_deal", 21, deal="B", into="C")
    # The merge of A stands although B is merged by now; amended, it is judged anew.
    assert log.refused("amend", on(19), clock=22, deal="A", version=2) == "merge_into_merged"
    log.do("retract", 22, deal="A", version=2, reason="two firms after all")
    assert log.deal("A", known_at=on(21))["status"] == "merged"
    assert log.deal("A", as_of=on(21))["status"] == "open"


def test_groups_tell_numbers_truths_and_texts_apart():
    log = Log()
    for number, size in enumerate(["10", 10, 2, True, False, None, 2.0]):
        attributes = {} if size is None else {"size": size}
        log.open(1, f"D{number}", source="web", attributes=attributes)
    log.do("set_attributes", 2, deal="D0", attributes={"size": None, "region": "north"})
    grouped = log.report(as_of=on(1), group_by=("attributes.size",))["groups"]
    assert [group["total"]["deals"] for group in grouped] == [2, 1, 1, 1, 1, 1]
    sizes = [group["group"]["attributes.size"] for group in grouped]
    assert list(map(str, sizes)) == ["2", "10", "False", "True", "10", "None"]
    report = log.report(group_by=("attributes.size", "source"))
    missing = {"source": "web", "attributes.size": None}
    assert log.model.deals_behind(report, None, "deals", missing) == ["D0", "D5"]
    assert log.report(where={"attributes.size": 1})["total"]["deals"] == 0
    assert log.funnel(where={"attributes.size": None})["total"]["cohort"] == 1  # as it opened


def test_a_reopened_deal_returns_to_what_became_of_its_stage():
    log = Log()
    log.open(1)
    log.do("lose_deal", 2)
    log.redefine(5, [stage("contacted"), QUALIFIED, PROPOSAL], {"lead": "contacted"})
    assert log.refused("reopen_deal", on(6), stage="lead") == "unknown_stage"
    log.do("reopen_deal", 6)
    assert log.model.events[-1]["fields"]["stage"] == "contacted"
    assert log.refused("move_deal", on(7), stage="contacted") == "already_in_stage"
    assert log.deal(as_of=on(5))["stage"] == "contacted"
    assert log.deal(as_of=on(4), known_at=on(4))["status"] == "lost"
    # On the 4th the old definition was in force: the stored stage is not in it; given up, it is looked up.
    assert log.refused("amend", on(4), clock=8, version=3) == "unknown_stage"
    log.do("amend", on(4), clock=8, version=3, stage=None)
    assert log.model.events[-1]["fields"]["stage"] == "lead"


def test_periods_and_bare_dates_are_days_of_the_zone():
    log = Log()

    def cohort(text, **more):
        return tuple(log.funnel(cohort=text, **more)["cohort"].values())

    def at(*parts):
        return datetime(*parts, tzinfo=UTC)

    assert cohort("2026-W01") == (at(2025, 12, 29), at(2026, 1, 5))
    assert cohort("2026", fiscal_year_start=4) == (at(2025, 4, 1), at(2026, 4, 1))
    assert cohort("2026-Q1", fiscal_year_start=4) == (at(2025, 4, 1), at(2025, 7, 1))
    assert cohort("2026-Q4") == (at(2026, 10, 1), at(2027, 1, 1))
    assert cohort("2026-12", fiscal_year_start=4) == (at(2026, 12, 1), at(2027, 1, 1))
    assert cohort("2026-03-29", tz="Europe/Amsterdam") == (at(2026, 3, 28, 23), at(2026, 3, 29, 22))
    for wrong in ("2026-01-02..2026-01-02", "2026-13", "2026-Q5", "2026-W54", "soon"):
        with pytest.raises(Refused):
            cohort(wrong)
    assert log.report(as_of="2026-01-10", tz="Europe/Amsterdam")["as_of"] == on(10, 23) - MICROSECOND
    report = log.report(as_of=date(2026, 2, 20), known_at="2026-01-01T13:00:00+01:00")
    assert (report["as_of"], report["known_at"]) == (on(31), on(1, 12))


# Moves that are allowed


def limited(**limits):
    log = Log()
    log.redefine(2, STAGES)
    log.do("redefine_pipeline", 3, pipeline="b2b", stages=STAGES, moves={}, **limits)
    return log


def test_a_deal_begins_only_where_it_may():
    log = limited(entry=["lead", "qualified"])
    assert log.refused("open_deal", 4, pipeline="b2b", stage="proposal") == "entry_not_allowed"
    log.open(4, stage="qualified")
    log.open(2, "E", stage="proposal")


def test_a_stage_is_left_backwards_only_where_it_may_be():
    log = limited(back=["proposal"])
    log.open(4)
    log.move(5, "proposal")
    log.move(6, "qualified")
    assert log.refused("move_deal", 7, stage="lead") == "back_not_allowed"
    log.do("lose_deal", 7)
    assert log.refused("reopen_deal", 8, stage="lead") == "back_not_allowed"
    log.do("reopen_deal", 8)


def test_only_stages_that_may_be_skipped_are_also_by_a_win():
    log = limited(skip=["qualified"])
    log.open(4)
    assert log.refused("win_deal", 5) == "skip_not_allowed"
    log.move(5, "proposal")
    log.do("win_deal", 6)
    assert log.deal()["status"] == "won"


def test_a_list_names_stages_of_its_definition_each_once():
    log = Log()
    for keys, code in ((["leed"], "unknown_stage"), (["lead", "lead"], "duplicate_key"), ("lead", "invalid_field")):
        given = {"pipeline": "c", "stages": STAGES, "skip": keys}
        assert log.refused("define_pipeline", 2, **given) == code


def test_conformance_by_hand():
    log = Log()
    log.open(2)  # D goes to proposal and back to lead, and is won from there after eight days
    log.move(3, "proposal")
    log.move(4, "lead")
    log.do("win_deal", 10)
    log.open(2, "E", stage="qualified")  # E begins in qualified, is lost, and is reopened there
    log.do("lose_deal", 3, deal="E")
    log.do("reopen_deal", 4, deal="E")
    log.open(5, "F")
    draft = {"stages": STAGES, "entry": ["lead"], "back": [], "skip": ["qualified"]}
    report = log.model.conformance("b2b", clock=on(31), cohort="2026", definition=draft, limit=1)
    assert (report["deals"], report["conforming"], report["conforming_share"]) == (3, 1, 0.3333)
    assert [(row["kind"], row["count"], row["deals"]) for row in report["kinds"]] == [
        ("entry", 1, 1),
        ("back", 1, 1),
        ("skip", 1, 1),
    ]
    assert [(row["from"], row["to"]) for row in report["deviations"]] == [
        (None, "qualified"),
        ("proposal", "lead"),
        ("lead", "won"),
    ]
    # All paths are equally common: that of F, whose stages come first, is told; those of D and E are counted.
    assert [row["stages"] for row in report["variants"]] == [["lead"]]
    assert report["other_variants"] == {"variants": 2, "deals": 2, "share": 0.6667}
    assert [(row["stage"], row["deals"], row["times"]) for row in report["loops"]] == [
        ("lead", 1, 1),
        ("qualified", 1, 1),
    ]
    everything = log.model.conformance("b2b", clock=on(31), cohort="2026")
    assert [row["median_days_to_close"] for row in everything["variants"]] == [None, 8.0, None]
    assert [row["win_rate"] for row in everything["variants"]] == [0.0, 1.0, 0.0]


def test_what_is_to_be_done_by_hand():
    log = Log([stage("lead", required=["call"], rots_after_days=5), PROPOSAL])
    log.open(2, owner="anna", expected_close="2026-01-09")
    log.open(3, "E")
    log.do("complete_action", 4, deal="E", key="call")
    log.open(4, "F", stage="proposal", owner="bo")
    todo = log.model.next_actions("b2b", clock=on(31), as_of=on(10))
    # D has been a lead for eight days of five, E for seven; D should have closed the day before.
    assert [(row["deal"], row["action"], row["required"]) for row in todo["actions"]] == [("D", "call", True)]
    assert [(row["deal"], row["days_over"]) for row in todo["stalled"]] == [("D", 3.0), ("E", 2.0)]
    assert [row["deal"] for row in todo["unowned"]] == ["E"]
    assert [(row["deal"], row["days_over"]) for row in todo["overdue"]] == [("D", 1)]
    assert log.model.next_actions("b2b", clock=on(31), as_of=on(10), owner="bo")["actions"] == []


def test_reasons_are_counted_where_a_deal_ended_and_read_under_a_later_definition():
    log = Log()
    for deal, reason in (("A", "price"), ("B", "cost"), ("C", "price"), ("E", None)):
        log.open(2, deal)
        log.do("lose_deal", 3, deal=deal, **({} if reason is None else {"reason": reason}))
    listed = {"reasons": {"lost": ["Price", "Timing"]}, "reason_moves": {"lost": {"price": "Price", "cost": "Price"}}}
    log.do("redefine_pipeline", 4, pipeline="b2b", stages=STAGES, **listed)
    log.open(5, "F")
    assert log.refused("lose_deal", 6, deal="F", reason="price") == "unknown_reason"
    log.do("lose_deal", 6, deal="F", reason="Timing")
    report = log.funnel(as_of=on(3), known_at=on(9))
    # On the 3rd the reasons are the free texts that were given: price twice, then cost and then none.
    assert report["total"]["reasons"]["lost"] == [
        {"reason": "price", "deals": 2},
        {"reason": "cost", "deals": 1},
        {"reason": None, "deals": 1},
    ]
    report = log.funnel()
    # The three of them are Price now, F is Timing; the loss without a reason stays without one.
    assert report["stages"][0]["reasons"] == {
        "lost": [{"reason": "Price", "deals": 3}, {"reason": "Timing", "deals": 1}, {"reason": None, "deals": 1}],
        "disqualified": [],
    }
    assert log.model.deals_behind(report, "lead", ("lost", "Price")) == ["A", "B", "C"]
    assert log.model.deals_behind(report, None, ("lost", None)) == ["E"]


def test_a_list_of_reasons_asks_for_a_move_of_those_that_go():
    log = Log()
    once = {"pipeline": "b2b", "stages": STAGES}
    log.do("redefine_pipeline", 2, **once, reasons={"lost": ["Price"]}, reason_moves={"lost": {"any text": "Price"}})
    twice = once | {"reasons": {"lost": ["Cost"]}}
    assert log.refused("redefine_pipeline", 3, **twice) == "missing_reason_move"
    assert log.refused("redefine_pipeline", 3, **twice, reason_moves={"lost": {"Price": "Coast"}}) == "unknown_reason"
    # Free texts may have been recorded under the first definition, so any of them may be moved still.
    log.do("redefine_pipeline", 3, **twice, reason_moves={"lost": {"Price": "Cost", "dear": "Cost"}})
    log.do("redefine_pipeline", 4, **once)  # without a list nothing needs a move


def test_a_definition_that_lists_reasons_from_the_first_knows_no_others():
    log = Log()
    log.do("define_pipeline", 1, pipeline="care", stages=STAGES, reasons={"lost": ["Price"]})
    again = {"pipeline": "care", "stages": STAGES, "reason_moves": {"lost": {"dear": "Price"}}}
    assert log.refused("redefine_pipeline", 2, **again) == "unknown_reason"


def test_a_loss_names_its_pipeline_by_its_reason_alone():
    log = Log()
    log.do("define_pipeline", 1, pipeline="care", stages=STAGES)
    log.open(2, "A")
    log.do("lose_deal", 5, deal="A", reason="price")
    assert log.refused("transfer_deal", 3, clock=6, deal="A", pipeline="care") == "other_pipeline"
    log.open(2, "B", clock=6)
    log.do("lose_deal", 5, clock=6, deal="B")
    log.do("transfer_deal", 3, clock=6, deal="B", pipeline="care")


# --- Distribution of leads, closing dates ---------------------------------------------------------


def test_leads_go_round_by_weight_and_their_event_says_why():
    """By hand, of weights 2 and 1: (1/2, 1) a; 1 and 1, and ben never had one; then a, since ben has one of two."""
    log = Log()
    owners = [{"owner": "anna", "weight": 2}, {"owner": "ben"}, {"owner": "carl", "paused": True}]
    assignment = {"rule": "round_robin", "owners": owners}
    log.do("redefine_pipeline", 2, pipeline="b2b", stages=STAGES, moves={}, assignment=assignment)
    for number in range(1, 7):
        log.open(3, f"L{number}", owner="zoe" if number == 2 else None)
    assert [log.deal(f"L{number}")["owner"] for number in range(1, 7)] == ["anna", "zoe", "ben", "anna", "anna", "ben"]
    told = {"group": "all", "when": None, "rule": "round_robin", "since": 2, "number": 3, "of": 4}
    assert log.model.assigned("L5") == told
    assert log.model.assigned("L2") is None


def test_a_lead_goes_to_the_fewest_open_deals():
    log = Log()
    assignment = {"rule": "least_open_deals", "owners": [{"owner": "anna"}, {"owner": "ben"}]}
    log.do("redefine_pipeline", 2, pipeline="b2b", stages=STAGES, moves={}, assignment=assignment)
    for number, owner in enumerate(["anna", "anna", "ben"]):
        log.open(3, f"D{number}", owner=owner)
    log.do("lose_deal", 4, deal="D2")
    for number in range(3):
        log.open(5, f"L{number}")
    assert [log.deal(f"L{number}")["owner"] for number in range(3)] == ["ben", "ben", "anna"]


def test_a_closing_report_counts_what_was_pushed_pulled_and_is_overdue():
    log = Log()
    log.open(2, expected_close="2026-01-10")
    log.do("change_expected_close", 3, expected_close="2026-01-20")
    log.do("change_expected_close", 4, expected_close="2026-01-17")
    found = log.model.closing_report("b2b", clock=on(31), as_of=on(18))
    assert [(row["month"], row["deals"], row["overdue"]) for row in found["months"]] == [("2026-01", 1, 1)]
    total = found["total"]
    assert (total["pushes"], total["days_pushed"], total["pulls"], total["days_pulled"]) == (1, 10, 1, 3)
    assert (total["median_days_slipped"], found["deals"][0]["days_over"]) == (7.0, 1)
