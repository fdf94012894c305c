"""Pipelines and their definitions: what may follow what, which is in force, how a stage is read under a later one."""

from decimal import Decimal

import pytest
from given import (
    B2B,
    CARE,
    MICROSECOND,
    STRICT,
    act,
    amend,
    assign,
    attributes,
    code_of,
    complete,
    define,
    euro,
    given,
    lose,
    move,
    on,
    opening,
    redefine,
    reopen,
    retract,
    revalue,
    stage,
    stages,
    transfer,
    win,
)

from dealtrail import Draft, Money
from dealtrail.domain.conditions import Basis, Condition, holds

all_to = dict.fromkeys

# Defining


def test_a_pipeline_is_defined_by_its_stages():
    past = given().when(B2B).then("pipeline_defined", name="b2b")
    assert [one["key"] for one in past.trail.definitions("b2b")[0].stages] == ["lead", "qualified", "proposal"]


def test_a_pipeline_may_have_a_name():
    past = given(define("lead", name="Business"))
    assert past.trail.pipelines()[0].name == "Business"


def test_a_pipeline_is_defined_once():
    given(B2B).when(define("lead")).refused("pipeline_exists")


def test_a_pipeline_that_is_not_there_is_not_redefined():
    given(B2B).when(redefine(2, "lead", pipeline="care")).refused("unknown_pipeline")


@pytest.mark.parametrize("action", [define, lambda *stages: redefine(2, *stages)], ids=["define", "redefine"])
def test_a_definition_has_a_stage(action):
    past = given() if action is define else given(B2B)
    past.when(action()).refused("no_stages")


def test_a_pipeline_needs_its_stages_said():
    given().when(act("define_pipeline", 1, pipeline="b2b")).refused("missing_field")


def test_a_stage_key_stands_once_in_a_definition():
    given().when(define("lead", "qualified", "lead")).refused("duplicate_key")


def test_an_action_key_stands_once_in_a_stage():
    given().when(define(stage("lead", required=["call"], optional=["call"]))).refused("duplicate_key")


def test_an_action_key_may_stand_in_two_stages():
    given().when(define(stage("lead", required=["call"]), stage("next", required=["call"]))).then("pipeline_defined")


@pytest.mark.parametrize("outcome", ["won", "lost", "disqualified"])
def test_an_outcome_is_not_a_stage(outcome):
    given().when(define("lead", outcome)).refused("reserved_key")


@pytest.mark.parametrize("key", ["Lead", "", "a b", "-a", "l" * 65])
def test_keys_of_pipelines_stages_and_actions_are_slugs(key):
    given().when(define("lead", pipeline=key)).refused("invalid_key")
    given().when(define(key)).refused("invalid_key")
    given().when(define(stage("lead", required=[key]))).refused("invalid_key")


@pytest.mark.parametrize("probability", [-0.1, 1.1, "2", "NaN", "Infinity", "much"])
def test_a_probability_is_from_0_to_1(probability):
    given().when(define(stage("lead", probability=probability))).refused("invalid_field")


@pytest.mark.parametrize("probability", [0, 1, 0.5, "0.575", "1.0"])
def test_a_probability_is_a_number_or_a_decimal_as_text(probability):
    given().when(define(stage("lead", probability=probability))).then("pipeline_defined")


@pytest.mark.parametrize("probability", [0.575, "0.575"])
def test_a_probability_is_the_decimal_that_was_written(probability):
    past = given(define(stage("lead", probability=probability)), opening(1, value=euro("1.00")))
    # 0.575 goes half to even to 0.58; the binary number nearest to 0.575 is less than that, and would give 0.57.
    assert past.row("lead").weighted_value == {"EUR": Decimal("0.58")}


@pytest.mark.parametrize("days", [-1, "NaN", "soon"])
def test_the_days_after_which_a_deal_rots_are_not_negative(days):
    given().when(define(stage("lead", rots_after_days=days))).refused("invalid_field")


def test_a_stage_has_a_key_a_name_and_a_probability():
    for field in ("key", "name", "probability"):
        incomplete = {name: value for name, value in stage("lead").items() if name != field}
        given().when(define(incomplete)).refused("missing_field")
        given().when(define(stage("lead") | {field: None})).refused("missing_field")


