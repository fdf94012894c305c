"""Reasons for losing and disqualifying: listed in a definition, counted in the funnel, renamed by a redefinition."""

import json
import sqlite3

import msgspec
import pytest
from given import (
    CARE,
    amend,
    code_of,
    define,
    disqualify,
    given,
    lose,
    move,
    on,
    opening,
    redefine,
    reopen,
    retract,
    transfer,
    win,
)

from dealtrail import DealtrailError, Draft, Trail
from dealtrail.domain.events import DealLost, DealOpened, Entry, PipelineDefined, PipelineRedefined
from dealtrail.projections.fold import Folding
from dealtrail.store import mapper

STAGES = ("lead", "qualified", "proposal")
LISTED = {"lost": ["Price", "Timing"], "disqualified": ["No budget", "Student"]}
B2B = define(*STAGES, reasons=LISTED)
FREE = define(*STAGES)


def funnel(past, **question):
    return past.trail.funnel_report("b2b", **{"cohort": "2026", **question})


def told(reasons):
    """Reasons as pairs: those of lost deals, then those of disqualified ones."""
    return tuple([(one.reason, one.deals) for one in counts] for counts in (reasons.lost, reasons.disqualified))


def of_total(past, **question):
    return told(funnel(past, **question).total.reasons)


# The list


def test_a_listed_reason_is_taken_and_the_event_names_the_definition():
    past = given(B2B, opening(2)).when(lose(3, reason="Price"))
    past.then("deal_lost", reason="Price", definition=1)
    assert past.new[0].data["pipeline"] == "b2b"
    assert past.deal().reason == "Price"


def test_another_reason_is_refused_with_the_nearest_one_named():
    past = given(B2B, opening(2)).when(lose(3, reason="Prize")).refused("unknown_reason", field="reason")
    assert "did you mean Price?" in past.refusal.message
    assert "Price, Timing" in past.refusal.message


def test_losing_and_disqualifying_have_a_list_each():
    past = given(B2B, opening(2)).when(disqualify(3, reason="Price")).refused("unknown_reason")
    past.when(disqualify(3, reason="Student")).then("deal_disqualified", reason="Student", definition=1)


def test_an_outcome_without_a_list_takes_any_reason():
    one = define("lead", reasons={"lost": ["Price"]})
    given(one, opening(2)).when(disqualify(3, reason="whatever it was")).then("deal_disqualified")
    given(FREE, opening(2)).when(lose(3, reason="whatever it was")).then("deal_lost", definition=1)


def test_a_reason_may_be_left_out_where_there_is_a_list_too():
    past = given(B2B, opening(2)).when(lose(3)).then("deal_lost", reason=None)
    assert past.new[-1].data == {"reason": None}  # without a reason it names no definition
    assert of_total(past) == ([(None, 1)], [])


def test_a_reason_is_one_of_the_definition_in_force_when_the_deal_was_lost():
    past = given(B2B, opening(2), redefine(10, *STAGES, reasons={"lost": ["Cost"]}, reason_moves=PRICE_AND_TIMING))
    past.when(lose(11, reason="Price")).refused("unknown_reason")
    past.when(lose(9, reason="Cost")).refused("unknown_reason")
    past.when(lose(9, reason="Price")).then("deal_lost", definition=1)


PRICE_AND_TIMING = {"lost": {"Price": "Cost", "Timing": "Cost"}}


def test_an_amendment_is_judged_as_if_it_were_recorded_now_in_the_place_of_the_loss():
    past = given(B2B, opening(2), lose(3, reason="Price"))
    past.when(amend(2, reason="Coast")).refused("unknown_reason")
    past.when(amend(2, reason="Timing")).then("event_retracted", "deal_lost", reason="Timing", definition=1)
    past = given(FREE, opening(2), lose(3, reason="dear"), redefine(10, *STAGES, reasons=LISTED))
    past.when(amend(2, 11)).refused("unknown_reason")
    past.when(amend(2, 4)).then("event_retracted", "deal_lost", reason="dear")


def test_a_redefinition_checks_no_loss_again():
    past = given(FREE, opening(2), lose(8, reason="dear")).when(redefine(5, *STAGES, reasons=LISTED))
    past.then("pipeline_redefined")
    past.when(reopen(9), move(10, "qualified")).then("deal_reopened", "stage_entered")


def test_a_loss_with_a_reason_happened_in_its_pipeline():
    past = given(B2B, CARE, opening(2), lose(6, reason="Price"))
    past.when(transfer(4)).refused("other_pipeline")
    given(B2B, CARE, opening(2), lose(6)).when(transfer(4)).then("deal_transferred")


