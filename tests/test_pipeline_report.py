"""The pipeline report against figures worked out by hand."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from given import (
    B2B,
    CARE,
    MICROSECOND,
    NOW,
    amend,
    assign,
    attributes,
    code_of,
    define,
    disqualify,
    euro,
    given,
    lose,
    merge,
    move,
    on,
    opening,
    redefine,
    reopen,
    retract,
    revalue,
    stage,
    transfer,
    win,
)

from dealtrail import Draft

FORECAST = define(
    stage("lead", probability="0.1", rots_after_days=10),
    stage("qualified", probability="0.25"),
    stage("proposal", probability="0.6", rots_after_days=5),
)


def money(amount, currency):
    return {"amount": amount, "currency": currency}


def report(past, pipeline="b2b", **question):
    return past.trail.pipeline_report(pipeline, **question)


def groups(past, *group_by, **question):
    """The groups and how many deals each has."""
    found = report(past, group_by=group_by, **question).groups
    return [(*group.group.values(), group.total.deals) for group in found]


def of_value(*amounts, currency="EUR"):
    """Deals D0, D1 … of these values, in stage lead."""
    return [opening(1, deal=f"D{n}", value=money(amount, currency)) for n, amount in enumerate(amounts)]


# Every field


def test_every_field_of_a_report_worked_out_by_hand():
    past = given(
        FORECAST,
        opening(1, deal="A", value=money("100.10", "EUR")),
        opening(2, deal="B", value=money("50", "USD")),
        opening(4, deal="C"),
        opening(3, deal="E", stage="proposal", value=money("10.05", "EUR")),
        opening(3, deal="F", value=euro(9999)),
        win(5, deal="F"),
    )
    found = report(past, as_of=on(11, 12))
    assert (found.pipeline, found.as_of, found.definition, found.draft) == ("b2b", on(11, 12), 1, False)
    assert (found.position, found.groups) == (7, None)
    lead, qualified, proposal = found.stages
    # A has been there for 10.5 days, B for 9.5, C for 7.5: A alone for longer than 10.
    assert (lead.stage, lead.name, lead.deals) == ("lead", "Lead", 3)
    assert lead.value == {"EUR": Decimal("100.10"), "USD": Decimal("50.00")}
    assert lead.weighted_value == {"EUR": Decimal("10.01"), "USD": Decimal("5.00")}
    assert (lead.median_days_in_stage, lead.stalled) == (9.5, 1)
    assert (qualified.stage, qualified.deals, qualified.value, qualified.weighted_value) == ("qualified", 0, {}, {})
    assert (qualified.median_days_in_stage, qualified.stalled) == (None, 0)
    # 10.05 × 0.6 is 6.03; 8.5 days are more than 5.
    assert (proposal.deals, proposal.value, proposal.weighted_value) == (
        1,
        {"EUR": Decimal("10.05")},
        {"EUR": Decimal("6.03")},
    )
    assert (proposal.median_days_in_stage, proposal.stalled) == (8.5, 1)
    total = found.total
    assert total.deals == 4
    assert total.value == {"EUR": Decimal("110.15"), "USD": Decimal("50.00")}
    assert total.weighted_value == {"EUR": Decimal("16.04"), "USD": Decimal("5.00")}
    # The median of 7.5, 8.5, 9.5 and 10.5 is halfway between the two in the middle.
    assert (total.median_days_in_stage, total.stalled) == (9.0, 2)


def test_an_empty_pipeline_has_a_row_for_each_stage_and_a_total_of_nothing():
    found = report(given(FORECAST), group_by="owner")
    assert [(row.stage, row.deals, row.value, row.stalled) for row in found.stages] == [
        ("lead", 0, {}, 0),
        ("qualified", 0, {}, 0),
        ("proposal", 0, {}, 0),
    ]
    assert (found.total.deals, found.total.median_days_in_stage, found.groups) == (0, None, [])


# Amounts


def test_a_currency_stands_where_a_deal_has_it_also_where_the_sum_is_zero():
    past = given(B2B, *of_value("7.50", "-7.50"), opening(1, deal="E", value=money("0", "JPY")), opening(1, deal="F"))
    row = past.row("lead")
    assert (row.deals, row.value) == (4, {"EUR": Decimal("0.00"), "JPY": Decimal("0")})
    assert {currency: str(amount) for currency, amount in row.weighted_value.items()} == {"EUR": "0.00", "JPY": "0"}


def test_a_sum_that_rounds_to_zero_from_below_has_no_sign():
    assert str(given(B2B, *of_value("-0.004")).row("lead").value["EUR"]) == "0.00"


@pytest.mark.parametrize(
    ("amounts", "currency", "expected"),
    [
        (("0.004", "0.004"), "EUR", "0.01"),  # 0.008: each rounded by itself would make 0.00
        (("0.005",), "EUR", "0.00"),  # halfway: to the even hundredth
        (("0.015",), "EUR", "0.02"),
        (("0.005", "0.01"), "EUR", "0.02"),  # 0.015
        (("1.5", "1"), "JPY", "2"),  # 2.5 yen
        (("1.5", "2"), "JPY", "4"),  # 3.5 yen
        (("0.0005", "0.0010"), "KWD", "0.002"),  # dinars have three digits
        (("999999999999999.999999",) * 3, "EUR", "3000000000000000.00"),
        (("999999999999999.99", "0.01", "0.001"), "EUR", "1000000000000000.00"),
    ],
)
def test_a_sum_is_rounded_half_to_even_once_at_the_end(amounts, currency, expected):
    assert str(given(B2B, *of_value(*amounts, currency=currency)).row("lead").value[currency]) == expected


def test_a_weighted_value_is_rounded_only_when_it_is_summed():
    third = define(stage("lead", probability="0.333"), stage("qualified", probability="0.5"))
    past = given(third, *of_value("0.01", "0.01", "0.01"), opening(1, deal="E", stage="qualified", value=euro("0.01")))
    found = report(past)
    # 3 × 0.00333 = 0.00999; 0.005 is halfway and goes to zero; together they are 0.01499.
    assert [str(row.weighted_value["EUR"]) for row in found.stages] == ["0.01", "0.00"]
    assert str(found.total.weighted_value["EUR"]) == "0.01"


def test_a_total_is_summed_from_the_deals_and_not_from_rounded_rows():
    past = given(B2B, *of_value("0.005"), opening(1, deal="E", stage="qualified", value=euro("0.005")))
    found = report(past)
    assert [row.value.get("EUR") for row in found.stages] == [Decimal("0.00"), Decimal("0.00"), None]
    assert found.total.value == {"EUR": Decimal("0.01")}


def test_the_probability_is_that_of_the_version_read_under():
    past = given(
        define(stage("lead", probability="0.1")),
        opening(2, value=euro(1000)),
        redefine(10, stage("lead", probability="0.35")),
    )
    assert past.row("lead", as_of=on(9)).weighted_value == {"EUR": Decimal("100.00")}
    assert past.row("lead", as_of=on(10)).weighted_value == {"EUR": Decimal("350.00")}
    assert past.row("lead", as_of=on(9), definition="current").weighted_value == {"EUR": Decimal("350.00")}
    draft = Draft(stages=[stage("lead", probability="0.0015")])
    assert past.row("lead", definition=draft).weighted_value == {"EUR": Decimal("1.50")}


# Days in stage


def test_a_deal_is_stalled_beyond_the_limit_and_not_at_it():
    past = given(FORECAST, opening(1))
    assert [past.row("lead", as_of=at).stalled for at in (on(11), on(11) + MICROSECOND)] == [0, 1]
    assert past.row("lead", as_of=on(11) + MICROSECOND).median_days_in_stage == 10.0


def test_a_limit_of_no_days_stalls_every_deal_but_one_that_just_came():
    past = given(define(stage("lead", rots_after_days=0), "next"), opening(1))
    assert [past.row("lead", as_of=at).stalled for at in (on(1), on(1) + MICROSECOND)] == [0, 1]


def test_the_limit_is_that_of_the_version_read_under():
    past = given(define(stage("lead", rots_after_days=3)), opening(1), redefine(20, stage("lead", rots_after_days=30)))
    assert [past.row("lead", as_of=on(19), definition=d).stalled for d in ("as_of", "current")] == [1, 0]


def test_a_change_that_is_no_visit_does_not_begin_the_days_anew():
    past = given(B2B, opening(1), revalue(5, 9), assign(6, "anna"), attributes(7, size=1))
    assert past.row("lead", as_of=on(11)).median_days_in_stage == 10.0


def test_a_reopening_begins_the_days_in_stage_anew():
    past = given(B2B, opening(1), move(3, "qualified"), lose(5), reopen(9))
    assert past.row("qualified", as_of=on(4)).median_days_in_stage == 1.0
    assert past.counts(as_of=on(6)) == {"lead": 0, "qualified": 0, "proposal": 0}
    assert past.row("qualified", as_of=on(10)).median_days_in_stage == 1.0


def test_a_move_back_and_forth_begins_the_days_in_stage_anew():
    past = given(B2B, opening(1), move(3, "proposal"), move(5, "lead"), move(8, "proposal"))
    found = [[row.median_days_in_stage for row in report(past, as_of=on(day)).stages] for day in (4, 7, 10)]
    assert found == [[None, None, 1.0], [2.0, None, None], [None, None, 2.0]]


def test_visits_that_a_later_version_merges_count_their_days_from_the_first():
    past = given(B2B, opening(1), move(5, "qualified"), redefine(20, "lead", "proposal", moves={"qualified": "lead"}))
    assert past.row("qualified", as_of=on(10)).median_days_in_stage == 5.0
    assert past.row("lead", as_of=on(10), definition=2).median_days_in_stage == 9.0


def test_a_later_version_that_merges_does_not_join_visits_across_a_reopening():
    past = given(
        B2B,
        opening(1),
        lose(3),
        reopen(5, stage="qualified"),
        move(6, "proposal"),
        redefine(20, "lead", moves={"qualified": "lead", "proposal": "lead"}),
    )
    assert past.row("lead", as_of=on(10), definition=2).median_days_in_stage == 5.0


def test_amending_a_value_after_a_split_moves_the_old_visit():
    """The value of the opening was typed wrongly; corrected, the visit of day 2 is read as the other part."""
    big = {"field": "value", "op": "ge", "value": "1000"}
    split = redefine(10, "small", "large", moves={"lead": [{"when": big, "to": "large"}, {"to": "small"}]})
    past = given(define("lead"), opening(2, value=euro(500)), split, amend(1, value=euro(5000), recorded=on(120)))
    past.clock.now = on(130)
    assert past.counts() == {"small": 0, "large": 1}
    assert past.counts(known_at=on(110)) == {"small": 1, "large": 0}
    # Before the split was in force both are read as one stage.
    assert past.counts(as_of=on(9)) == {"lead": 1}
    assert past.row("large").value == {"EUR": Decimal("5000.00")}


def test_a_value_that_changed_after_the_visit_began_does_not_move_it():
    big = {"field": "value", "op": "ge", "value": "1000"}
    split = redefine(10, "small", "large", moves={"lead": [{"when": big, "to": "large"}, {"to": "small"}]})
    past = given(define("lead"), opening(2, value=euro(500)), revalue(3, 5000), split)
    assert past.counts() == {"small": 1, "large": 0}


# Which deals


def test_only_open_deals_of_the_pipeline_are_in_it():
    past = given(
        B2B,
        CARE,
        opening(1, deal="A"),
        opening(1, deal="B"),
        opening(1, deal="C"),
        opening(1, deal="D"),
        opening(1, deal="E"),
        opening(1, deal="F", pipeline="care"),
        win(2, deal="A"),
        lose(3, deal="B"),
        disqualify(4, deal="C"),
        transfer(5),
        merge(6, deal="E", into="D"),
        transfer(7, deal="F", pipeline="b2b", stage="proposal"),
    )
    lead = [past.row("lead", as_of=on(day)).deals for day in range(1, 8)]
    assert lead == [5, 4, 3, 2, 1, 0, 0]
    assert [past.counts("care", as_of=on(day)) for day in (4, 5, 7)] == [
        {"intake": 1, "service": 0},
        {"intake": 2, "service": 0},
        {"intake": 1, "service": 0},
    ]
    assert past.counts() == {"lead": 0, "qualified": 0, "proposal": 1}


def test_a_deal_that_comes_back_by_a_transfer_has_a_new_visit():
    past = given(B2B, CARE, opening(1), transfer(5), transfer(8, pipeline="b2b"))
    assert past.row("lead", as_of=on(10)).median_days_in_stage == 2.0
    assert past.row("intake", "care", as_of=on(7)).median_days_in_stage == 2.0


def test_a_merge_that_is_retracted_never_was_for_who_knows_it():
    past = given(B2B, opening(1), opening(1, deal="E"), merge(5), retract(2, recorded=on(120)))
    past.clock.now = on(130)
    assert [past.row("lead", as_of=on(day)).deals for day in (4, 5)] == [2, 2]
    assert [past.row("lead", as_of=on(day), known_at=on(110)).deals for day in (4, 5)] == [2, 1]


# Groups and filters


def test_groups_hold_the_same_figures_over_their_deals():
    past = given(
        FORECAST,
        opening(1, deal="A", owner="anna", value=euro(100)),
        opening(3, deal="B", owner="anna", stage="proposal"),
        opening(5, deal="C", value=euro(7)),
    )
    found = report(past, as_of=on(12), group_by="owner")
    anna, nobody = found.groups
    assert (anna.group, nobody.group) == ({"owner": "anna"}, {"owner": None})
    assert [(row.stage, row.deals, row.stalled) for row in anna.stages] == [
        ("lead", 1, 1),
        ("qualified", 0, 0),
        ("proposal", 1, 1),
    ]
    # A for 11 days, B for 9: the median is 10.
    assert (anna.total.deals, anna.total.median_days_in_stage) == (2, 10.0)
    assert anna.total.value == {"EUR": Decimal("100.00")}
    assert (nobody.total.deals, nobody.total.value, nobody.total.stalled) == (1, {"EUR": Decimal("7.00")}, 0)
    assert found.total.deals == 3


def test_groups_stand_in_the_order_of_their_names_and_the_missing_one_last():
    past = given(B2B, *(opening(1, deal=f"D{n}", owner=owner) for n, owner in enumerate(["zoe", None, "Bob", "anna"])))
    assert groups(past, "owner") == [("Bob", 1), ("anna", 1), ("zoe", 1), (None, 1)]


def test_numbers_stand_in_the_order_of_numbers_then_booleans_then_texts():
    values = ["9", 10, 9, True, 2.5, "10", False, 1, -3]
    past = given(B2B, *(opening(1, deal=f"D{n}", attributes={"size": value}) for n, value in enumerate(values)))
    past.when(opening(1, deal="E"))
    found = [group for group, _ in groups(past, "attributes.size")]
    assert [repr(group) for group in found] == ["-3", "1", "2.5", "9", "10", "False", "True", "'10'", "'9'", "None"]


def test_one_and_one_point_nought_are_one_group_and_true_is_another():
    past = given(B2B, *(opening(1, deal=f"D{n}", attributes={"size": value}) for n, value in enumerate([1, 1.0, True])))
    assert groups(past, "attributes.size") == [(1, 2), (True, 1)]
    assert report(past, where={"attributes.size": 1}).total.deals == 2
    assert report(past, where={"attributes.size": True}).total.deals == 1


def test_several_fields_make_a_group_of_each_combination_that_a_deal_has():
    past = given(
        B2B,
        opening(1, deal="A", owner="anna", source="web"),
        opening(1, deal="B", owner="anna"),
        opening(1, deal="C", source="web", value=euro(1)),
        opening(1, deal="E", owner="anna", source="fair"),
        opening(1, deal="F", owner="anna", source="web"),
    )
    assert groups(past, "owner", "source") == [
        ("anna", "fair", 1),
        ("anna", "web", 2),
        ("anna", None, 1),
        (None, "web", 1),
    ]
    assert groups(past, "currency", "owner") == [("EUR", None, 1), (None, "anna", 4)]
    assert list(report(past, group_by=("source", "owner")).groups[0].group) == ["source", "owner"]


def test_a_filter_keeps_deals_of_that_value_and_null_those_without():
    past = given(
        B2B,
        opening(1, deal="A", owner="anna", source="web", value=euro(1)),
        opening(1, deal="B", owner="anna", value=money("1", "USD")),
        opening(1, deal="C", source="web", attributes={"region": "north"}),
    )
    found = {
        str(where): report(past, where=where).total.deals
        for where in (
            {"owner": "anna"},
            {"owner": None},
            {"owner": "anna", "source": "web"},
            {"owner": "anna", "source": None},
            {"currency": "USD"},
            {"currency": None},
            {"attributes.region": "north"},
            {"attributes.region": None},
            {"owner": "Anna"},
            {},
        )
    }
    assert list(found.values()) == [2, 1, 1, 1, 1, 1, 1, 2, 0, 3]


def test_filters_and_groups_look_at_the_deal_as_it_is_at_the_moment():
    past = given(B2B, opening(1, owner="anna"), assign(5, "bob"), assign(9, None))
    assert [groups(past, "owner", as_of=on(day)) for day in (4, 5, 9)] == [[("anna", 1)], [("bob", 1)], [(None, 1)]]
    assert [report(past, as_of=on(day), where={"owner": "bob"}).total.deals for day in (4, 5, 9)] == [0, 1, 0]


# Moments


def test_a_bare_date_is_the_whole_of_that_day_in_the_zone():
    past = given(B2B, opening(datetime(2026, 1, 5, 23, 30, tzinfo=UTC)))
    # In Amsterdam that is half an hour into the sixth; in New York half past six on the fifth.
    asked = [("UTC", 4, 0), ("UTC", 5, 1), ("Europe/Amsterdam", 5, 0), ("America/New_York", 5, 1)]
    for tz, day, deals in asked:
        assert report(past, as_of=date(2026, 1, day), tz=tz).total.deals == deals, tz


def test_a_bare_date_as_known_at_is_the_whole_of_that_day_too():
    past = given(B2B, opening(5), move(6, "qualified", recorded=datetime(2026, 4, 20, 22, 30, tzinfo=UTC)))
    past.clock.now = on(150)
    assert past.counts(known_at="2026-04-20") == {"lead": 0, "qualified": 1, "proposal": 0}
    assert past.counts(known_at="2026-04-20", tz="Europe/Amsterdam") == {"lead": 1, "qualified": 0, "proposal": 0}


def test_what_was_known_earlier_about_later_is_nothing_new():
    past = given(B2B, opening(5), move(110, "qualified", recorded=on(120)))
    past.clock.now = on(130)
    found = report(past, as_of=on(115), known_at=on(105))
    assert (found.as_of, found.known_at, found.position) == (on(115), on(105), 2)
    assert (found.stages[0].deals, found.stages[0].median_days_in_stage) == (1, 110.0)


def test_the_report_that_was_seen_then_can_be_seen_again():
    past = given(B2B, opening(5))
    past.clock.now = on(101)
    seen = report(past)
    past.clock.now = on(140)
    past.when(move(50, "proposal", recorded=on(141)), revalue(60, 5, recorded=on(142)))
    past.clock.now = on(150)
    assert report(past, as_of=on(101), known_at=on(101)).stages == seen.stages
    assert report(past, as_of=on(101)).stages != seen.stages


def test_a_moment_before_anything_was_known_knows_no_pipeline():
    past = given(B2B)
    assert code_of(report, past, known_at=NOW - MICROSECOND) == "unknown_pipeline"
    assert report(past, known_at=NOW).position == 1


# Versions


def test_every_version_from_the_one_in_force_on_may_be_asked_for_and_none_before():
    past = given(
        B2B,
        opening(2, stage="qualified"),
        redefine(10, "lead", "proposal", moves={"qualified": "proposal"}),
        redefine(20, "all", moves={"lead": "all", "proposal": "all"}),
    )
    asked = [(on(5), 1), (on(5), 2), (on(5), 3), (on(15), 2), (on(15), "current"), (on(25), "as_of")]
    assert [list(past.counts(as_of=at, definition=d).items())[-1] for at, d in asked] == [
        ("proposal", 0),
        ("proposal", 1),
        ("all", 1),
        ("proposal", 1),
        ("all", 1),
        ("all", 1),
    ]
    for at, older in ((on(15), 1), (on(25), 1), (on(25), 2)):
        assert code_of(report, past, as_of=at, definition=older) == "cannot_restate"


def test_a_draft_is_read_after_every_version_known():
    past = given(
        B2B,
        opening(2, stage="qualified", value=euro(10)),
        redefine(10, "lead", "proposal", moves={"qualified": "lead"}),
    )
    draft = Draft(stages=[stage("early", probability=1), stage("late")], moves={"lead": "early", "proposal": "late"})
    found = report(past, as_of=on(5), definition=draft)
    assert (found.definition, found.draft) == (2, True)
    assert [(row.stage, row.name, row.deals) for row in found.stages] == [("early", "Early", 1), ("late", "Late", 0)]
    assert found.total.weighted_value == {"EUR": Decimal("10.00")}
    assert (report(past, as_of=on(5)).draft, past.counts(as_of=on(5))["qualified"]) == (False, 1)