def test_an_optional_field_of_a_stage_that_is_null_is_absent():
    action = {"key": "call", "name": "Call", "required": None}
    past = given(define(stage("lead") | {"actions": [action], "rots_after_days": None}), opening(2))
    past.when(win(3)).then("deal_won")
    given().when(define(stage("lead") | {"actions": None})).then("pipeline_defined")


def test_a_stage_has_no_other_fields():
    given().when(define(stage("lead", colour="red"))).refused("unknown_field")


def test_the_shape_of_a_definition_is_checked_before_whether_it_is_allowed():
    past = given(B2B)
    past.when(define()).refused("no_stages")
    past.when(redefine(2, "won", pipeline="care")).refused("reserved_key")
    past.when(redefine(on(200), "lead", moves={"lead": []})).refused("invalid_moves")


# Redefining


def test_a_redefinition_is_the_next_version():
    past = given(B2B).when(redefine(5, "lead", "proposal", moves={"qualified": "lead"})).then("pipeline_redefined")
    assert (past.results[0].pipeline, past.results[0].version) == ("b2b", 2)
    assert past.trail.definitions("b2b")[1].moves == {"qualified": "lead"}


def test_stages_may_be_added_reordered_and_renamed_without_a_move_while_their_keys_stay():
    past = given(B2B).when(
        redefine(5, "proposal", stage("lead", name="Contact") | {"name": "Contact"}, "new", "qualified")
    )
    past.then("pipeline_redefined")


def test_a_key_that_goes_needs_a_move():
    past = given(B2B).when(redefine(5, "lead", "proposal")).refused("missing_move")
    assert past.refusal.facts["key"] == "qualified"


def test_a_key_that_stays_may_be_moved():
    past = given(B2B, opening(1)).when(redefine(5, "lead", "qualified", "proposal", moves={"lead": "qualified"}))
    past.then("pipeline_redefined")
    assert past.counts() == {"lead": 0, "qualified": 1, "proposal": 0}


def test_a_move_of_a_key_that_was_not_there_is_refused():
    moves = {"service": "lead"}
    given(B2B).when(redefine(5, "lead", "qualified", "proposal", moves=moves)).refused("unknown_stage")


def test_a_move_of_a_key_that_is_new_is_refused():
    given(define("lead")).when(redefine(5, "lead", "new", moves={"new": "lead"})).refused("unknown_stage")


def test_a_move_to_a_key_that_went_is_refused():
    moves = {"lead": "proposal", "proposal": "lead"}
    given(B2B).when(redefine(5, "lead", "qualified", moves=moves)).refused("unknown_stage")


def test_a_rule_to_a_key_that_is_not_there_is_refused():
    moves = {"lead": [{"when": {"field": "owner", "op": "eq", "value": "anna"}, "to": "hers"}, {"to": "qualified"}]}
    given(B2B).when(redefine(5, "qualified", "proposal", moves=moves)).refused("unknown_stage")


def test_moves_are_those_of_the_version_just_before():
    past = given(B2B, redefine(5, "contact", "proposal", moves=all_to(("lead", "qualified"), "contact")))
    past.when(redefine(6, "first", "proposal", moves=all_to(("lead", "contact"), "first"))).refused("unknown_stage")
    past.when(redefine(6, "first", "proposal", moves={"contact": "first"})).then("pipeline_redefined")


WHEN = {"field": "owner", "op": "eq", "value": "anna"}


@pytest.mark.parametrize(
    "moves",
    [
        [],
        "lead",
        {"lead": []},
        {"lead": None},
        {"lead": 7},
        {"lead": {"to": "lead"}},
        {"lead": [{"when": WHEN, "to": "lead"}]},
        {"lead": [{"to": "lead"}, {"to": "lead"}]},
        {"lead": [{"to": "lead"}, {"when": WHEN, "to": "lead"}]},
    ],
    ids=str,
)
def test_a_move_is_a_key_or_rules_of_which_only_the_last_has_no_when(moves):
    given(B2B).when(redefine(5, "lead", "qualified", "proposal", moves=moves)).refused("invalid_moves")


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "like"},
        {"op": None},
        {"field": "title"},
        {"field": "currency"},
        {"field": "stage"},
        {"field": "attributes."},
        {"field": "attributes"},
        {"value": None},
        {"value": ["anna"]},
        {"op": "in"},
        {"op": "in", "value": "anna"},
        {"op": "in", "value": [None]},
        {"field": "value", "value": "much"},
        {"field": "value", "value": True},
        {"field": "value", "value": "NaN"},
        {"field": "value", "op": "in", "value": ["10", "much"]},
        {"unit": "EUR"},
    ],
    ids=str,
)
def test_a_condition_compares_a_field_by_an_operator_with_a_value(wrong):
    moves = {"lead": [{"when": {**WHEN, **wrong}, "to": "lead"}, {"to": "lead"}]}
    given(B2B).when(redefine(5, "lead", "qualified", "proposal", moves=moves)).refused("invalid_condition")