def test_a_transfer_without_which_a_loss_would_be_in_another_pipeline_cannot_be_retracted():
    past = given(B2B, CARE, opening(2), transfer(4), lose(6, reason="rude"))
    past.when(retract(2)).refused("other_pipeline")


@pytest.mark.parametrize(
    ("reasons", "code", "field"),
    [
        ({"lost": []}, "invalid_field", "reasons.lost"),
        ({"lost": "Price"}, "invalid_field", "reasons.lost"),
        ({"lost": [7]}, "invalid_field", "reasons.lost[0]"),
        ({"lost": [""]}, "invalid_field", "reasons.lost[0]"),
        ({"lost": ["x" * 256]}, "invalid_field", "reasons.lost[0]"),
        ({"lost": [str(n) for n in range(101)]}, "invalid_field", "reasons.lost"),
        ({"lost": ["Price", "Price"]}, "duplicate_key", "reasons.lost"),
        ({"won": ["Price"]}, "unknown_field", "reasons.won"),
        (["Price"], "invalid_field", "reasons"),
    ],
)
def test_a_list_of_another_shape_is_refused(reasons, code, field):
    given().when(define("lead", reasons=reasons)).refused(code, field=field)


def test_null_is_no_list():
    for nothing in ({"lost": None}, {}, None):
        past = given().when(define("lead", reasons=nothing)).then("pipeline_defined")
        assert set(past.new[-1].data) == {"name", "stages"}


# What becomes of old reasons


def test_a_reason_that_goes_needs_a_move():
    past = given(B2B).when(redefine(5, *STAGES, reasons={"lost": ["Price", "Other"]}))
    past.refused("missing_reason_move", field="reason_moves.lost")
    assert "Timing" in past.refusal.message
    past.when(redefine(5, *STAGES, reasons={"lost": ["Price", "Other"]}, reason_moves={"lost": {"Timing": "Other"}}))
    past.then("pipeline_redefined", reasons={"lost": ("Price", "Other")})


def test_a_definition_without_a_list_needs_no_moves():
    past = given(B2B).when(redefine(5, *STAGES)).then("pipeline_redefined")
    assert set(past.new[-1].data) == {"stages", "moves"}


@pytest.mark.parametrize(
    "moves",
    [{"Prize": "Price"}, {"Price": "Prize"}],
    ids=["from a reason that was not there", "to one that is not there"],
)
def test_a_move_of_reasons_leads_from_one_that_was_to_one_that_is(moves):
    past = given(B2B).when(redefine(5, *STAGES, reasons=LISTED, reason_moves={"lost": moves}))
    past.refused("unknown_reason")
    assert "did you mean Price?" in past.refusal.message


def test_any_text_may_be_moved_where_an_earlier_definition_had_no_list():
    free = {"lost": {"too dear": "Price", "dear": "Price"}}
    past = given(FREE, opening(2), lose(3, reason="dear"), redefine(5, *STAGES, reasons=LISTED))
    past.when(redefine(6, *STAGES, reasons=LISTED, reason_moves=free)).then("pipeline_redefined", reason_moves=free)
    assert of_total(past) == ([("Price", 1)], [])


@pytest.mark.parametrize(
    ("moves", "code"),
    [
        ({"lost": ["Price"]}, "invalid_field"),
        ({"lost": {"Price": 7}}, "invalid_field"),
        ({"lost": {"Price": ""}}, "invalid_field"),
        ({"won": {}}, "unknown_field"),
        ("Price", "invalid_field"),
    ],
)
def test_moves_of_reasons_of_another_shape_are_refused(moves, code):
    given(B2B).when(redefine(5, *STAGES, reasons=LISTED, reason_moves=moves)).refused(code)


# The funnel


PAST = (
    B2B,
    *(opening(2, deal=deal) for deal in "ABCDEFGH"),
    move(3, "proposal", deal="A"),
    move(3, "proposal", deal="B"),
    lose(10, deal="A", reason="Timing"),
    lose(10, deal="B", reason="Price"),
    lose(5, deal="C", reason="Price"),
    lose(20, deal="E"),
    disqualify(4, deal="F", reason="Student"),
    win(5, deal="G"),
)


