"""Moves that are allowed: where a deal may begin, from where it may go back, and what it may skip."""

import pytest
from given import (
    CARE,
    amend,
    code_of,
    complete,
    define,
    given,
    lose,
    move,
    opening,
    redefine,
    reopen,
    retract,
    stage,
    stages,
    transfer,
    win,
)

from dealtrail import Draft

KEYS = ("lead", "demo", "offer", "closing")


def b2b(**allowed):
    """A pipeline of four stages with its lists."""
    return define(*KEYS, **allowed)


# Entry


def test_a_deal_is_opened_into_an_allowed_stage_alone():
    past = given(b2b(entry=["lead", "demo"]))
    past.when(opening(2, stage="demo")).then("deal_opened", stage="demo")
    past.when(opening(2, deal="E", stage="offer")).refused("entry_not_allowed", field="stage")
    assert past.refusal.message == (
        "a deal may not begin in stage offer of pipeline b2b; open or transfer it into one of: lead, demo"
    )


def test_the_first_stage_by_default_must_be_allowed_too():
    given(b2b(entry=["demo"])).when(opening(2)).refused("entry_not_allowed")


def test_an_empty_list_lets_nothing_in_and_says_so():
    past = given(b2b(entry=[])).when(opening(2)).refused("entry_not_allowed")
    assert past.refusal.message.endswith("one of: none")


def test_a_deal_is_transferred_into_an_allowed_stage_alone():
    past = given(b2b(entry=["lead"]), CARE, opening(2, pipeline="care"))
    past.when(transfer(3, "b2b", stage="offer")).refused("entry_not_allowed")
    past.when(transfer(3, "b2b")).then("deal_transferred", stage="lead")


def test_an_opening_is_amended_into_an_allowed_stage_alone():
    given(b2b(entry=["lead"]), opening(2)).when(amend(1, stage="demo")).refused("entry_not_allowed")


def test_a_deal_is_moved_and_reopened_into_stages_that_none_may_begin_in():
    past = given(b2b(entry=["lead"]), opening(2), move(3, "offer"), lose(4))
    past.when(reopen(5)).then("deal_reopened", stage="offer")


# Back


def test_a_stage_is_left_backwards_where_that_is_allowed():
    past = given(b2b(back=["offer"]), opening(2), move(3, "offer"))
    past.when(move(4, "lead")).then("stage_entered", stage="lead")
    past.when(move(5, "demo"), move(6, "lead")).refused("back_not_allowed", field="stage")
    assert past.refusal.message == (
        "deal D may not go back from stage demo; go on, or close it (stages that may be left backwards: offer)"
    )


def test_a_deal_is_not_reopened_in_an_earlier_stage_than_it_may_go_back_to():
    past = given(b2b(back=[]), opening(2), move(3, "offer"), lose(4))
    past.when(reopen(5, stage="lead")).refused("back_not_allowed")
    past.when(reopen(5)).then("deal_reopened", stage="offer")


# Skip


def test_a_move_skips_only_stages_that_may_be_skipped():
    past = given(b2b(skip=["demo"]), opening(2))
    past.when(move(3, "closing")).refused("skip_not_allowed", field="stage")
    assert past.refusal.message == ("deal D may not skip offer; move it there first (stages that may be skipped: demo)")
    past.when(move(3, "offer")).then("stage_entered", stage="offer")


def test_a_win_skips_every_stage_behind_the_current_one():
    past = given(b2b(skip=["closing"]), opening(2))
    past.when(win(3)).refused("skip_not_allowed")
    assert "may not skip demo, offer;" in past.refusal.message
    past.when(move(3, "demo"), move(4, "offer"), win(5)).then("stage_entered", "stage_entered", "deal_won")


def test_a_deal_is_not_reopened_in_a_later_stage_than_it_may_skip_to():
    past = given(b2b(skip=[]), opening(2), lose(3))
    past.when(reopen(4, stage="offer")).refused("skip_not_allowed")
    past.when(reopen(4, stage="demo")).then("deal_reopened", stage="demo")


def test_an_opening_in_a_late_stage_skips_nothing():
    given(b2b(skip=[]), opening(2, stage="closing")).when(win(3)).then("deal_won")


def test_what_may_not_be_skipped_is_told_before_what_is_missing():
    past = given(define(stage("lead", required=["call"]), "demo", "offer", skip=[]), opening(2))
    past.when(move(3, "offer")).refused("skip_not_allowed")
    past.when(move(3, "demo")).refused("required_action_missing")
    past.when(complete(3, "call"), move(3, "demo")).then("action_completed", "stage_entered")


def test_a_reopening_asks_for_no_action():
    past = given(define(stage("lead", required=["call"]), "demo"), opening(2), lose(3))
    past.when(reopen(4, stage="demo")).then("deal_reopened", stage="demo")


# On the whole timeline, under the newer version