@pytest.mark.parametrize("field", ["field", "op", "value"])
def test_a_condition_leaves_nothing_out(field):
    when = {name: value for name, value in WHEN.items() if name != field}
    moves = {"lead": [{"when": when, "to": "lead"}, {"to": "lead"}]}
    given(B2B).when(redefine(5, "lead", "qualified", "proposal", moves=moves)).refused("invalid_condition")


def test_a_rule_says_where_to_and_nothing_that_is_not_asked():
    for rule, code in (({"when": WHEN}, "missing_field"), ({"when": WHEN, "to": "lead", "else": "x"}, "unknown_field")):
        moves = {"lead": [rule, {"to": "lead"}]}
        given(B2B).when(redefine(5, "lead", "qualified", "proposal", moves=moves)).refused(code)


def test_a_version_does_not_come_into_force_before_the_one_that_it_follows():
    past = given(define("lead", day=5)).when(redefine(4, "lead")).refused("definition_before_previous")
    past.when(redefine(7, "lead")).when(redefine(6, "lead")).refused("definition_before_previous")


def test_a_version_may_come_into_force_at_the_moment_of_the_one_that_it_follows():
    given(define("lead", day=5)).when(redefine(5, "lead")).then("pipeline_redefined")


def test_a_version_does_not_come_into_force_later_than_now():
    given(B2B).when(redefine(101, "lead", "qualified", "proposal")).refused("future_time")


def test_redefining_checks_no_deal_again_and_rewrites_none():
    past = given(B2B, opening(1), move(3, "qualified"), win(4))
    before = past.trail.history("D")
    past.when(redefine(2, stage("all", required=["call"]), moves=all_to(("lead", "qualified", "proposal"), "all")))
    past.then("pipeline_redefined")
    assert past.trail.history("D") == before


# In force


def test_the_first_definition_is_in_force_from_the_beginning_of_time():
    past = given(define("lead", day=50), opening("1970-01-01T00:00:00Z"))
    assert past.counts(as_of="1970-01-01") == {"lead": 1}
    assert past.trail.pipeline_report("b2b", as_of="1970-01-01").definition == 1


def test_a_version_is_in_force_from_its_very_moment_on():
    past = given(define("lead"), redefine(5, "lead", "next"))
    moments = (on(5) - MICROSECOND, on(5))
    assert [past.trail.pipeline_report("b2b", as_of=at).definition for at in moments] == [1, 2]


def test_of_two_versions_at_one_moment_the_newer_is_in_force():
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}), redefine(5, "c", moves={"b": "c"}))
    past.when(opening(5)).then("deal_opened", stage="c", definition=3)
    assert past.trail.pipeline_report("b2b", as_of=on(5)).definition == 3


def test_of_three_versions_at_one_moment_the_first_may_be_the_very_first():
    past = given(define("a", day=5), redefine(5, "b", moves={"a": "b"}))
    past.when(opening(5)).then("deal_opened", stage="b", definition=2)
    past.when(opening(4, deal="E")).then("deal_opened", stage="a", definition=1)


def test_a_backdated_version_is_in_force_since_then_for_who_knows_it():
    past = given(define("lead"), opening(2), redefine(5, "contact", moves={"lead": "contact"}, recorded=on(150)))
    assert past.counts(as_of=on(6)) == {"contact": 1}
    assert past.counts(as_of=on(6), known_at=on(149)) == {"lead": 1}
    assert past.counts(as_of=on(4)) == {"lead": 1}


def test_the_versions_of_a_pipeline_say_which_is_in_force():
    past = given(define("lead"), redefine(5, "lead", "next", recorded=on(150)))
    assert [view.in_force for view in past.trail.definitions("b2b")] == [False, True]
    assert [view.in_force for view in past.trail.definitions("b2b", as_of=on(4))] == [True, False]
    assert [view.version for view in past.trail.definitions("b2b", known_at=on(149))] == [1]