def test_the_funnel_counts_reasons_at_the_furthest_stage():
    report = funnel(given(*PAST))
    # C and E were never beyond lead; A and B were lost in proposal; qualified was skipped, so nobody ended there.
    assert [told(row.reasons) for row in report.stages] == [
        ([("Price", 1), (None, 1)], [("Student", 1)]),
        ([], []),
        ([("Price", 1), ("Timing", 1)], []),
    ]
    # The most first, equal ones in the order of their text, those without a reason last.
    assert told(report.total.reasons) == ([("Price", 2), ("Timing", 1), (None, 1)], [("Student", 1)])
    for row in (*report.stages, report.total):
        assert (row.lost, row.disqualified) == tuple(sum(n for _, n in counts) for counts in told(row.reasons))


def test_reasons_are_those_of_the_moment_and_of_the_window():
    past = given(*PAST, reopen(30, deal="A"), lose(40, deal="A", reason="Price"))
    assert of_total(past)[0] == [("Price", 3), (None, 1)]
    assert of_total(past, as_of=on(35))[0] == [("Price", 2), (None, 1)]
    assert of_total(past, as_of=on(10))[0] == [("Price", 2), ("Timing", 1)]
    # Within 8 days of the opening on the 2nd: until the 10th.
    assert of_total(past, within=8)[0] == [("Price", 2), ("Timing", 1)]
    assert of_total(past, within=7)[0] == [("Price", 1)]


def test_reasons_are_those_that_were_known():
    past = given(*PAST)
    past.when(amend(3, deal="A", reason="Price", recorded=on(101)))
    assert of_total(past, as_of=on(50), known_at=on(100, 12))[0] == [("Price", 2), ("Timing", 1), (None, 1)]
    past.clock.now = on(102)
    assert of_total(past)[0] == [("Price", 3), (None, 1)]


def test_reasons_are_counted_in_groups_and_under_filters():
    past = given(
        B2B,
        *(opening(2, deal=deal, owner=owner) for deal, owner in (("A", "anna"), ("B", "bob"), ("C", "anna"))),
        *(lose(3, deal=deal, reason=reason) for deal, reason in (("A", "Price"), ("B", "Price"), ("C", "Timing"))),
    )
    groups = funnel(past, group_by="owner").groups
    assert [told(group.total.reasons)[0] for group in groups] == [[("Price", 1), ("Timing", 1)], [("Price", 1)]]
    assert told(groups[1].stages[0].reasons)[0] == [("Price", 1)]
    assert of_total(past, where={"owner": "bob"}) == ([("Price", 1)], [])


RENAMED = {"reasons": {"lost": ["Budget", "Timing"]}, "reason_moves": {"lost": {"Price": "Budget"}}}


def test_a_later_definition_renames_the_reasons_of_what_was_recorded_before():
    past = given(*PAST, redefine(60, *STAGES, **RENAMED))
    assert of_total(past, as_of=on(50))[0] == [("Price", 2), ("Timing", 1), (None, 1)]
    for definition in ("current", 2):
        assert of_total(past, as_of=on(50), definition=definition)[0] == [("Budget", 2), ("Timing", 1), (None, 1)]
    past.when(lose(70, deal="D", reason="Budget"), redefine(80, *STAGES, reasons=LISTED, reason_moves=BACK))
    # What was Price became Budget, and Budget became Timing.
    assert of_total(past)[0] == [("Timing", 4), (None, 1)]


BACK = {"lost": {"Budget": "Timing"}}


def test_only_definitions_after_the_loss_rename_its_reason():
    # Version 2 merges the old Price into Timing, and has a Price of its own.
    past = given(B2B, opening(2, deal="A"), opening(2, deal="B"), lose(3, deal="A", reason="Price"))
    past.when(redefine(5, *STAGES, reasons=LISTED, reason_moves={"lost": {"Price": "Timing"}}))
    past.when(lose(6, deal="B", reason="Price")).then("deal_lost", definition=2)
    assert of_total(past)[0] == [("Price", 1), ("Timing", 1)]


def test_the_moves_of_one_outcome_leave_the_other_alone():
    both = define("lead", reasons={"lost": ["Spam"], "disqualified": ["Spam"]})
    junk = {"reasons": {"lost": ["Junk"], "disqualified": ["Spam"]}, "reason_moves": {"lost": {"Spam": "Junk"}}}
    losses = [opening(2, deal="A"), opening(2, deal="B"), lose(3, deal="A", reason="Spam")]
    past = given(both, *losses, disqualify(3, deal="B", reason="Spam"), redefine(5, "lead", **junk))
    assert of_total(past) == ([("Junk", 1)], [("Spam", 1)])


