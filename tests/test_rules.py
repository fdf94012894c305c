"""What may happen to a deal, and what may not: every rule of every action, at the end of a deal and in its middle."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from given import (
    B2B,
    CARE,
    MICROSECOND,
    NOW,
    STRICT,
    act,
    amend,
    assign,
    attributes,
    code_of,
    complete,
    define,
    disqualify,
    euro,
    expect,
    given,
    log,
    lose,
    merge,
    move,
    on,
    on_deal,
    opening,
    redefine,
    reopen,
    retract,
    revalue,
    stage,
    transfer,
    win,
)

from dealtrail import Conflict, InvalidInput, Money, Refused, Trail
from dealtrail.domain.actions import Amend, MoveDeal

OTHER = opening(1, deal="E")

# What an action is called


def test_an_action_has_a_name():
    given(B2B).when({"pipeline": "b2b"}).refused("missing_field")


def test_a_name_that_no_action_has_is_refused():
    given(B2B).when({"action": "close_deal", "deal": "D"}).refused("unknown_action")


def test_an_action_is_an_object():
    past = given(B2B)
    assert code_of(past.trail.record, "open_deal") == "invalid_field"


def test_a_field_that_the_action_does_not_have_is_refused():
    past = given(B2B, opening(1)).when(move(2, "qualified", reason="budget"))
    past.refused("unknown_field")
    assert past.refusal.field == "reason"


def test_a_field_that_the_action_needs_must_be_there():
    past = given(B2B, opening(1)).when(on_deal("move_deal", 2))
    past.refused("missing_field")
    assert past.refusal.field == "stage"


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ("change_value", "value"),
        ("assign_deal", "owner"),
        ("change_expected_close", "expected_close"),
        ("set_attributes", "attributes"),
        ("complete_action", "key"),
        ("log_activity", "kind"),
        ("transfer_deal", "pipeline"),
        ("merge_deal", "into"),
        ("retract", "version"),
    ],
)
def test_only_fields_with_a_question_mark_may_be_left_out(action, field):
    fields = {"reason": "by mistake"} if action == "retract" else {}
    past = given(B2B, opening(1)).when(on_deal(action, 2, **fields))
    past.refused("missing_field")
    assert past.refusal.field == field


def test_a_retraction_gives_its_reason():
    given(B2B, opening(1), log(2)).when(on_deal("retract", 3, version=2)).refused("missing_field")


def test_an_optional_field_that_is_null_is_absent():
    past = given(B2B).when(opening(1, stage=None, owner=None, value=None, by=None, id=None, expected_version=None))
    past.then("deal_opened", stage="lead", owner=None, value=None)


@pytest.mark.parametrize("key", ["Lead", "le ad", "-lead", "_lead", "", "lead\n", "l" * 65, "leád"])
def test_a_key_is_a_slug_of_at_most_64_characters(key):
    given(B2B, opening(1)).when(move(2, key)).refused("invalid_key")


def test_a_key_of_64_characters_is_a_key():
    given(define("0" + "a_-" * 21)).when(opening(1)).then("deal_opened", stage="0" + "a_-" * 21)


@pytest.mark.parametrize("deal", ["", "D\n", "D\x00", "\x7f", "\x85", "D" * 256, 7])
def test_a_deal_id_is_a_text_of_1_to_255_characters_without_control_characters(deal):
    given(B2B).when(opening(1, deal=deal)).refused("invalid_deal")


@pytest.mark.parametrize("deal", ["D" * 255, "Ørsted / zürich #4", "交易", " ", "deal:1"])
def test_any_text_without_control_characters_is_a_deal_id(deal):
    assert given(B2B).when(opening(1, deal=deal)).then("deal_opened").new[0].deal == deal


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": 7},
        {"owner": "a\tb"},
        {"owner": ""},
        {"attributes": {"size": [1]}},
        {"attributes": {"size": float("inf")}},
        {"attributes": {"size": 2**63}},
        {"attributes": "size"},
        {"expected_version": -1},
        {"expected_version": "0"},
        {"personal": {"name": 7}},
        {"value": "1200.50 EUR"},
    ],
)
def test_a_field_of_the_wrong_type_is_refused(wrong):
    given(B2B).when(opening(1, **wrong)).refused("invalid_field")


def test_an_attribute_is_a_text_a_number_or_a_boolean():
    facts = {"size": 10, "share": 0.25, "region": "north", "vip": True}
    given(B2B).when(opening(1, attributes=facts)).then("deal_opened", attributes=facts)


def test_what_came_in_wrong_and_what_is_not_allowed_are_two_kinds_of_error():
    past = given(B2B, opening(1))
    assert isinstance(past.when(move(2, "Lead")).refusal, InvalidInput)
    assert isinstance(past.when(move(2, "lead")).refusal, Refused)


# When it happened


def test_an_action_without_a_time_happened_when_it_was_recorded():
    past = given(B2B).when(opening(None, recorded=on(107)))
    assert past.new[0].occurred_at == past.new[0].recorded_at == on(107)


def test_an_action_may_have_happened_now():
    given(B2B).when(opening(107, recorded=on(107))).then("deal_opened")


def test_an_action_may_not_happen_later_than_now():
    given(B2B).when(opening(on(107) + MICROSECOND, recorded=on(107))).refused("future_time")


def test_a_retraction_may_not_happen_later_than_now():
    given(B2B, opening(1), log(2)).when(retract(2, on(101))).refused("future_time")


def test_an_amendment_may_not_move_an_event_into_the_future():
    given(B2B, opening(1), log(2)).when(amend(2, on(101))).refused("future_time")


def test_now_is_the_last_recorded_at_where_the_clock_is_behind_it():
    past = given(B2B, opening(1, recorded=on(150))).when(log(on(150) + MICROSECOND, recorded=on(20)))
    past.then("activity_logged")
    past.when(log(on(150) + 3 * MICROSECOND, recorded=on(20))).refused("future_time")


def test_each_step_is_recorded_later_than_the_one_before_even_if_the_clock_stands():
    past = given(B2B, opening(1), log(2))
    assert [event.recorded_at - NOW for event in past.log()] == [0 * MICROSECOND, MICROSECOND, 2 * MICROSECOND]


def test_each_step_is_recorded_later_than_the_one_before_even_if_the_clock_goes_back():
    past = given(define("lead", recorded=on(50)), opening(1, recorded=on(40)), log(2, recorded=on(60)))
    assert [event.recorded_at for event in past.log()] == [on(50), on(50) + MICROSECOND, on(60)]


def test_the_actions_of_a_batch_share_their_recorded_at_and_no_two_steps_do():
    past = given([B2B, opening(1)], [log(2), amend(2, kind="mail")])
    moments = [event.recorded_at for event in past.log()]
    assert moments == [NOW, NOW] + [NOW + MICROSECOND] * 3


def test_an_amendment_is_one_step_of_two_events():
    past = given(B2B, opening(1), log(2)).when(amend(2, kind="mail"))
    past.then("event_retracted", "activity_logged")
    assert past.new[0].recorded_at == past.new[1].recorded_at


def test_positions_count_the_log_and_versions_the_deal():
    past = given(B2B, opening(1), OTHER, log(2), redefine(3, "lead", "qualified", "proposal"), log(4))
    coordinates = [(event.position, event.version) for event in past.log()]
    assert coordinates == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)]


def test_of_two_events_at_one_moment_the_one_recorded_later_comes_later():
    past = given(B2B, opening(1), assign(5, "anna"), assign(5, "bob"), assign(4, "carla"))
    assert past.deal().owner == "bob"


def test_an_event_at_the_very_moment_of_the_opening_comes_after_it():
    given(B2B, opening(1)).when(move(1, "qualified")).then("stage_entered", stage="qualified")


# Opening


def test_a_deal_is_opened_into_the_first_stage():
    given(B2B).when(opening(1)).then("deal_opened", pipeline="b2b", stage="lead", definition=1)


def test_a_deal_is_opened_into_the_stage_that_is_named():
    given(B2B).when(opening(1, stage="proposal")).then("deal_opened", stage="proposal")


def test_a_deal_is_not_opened_into_a_stage_that_is_not_there():
    given(B2B).when(opening(1, stage="service")).refused("unknown_stage")


def test_a_deal_is_not_opened_into_a_pipeline_that_is_not_there():
    given(B2B).when(opening(1, pipeline="care")).refused("unknown_pipeline")


def test_a_deal_is_opened_once():
    given(B2B, opening(1)).when(opening(2)).refused("deal_exists")


def test_a_deal_that_is_lost_was_opened_once_all_the_same():
    given(B2B, opening(1), lose(2)).when(opening(3)).refused("deal_exists")


def test_a_deal_is_called_as_it_is_told():
    assert given(B2B).when(opening(1, deal="D-1", id="import-7")).results[0].deal == "D-1"


def test_a_deal_without_a_name_is_called_as_the_id_of_its_action():
    assert given(B2B).when(act("open_deal", 1, pipeline="b2b", id="import-7")).results[0].deal == "import-7"


def test_a_deal_with_neither_name_nor_id_gets_a_name_of_its_own():
    past = given(B2B).when(act("open_deal", 1, pipeline="b2b"), act("open_deal", 1, pipeline="b2b"))
    assert len({result.deal for result in past.results}) == 2


def test_the_subject_of_a_deal_is_the_deal_unless_it_is_given():
    past = given(B2B, opening(1), opening(1, deal="E", subject="person-7"))
    assert (past.deal("D").subject, past.deal("E").subject) == ("D", "person-7")


def test_an_opening_says_all_that_it_was_told():
    facts = {
        "owner": "anna",
        "source": "web",
        "expected_close": "2026-05-01",
        "value": euro("1200.50"),
        "title": "Roof",
    }
    deal = given(B2B, opening(1, attributes={"size": 3}, personal={"mail": "a@b.c"}, **facts)).deal()
    assert (deal.owner, deal.source, deal.expected_close) == ("anna", "web", date(2026, 5, 1))
    assert (str(deal.value.amount), deal.value.currency, deal.attributes) == ("1200.50", "EUR", {"size": 3})
    assert (deal.title, deal.personal, deal.status, deal.opened_at) == ("Roof", {"mail": "a@b.c"}, "open", on(1))


def test_an_opening_is_judged_by_the_definition_in_force_when_it_occurred():
    past = given(B2B, redefine(10, "contact", "proposal", moves={"lead": "contact", "qualified": "contact"}))
    past.when(opening(9)).then("deal_opened", stage="lead", definition=1)
    past.when(opening(10, deal="E")).then("deal_opened", stage="contact", definition=2)
    past.when(opening(9, deal="F", stage="contact")).refused("unknown_stage")


@pytest.mark.parametrize(
    "action",
    [
        move(4, "qualified"),
        revalue(4, 5),
        assign(4, "anna"),
        expect(4, "2026-05-01"),
        attributes(4, size=1),
        complete(4, "call"),
        log(4),
        win(4),
        lose(4),
        disqualify(4),
        reopen(4),
        transfer(4),
        merge(4),
    ],
    ids=lambda action: action["action"],
)
def test_nothing_of_a_deal_may_occur_before_its_opening(action):
    given(B2B, CARE, OTHER, opening(5)).when(action).refused("before_opening")


@pytest.mark.parametrize(
    "action",
    [
        move(4, "qualified"),
        revalue(4, 5),
        assign(4, "anna"),
        expect(4, "2026-05-01"),
        attributes(4, size=1),
        complete(4, "call"),
        log(4),
        win(4),
        lose(4),
        disqualify(4),
        reopen(4),
        transfer(4),
        merge(4),
        retract(1),
        amend(1, owner="anna"),
    ],
    ids=lambda action: action["action"],
)
def test_nothing_happens_to_a_deal_that_was_never_opened(action):
    given(B2B, CARE, OTHER).when(action).refused("unknown_deal")


def test_an_opening_amended_past_a_later_event_would_leave_it_before_the_deal():
    given(B2B, opening(1), log(5), log(9)).when(amend(1, 6)).refused("before_opening")


def test_an_opening_amended_up_to_the_next_event_still_comes_before_it():
    past = given(B2B, opening(1), move(5, "qualified")).when(amend(1, 5)).then("event_retracted", "deal_opened")
    assert (past.deal().opened_at, past.deal().stage) == (on(5), "qualified")


def test_an_event_amended_to_a_time_before_the_opening_is_refused():
    given(B2B, opening(5), log(6)).when(amend(2, 4)).refused("before_opening")


def test_an_opening_whose_followers_were_retracted_may_move_past_them():
    given(B2B, opening(1), log(5), retract(2)).when(amend(1, 6)).then("event_retracted", "deal_opened")


# Open, closed, merged

CLOSED = {
    "won": win(5),
    "lost": lose(5),
    "disqualified": disqualify(5),
}
NEED_OPEN = [
    move(6, "qualified"),
    expect(6, "2026-05-01"),
    complete(6, "mail"),
    win(6),
    lose(6),
    disqualify(6),
    transfer(6),
]
NEED_UNMERGED = [revalue(6, 5), assign(6, "anna"), attributes(6, size=1), log(6), merge(6)]
EVENT_OF = {
    "move_deal": "stage_entered",
    "change_value": "value_changed",
    "assign_deal": "deal_assigned",
    "change_expected_close": "expected_close_changed",
    "set_attributes": "attributes_set",
    "complete_action": "action_completed",
    "log_activity": "activity_logged",
    "win_deal": "deal_won",
    "lose_deal": "deal_lost",
    "disqualify_deal": "deal_disqualified",
    "reopen_deal": "deal_reopened",
    "transfer_deal": "deal_transferred",
    "merge_deal": "deal_merged",
}
OPTIONAL = define(stage("lead", optional=["mail"]), "qualified", "proposal")


@pytest.mark.parametrize("action", [*NEED_OPEN, *NEED_UNMERGED], ids=lambda action: action["action"])
def test_an_open_deal_may_do_all_but_be_reopened(action):
    given(OPTIONAL, CARE, OTHER, opening(1)).when(action).then(EVENT_OF[action["action"]])


def test_an_open_deal_is_not_reopened():
    given(B2B, opening(1)).when(reopen(2)).refused("deal_not_closed")


@pytest.mark.parametrize("closing", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("action", NEED_OPEN, ids=lambda action: action["action"])
def test_a_closed_deal_must_be_reopened_first(closing, action):
    given(OPTIONAL, CARE, OTHER, opening(1), closing).when(action).refused("deal_not_open")


@pytest.mark.parametrize("closing", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("action", [*NEED_UNMERGED, reopen(6)], ids=lambda action: action["action"])
def test_a_closed_deal_may_still_be_written_about(closing, action):
    given(OPTIONAL, CARE, OTHER, opening(1), closing).when(action).then(EVENT_OF[action["action"]])


@pytest.mark.parametrize("action", [*NEED_OPEN, *NEED_UNMERGED, reopen(6)], ids=lambda action: action["action"])
def test_nothing_happens_to_a_merged_deal(action):
    given(OPTIONAL, CARE, OTHER, opening(1), merge(5)).when(action).refused("deal_merged")


@pytest.mark.parametrize("action", [*NEED_OPEN, *NEED_UNMERGED, reopen(6)], ids=lambda action: action["action"])
def test_nothing_happens_to_a_deal_that_was_merged_when_it_was_lost(action):
    given(OPTIONAL, CARE, OTHER, opening(1), lose(3), merge(5)).when(action).refused("deal_merged")


def test_before_the_moment_of_its_merge_a_merged_deal_was_open():
    given(B2B, OTHER, opening(1), merge(5)).when(log(4)).then("activity_logged")


def test_before_its_loss_a_lost_deal_was_open():
    given(B2B, opening(1), lose(5)).when(move(3, "qualified")).then("stage_entered")


@pytest.mark.parametrize("closing", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("action", NEED_OPEN, ids=lambda action: action["action"])
def test_a_deal_is_not_closed_before_something_that_it_did_while_open(closing, action):
    given(OPTIONAL, CARE, OTHER, opening(1), action).when(closing).refused("deal_not_open")


@pytest.mark.parametrize("action", [*NEED_OPEN, *NEED_UNMERGED], ids=lambda action: action["action"])
def test_a_deal_is_not_merged_before_something_that_it_did(action):
    given(OPTIONAL, CARE, OTHER, opening(1), action).when(merge(5)).refused("deal_merged")


def test_a_deal_is_not_merged_before_its_reopening():
    given(B2B, OTHER, opening(1), lose(3), reopen(6)).when(merge(5)).refused("deal_merged")


def test_a_merge_is_not_amended_to_before_something_that_the_deal_did():
    given(B2B, OTHER, opening(1), log(6), merge(7)).when(amend(3, 5)).refused("deal_merged")


def test_a_loss_is_not_amended_to_before_something_that_the_deal_did_while_open():
    given(B2B, opening(1), move(6, "qualified"), lose(7)).when(amend(3, 5)).refused("deal_not_open")


@pytest.mark.parametrize("action", NEED_OPEN, ids=lambda action: action["action"])
def test_a_reopening_is_not_retracted_that_a_later_event_needs(action):
    given(OPTIONAL, CARE, OTHER, opening(1), lose(3), reopen(5), action).when(retract(3)).refused("deal_not_open")


def test_a_reopening_is_not_amended_to_after_an_event_that_needs_it():
    given(B2B, opening(1), lose(3), reopen(5), move(6, "qualified")).when(amend(3, 7)).refused("deal_not_open")


def test_a_reopening_may_be_retracted_that_no_later_event_needs():
    past = given(B2B, opening(1), lose(3), reopen(5), log(6)).when(retract(3)).then("event_retracted")
    assert past.deal().status == "lost"


def test_a_loss_is_not_retracted_that_a_reopening_needs():
    given(B2B, opening(1), lose(3), reopen(5)).when(retract(2)).refused("deal_not_closed")


def test_a_loss_is_not_amended_to_after_the_reopening_that_needs_it():
    given(B2B, opening(1), lose(3), reopen(5)).when(amend(2, 6)).refused("deal_not_closed")


def test_a_deal_is_not_reopened_before_the_reopening_that_needs_it_closed():
    given(B2B, opening(1), lose(3), reopen(5)).when(reopen(4)).refused("deal_not_closed")


def test_a_loss_in_between_is_not_saved_by_the_reopening_that_follows_it_in_the_batch():
    given(B2B, opening(1), move(9, "qualified")).when(lose(3), reopen(4)).refused("deal_not_open")


def test_a_closed_deal_may_be_merged_and_stays_out():
    assert given(B2B, OTHER, opening(1), win(3), merge(5)).deal().status == "merged"


# Moving


def test_a_deal_moves_to_another_stage():
    given(B2B, opening(1)).when(move(2, "proposal")).then("stage_entered", pipeline="b2b", stage="proposal")


def test_a_deal_moves_back():
    given(B2B, opening(1, stage="proposal")).when(move(2, "lead")).then("stage_entered", stage="lead")


def test_a_deal_does_not_move_to_where_it_is():
    given(B2B, opening(1), move(2, "qualified")).when(move(3, "qualified")).refused("already_in_stage")


def test_a_deal_does_not_move_to_a_stage_that_is_not_there():
    given(B2B, opening(1)).when(move(2, "won")).refused("unknown_stage")


def test_a_deal_does_not_move_to_a_stage_of_another_pipeline():
    given(B2B, CARE, opening(1)).when(move(2, "service")).refused("unknown_stage")


def test_a_backdated_move_to_where_a_later_move_goes_would_leave_that_one_nothing_to_do():
    given(B2B, opening(1), move(5, "qualified")).when(move(3, "qualified")).refused("already_in_stage")


def test_a_backdated_move_to_another_stage_leaves_the_later_one_as_it_is():
    past = given(B2B, opening(1), move(5, "qualified")).when(move(3, "proposal")).then("stage_entered")
    assert (past.deal(as_of=on(4)).stage, past.deal().stage) == ("proposal", "qualified")


def test_a_move_is_not_retracted_from_between_two_visits_to_one_stage():
    past = given(B2B, opening(1), move(3, "qualified"), move(5, "lead"))
    past.when(retract(2)).refused("already_in_stage")


def test_a_move_is_not_amended_to_the_stage_that_a_later_move_goes_to():
    past = given(B2B, opening(1), move(3, "qualified"), move(5, "proposal"))
    past.when(amend(2, stage="proposal")).refused("already_in_stage")


def test_a_move_is_not_amended_to_the_stage_where_the_deal_is():
    given(B2B, opening(1), move(3, "qualified")).when(amend(2, stage="lead")).refused("already_in_stage")


def test_an_opening_is_not_amended_to_the_stage_that_the_next_move_goes_to():
    given(B2B, opening(1), move(3, "qualified")).when(amend(1, stage="qualified")).refused("already_in_stage")


def test_a_move_is_not_amended_to_after_a_move_that_it_made_possible():
    past = given(B2B, opening(1), move(3, "qualified"), move(5, "lead"), move(7, "proposal"))
    past.when(amend(2, 6)).refused("already_in_stage")


def test_a_backdated_move_takes_the_stages_of_its_day():
    past = given(
        B2B, redefine(10, "contact", "proposal", moves={"lead": "contact", "qualified": "contact"}), opening(1)
    )
    past.when(move(9, "contact")).refused("unknown_stage")
    past.when(move(9, "qualified")).then("stage_entered", stage="qualified", definition=1)
    past.when(move(10, "qualified")).refused("unknown_stage")


def test_an_event_stores_the_definition_as_it_was_known_when_it_was_recorded():
    past = given(B2B, opening(1), move(6, "qualified"), redefine(5, "lead", "qualified", "proposal"))
    assert [event.data["definition"] for event in past.trail.history("D")] == [1, 1]
    past.when(move(7, "proposal")).then("stage_entered", definition=2)


def test_a_stage_that_was_renamed_is_the_same_stage():
    past = given(B2B, opening(1), redefine(5, "contact", "qualified", "proposal", moves={"lead": "contact"}))
    past.when(move(6, "contact")).refused("already_in_stage")


def test_a_key_that_changed_its_meaning_is_another_stage():
    swap = {"lead": "qualified", "qualified": "lead"}
    past = given(B2B, opening(1), redefine(5, "lead", "qualified", "proposal", moves=swap))
    past.when(move(6, "qualified")).refused("already_in_stage")
    past.when(move(6, "lead")).then("stage_entered", stage="lead", definition=2)


def split(day, field, value, **more):
    rules = [{"when": {"field": field, "op": "eq", "value": value}, "to": "big"}, {"to": "small"}]
    return redefine(day, "lead", "small", "big", moves={"qualified": rules, "proposal": "big"}, **more)


def test_a_visit_to_a_stage_that_was_split_is_compared_by_the_deal_as_the_visit_began():
    past = given(B2B, opening(1, stage="qualified", owner="anna"), assign(2, "bob"), split(5, "owner", "anna"))
    past.when(move(6, "big")).refused("already_in_stage")
    past.when(move(6, "small")).then("stage_entered", stage="small")


def test_an_older_event_is_compared_by_the_deal_just_after_it():
    past = given(B2B, opening(1, owner="anna"), move(8, "qualified"), split(5, "owner", "anna"))
    past.when(move(6, "big")).refused("already_in_stage")  # the move of the 8th reads as one to `big`
    past.when(move(6, "small")).then("stage_entered", definition=2)


def test_an_amended_fact_is_refused_that_would_lead_the_visit_to_where_a_later_move_goes():
    past = given(B2B, opening(1, stage="qualified", owner="bob"), split(5, "owner", "anna"), move(6, "big"))
    past.when(amend(1, owner="anna")).refused("already_in_stage")


def test_a_backdated_fact_is_refused_that_would_lead_the_visit_to_where_a_later_move_goes():
    past = given(B2B, opening(1), move(3, "qualified"), split(5, "owner", "anna"), move(6, "big"))
    past.when(assign(2, "anna")).refused("already_in_stage")
    past.when(assign(4, "anna")).then("deal_assigned")  # by then the visit had begun


def test_a_fact_is_not_retracted_that_led_the_visit_away_from_where_a_later_move_goes():
    past = given(B2B, opening(1, owner="anna"), assign(2, "bob"), move(3, "qualified"))
    past.when(split(5, "owner", "anna")).when(move(6, "big")).then("stage_entered")
    past.when(retract(2)).refused("already_in_stage")


# Required actions

CALL = define(stage("lead", required=["call"]), "qualified", "proposal")


def test_a_forward_move_waits_for_the_required_actions_of_the_stage():
    past = given(STRICT, opening(1)).when(move(3, "qualified"))
    past.refused("required_action_missing")
    assert "call" in past.refusal.message
    assert "mail" not in past.refusal.message


def test_a_completed_action_lets_the_deal_go_on():
    given(STRICT, opening(1), complete(2, "call")).when(move(3, "qualified")).then("stage_entered")


def test_an_action_completed_twice_is_completed():
    past = given(STRICT, opening(1), complete(2, "call"), complete(2, "call")).when(move(3, "qualified"))
    past.then("stage_entered")


def test_an_action_completed_after_the_move_came_too_late_for_it():
    past = given(STRICT, opening(1), complete(4, "call")).when(move(3, "qualified"))
    past.refused("required_action_missing")


def test_of_the_stages_that_a_move_skips_nothing_is_asked():
    given(STRICT, opening(1), complete(2, "call")).when(move(3, "proposal")).then("stage_entered")


def test_of_a_move_back_nothing_is_asked():
    given(STRICT, opening(1, stage="qualified")).when(move(3, "lead")).then("stage_entered")


def test_a_win_waits_for_the_required_actions_of_the_stage():
    past = given(STRICT, opening(1))
    past.when(win(3)).refused("required_action_missing")
    past.when(complete(2, "call")).then("action_completed")
    past.when(win(3)).then("deal_won", pipeline="b2b", definition=1)


@pytest.mark.parametrize("action", [lose(3), disqualify(3), transfer(3), merge(3)], ids=lambda action: action["action"])
def test_who_gives_a_deal_up_completes_nothing(action):
    given(STRICT, CARE, OTHER, opening(1)).when(action).then(EVENT_OF[action["action"]])


def test_an_action_is_completed_anew_in_a_stage_that_the_deal_is_moved_back_to():
    past = given(STRICT, opening(1), complete(2, "call"), move(3, "qualified"), move(4, "lead"))
    past.when(move(5, "proposal")).refused("required_action_missing")


def test_an_action_is_completed_anew_after_a_reopening():
    past = given(STRICT, opening(1), complete(2, "call"), lose(3), reopen(4))
    past.when(win(5)).refused("required_action_missing")


def test_an_action_is_completed_anew_after_a_transfer_to_and_fro():
    past = given(STRICT, CARE, opening(1), complete(2, "call"), transfer(3), transfer(4, "b2b"))
    past.when(win(5)).refused("required_action_missing")


def test_a_required_action_is_not_retracted_that_a_later_move_needs():
    past = given(STRICT, opening(1), complete(2, "call"), move(3, "qualified"))
    past.when(retract(2)).refused("required_action_missing")


def test_a_required_action_is_not_retracted_that_a_later_win_needs():
    given(STRICT, opening(1), complete(2, "call"), win(3)).when(retract(2)).refused("required_action_missing")


def test_a_required_action_completed_twice_may_be_retracted_once():
    past = given(STRICT, opening(1), complete(2, "call"), complete(2, "call"), move(3, "qualified"))
    past.when(retract(2)).then("event_retracted")
    past.when(retract(3)).refused("required_action_missing")


def test_a_required_action_is_not_amended_to_after_the_move_that_needs_it():
    past = given(STRICT, opening(1), complete(2, "call"), move(3, "qualified"))
    past.when(amend(2, 4)).refused("required_action_missing")


def test_a_required_action_is_not_amended_to_another():
    past = given(STRICT, opening(1), complete(2, "call"), move(3, "qualified"))
    past.when(amend(2, key="mail")).refused("required_action_missing")


def test_a_backdated_move_back_would_ask_for_the_action_again():
    past = given(CALL, opening(1), complete(2, "call"), move(9, "proposal"), move(5, "qualified"))
    past.when(move(6, "lead")).refused("required_action_missing")


def test_a_move_amended_to_a_stage_with_a_required_action_would_keep_the_deal_from_going_on():
    past = given(CALL, opening(1, stage="proposal"), move(3, "qualified"), move(5, "proposal"))
    past.when(amend(2, stage="lead")).refused("required_action_missing")


def test_a_move_is_not_retracted_where_the_deal_would_then_wait_for_an_action():
    past = given(STRICT, opening(1, stage="qualified"), move(3, "lead"), complete(4, "call"), move(5, "proposal"))
    past.when(retract(2)).refused("action_not_in_stage")
    past.when(retract(3)).refused("required_action_missing")


def test_what_was_completed_before_a_reopening_does_not_stand_in_for_what_is_retracted_after_it():
    past = given(STRICT, opening(1), complete(2, "call"), lose(3), reopen(4), complete(5, "call"), win(6))
    past.when(retract(5)).refused("required_action_missing")
    past.when(retract(2)).then("event_retracted")


def test_an_action_that_a_newer_version_requires_is_asked_of_a_visit_that_began_before_it():
    past = given(B2B, opening(1), redefine(5, stage("lead", required=["call"]), "qualified", "proposal"))
    past.when(move(6, "qualified")).refused("required_action_missing")
    past.when(move(4, "qualified")).then("stage_entered", definition=1)


def test_an_action_that_a_newer_version_no_longer_requires_is_not_asked():
    past = given(STRICT, opening(1), redefine(5, "lead", "qualified", "proposal"))
    past.when(move(4, "qualified")).refused("required_action_missing")
    past.when(move(6, "qualified")).then("stage_entered", definition=2)


def test_an_action_completed_under_the_older_version_counts_under_the_newer():
    past = given(STRICT, opening(1), complete(2, "call"))
    past.when(
        redefine(
            5,
            stage("contact", required=["call"]),
            "done",
            moves=dict.fromkeys(("lead", "qualified", "proposal"), "contact"),
        )
    )
    past.when(win(6)).then("deal_won", definition=2)


def test_the_newer_version_holds_also_where_the_visit_is_the_newer_of_the_two():
    past = given(B2B, opening(1), move(8, "proposal"))
    past.when(redefine(5, "lead", stage("qualified", required=["demo"]), "proposal")).then("pipeline_redefined")
    # The move of the 8th stored version 1. A visit to `qualified` on the 6th begins under version 2, which asks for it.
    past.when(move(6, "qualified")).refused("required_action_missing")


def test_forward_is_what_the_newer_version_calls_forward():
    past = given(STRICT, opening(1), redefine(5, "proposal", "qualified", stage("lead", required=["call"])))
    past.when(move(4, "proposal")).refused("required_action_missing")
    past.when(move(6, "proposal")).then("stage_entered")


def test_an_action_of_the_current_stage_is_completed():
    given(STRICT, opening(1)).when(complete(2, "mail")).then(
        "action_completed", pipeline="b2b", definition=1, key="mail"
    )


def test_an_action_of_another_stage_is_not_completed():
    given(STRICT, opening(1)).when(complete(2, "demo")).refused("action_not_in_stage")


def test_an_action_that_no_stage_has_is_not_completed():
    given(B2B, opening(1)).when(complete(2, "call")).refused("action_not_in_stage")


def test_an_action_that_only_the_newer_version_has_is_completed_under_that():
    past = given(B2B, opening(1), redefine(5, stage("lead", optional=["mail"]), "qualified", "proposal"))
    past.when(complete(4, "mail")).refused("action_not_in_stage")
    past.when(complete(6, "mail")).then("action_completed", definition=2)


def test_a_backdated_move_away_would_leave_a_completed_action_without_its_stage():
    past = given(STRICT, opening(1), complete(2, "call"), complete(6, "mail"))
    past.when(move(4, "qualified")).refused("action_not_in_stage")


def test_a_move_is_not_retracted_that_a_completed_action_needs():
    past = given(STRICT, opening(1, stage="proposal"), move(2, "lead"), complete(3, "mail"))
    past.when(retract(2)).refused("action_not_in_stage")


def test_a_move_is_not_amended_to_another_stage_than_a_completed_action_needs():
    past = given(STRICT, opening(1, stage="proposal"), move(2, "lead"), complete(3, "mail"))
    past.when(amend(2, stage="qualified")).refused("action_not_in_stage")


def test_a_move_is_not_amended_to_after_a_completed_action_that_needs_it():
    past = given(STRICT, opening(1, stage="proposal"), move(2, "lead"), complete(3, "mail"))
    past.when(amend(2, 4)).refused("action_not_in_stage")


def test_a_completed_action_is_not_amended_to_before_the_move_that_it_needs():
    past = given(STRICT, opening(1, stage="proposal"), move(3, "lead"), complete(4, "mail"))
    past.when(amend(3, 2)).refused("action_not_in_stage")


# Facts about a deal


def money(amount):
    return Money(Decimal(amount), "EUR")


def test_a_value_is_changed_and_taken_away():
    past = given(B2B, opening(1, value=euro(5)), revalue(2, "7.50"), revalue(3, None))
    assert [past.deal(as_of=on(day)).value for day in (1, 2, 3)] == [money("5"), money("7.50"), None]


def test_a_deal_is_assigned_and_left_to_nobody():
    past = given(B2B, opening(1, owner="anna"), assign(2, "bob"), assign(3, None))
    assert [past.deal(as_of=on(day)).owner for day in (1, 2, 3)] == ["anna", "bob", None]


def test_an_expected_close_is_changed_and_taken_away():
    past = given(B2B, opening(1), expect(2, "2026-05-01"), expect(3, None))
    assert [past.deal(as_of=on(day)).expected_close for day in (1, 2, 3)] == [None, date(2026, 5, 1), None]


def test_attributes_are_merged_and_null_removes_one():
    past = given(B2B, opening(1, attributes={"size": 3, "region": "north"}), attributes(2, size=None, vip=True))
    assert past.deal().attributes == {"region": "north", "vip": True}


def test_an_attribute_that_is_null_at_the_opening_is_not_there():
    given(B2B).when(opening(1, attributes={"size": None, "vip": False})).then("deal_opened", attributes={"vip": False})


def test_a_logged_activity_changes_nothing_of_the_deal():
    past = given(B2B, opening(1))
    before = past.deal(as_of=on(3))
    past.when(log(2, "call", note="rang twice")).then("activity_logged", kind="call")
    assert past.new[0].note == "rang twice"
    assert [getattr(past.deal(as_of=on(3)), name) for name in ("stage", "status")] == [before.stage, before.status]


# Winning, losing, reopening


def test_a_win_may_bring_another_value():
    past = given(B2B, opening(1, value=euro(5)), win(2, value=euro(8)))
    assert (past.deal().status, past.deal().value, past.deal().closed_at) == ("won", money("8"), on(2))


def test_a_win_without_a_value_leaves_the_value():
    assert given(B2B, opening(1, value=euro(5)), win(2)).deal().value == money("5")


@pytest.mark.parametrize(("action", "status"), [("lose_deal", "lost"), ("disqualify_deal", "disqualified")])
def test_a_loss_keeps_its_reason(action, status):
    deal = given(B2B, opening(1), on_deal(action, 2, reason="price")).deal()
    assert (deal.status, deal.reason, deal.closed_at, deal.stage) == (status, "price", on(2), "lead")


def test_a_reopened_deal_returns_to_the_stage_that_it_left_from():
    past = given(B2B, opening(1), move(2, "qualified"), lose(3)).when(reopen(4))
    past.then("deal_reopened", pipeline="b2b", definition=1, stage="qualified")
    assert (past.deal().status, past.deal().reason, past.deal().closed_at) == ("open", None, None)


def test_a_reopened_deal_goes_to_the_stage_that_is_named():
    given(B2B, opening(1), win(3)).when(reopen(4, stage="proposal")).then("deal_reopened", stage="proposal")


def test_a_deal_may_be_reopened_into_the_stage_that_it_left_from_by_name():
    given(B2B, opening(1), win(3)).when(reopen(4, stage="lead")).then("deal_reopened", stage="lead")


def test_a_deal_is_not_reopened_into_a_stage_that_is_not_there():
    given(B2B, opening(1), win(3)).when(reopen(4, stage="intake")).refused("unknown_stage")


def test_a_reopened_deal_returns_to_what_became_of_its_stage():
    past = given(B2B, opening(1, owner="anna", stage="qualified"), lose(2), assign(3, "bob"), split(5, "owner", "anna"))
    past.when(reopen(4)).then("deal_reopened", stage="qualified", definition=1)
    past.when(retract(4)).when(reopen(5)).then("deal_reopened", stage="big", definition=2)


def test_a_stage_that_was_looked_up_by_default_is_stored():
    past = given(B2B, opening(1), lose(2), reopen(4))
    past.when(redefine(3, "contact", "qualified", "proposal", moves={"lead": "contact"})).then("pipeline_redefined")
    assert past.trail.history("D")[2].data == {"pipeline": "b2b", "definition": 1, "stage": "lead"}


# Transfers


def test_a_deal_is_transferred_into_the_first_stage_of_another_pipeline():
    past = given(B2B, CARE, opening(1)).when(transfer(2))
    past.then("deal_transferred", pipeline="care", definition=1, stage="intake")
    assert (past.deal().pipeline, past.deal().stage, past.deal().status) == ("care", "intake", "open")


def test_a_deal_is_transferred_into_the_stage_that_is_named():
    given(B2B, CARE, opening(1)).when(transfer(2, stage="service")).then("deal_transferred", stage="service")


def test_a_deal_is_not_transferred_into_a_stage_of_the_pipeline_that_it_leaves():
    given(B2B, CARE, opening(1)).when(transfer(2, stage="qualified")).refused("unknown_stage")


def test_a_deal_is_not_transferred_to_where_it_is():
    given(B2B, opening(1)).when(transfer(2, "b2b", stage="qualified")).refused("same_pipeline")


def test_a_deal_is_not_transferred_to_a_pipeline_that_is_not_there():
    given(B2B, opening(1)).when(transfer(2, "care")).refused("unknown_pipeline")


def test_a_transfer_takes_the_definition_of_the_other_pipeline_on_its_day():
    past = given(
        B2B, CARE, redefine(10, "desk", pipeline="care", moves={"intake": "desk", "service": "desk"}), opening(1)
    )
    past.when(transfer(9)).then("deal_transferred", stage="intake", definition=1)
    past.when(retract(2)).when(transfer(10)).then("deal_transferred", stage="desk", definition=2)


def test_after_a_transfer_the_stages_are_those_of_the_other_pipeline():
    past = given(B2B, CARE, opening(1), transfer(2))
    past.when(move(3, "qualified")).refused("unknown_stage")
    past.when(move(3, "service")).then("stage_entered", pipeline="care", stage="service")


LATER = [
    (move(6, "qualified"), "other_pipeline"),
    (complete(6, "mail"), "other_pipeline"),
    (win(6), "other_pipeline"),
    (transfer(6), "same_pipeline"),
]


@pytest.mark.parametrize(("action", "code"), LATER, ids=[action["action"] for action, _ in LATER])
def test_a_backdated_transfer_would_leave_what_came_later_in_another_pipeline(action, code):
    given(OPTIONAL, CARE, opening(1), action).when(transfer(4)).refused(code)


@pytest.mark.parametrize(
    "action",
    [lose(6), disqualify(6), expect(6, "2026-05-01"), log(6), revalue(6, 5), assign(6, "anna"), merge(6)],
    ids=lambda action: action["action"],
)
def test_what_names_no_stage_may_have_happened_in_any_pipeline(action):
    past = given(B2B, CARE, OTHER, opening(1), action).when(transfer(4)).then("deal_transferred")
    assert past.deal(as_of=on(5)).pipeline == "care"


def test_a_backdated_transfer_before_a_reopening_would_leave_it_in_another_pipeline():
    given(B2B, CARE, opening(1), lose(5), reopen(6)).when(transfer(4)).refused("other_pipeline")


@pytest.mark.parametrize(
    "action", [move(6, "service"), win(6), transfer(6, "b2b")], ids=lambda action: action["action"]
)
def test_a_transfer_is_not_retracted_that_a_later_event_needs(action):
    code = "same_pipeline" if action["action"] == "transfer_deal" else "other_pipeline"
    given(B2B, CARE, opening(1), transfer(4), action).when(retract(2)).refused(code)


def test_a_transfer_is_not_retracted_that_a_completed_action_needs():
    desk = define(stage("intake", optional=["mail"]), pipeline="care")
    given(OPTIONAL, desk, opening(1), transfer(4), complete(6, "mail")).when(retract(2)).refused("other_pipeline")


def test_a_transfer_is_not_retracted_that_a_reopening_needs():
    given(B2B, CARE, opening(1), transfer(4), win(5), reopen(6)).when(retract(2)).refused("other_pipeline")


def test_a_transfer_is_not_amended_to_after_the_move_that_needs_it():
    given(B2B, CARE, opening(1), transfer(4), move(6, "service")).when(amend(2, 7)).refused("other_pipeline")


def test_a_transfer_is_not_amended_to_after_the_one_that_leads_back():
    given(B2B, CARE, opening(1), transfer(4), transfer(6, "b2b")).when(amend(2, 7)).refused("same_pipeline")


def test_a_transfer_may_be_retracted_that_no_later_event_needs():
    past = given(B2B, CARE, opening(1), transfer(4), lose(6)).when(retract(2)).then("event_retracted")
    assert (past.deal().pipeline, past.deal().status) == ("b2b", "lost")


# Merges


def test_a_deal_is_merged_into_another():
    past = given(B2B, OTHER, opening(1)).when(merge(5)).then("deal_merged", into="E")
    assert (past.deal().status, past.deal().merged_into) == ("merged", "E")


def test_a_deal_is_not_merged_into_itself():
    given(B2B, opening(1)).when(merge(5, "D")).refused("merge_into_itself")


def test_a_deal_is_not_merged_into_one_that_is_not_there():
    given(B2B, opening(1)).when(merge(5, "E")).refused("merge_into_unknown")


def test_a_deal_is_not_merged_into_one_that_is_merged():
    given(B2B, OTHER, opening(1, deal="F"), merge(3, "F", deal="E"), opening(1)).when(merge(5)).refused(
        "merge_into_merged"
    )


def test_a_deal_is_not_merged_into_one_that_was_merged_only_later():
    past = given(B2B, OTHER, opening(1, deal="F"), merge(8, "F", deal="E"), opening(1))
    past.when(merge(5)).refused("merge_into_merged")


def test_a_deal_may_be_merged_into_one_that_is_closed_or_opened_later():
    past = given(B2B, opening(9, deal="E"), win(10, deal="E"), opening(1))
    past.when(merge(5)).then("deal_merged", into="E")


def test_a_merge_stands_when_the_deal_that_stayed_is_merged_itself():
    past = given(B2B, OTHER, opening(1, deal="F"), opening(1), merge(5), merge(6, "F", deal="E"))
    assert (past.deal("D").merged_into, past.deal("E").merged_into) == ("E", "F")
    past.when(log(4)).then("activity_logged")  # nor is it judged again when something else of the deal changes


def test_an_amended_merge_is_judged_anew():
    past = given(B2B, OTHER, opening(1, deal="F"), opening(1), merge(5), merge(6, "F", deal="E"))
    past.when(amend(2, 4)).refused("merge_into_merged")
    past.when(amend(2, into="F")).then("event_retracted", "deal_merged", into="F")


@pytest.mark.parametrize(("into", "code"), [("D", "merge_into_itself"), ("Z", "merge_into_unknown")])
def test_a_merge_is_not_amended_into_one_that_it_could_not_name(into, code):
    given(B2B, OTHER, opening(1), merge(5)).when(amend(2, into=into)).refused(code)


def test_a_retraction_unmerges():
    past = given(B2B, OTHER, opening(1), merge(5, recorded=on(106)), retract(2, recorded=on(109)))
    assert (past.deal().status, past.deal(known_at=on(108)).status) == ("open", "merged")
    assert past.row("lead").deals == 2
    assert past.row("lead", known_at=on(108)).deals == 1


def test_two_deals_may_be_merged_the_other_way_round_once_unmerged():
    past = given(B2B, OTHER, opening(1), merge(5))
    past.when(merge(6, "D", deal="E")).refused("merge_into_merged")
    past.when(retract(2)).when(merge(6, "D", deal="E")).then("deal_merged", into="D")


def test_from_its_merge_on_a_deal_is_in_no_report_and_until_then_in_all():
    past = given(B2B, OTHER, opening(1), merge(5))
    assert [past.row("lead", as_of=at).deals for at in (on(5) - MICROSECOND, on(5))] == [2, 1]


# Retractions


def test_an_event_is_retracted():
    past = given(B2B, opening(1), move(2, "qualified")).when(retract(2)).then("event_retracted", version=2)
    assert past.deal().stage == "lead"


@pytest.mark.parametrize("version", [0, 3, 2**53])
def test_an_event_that_is_not_there_is_not_retracted(version):
    given(B2B, opening(1), log(2)).when(retract(version)).refused("unknown_version")


def test_an_opening_is_not_retracted():
    given(B2B, opening(1)).when(retract(1)).refused("is_opening")


def test_an_amended_opening_is_an_opening():
    past = given(B2B, opening(1), amend(1, owner="anna"))
    past.when(retract(3)).refused("is_opening")
    past.when(retract(1)).refused("already_retracted")


def test_a_retraction_is_not_retracted():
    given(B2B, opening(1), log(2), retract(2)).when(retract(3)).refused("is_retraction")


def test_an_event_is_not_retracted_twice():
    given(B2B, opening(1), log(2), retract(2)).when(retract(2)).refused("already_retracted")


def test_an_event_that_was_amended_is_retracted_by_the_version_that_stands_for_it():
    past = given(B2B, opening(1), assign(2, "anna"), amend(2, owner="bob"))
    past.when(retract(2)).refused("already_retracted")
    past.when(retract(3)).refused("is_retraction")
    past.when(retract(4)).then("event_retracted", version=4)
    assert past.deal().owner is None


def test_a_retraction_may_have_happened_before_the_deal():
    given(B2B, opening(5), log(6)).when(retract(2, 1)).then("event_retracted")


def test_a_retraction_counts_from_when_it_was_recorded_and_not_from_its_own_time():
    past = given(B2B, opening(1), assign(2, "anna", recorded=on(200)), retract(2, 1, recorded=on(300)))
    assert past.trail.history("D")[2].occurred_at == on(1)
    assert past.deal(known_at=on(250), as_of=on(3)).owner == "anna"
    assert past.deal(known_at=on(300), as_of=on(3)).owner is None


# Amendments


def test_an_amendment_is_a_retraction_and_the_new_event():
    past = given(B2B, opening(1), assign(2, "anna")).when(amend(2, owner="bob"))
    past.then("event_retracted", "deal_assigned", owner="bob")
    assert (past.results[0].version, past.results[0].position) == (4, 5)
    marks = [(e.version, e.retracted_by, e.amended_by, e.amends) for e in past.trail.history("D")]
    assert marks == [(1, None, None, None), (2, 3, 4, None), (3, None, None, None), (4, None, None, 2)]


@pytest.mark.parametrize("version", [0, 3])
def test_an_event_that_is_not_there_is_not_amended(version):
    given(B2B, opening(1), log(2)).when(amend(version, kind="mail")).refused("unknown_version")


def test_a_retraction_is_not_amended():
    given(B2B, opening(1), log(2), retract(2)).when(amend(3, reason="other")).refused("is_retraction")


def test_a_retracted_event_is_not_amended():
    given(B2B, opening(1), log(2), retract(2)).when(amend(2, kind="mail")).refused("already_retracted")


def test_an_amendment_is_amended_and_the_first_event_is_not():
    past = given(B2B, opening(1), assign(2, "anna"), amend(2, owner="bob"))
    past.when(amend(2, owner="carla")).refused("already_retracted")
    past.when(amend(4, owner="carla")).then("event_retracted", "deal_assigned", owner="carla")
    past.when(retract(6)).then("event_retracted")
    assert past.deal().owner is None


def test_the_pipeline_of_an_event_is_not_amended():
    past = given(B2B, CARE, opening(1), transfer(2))
    past.when(amend(1, pipeline="care")).refused("pipeline_not_amendable")
    past.when(amend(2, pipeline="b2b")).refused("pipeline_not_amendable")


@pytest.mark.parametrize("field", ["kind", "into", "key", "changes", "definition"])
def test_a_field_that_the_event_does_not_have_is_not_amended(field):
    given(B2B, opening(1), assign(2, "anna")).when(amend(2, **{field: "x"})).refused("unknown_field")


def test_what_an_amendment_brings_is_checked_like_what_came_first():
    past = given(B2B, opening(1), assign(2, "anna"), move(3, "qualified"), revalue(4, 5))
    past.when(amend(2, owner="")).refused("invalid_field")
    past.when(amend(3, stage="Lead")).refused("invalid_key")
    past.when(amend(4, value={"amount": 5, "currency": "EUR"})).refused("invalid_amount")


def test_a_field_that_the_event_needs_is_not_taken_away():
    assert given(B2B, opening(1), log(2)).when(amend(2, kind=None)).refusal is not None


def test_fields_that_an_amendment_does_not_name_stay():
    facts = {"value": euro(5), "owner": "anna", "source": "web", "expected_close": "2026-05-01", "subject": "person-7"}
    past = given(B2B, opening(3, stage="qualified", attributes={"size": 3}, title="Roof", personal={"n": "A"}, **facts))
    past.when(amend(1, owner="bob")).then("event_retracted", "deal_opened", owner="bob", stage="qualified")
    deal = past.deal()
    assert (deal.opened_at, deal.value, deal.source, deal.subject) == (on(3), money("5"), "web", "person-7")
    assert (deal.expected_close, deal.attributes) == (date(2026, 5, 1), {"size": 3})
    assert (deal.title, deal.personal) == ("Roof", {"n": "A"})


def test_an_optional_field_that_an_amendment_gives_as_null_goes():
    past = given(B2B, opening(1, value=euro(5), owner="anna", subject="person-7", title="Roof"))
    past.when(amend(1, value=None, owner=None, subject=None, title=None))
    deal = past.then("event_retracted", "deal_opened").deal()
    assert (deal.value, deal.owner, deal.subject, deal.title) == (None, None, "D", None)


def test_a_reason_is_amended_and_taken_away():
    past = given(B2B, opening(1), lose(2, reason="price"))
    past.when(amend(2, reason="timing")).then("event_retracted", "deal_lost", reason="timing")
    past.when(amend(4, reason=None)).then("event_retracted", "deal_lost", reason=None)


def test_the_attributes_of_an_event_are_replaced_whole():
    past = given(B2B, opening(1, attributes={"size": 3, "region": "north"}), attributes(2, vip=True, tier=1))
    past.when(amend(1, attributes={"size": 4})).when(amend(2, attributes={"tier": 2}))
    assert past.deal().attributes == {"size": 4, "tier": 2}


def test_the_note_of_an_activity_is_amended_and_its_kind_stays():
    past = given(B2B, opening(1), log(2, "call", note="rang")).when(amend(2, note="rang twice"))
    past.then("event_retracted", "activity_logged", kind="call")
    assert (past.new[0].note, past.new[1].note) == (None, "rang twice")


def test_the_id_and_the_author_of_an_amendment_are_its_own():
    past = given(B2B, opening(1), assign(2, "anna", by="carla", id="first")).when(amend(2, owner="bob", id="second"))
    assert [(event.by, event.id) for event in past.new] == [(None, None), (None, "second")]
    past.when(amend(4, owner="eve", by="dora"))
    assert past.new[1].by == "dora"


def test_the_time_of_an_amendment_is_that_of_the_event():
    past = given(B2B, opening(1), move(5, "qualified"), move(9, "proposal")).when(amend(2, 7))
    past.then("event_retracted", "stage_entered", stage="qualified")
    assert [past.deal(as_of=on(day)).stage for day in (6, 7, 9)] == ["lead", "qualified", "proposal"]


def test_an_event_may_be_amended_to_the_other_side_of_another():
    past = given(B2B, opening(1), move(5, "qualified"), move(9, "proposal")).when(amend(2, 11))
    assert past.then("event_retracted", "stage_entered").deal().stage == "qualified"


def test_an_amended_event_stands_where_the_first_one_stood_among_equal_times():
    past = given(B2B, opening(1), assign(5, "anna"), assign(5, "bob"), amend(2, owner="carla"))
    assert past.deal().owner == "bob"
    past.when(amend(5, owner="dora"))
    assert past.deal().owner == "bob"
    past.when(retract(3))
    assert past.deal().owner == "dora"


def test_an_event_amended_to_the_time_of_one_recorded_later_comes_before_it():
    past = given(B2B, opening(1), assign(2, "anna"), assign(5, "bob"), amend(2, 5))
    assert past.deal().owner == "bob"


def test_an_event_amended_to_the_time_of_one_recorded_earlier_comes_after_it():
    past = given(B2B, opening(1), assign(5, "anna"), assign(7, "bob"), amend(3, 5))
    assert past.deal(as_of=on(5)).owner == "bob"


def test_an_amendment_is_judged_in_the_place_of_the_old_event():
    past = given(B2B, opening(1), move(5, "qualified"), move(5, "proposal"), move(5, "lead"))
    past.when(amend(3, stage="lead")).refused("already_in_stage")  # the last move would find the deal in `lead`
    past.when(amend(3, stage="qualified")).refused("already_in_stage")  # and this one in `qualified`
    past.when(amend(4, stage="qualified")).then("event_retracted", "stage_entered", stage="qualified")


def test_an_amended_loss_is_judged_without_the_old_one():
    past = given(B2B, opening(1), lose(5)).when(amend(2, 7)).then("event_retracted", "deal_lost")
    assert past.deal().closed_at == on(7)


def test_an_amended_event_takes_the_definition_in_force_as_known_now():
    past = given(B2B, opening(2), redefine(1, "lead", "qualified", "proposal"))
    past.when(amend(1, owner="anna")).then("event_retracted", "deal_opened", stage="lead", definition=2)


def test_an_amended_event_names_a_stage_of_the_definition_in_force_as_known_now():
    past = given(B2B, opening(2), redefine(1, "contact", "qualified", "proposal", moves={"lead": "contact"}))
    past.when(amend(1, owner="anna")).refused("unknown_stage")
    past.when(amend(1, stage=None)).then("event_retracted", "deal_opened", stage="contact", definition=2)


def test_the_default_stage_of_an_opening_is_looked_up_again_when_it_is_given_up():
    given(B2B, opening(1, stage="proposal")).when(amend(1, stage=None)).then(
        "event_retracted", "deal_opened", stage="lead"
    )


def test_the_default_stage_of_a_reopening_is_looked_up_again_when_it_is_given_up():
    past = given(B2B, opening(1), move(2, "qualified"), lose(3), reopen(4, stage="proposal"))
    past.when(amend(4, stage=None)).then("event_retracted", "deal_reopened", stage="qualified")


def test_the_default_stage_of_a_reopening_is_not_looked_up_again_unless_it_is_given_up():
    past = given(B2B, opening(1), move(2, "qualified"), lose(3), reopen(4), amend(2, stage="proposal"))
    past.when(amend(4, by="anna")).then("event_retracted", "deal_reopened", stage="qualified")


def test_the_default_stage_of_a_transfer_is_looked_up_again_when_it_is_given_up():
    given(B2B, CARE, opening(1), transfer(2, stage="service")).when(amend(2, stage=None)).then(
        "event_retracted", "deal_transferred", pipeline="care", stage="intake"
    )


def test_what_an_amendment_changed_is_known_from_when_it_was_recorded():
    past = given(B2B, opening(1, owner="anna", recorded=on(200)), amend(1, owner="bob", recorded=on(300)))
    assert past.deal(known_at=on(300) - MICROSECOND).owner == "anna"
    assert past.deal(known_at=on(300)).owner == "bob"


# The same action again


def test_the_same_action_under_the_same_id_changes_nothing_and_returns_the_first_result():
    past = given(B2B, opening(1)).when(log(2, id="a"))
    first = past.results
    past.when(log(2, id="a")).then()
    assert past.results == first


def test_another_action_under_the_same_id_is_refused():
    past = given(B2B, opening(1), log(2, "call", id="a"))
    past.when(log(2, "mail", id="a")).refused("id_reused")
    past.when(log(3, "call", id="a")).refused("id_reused")
    past.when(log(2, "call", id="a", by="anna")).refused("id_reused")
    past.when(win(2, id="a")).refused("id_reused")


def test_an_id_counts_in_its_deal_alone():
    past = given(B2B, OTHER, opening(1, id="a"))
    past.when(log(2, id="a")).refused("id_reused")
    past.when(log(2, id="a", deal="E")).then("activity_logged")


def test_a_pipeline_remembers_its_ids_too():
    past = given(define("lead", id="a")).when(define("lead", id="a")).then()
    past.when(define("qualified", id="a")).refused("id_reused")
    past.when(redefine(1, "lead", id="a")).refused("id_reused")


def test_an_id_is_taken_for_ever_also_when_its_event_is_retracted():
    past = given(B2B, opening(1)).when(log(2, id="a"))
    first = past.results
    past.when(retract(2)).when(log(2, id="a")).then()
    assert past.results == first
    past.when(log(3, id="a")).refused("id_reused")


def test_an_id_of_an_amended_event_still_returns_the_first_result():
    past = given(B2B, opening(1), assign(2, "anna", id="a"), amend(2, owner="bob", id="b"))
    past.when(assign(2, "anna", id="a")).then()
    assert past.results[0].version == 2
    past.when(amend(2, owner="bob", id="b")).then()
    assert past.results[0].version == 4


def test_an_amendment_that_takes_a_field_away_is_not_one_that_leaves_it():
    past = given(B2B, opening(1), lose(2, reason="price"), amend(2, reason=None, id="a"))
    past.when(amend(2, id="a")).refused("id_reused")


def test_an_amendment_that_leaves_a_field_is_not_one_that_takes_it_away():
    past = given(B2B, opening(1, owner="anna"), amend(1, source="web", id="a"))
    past.when(amend(1, source="web", owner=None, id="a")).refused("id_reused")


def test_an_action_is_the_same_however_it_is_written():
    past = given(B2B, opening(on(5, 12), id="a", owner=None, attributes={"x": 1, "y": 2}, value=euro(5)))
    again = opening("2026-01-05T13:00:00+01:00", id="a", attributes={"y": 2, "x": 1}, value=euro(5))
    past.when(again).then()
    east = timezone(timedelta(hours=9))
    past.when(again | {"at": datetime(2026, 1, 5, 21, tzinfo=east), "stage": None}).then()


def test_an_id_counts_once_within_a_batch():
    past = given(B2B, opening(1)).when(log(2, id="a"), log(2, id="a")).then("activity_logged")
    assert past.results[0] == past.results[1]


def test_a_batch_with_two_contents_under_one_id_is_refused_as_a_whole():
    past = given(B2B, opening(1)).when(log(2, id="a"), log(3, id="a")).refused("id_reused")
    past.when(log(3, id="a")).then("activity_logged")


def test_a_batch_recorded_again_as_a_whole_changes_nothing():
    batch = [opening(1, id="a"), move(2, "qualified", id="b"), win(3, id="c")]
    past = given(B2B, batch).when(*batch).then()
    assert [result.version for result in past.results] == [1, 2, 3]


@pytest.mark.parametrize(
    "other", [{"title": "Wall"}, {}, {"title": "Roof", "personal": {"n": "A"}}, {"personal": {"n": "Roof"}}]
)
def test_another_personal_part_is_another_content(other):
    past = given(B2B, opening(1, id="a", title="Roof")).when(opening(1, id="a", title="Roof")).then()
    past.when(opening(1, id="a", **other)).refused("id_reused")


def test_another_note_is_another_content():
    past = given(B2B, opening(1), log(2, id="a", note="rang")).when(log(2, id="a", note="rang")).then()
    past.when(log(2, id="a", note="rang twice")).refused("id_reused")


def test_the_version_expected_is_a_condition_and_not_content():
    past = given(B2B, opening(1), log(2, id="a", expected_version=1), log(3))
    past.when(log(2, id="a", expected_version=1)).then()
    past.when(log(2, id="a")).then()
    past.when(log(2, id="a", expected_version=99)).then()


def test_a_repeated_opening_is_no_second_opening():
    past = given(B2B, act("open_deal", 1, pipeline="b2b", id="a"))
    past.when(act("open_deal", 1, pipeline="b2b", id="a")).then()
    assert (past.results[0].deal, past.results[0].position) == ("a", 2)


def test_a_repeated_action_is_not_judged_again():
    past = given(B2B, opening(1), move(2, "qualified", id="a"), lose(3))
    past.when(move(2, "qualified", id="a")).then()


def test_an_action_without_an_id_is_another_one_each_time():
    given(B2B, opening(1), log(2)).when(log(2)).then("activity_logged")


def test_a_typed_action_is_the_same_as_its_dict():
    past = given(B2B, opening(1), move(2, "qualified", id="a"))
    past.when(MoveDeal(deal="D", stage="qualified", at=on(2), id="a")).then()
    past.when(MoveDeal(deal="D", stage="Lead", at=on(2))).refused("invalid_key")
    past.when(Amend(deal="D", version=2, changes={"stage": "proposal"})).then("event_retracted", "stage_entered")


def test_a_typed_amendment_that_says_nothing_of_the_personal_map_leaves_it():
    past = given(B2B, opening(1, personal={"name": "Ann"}))
    past.trail.record(Amend(deal="D", version=1, changes={"source": "web"}))
    assert past.deal().personal == {"name": "Ann"}
    past.trail.record(Amend(deal="D", version=3, changes={"personal": None}))
    assert past.deal().personal == {}


# The version expected


def test_an_action_that_expects_the_version_of_the_deal_is_recorded():
    given(B2B, opening(1), log(2), retract(2)).when(log(4, expected_version=3)).then("activity_logged")


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_an_action_that_expects_another_version_is_in_conflict(expected):
    past = given(B2B, opening(1), log(2)).when(log(3, expected_version=expected)).refused("conflict")
    assert isinstance(past.refusal, Conflict)
    assert past.refusal.facts["version"] == 2


def test_an_opening_expects_nothing_before_it():
    past = given(B2B).when(opening(1, expected_version=1)).refused("conflict")
    past.when(opening(1, expected_version=0)).then("deal_opened")


def test_a_redefinition_expects_the_version_of_the_pipeline():
    past = given(B2B).when(redefine(2, "lead", "qualified", "proposal", expected_version=2)).refused("conflict")
    past.when(redefine(2, "lead", "qualified", "proposal", expected_version=1)).then("pipeline_redefined")


def test_in_a_batch_the_version_expected_is_that_just_before_the_action():
    past = given(B2B).when(opening(1, expected_version=0), log(2, expected_version=1), amend(2, expected_version=2))
    past.then("deal_opened", "activity_logged", "event_retracted", "activity_logged")
    past.when(log(3, expected_version=4), log(3, expected_version=4)).refused("conflict")


# The order of the checks


def test_the_shape_is_checked_before_everything_else():
    given(B2B).when(move(2, "Lead")).refused("invalid_key")


def test_a_deal_that_is_not_there_is_said_before_a_version_or_a_time():
    given(B2B).when(log(on(101), expected_version=5)).refused("unknown_deal")


def test_an_id_that_was_used_is_said_before_the_version_expected():
    given(B2B, opening(1), log(2, id="a")).when(log(3, id="a", expected_version=9)).refused("id_reused")


def test_a_deal_that_exists_is_said_before_the_version_expected():
    given(B2B, opening(1)).when(opening(2, expected_version=9)).refused("deal_exists")


def test_a_conflict_is_said_before_a_time_in_the_future():
    given(B2B, opening(1)).when(log(on(101), expected_version=9)).refused("conflict")


def test_a_time_in_the_future_is_said_before_the_event_that_is_not_there():
    given(B2B, opening(1)).when(retract(9, on(101))).refused("future_time")


def test_the_status_of_the_deal_is_said_before_the_stage():
    given(B2B, opening(1), lose(2)).when(move(3, "intake")).refused("deal_not_open")


def test_the_status_of_the_deal_is_said_before_what_it_would_merge_into():
    given(B2B, OTHER, opening(1), merge(2)).when(merge(3, "D")).refused("deal_merged")


def test_the_first_event_that_would_break_gives_the_code():
    past = given(B2B, opening(1), move(5, "qualified"), lose(7), reopen(9))
    past.when(lose(3)).refused("deal_not_open")
    past.when(move(4, "qualified")).refused("already_in_stage")


def test_the_events_that_an_amendment_leaves_behind_are_judged_in_their_order():
    past = given(B2B, CARE, opening(1), transfer(4), win(6), reopen(8)).when(amend(2, 7))
    past.refused("other_pipeline")


# Batches, and what a refusal leaves behind: nothing (every `refused` above has looked at the log)


def test_the_actions_of_a_batch_are_judged_one_after_the_other():
    given(B2B).when(opening(1), move(2, "qualified"), lose(3)).then("deal_opened", "stage_entered", "deal_lost")


def test_an_action_does_not_see_those_that_follow_it_in_its_batch():
    given(B2B).when(move(2, "qualified"), opening(1)).refused("unknown_deal")


def test_a_pipeline_may_be_defined_in_the_batch_that_uses_it():
    given().when(B2B, opening(1)).then("pipeline_defined", "deal_opened")


def test_a_batch_is_recorded_as_a_whole_or_not_at_all():
    past = given(B2B, opening(1)).when(move(2, "qualified"), log(3), move(4, "qualified"))
    past.refused("already_in_stage")
    assert (past.deal().stage, past.deal().version) == ("lead", 1)


def test_a_refused_batch_says_which_of_its_actions_was_refused():
    past = given(B2B, opening(1))
    assert past.when(log(2), log(3), move(4, "lead")).refusal.facts["index"] == 2
    assert past.when(log(2), move(4, "Lead")).refusal.facts["index"] == 1


def test_a_batch_whose_last_action_is_of_the_wrong_shape_records_nothing():
    given(B2B, opening(1)).when(log(2), log(3, kind="")).refused("invalid_field")


def test_what_a_refused_batch_would_have_made_is_not_there_for_the_next_action():
    past = given(B2B).when(CARE, opening(1), lose(2), move(3, "qualified")).refused("deal_not_open")
    past.when(log(2)).refused("unknown_deal")
    past.when(opening(1, pipeline="care")).refused("unknown_pipeline")
    past.when(opening(1)).then("deal_opened")
    assert past.new[0].position == 2


def test_a_refused_action_takes_no_id():
    past = given(B2B, opening(1)).when(move(2, "lead", id="a")).refused("already_in_stage")
    past.when(move(2, "qualified", id="a")).then("stage_entered")


def test_a_refused_amendment_takes_no_id():
    past = given(B2B, opening(1), move(2, "qualified")).when(amend(2, stage="lead", id="a")).refused("already_in_stage")
    past.when(amend(2, stage="proposal", id="a")).then("event_retracted", "stage_entered")


def test_a_refused_opening_takes_no_name():
    past = given(B2B).when(opening(1, stage="intake", id="a")).refused("unknown_stage")
    past.when(opening(1, id="a")).then("deal_opened")


def test_a_refused_batch_takes_no_id():
    past = given(B2B, opening(1)).when(log(2, id="a"), move(2, "lead")).refused("already_in_stage")
    past.when(log(3, id="a")).then("activity_logged")


def test_a_refused_action_leaves_the_deal_as_it_was():
    past = given(B2B, opening(1), move(2, "qualified"), move(5, "lead"))
    history, deal = past.trail.history("D"), past.deal(as_of=on(6))
    past.when(retract(2)).refused("already_in_stage")
    assert (past.trail.history("D"), past.deal(as_of=on(6))) == (history, deal)


def test_each_of_many_actions_may_be_a_step_of_its_own():
    past = given(B2B)
    outcomes = list(past.trail.record_each([opening(1), move(2, "lead"), move(2, "qualified"), {"action": "sell"}]))
    codes = [outcome.refused and outcome.refused.code for outcome in outcomes]
    assert codes == [None, "already_in_stage", None, "unknown_action"]
    assert [outcome.line for outcome in outcomes] == [1, 2, 3, 4]
    assert past.deal().stage == "qualified"


def test_a_step_that_was_refused_leaves_the_clock_to_the_next_one():
    past = given(B2B).when(opening(1), log(2), log(0)).refused("before_opening")
    past.when(opening(1)).then("deal_opened")
    assert past.new[0].recorded_at == NOW + MICROSECOND


def test_the_clock_must_know_its_zone():
    with Trail.open(":memory:", clock=lambda: datetime(2026, 1, 1)) as trail:  # noqa: DTZ001
        assert code_of(trail.record, B2B) == "naive_time"
    with Trail.open(":memory:", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as trail:
        assert trail.record({**B2B, "at": None}).version == 1