def test_a_pipeline_is_not_there_before_it_was_known():
    past = given(define("lead", recorded=on(150)))
    for ask in (past.trail.pipeline_report, past.trail.definitions, past.trail.list_deals):
        assert code_of(ask, "b2b", known_at=on(149)) == "unknown_pipeline"
        assert code_of(ask, "care") == "unknown_pipeline"


@pytest.mark.parametrize(
    ("action", "name"),
    [
        (move(6, "qualified"), "stage_entered"),
        (complete(6, "mail"), "action_completed"),
        (win(6), "deal_won"),
    ],
    ids=["move", "complete", "win"],
)
def test_what_is_done_in_a_stage_stores_the_pipeline_and_the_version_in_force(action, name):
    lead = stage("lead", optional=["mail"])
    past = given(define(lead, "qualified"), opening(1), redefine(5, lead, "qualified", "proposal"))
    past.when(action).then(name, pipeline="b2b", definition=2)
    past.when(retract(2)).when(action | {"at": on(4)}).then(name, pipeline="b2b", definition=1)


# Which definition a report is made under


def test_a_report_is_made_under_the_version_in_force_at_its_moment():
    past = given(define("lead"), opening(1), redefine(50, "contact", moves={"lead": "contact"}))
    assert past.counts(as_of=on(49)) == {"lead": 1}
    assert past.counts(as_of=on(50)) == {"contact": 1}


def test_a_report_is_made_under_the_current_version_also_where_it_came_into_force_later():
    past = given(define("lead"), opening(1), redefine(50, "contact", moves={"lead": "contact"}, recorded=on(150)))
    assert past.counts(as_of=on(10), definition="current") == {"contact": 1}
    assert past.counts(as_of=on(10), definition="current", known_at=on(149)) == {"lead": 1}


def test_a_report_is_made_under_any_version_not_older_than_the_one_in_force():
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}), redefine(9, "c", moves={"b": "c"}), opening(1))
    assert [past.counts(as_of=on(6), definition=number) for number in (2, 3)] == [{"b": 1}, {"c": 1}]


def test_history_is_only_ever_restated_forward():
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}), opening(1))
    assert past.counts(as_of=on(4), definition=1) == {"a": 1}
    for ask in (past.trail.pipeline_report, lambda *a, **q: past.trail.funnel_report(*a, cohort="2026", **q)):
        assert code_of(ask, "b2b", as_of=on(5), definition=1) == "cannot_restate"


def test_what_is_in_force_at_a_moment_depends_on_what_was_known():
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}, recorded=on(150)), opening(1))
    assert code_of(past.trail.pipeline_report, "b2b", as_of=on(6), definition=1) == "cannot_restate"
    assert past.trail.pipeline_report("b2b", as_of=on(6), known_at=on(149), definition=1).definition == 1


@pytest.mark.parametrize("number", [0, -1, 3])
def test_a_version_that_is_not_there_is_not_reported_under(number):
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}))
    assert code_of(past.trail.pipeline_report, "b2b", definition=number) == "unknown_definition"


def test_a_version_that_was_not_yet_known_is_not_reported_under():
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}, recorded=on(150)))
    assert code_of(past.trail.pipeline_report, "b2b", known_at=on(149), definition=2) == "unknown_definition"


@pytest.mark.parametrize("wrong", ["latest", 1.0, True, None, ["a"]])
def test_a_definition_is_as_of_or_current_or_a_number_or_a_draft(wrong):
    past = given(B2B)
    assert code_of(past.trail.pipeline_report, "b2b", definition=wrong) == "invalid_field"


# Reading a visit under a later definition


def test_a_visit_is_read_through_the_moves_of_every_version_in_between():
    past = given(B2B, opening(1, stage="qualified"), opening(1, deal="E"))
    past.when(redefine(5, "lead", "talk", "proposal", moves={"qualified": "talk"}))
    past.when(redefine(6, "lead", "proposal", moves={"talk": "proposal"}))
    past.when(redefine(7, "start", "offer", moves={"lead": "start", "proposal": "offer"}))
    readings = [past.counts(as_of=on(day)) for day in (4, 5, 6, 7)]
    assert readings == [
        {"lead": 1, "qualified": 1, "proposal": 0},
        {"lead": 1, "talk": 1, "proposal": 0},
        {"lead": 1, "proposal": 1},
        {"start": 1, "offer": 1},
    ]