def test_a_retraction_is_refused_where_a_later_move_would_skip():
    past = given(b2b(skip=[]), opening(2), move(3, "demo"), move(5, "offer"))
    past.when(retract(2)).refused("skip_not_allowed")
    assert "when its event 3 occurs (2026-01-05T00:00:00Z)" in past.refusal.message


def test_a_backdated_move_is_refused_where_a_later_one_would_go_back():
    past = given(b2b(back=[]), opening(2), move(5, "demo"))
    past.when(move(3, "offer")).refused("back_not_allowed")


def test_a_way_is_judged_under_the_newer_of_both_versions():
    past = given(b2b(), opening(2), move(3, "demo"), redefine(10, *KEYS, back=["offer"], skip=[]))
    past.when(move(11, "lead")).refused("back_not_allowed")
    past.when(move(11, "closing")).refused("skip_not_allowed")
    past.when(move(9, "closing")).then("stage_entered", stage="closing", definition=1)
    past.when(move(11, "offer")).refused("back_not_allowed")


def test_a_move_that_was_recorded_before_a_redefinition_is_judged_by_it_where_the_visit_before_is():
    past = given(b2b(), opening(2), move(12, "demo"), redefine(10, *KEYS, back=[]))
    past.when(move(11, "offer")).refused("back_not_allowed")
    past.when(move(9, "offer")).then("stage_entered", stage="offer", definition=1)


def test_skipped_stages_are_those_of_the_order_that_holds():
    past = given(b2b(), opening(2), redefine(10, "lead", "closing", "demo", "offer", skip=[]))
    past.when(move(11, "closing")).then("stage_entered", stage="closing")


def test_redefining_checks_no_deal_again():
    past = given(b2b(), opening(2, stage="demo"), move(3, "closing"), move(4, "lead"))
    past.when(redefine(10, *KEYS, entry=["lead"], back=[], skip=[])).then("pipeline_redefined")
    past.when(amend(1, owner="anna")).then("event_retracted", "deal_opened", stage="demo")


def test_a_new_definition_without_lists_allows_everything_again():
    past = given(b2b(entry=["lead"], back=[], skip=[]), redefine(10, *KEYS))
    past.when(opening(11, stage="demo"), move(12, "closing"), move(13, "lead"), win(14)).then(
        "deal_opened", "stage_entered", "stage_entered", "deal_won"
    )


# At the door


@pytest.mark.parametrize("kind", ["entry", "back", "skip"])
@pytest.mark.parametrize(
    ("given_list", "code"),
    [
        (["lead", "leed"], "unknown_stage"),
        (["won"], "unknown_stage"),
        (["lead", "lead"], "duplicate_key"),
        ("lead", "invalid_field"),
        ({"lead": True}, "invalid_field"),
        ([1], "invalid_field"),
        ([None], "invalid_field"),
        (True, "invalid_field"),
    ],
)
def test_a_list_that_is_none_is_refused(kind, given_list, code):
    given().when(b2b(**{kind: given_list})).refused(code, field=kind)
    past = given(b2b())
    past.when(redefine(10, *KEYS, **{kind: given_list})).refused(code, field=kind)
    draft = Draft(stages=stages(*KEYS), **{kind: given_list})
    assert code_of(past.trail.pipeline_report, "b2b", definition=draft) == code
    assert code_of(past.trail.preview_redefinition, "b2b", stages(*KEYS), **{kind: given_list}) == code


def test_the_nearest_stage_is_named():
    past = given().when(b2b(skip=["dmeo"])).refused("unknown_stage")
    assert past.refusal.message == "dmeo is no stage of version 1 of pipeline b2b; did you mean demo?"


def test_any_is_the_same_as_nothing_also_in_the_log():
    one, other = given(b2b()), given(b2b(entry="any", back=None, skip="any"))
    assert [event.data for event in one.log()] == [event.data for event in other.log()]
    with one.trail._log.reading() as reading, other.trail._log.reading() as also:
        assert reading.head().chain is not None
        assert [entry.event for entry in reading.entries("pipeline:b2b", 1)] == [
            entry.event for entry in also.entries("pipeline:b2b", 1)
        ]


def test_definitions_show_their_lists():
    past = given(b2b(entry=["lead"], back=[]), redefine(10, *KEYS, skip=["demo", "offer"]))
    first, second = past.trail.definitions("b2b")
    assert (first.entry, first.back, first.skip) == (["lead"], [], "any")
    assert (second.entry, second.back, second.skip) == ("any", "any", ["demo", "offer"])


def test_a_draft_says_its_lists_in_its_question_and_nothing_of_those_that_it_has_not():
    past = given(b2b(), opening(2))
    draft = Draft(stages=stages(*KEYS), back=["demo"], entry="any")
    question = past.trail.pipeline_report("b2b", definition=draft).question
    assert question["definition"].keys() == {"stages", "moves", "back"}
    again = past.trail.pipeline_report("b2b", definition=question["definition"], as_of=question["as_of"])
    assert again.question["definition"]["back"] == ["demo"]