def test_a_draft_has_reasons_too_and_its_question_makes_the_report_again():
    past = given(*PAST)
    draft = Draft(stages=B2B["stages"], **RENAMED)
    report = funnel(past, definition=draft)
    assert told(report.total.reasons)[0] == [("Budget", 2), ("Timing", 1), (None, 1)]
    question = json.loads(msgspec.json.encode(report.question))
    assert question["definition"]["reasons"] == RENAMED["reasons"]
    again = funnel(past, **{name: question[name] for name in ("as_of", "known_at", "definition")})
    assert (again.total, again.stages) == (report.total, report.stages)
    assert code_of(funnel, past, definition=draft.__replace__(reason_moves=None)) == "missing_reason_move"


def test_a_draft_without_reasons_is_repeated_as_it_always_was():
    report = funnel(given(FREE), definition=Draft(stages=FREE["stages"]))
    assert set(report.question["definition"]) == {"stages", "moves"}


def test_another_reason_is_another_digest():
    one, other = given(*PAST), given(*PAST[:-3], lose(20, deal="E", reason="Timing"), *PAST[-2:])
    assert funnel(one).content_digest != funnel(other).content_digest


def test_the_preview_of_a_redefinition_judges_its_reasons():
    past = given(B2B)
    change = {"reasons": {"lost": ["Cost"]}}
    stages = B2B["stages"]
    assert code_of(past.trail.preview_redefinition, "b2b", stages, **change) == "missing_reason_move"
    assert past.trail.preview_redefinition("b2b", stages, **change, reason_moves=PRICE_AND_TIMING) == []


# The deals behind


def behind(past, report=None, **cell):
    return [view.deal for view in past.trail.deals(report or funnel(past), **cell)]


def test_the_deals_behind_a_reason():
    past = given(*PAST)
    assert behind(past, field="lost", reason="Price") == ["B", "C"]
    assert behind(past, stage="proposal", field="lost", reason="Price") == ["B"]
    assert behind(past, field="lost", reason=None) == ["E"]
    assert behind(past, field="disqualified", reason="Student") == ["F"]
    assert behind(past, field="lost", reason="Student") == []
    assert behind(past, field="lost") == ["A", "B", "C", "E"]


def test_the_deals_behind_a_renamed_reason_are_asked_for_by_the_name_of_the_report():
    past = given(*PAST, redefine(60, *STAGES, **RENAMED))
    report = funnel(past, definition="current")
    assert behind(past, report, field="lost", reason="Budget") == ["B", "C"]
    assert behind(past, report, field="lost", reason="Price") == []


def test_a_reason_goes_with_losses_and_disqualifications_alone():
    past = given(*PAST)
    for report, field in ((funnel(past), "reached"), (funnel(past), None), (past.trail.pipeline_report("b2b"), "lost")):
        with pytest.raises(DealtrailError) as caught:
            past.trail.deals(report, field=field, reason="Price")
        assert (caught.value.code, caught.value.field) == ("invalid_field", "reason")


# What is stored


def test_definitions_show_their_reasons():
    past = given(B2B, redefine(5, *STAGES, **RENAMED))
    one, two = past.trail.definitions("b2b")
    assert (one.reasons, one.reason_moves) == (LISTED, {})
    assert (two.reasons, two.reason_moves) == (RENAMED["reasons"], RENAMED["reason_moves"])


def test_a_definition_without_reasons_and_a_loss_without_one_are_stored_as_they_always_were():
    assert mapper.encode(PipelineDefined("B2B", ())) == ("pipeline_defined.1", b'{"name":"B2B","stages":[]}')
    assert mapper.encode(PipelineRedefined((), {})) == ("pipeline_redefined.1", b'{"stages":[],"moves":{}}')
    assert mapper.encode(DealLost(None)) == ("deal_lost.1", b'{"reason":null}')


def test_the_reason_of_a_loss_of_the_first_format_is_read_from_the_definition_of_its_visit():
    opened = DealOpened("b2b", 2, "lead", "D", None, None, None, None, {})
    entries = [Entry(f"deal:{event}", n, n, n, n, event) for n, event in enumerate((opened, DealLost("dear")), 1)]
    path = Folding().fold(entries).path
    assert (path.marks[-1].kind, path.marks[-1].definition, path.reasons) == ("lost", 2, ["dear"])


def test_a_log_with_reasons_is_read_again_from_its_file(tmp_path):
    path = tmp_path / "sales.db"
    with Trail.open(path) as trail:
        trail.record_all(PAST)
        before = trail.funnel_report("b2b", cohort="2026", as_of=on(50))
    for model in tmp_path.glob("sales.db?*"):
        model.unlink()
    with Trail.open(path) as trail:
        after = trail.funnel_report("b2b", cohort="2026", as_of=on(50), known_at=before.known_at)
        assert (after.stages, after.digest) == (before.stages, before.digest)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