def test_a_visit_is_read_from_the_version_that_it_was_recorded_under():
    past = given(define("a", "b"), redefine(5, "a", "b", moves={"a": "b", "b": "a"}))
    past.when(opening(4), opening(6, deal="E")).then("deal_opened", "deal_opened")
    assert (past.deal("D").stage, past.deal("E").stage) == ("b", "a")


def test_a_key_that_comes_back_is_not_the_stage_that_it_was():
    past = given(define("lead"), opening(1), redefine(5, "contact", moves={"lead": "contact"}))
    past.when(redefine(6, "lead", "contact")).when(opening(7, deal="E"))
    assert past.counts() == {"lead": 1, "contact": 1}
    assert (past.deal("D").stage, past.deal("D").recorded_stage, past.deal("E").stage) == ("contact", "lead", "lead")


def test_each_visit_is_read_by_itself():
    past = given(B2B, opening(1, owner="anna"), assign(3, "bob"), move(4, "qualified"), move(5, "lead"))
    past.when(by_owner(6, "qualified", "proposal")).then("pipeline_redefined")
    funnel = past.trail.funnel_report("b2b", cohort="2026")
    # The first visit to `lead` was while the deal was Anna's, the second while it was Bob's.
    assert [(row.stage, row.entered) for row in funnel.stages[:2]] == [("hers", 1), ("other", 1)]


def by_owner(day, *rest, **more):
    rules = [{"when": {"field": "owner", "op": "eq", "value": "anna"}, "to": "hers"}, {"to": "other"}]
    return redefine(day, "hers", "other", *rest, moves={"lead": rules}, **more)


def test_a_condition_looks_at_the_deal_just_after_the_event_that_began_the_visit():
    past = given(B2B, opening(1, owner="bob"), assign(2, "anna"), by_owner(5, "qualified", "proposal"))
    assert past.deal().stage == "other"


def test_a_fact_of_the_very_moment_of_the_visit_counts_only_where_it_came_first():
    past = given(define("new", "lead"), opening(1, owner="bob"), assign(3, "anna"), move(3, "lead"), assign(3, "bob"))
    assert past.when(by_owner(5, "new")).then("pipeline_redefined").deal().stage == "hers"


def test_a_win_under_another_value_is_no_visit():
    past = given(B2B, opening(1, value=euro(5)), win(2, value=euro(50)), by_value(5), reopen(6))
    assert past.deal().recorded_stage == "small"


def by_value(day, least="10", **more):
    rules = [{"when": {"field": "value", "op": "ge", "value": least}, "to": "big"}, {"to": "small"}]
    return redefine(day, "small", "big", "qualified", "proposal", moves={"lead": rules}, **more)


def test_conditions_are_judged_when_a_question_is_asked_on_the_deal_as_it_was_known():
    past = given(B2B, opening(1, value=euro(5)), by_value(5, recorded=on(110)))
    assert (past.row("small").deals, past.row("big").deals) == (1, 0)
    past.when(amend(1, value=euro(20), recorded=on(120))).then("event_retracted", "deal_opened")
    assert (past.row("small").deals, past.row("big").deals) == (0, 1)
    assert past.counts(known_at=on(119)) == {"small": 1, "big": 0, "qualified": 0, "proposal": 0}
    assert past.counts(as_of=on(2), definition="current")["big"] == 1
    assert past.counts(as_of=on(2), definition="current", known_at=on(119))["big"] == 0
    assert past.counts(as_of=on(2)) == {"lead": 1, "qualified": 0, "proposal": 0}


def test_conditions_are_judged_anew_when_an_earlier_fact_is_recorded_late():
    past = given(B2B, opening(1), move(3, "qualified"), move(4, "lead"), by_value(5))
    past.when(revalue(2, 20, recorded=on(120)))
    funnel = past.trail.funnel_report("b2b", cohort="2026")
    assert [(row.stage, row.entered) for row in funnel.stages] == [
        ("small", 1),  # opened without a value
        ("big", 1),  # back on the 4th with 20
        ("qualified", 1),
        ("proposal", 0),
    ]
    before = past.trail.funnel_report("b2b", cohort="2026", known_at=on(119))
    assert [row.entered for row in before.stages] == [1, 0, 1, 0]


def test_visits_that_follow_one_another_into_one_stage_are_one():
    past = given(B2B, opening(1), move(5, "qualified"), move(7, "lead"))
    past.when(redefine(9, "early", "proposal", moves=all_to(("lead", "qualified"), "early")))
    assert past.row("early", as_of=on(11)).median_days_in_stage == 10.0
    assert past.row("lead", as_of=on(8)).median_days_in_stage == 1.0
    assert past.deal(as_of=on(11)).stage_since == on(1)


def test_a_reopening_begins_a_new_visit_also_of_the_same_stage():
    past = given(B2B, opening(1), lose(6), reopen(7))
    assert past.row("lead", as_of=on(11)).median_days_in_stage == 4.0


def test_a_visit_after_a_reopening_goes_on_in_a_stage_that_is_read_as_the_same():
    past = given(B2B, opening(1), lose(6), reopen(7), move(8, "qualified"))
    past.when(redefine(9, "early", "proposal", moves=all_to(("lead", "qualified"), "early")))
    assert past.row("early", as_of=on(11)).median_days_in_stage == 4.0


def test_a_transfer_begins_a_new_visit_also_where_the_deal_comes_back():
    past = given(B2B, CARE, opening(1), transfer(3), transfer(6, "b2b"))
    assert past.row("lead", as_of=on(11)).median_days_in_stage == 5.0


def test_a_visit_to_another_stage_in_between_parts_two_visits():
    past = given(B2B, opening(1), move(5, "proposal"), move(7, "qualified"))
    past.when(redefine(9, "early", "proposal", moves=all_to(("lead", "qualified"), "early")))
    assert past.row("early", as_of=on(11)).median_days_in_stage == 4.0


def test_each_pipeline_reads_its_own_visits():
    past = given(
        B2B,
        CARE,
        opening(1),
        transfer(3),
        redefine(5, "desk", pipeline="care", moves=all_to(("intake", "service"), "desk")),
    )
    assert (past.counts("care"), past.counts("b2b")["lead"]) == ({"desk": 1}, 0)


# Drafts


def test_a_draft_shows_what_would_become_of_the_deals():
    past = given(B2B, opening(1, value=euro(5)), opening(1, deal="E", value=euro(20)))
    draft = Draft(stages=by_value(5)["stages"], moves=by_value(5)["moves"])
    assert past.counts(definition=draft) == {"small": 1, "big": 1, "qualified": 0, "proposal": 0}


def test_a_draft_is_recorded_nowhere():
    past = given(B2B, opening(1))
    before = past.log()
    past.counts(definition=Draft(stages=stages("all"), moves=all_to(("lead", "qualified", "proposal"), "all")))
    assert past.log() == before
    assert len(past.trail.definitions("b2b")) == 1
    past.when(move(2, "all")).refused("unknown_stage")


def test_a_draft_may_come_as_a_map():
    past = given(define("lead"), opening(1))
    assert past.counts(definition={"stages": stages("next"), "moves": {"lead": "next"}}) == {"next": 1}


def test_a_report_under_a_draft_names_the_version_that_the_draft_follows():
    past = given(define("a"), redefine(5, "b", moves={"a": "b"}), opening(1))
    report = past.trail.pipeline_report("b2b", definition=Draft(stages=stages("c"), moves={"b": "c"}))
    assert (report.definition, report.draft) == (2, True)
    assert past.trail.pipeline_report("b2b").draft is False


def test_a_draft_follows_the_latest_version_also_where_that_comes_into_force_later():
    past = given(define("a"), redefine(50, "b", moves={"a": "b"}), opening(1))
    draft = Draft(stages=stages("c"), moves={"b": "c"})
    assert past.counts(as_of=on(10), definition=draft) == {"c": 1}


def test_a_draft_follows_the_latest_version_that_was_known():
    past = given(define("a"), redefine(50, "b", moves={"a": "b"}, recorded=on(150)), opening(1))
    early, late = Draft(stages=stages("c"), moves={"a": "c"}), Draft(stages=stages("c"), moves={"b": "c"})
    ask = past.trail.pipeline_report
    assert (ask("b2b", known_at=on(149), definition=early).definition, ask("b2b", definition=late).definition) == (1, 2)
    assert code_of(ask, "b2b", definition=early) == "missing_move"
    assert code_of(ask, "b2b", known_at=on(149), definition=late) == "missing_move"


@pytest.mark.parametrize(
    ("keys", "moves", "code"),
    [
        ([], {}, "no_stages"),
        (["lead", "lead"], {}, "duplicate_key"),
        (["won"], {}, "reserved_key"),
        (["Lead"], {}, "invalid_key"),
        (["next"], {}, "missing_move"),
        (["next"], None, "missing_move"),
        (["next"], {"lead": "first"}, "unknown_stage"),
        (["lead"], {"first": "lead"}, "unknown_stage"),
        (["next"], {"lead": []}, "invalid_moves"),
        (
            ["next"],
            {"lead": [{"when": {"field": "stage", "op": "eq", "value": "x"}, "to": "next"}]},
            "invalid_condition",
        ),
    ],
)
def test_a_draft_is_refused_by_the_rules_of_a_redefinition(keys, moves, code):
    past = given(define("lead"))
    assert code_of(past.trail.pipeline_report, "b2b", definition=Draft(stages=stages(*keys), moves=moves)) == code
    past.when(redefine(5, *keys, moves=moves)).refused(code)


@pytest.mark.parametrize(("draft", "code"), [({}, "missing_field"), ({"stages": [], "name": "x"}, "unknown_field")])
def test_a_draft_has_stages_and_moves_and_nothing_else(draft, code):
    past = given(B2B)
    assert code_of(past.trail.pipeline_report, "b2b", definition=draft) == code


def test_a_draft_serves_the_funnel_too():
    past = given(B2B, opening(1), move(5, "qualified"), move(9, "proposal"))
    draft = Draft(stages=stages("early", "proposal"), moves=all_to(("lead", "qualified"), "early"))
    first = past.trail.funnel_report("b2b", cohort="2026", definition=draft).stages[0]
    assert (first.entered, first.passed, first.median_days_to_pass) == (1, 1, 8.0)


# Conditions

DEAL = Basis(
    Money(Decimal("1200.50"), "EUR"),
    "anna",
    "web",
    {"size": 10, "share": 0.25, "region": "north", "vip": True, "old": False, "a.b": "c", "zero": 0, "digits": "10"},
)
NOTHING = Basis(None, None, None, {})


@pytest.mark.parametrize(
    ("field", "op", "value"),
    [
        ("value", "eq", "1200.5"),
        ("value", "eq", 1200.5),
        ("value", "ne", "1200.51"),
        ("value", "lt", "1200.51"),
        ("value", "le", "1200.50"),
        ("value", "gt", 1200),
        ("value", "ge", "1200.500"),
        ("value", "in", ["7", 1200.5]),
        ("value", "gt", "-5"),
        ("owner", "eq", "anna"),
        ("owner", "ne", "Anna"),
        ("owner", "lt", "annb"),
        ("owner", "gt", "Zoe"),
        ("owner", "lt", "änna"),
        ("owner", "ge", "anna"),
        ("owner", "le", "anna"),
        ("owner", "in", ["bob", "anna"]),
        ("source", "eq", "web"),
        ("attributes.size", "eq", 10),
        ("attributes.size", "eq", 10.0),
        ("attributes.size", "gt", 9.5),
        ("attributes.size", "lt", 11),
        ("attributes.size", "in", ["10", 10]),
        ("attributes.share", "le", 0.25),
        ("attributes.region", "ge", "north"),
        ("attributes.digits", "gt", "1"),
        ("attributes.digits", "lt", "9"),
        ("attributes.vip", "eq", True),
        ("attributes.vip", "gt", False),
        ("attributes.old", "lt", True),
        ("attributes.old", "in", [False]),
        ("attributes.a.b", "eq", "c"),
    ],
)
def test_a_condition_holds(field, op, value):
    assert holds(Condition(field, op, value), DEAL)


@pytest.mark.parametrize(
    ("field", "op", "value"),
    [
        ("value", "eq", "1200.51"),
        ("value", "ne", "1200.500"),
        ("value", "lt", "1200.5"),
        ("value", "le", "1200.49"),
        ("value", "gt", 1200.5),
        ("value", "ge", "1200.51"),
        ("value", "in", []),
        ("owner", "ne", "anna"),
        ("owner", "in", ["bob"]),
        ("owner", "gt", "anna"),
        ("attributes.size", "ne", 10.0),
        ("attributes.vip", "ne", True),
        ("attributes.old", "gt", False),
    ],
)
def test_a_condition_does_not_hold(field, op, value):
    assert not holds(Condition(field, op, value), DEAL)


OTHER_TYPES = [
    ("attributes.size", "10"),
    ("attributes.digits", 10),
    ("attributes.vip", 1),
    ("attributes.vip", "true"),
    ("attributes.zero", False),
    ("owner", 7),
    ("source", True),
]


@pytest.mark.parametrize(("field", "value"), OTHER_TYPES)
def test_a_field_of_another_type_satisfies_only_ne(field, value):
    assert [op for op in ("eq", "ne", "lt", "le", "gt", "ge") if holds(Condition(field, op, value), DEAL)] == ["ne"]
    assert not holds(Condition(field, "in", [value]), DEAL)


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", "0"), ("owner", "anna"), ("source", ""), ("attributes.size", 0), ("attributes.vip", False)],
)
def test_a_missing_field_satisfies_only_ne(field, value):
    ops = [op for op in ("eq", "ne", "lt", "le", "gt", "ge") if holds(Condition(field, op, value), NOTHING)]
    assert ops == ["ne"]
    assert not holds(Condition(field, "in", [value]), NOTHING)


def test_a_value_is_compared_whatever_the_currency():
    for currency in ("EUR", "JPY", "KWD"):
        assert holds(Condition("value", "ge", "1000"), Basis(Money(Decimal(1000), currency), None, None, {}))


def test_a_number_is_the_decimal_that_was_written_when_a_value_is_compared():
    assert holds(Condition("value", "eq", 0.1), Basis(Money(Decimal("0.1"), "EUR"), None, None, {}))


def test_rules_are_tried_in_order():
    past = given(define("lead"), opening(1, value=euro(50)), opening(1, deal="E", value=euro(5)), opening(1, deal="F"))
    rules = [
        {"when": {"field": "value", "op": "ge", "value": "100"}, "to": "big"},
        {"when": {"field": "value", "op": "ge", "value": "10"}, "to": "medium"},
        {"when": {"field": "value", "op": "ge", "value": "1"}, "to": "small"},
        {"to": "unknown"},
    ]
    past.when(redefine(5, "unknown", "small", "medium", "big", moves={"lead": rules}))
    assert past.counts() == {"unknown": 1, "small": 1, "medium": 1, "big": 0}


def test_one_rule_without_a_condition_is_a_plain_move():
    past = given(define("lead"), opening(1), redefine(5, "next", moves={"lead": [{"to": "next"}]}))
    assert past.counts() == {"next": 1}


def test_a_condition_may_look_at_an_attribute():
    rules = [{"when": {"field": "attributes.size", "op": "gt", "value": 5}, "to": "big"}, {"to": "small"}]
    past = given(define("new", "lead"), opening(1), attributes(2, size=6), move(3, "lead"), attributes(4, size=1))
    past.when(redefine(5, "small", "big", moves={"lead": rules, "new": "small"}))
    assert past.deal().stage == "big"


def test_a_condition_does_not_look_at_a_title_or_a_note():
    rules = [{"when": {"field": "attributes.title", "op": "eq", "value": "Roof"}, "to": "roof"}, {"to": "rest"}]
    past = given(define("lead"), opening(1, title="Roof", personal={"title": "Roof"}))
    assert past.when(redefine(5, "roof", "rest", moves={"lead": rules})).deal().stage == "rest"


def test_the_required_actions_of_a_stage_that_was_split_are_those_of_the_part_that_the_visit_reads_as():
    small, big = stage("small"), stage("big", required=["board"])
    rules = by_value(5)["moves"]
    past = given(STRICT, opening(1, value=euro(5)), opening(1, deal="E", value=euro(50)))
    past.when(redefine(5, small, big, "qualified", "proposal", moves=rules)).then("pipeline_redefined")
    past.when(win(6)).then("deal_won")
    past.when(win(6, deal="E")).refused("required_action_missing")
    past.when(complete(6, "board", deal="E"), win(6, deal="E")).then("action_completed", "deal_won")
