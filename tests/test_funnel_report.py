"""The funnel report against figures worked out by hand."""

from datetime import UTC, date, datetime, timedelta

import pytest
from given import (
    B2B,
    CARE,
    MICROSECOND,
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

COUNTS = ("entered", "reached", "passed", "open", "lost", "disqualified", "transferred")


def funnel(past, pipeline="b2b", cohort="2026", **question):
    return past.trail.funnel_report(pipeline, cohort=cohort, **question)


def counts(found):
    """Of each stage how many entered, reached, passed, and are open, lost, disqualified, transferred there."""
    return [tuple(getattr(row, field) for field in COUNTS) for row in found.stages]


def entered(past, **question):
    return [row.entered for row in funnel(past, **question).stages]


def days(past, **question):
    """Of each stage the median of the days to pass."""
    return [row.median_days_to_pass for row in funnel(past, **question).stages]


def of(deal, *actions):
    return [action | {"deal": deal} for action in actions]


# Every field


def test_every_field_of_a_report_worked_out_by_hand():
    """Eight deals: one for each way to end, and one that skips a stage."""
    past = given(
        B2B,
        CARE,
        *of("A", opening(1), move(3, "qualified"), move(7, "proposal"), win(9)),
        *of("B", opening(1), move(2, "qualified"), lose(4)),
        *of("C", opening(1), move(5, "proposal")),
        *of("D", opening(1), disqualify(2)),
        *of("E", opening(1)),
        *of("F", opening(1), move(5, "qualified"), transfer(6)),
        *of("G", opening(1, stage="qualified"), move(4, "proposal"), disqualify(8)),
        *of("H", opening(40)),
    )
    found = funnel(past, cohort="2026-01", as_of=on(60))
    assert (found.pipeline, found.as_of, found.definition, found.draft, found.within) == ("b2b", on(60), 1, False, None)
    assert (found.cohort.from_, found.cohort.until, found.groups) == (on(1), on(32), None)
    assert counts(found) == [
        # A, B, C, D, E, F were there, and G has come beyond.
        (6, 7, 5, 1, 0, 1, 0),
        # A, B, F, G; C skipped it.
        (4, 5, 3, 0, 1, 0, 1),
        (3, 3, 1, 1, 0, 1, 0),
    ]
    # 7 ÷ 7, 5 ÷ 7, 3 ÷ 7; then 5 ÷ 7, 3 ÷ 5, 1 ÷ 3.
    assert [row.conversion_from_start for row in found.stages] == [1.0, 0.7143, 0.4286]
    assert [row.conversion_to_next for row in found.stages] == [0.7143, 0.6, 0.3333]
    # Lead: A 2, B 1, C 4, F 4 days; qualified: A 4, G 3; proposal: A 2.
    assert [row.median_days_to_pass for row in found.stages] == [3.0, 3.5, 2.0]
    # 4 at place 2.7 of 1, 2, 4, 4; 3 + 0.9 × 1; 2.
    assert [row.p90_days_to_pass for row in found.stages] == [4.0, 3.9, 2.0]
    total = found.total
    assert (total.cohort, total.won, total.lost, total.disqualified, total.open, total.transferred) == (
        7,
        1,
        1,
        2,
        2,
        1,
    )
    # 1 ÷ 7 and 1 ÷ 4.
    assert (total.win_rate, total.close_rate) == (0.1429, 0.25)
    assert [(row.stage, row.name) for row in found.stages] == [
        ("lead", "Lead"),
        ("qualified", "Qualified"),
        ("proposal", "Proposal"),
    ]


def test_whoever_reached_a_stage_passed_it_or_ended_there():
    """Five deals with a history of every kind, at each day of it, as ended and under a version that merges."""
    past = given(
        B2B,
        CARE,
        *of("A", opening(1), move(3, "proposal"), move(5, "lead"), lose(7), reopen(9), move(11, "qualified"), win(13)),
        *of("B", opening(2), win(4), reopen(6, stage="lead"), disqualify(8)),
        *of("C", opening(3, stage="proposal"), move(6, "qualified"), transfer(9), transfer(12, pipeline="b2b")),
        *of("D", opening(4), transfer(5), win(9)),
        *of("E", opening(5), move(6, "qualified"), merge(10, into="A")),
        redefine(14, "lead", "proposal", moves={"qualified": "lead"}),
    )
    for day in range(1, 16):
        for definition in ("as_of", "current"):
            found = funnel(past, as_of=on(day), definition=definition)
            for row in found.stages:
                parts = row.passed + row.open + row.lost + row.disqualified + row.transferred
                assert row.reached == parts, (day, definition, row)
            total = found.total
            assert total.cohort == total.won + total.lost + total.disqualified + total.open + total.transferred
            assert found.stages[0].reached == total.cohort


# How far a deal came


def test_a_deal_that_skips_a_stage_reached_it_and_never_entered_it():
    found = counts(funnel(given(B2B, opening(1), move(3, "proposal"))))
    assert found == [(1, 1, 1, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0), (1, 1, 0, 1, 0, 0, 0)]


def test_a_deal_that_moves_back_stays_as_far_as_it_was():
    past = given(B2B, opening(1), move(3, "proposal"), move(5, "qualified"), lose(6))
    assert counts(funnel(past)) == [(1, 1, 1, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0, 0), (1, 1, 0, 0, 1, 0, 0)]
    # It entered the second stage on day 5 and was never beyond it afterwards.
    assert days(past) == [2.0, None, None]


def test_days_to_pass_are_from_first_entering_to_first_being_beyond():
    past = given(B2B, opening(1), move(2, "qualified"), move(4, "lead"), move(7, "proposal"), move(8, "lead"), win(20))
    # Lead: day 1 to 2. Qualified: day 2 to 7. Proposal: day 7 to the win on day 20.
    assert days(past) == [1.0, 5.0, 13.0]


def test_a_win_passes_every_stage_also_those_never_reached_and_counts_days_only_where_it_entered():
    past = given(B2B, opening(1), win(5))
    assert counts(funnel(past)) == [(1, 1, 1, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0)]
    assert days(past) == [4.0, None, None]


def test_a_win_that_was_reopened_passed_in_its_days_and_is_open_where_it_came_furthest():
    past = given(B2B, opening(1), move(3, "qualified"), win(5), reopen(9, stage="lead"))
    assert counts(funnel(past, as_of=on(8)))[2] == (0, 1, 1, 0, 0, 0, 0)
    found = funnel(past)
    assert counts(found) == [(1, 1, 1, 0, 0, 0, 0), (1, 1, 0, 1, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0)]
    assert (found.total.won, found.total.open, found.total.win_rate, found.total.close_rate) == (0, 1, 0.0, None)
    assert days(past) == [2.0, 2.0, None]


def test_a_reopened_deal_that_is_lost_again_is_lost_once():
    past = given(B2B, opening(1), lose(3), reopen(5), lose(7))
    found = funnel(past)
    assert (counts(found)[0], found.total.lost, found.total.cohort) == ((1, 1, 0, 0, 1, 0, 0), 1, 1)


def test_two_visits_at_one_moment_were_both_made():
    past = given(B2B, opening(1), [move(1, "qualified"), move(1, "proposal")])
    assert entered(past) == [1, 1, 1]
    assert days(past) == [0.0, 0.0, None]


def test_a_win_at_the_very_moment_of_a_visit_passed_its_stage_in_no_time():
    past = given(B2B, [opening(1), move(1, "qualified"), win(1)])
    assert days(past) == [0.0, 0.0, None]
    assert counts(funnel(past))[2] == (0, 1, 1, 0, 0, 0, 0)


# Transfers


def test_a_transferred_deal_is_transferred_whatever_became_of_it_there():
    past = given(B2B, CARE, opening(1), move(2, "qualified"), transfer(4, stage="service"), win(6))
    for at in (on(5), on(7)):
        found = funnel(past, as_of=at)
        assert counts(found) == [(1, 1, 1, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 0, 0)]
        assert (found.total.transferred, found.total.won) == (1, 0)
    # A win in another pipeline is no passing here.
    assert days(past) == [1.0, None, None]
    assert funnel(past, "care").total.cohort == 0


def test_a_deal_that_came_back_is_judged_here_again():
    past = given(B2B, CARE, opening(1), transfer(4), transfer(6, pipeline="b2b", stage="proposal"), lose(9))
    assert funnel(past, as_of=on(5)).total.transferred == 1
    found = funnel(past)
    assert counts(found) == [(1, 1, 1, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0), (1, 1, 0, 0, 1, 0, 0)]
    # From the opening on day 1 to the coming back on day 6.
    assert days(past) == [5.0, None, None]


def test_a_deal_won_before_it_was_transferred_passed_in_its_days():
    past = given(B2B, CARE, opening(1), win(3), reopen(4), transfer(5))
    found = funnel(past)
    assert (counts(found)[0], days(past)[0]) == ((1, 1, 0, 0, 0, 0, 1), 2.0)


# Merged deals


def test_a_merged_deal_is_out_from_then_on_and_back_when_the_merge_is_retracted():
    past = given(B2B, opening(1), opening(1, deal="E"), merge(5), retract(2, recorded=on(120)))
    past.clock.now = on(130)
    before = [funnel(past, as_of=on(day), known_at=on(110)).total.cohort for day in (4, 5)]
    assert (before, [funnel(past, as_of=on(day)).total.cohort for day in (4, 5)]) == ([2, 1], [2, 2])


def test_a_deal_merged_after_its_window_is_out():
    past = given(B2B, opening(1), win(2), opening(1, deal="E"), merge(50))
    assert funnel(past, as_of=on(49), within=7).total.won == 1
    found = funnel(past, as_of=on(50), within=7).total
    assert (found.cohort, found.won) == (1, 0)


def test_a_deal_that_another_was_merged_into_is_counted_as_itself():
    past = given(B2B, opening(1), move(2, "proposal"), opening(1, deal="E"), merge(5))
    assert entered(past) == [1, 0, 0]


# Cohorts


@pytest.mark.parametrize(
    ("cohort", "more", "deals"),
    [
        ("2026", {}, {"first", "leap", "winter", "last"}),
        ("2025", {}, {"eve"}),
        ("2025-W53", {}, None),
        ("2026-W01", {}, {"eve", "first"}),  # 29 December 2025 to 4 January 2026
        ("2026-W09", {}, {"leap"}),  # 23 February to 1 March
        ("2026-Q1", {}, {"first", "leap", "winter"}),
        ("2026-Q1", {"fiscal_year_start": 4}, set()),  # April to June 2025
        ("2026-Q4", {"fiscal_year_start": 4}, {"first", "leap", "winter"}),  # January to March 2026
        ("2026", {"fiscal_year_start": 4}, {"eve", "first", "leap", "winter"}),
        ("2027-Q1", {"fiscal_year_start": 4}, {"last"}),
        ("2026-03", {"fiscal_year_start": 4}, {"winter"}),
        ("2026-03-31", {}, {"winter"}),
        ("2026-04", {"tz": "Europe/Amsterdam"}, {"winter", "last"}),  # 23:30 is half past one on the first there
        ("2026-03-31", {"tz": "America/New_York"}, {"winter", "last"}),  # and the first of April begins at 4:00
        ("2026-02-28..2026-03-31", {}, {"leap"}),
        ("2025-12-31..2026-04-01", {}, {"eve", "first", "leap", "winter"}),
    ],
)
def test_a_deal_is_of_the_period_in_which_it_was_opened(cohort, more, deals):
    opened = {
        "eve": datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "first": datetime(2026, 1, 1, tzinfo=UTC),
        "leap": datetime(2026, 2, 28, 12, tzinfo=UTC),
        "winter": datetime(2026, 3, 31, 23, 30, tzinfo=UTC),
        "last": datetime(2026, 4, 1, tzinfo=UTC),
    }
    past = given(B2B, *(opening(at, deal=deal) for deal, at in opened.items()))
    if deals is None:
        assert code_of(funnel, past, cohort=cohort, **more) == "invalid_period"
        return
    found = funnel(past, cohort=cohort, **more)
    assert {deal.deal for deal in past.trail.deals(found)} == deals
    assert found.total.cohort == len(deals)


def test_a_deal_that_the_moment_does_not_reach_is_not_in_the_cohort():
    past = given(B2B, opening(5), opening(9, deal="E"))
    at = [on(5) - MICROSECOND, on(5), on(9)]
    assert [funnel(past, as_of=moment).total.cohort for moment in at] == [0, 1, 2]


def test_a_deal_opened_elsewhere_is_in_the_cohort_of_the_pipeline_that_it_was_opened_into():
    past = given(B2B, CARE, opening(1, pipeline="care"), transfer(3, pipeline="b2b"), win(4))
    assert (funnel(past).total.cohort, funnel(past, "care").total.transferred) == (0, 1)


def test_amending_the_opening_moves_a_deal_to_another_cohort_for_who_knows_it():
    past = given(B2B, opening(40), win(41), amend(1, 20, recorded=on(120)))
    past.clock.now = on(130)
    assert [funnel(past, cohort=month).total.cohort for month in ("2026-01", "2026-02")] == [1, 0]
    known = [funnel(past, cohort=month, known_at=on(110)).total.cohort for month in ("2026-01", "2026-02")]
    assert known == [0, 1]
    assert days(past, cohort="2026-01")[0] == 21.0


# Within


def test_what_occurs_at_the_last_moment_of_the_window_counts_and_nothing_later():
    late = on(8) + MICROSECOND
    past = given(B2B, *of("A", opening(1), win(8)), *of("B", opening(1), win(late)))
    found = funnel(past, within=7)
    assert (found.within, found.total.won, found.total.open) == (7, 1, 1)
    assert found.stages[0].median_days_to_pass == 7.0
    assert funnel(past, within=8).total.won == 2


def test_cohorts_of_different_age_compare_within_the_same_window():
    """The January deal was won on its tenth day; the March deal on its tenth too, and the moment is day 75."""
    past = given(
        B2B,
        *of("A", opening(1), move(3, "qualified"), win(11)),
        *of("B", opening(62), move(64, "qualified"), win(72)),
        *of("C", opening(1), move(30, "proposal")),
    )
    january, march = (funnel(past, cohort=month, within=10, as_of=on(75)) for month in ("2026-01", "2026-03"))
    assert (january.total.cohort, january.total.won, march.total.cohort, march.total.won) == (2, 1, 1, 1)
    assert [row.entered for row in january.stages] == [2, 1, 0]
    # T itself cuts the window of a young deal short.
    assert funnel(past, cohort="2026-03", within=10, as_of=on(71)).total.open == 1


def test_a_window_of_no_days_sees_the_opening_and_what_shares_its_moment():
    past = given(B2B, opening(1), [move(1, "qualified")], move(2, "proposal"))
    assert entered(past, within=0) == [1, 1, 0]


def test_a_window_may_be_a_part_of_a_day():
    past = given(B2B, opening(1), move(on(1) + timedelta(hours=2.4), "qualified"))
    assert [entered(past, within=within)[1] for within in (0.1, 0.09)] == [1, 0]


def test_a_window_sees_a_win_before_it_was_reopened():
    past = given(B2B, opening(1), win(3), reopen(9))
    assert [funnel(past, within=within).total.won for within in (1, 2, 7, 8)] == [0, 1, 1, 0]


def test_a_window_sees_a_deal_before_it_was_transferred():
    past = given(B2B, CARE, opening(1), transfer(5))
    assert [funnel(past, within=within).total.transferred for within in (3, 4)] == [0, 1]


@pytest.mark.parametrize("within", [-1, "7", True, float("nan"), float("inf"), 1_000_001])
def test_a_window_is_a_number_of_days(within):
    assert code_of(funnel, given(B2B), within=within) == "invalid_field"


# Days


def test_the_ninetieth_percentile_is_interpolated():
    past = given(B2B)
    for number in range(6):
        # To pass takes 1, 2, 4, 8, 16 and 32 days: place 0.9 × 5 = 4.5 is halfway between 16 and 32.
        past.when(*of(f"D{number}", opening(1), move(1 + 2**number, "qualified")))
    row = funnel(past).stages[0]
    assert (row.median_days_to_pass, row.p90_days_to_pass) == (6.0, 24.0)


def test_days_to_pass_are_rounded_once_from_the_exact_span():
    past = given(B2B, *of("A", opening(1), move(on(1) + timedelta(days=0.125), "qualified")))
    assert days(past) == [0.12, None, None]
    past.when(*of("B", opening(1), move(on(1) + timedelta(days=0.145), "qualified")))
    # Halfway between 0.125 and 0.145 is 0.135, to even 0.14; halfway between the rounded 0.12 and 0.14 is 0.13.
    assert days(past) == [0.14, None, None]


# Versions


def test_visits_are_read_under_the_version_and_so_are_their_days():
    past = given(
        B2B,
        *of("A", opening(1), move(4, "qualified"), move(9, "proposal")),
        redefine(20, "early", "proposal", moves={"lead": "early", "qualified": "early"}),
    )
    assert (entered(past, as_of=on(10)), days(past, as_of=on(10))) == ([1, 1, 1], [3.0, 5.0, None])
    assert (entered(past), days(past)) == ([1, 1], [8.0, None])


def test_a_version_that_turns_the_order_round_turns_the_funnel_round():
    past = given(B2B, opening(1), move(3, "proposal"), redefine(20, "proposal", "qualified", "lead"))
    assert counts(funnel(past, definition="current", as_of=on(10))) == [
        (1, 1, 1, 0, 0, 0, 0),
        (0, 1, 1, 0, 0, 0, 0),
        (1, 1, 0, 1, 0, 0, 0),
    ]
    # It came to proposal from beyond, and never went beyond it again; lead is the last stage now.
    assert days(past) == [None, None, None]


def test_a_split_reads_each_deal_by_its_value_as_it_was_known():
    big = {"field": "value", "op": "ge", "value": "1000"}
    split = redefine(20, "small", "large", moves={"lead": [{"when": big, "to": "large"}, {"to": "small"}]})
    past = given(
        define("lead"),
        opening(2, deal="A", value=euro(1000)),
        opening(2, deal="B", value=euro("999.99")),
        opening(2, deal="C"),
        split,
        amend(1, deal="B", value=euro(1001), recorded=on(120)),
    )
    past.clock.now = on(130)
    assert counts(funnel(past, known_at=on(110))) == [(2, 3, 1, 2, 0, 0, 0), (1, 1, 0, 1, 0, 0, 0)]
    assert counts(funnel(past)) == [(1, 3, 2, 1, 0, 0, 0), (2, 2, 0, 2, 0, 0, 0)]


def test_a_split_of_a_win_is_no_matter_since_a_win_is_no_visit():
    big = {"field": "value", "op": "ge", "value": "1000"}
    split = redefine(20, "small", "large", moves={"lead": [{"when": big, "to": "large"}, {"to": "small"}]})
    past = given(define("lead"), opening(2, value=euro(10)), win(4, value=euro(5000)), split)
    assert counts(funnel(past)) == [(1, 1, 1, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0, 0)]
    assert days(past) == [2.0, None]


def test_a_draft_shows_the_funnel_as_it_would_be():
    past = given(B2B, opening(1), move(4, "proposal"), lose(6))
    draft = Draft(
        stages=[stage("early"), stage("late")],
        moves=dict.fromkeys(("lead", "qualified"), "early") | {"proposal": "late"},
    )
    found = funnel(past, definition=draft)
    assert (found.definition, found.draft, counts(found)) == (
        1,
        True,
        [(1, 1, 1, 0, 0, 0, 0), (1, 1, 0, 0, 1, 0, 0)],
    )


def test_history_is_not_restated_backward_and_current_is_the_latest():
    past = given(B2B, opening(1), redefine(20, "all", moves=dict.fromkeys(("lead", "qualified", "proposal"), "all")))
    assert code_of(funnel, past, definition=1) == "cannot_restate"
    assert [len(funnel(past, as_of=on(10), definition=d).stages) for d in (1, "as_of", 2, "current")] == [3, 3, 1, 1]


# Groups and filters


def test_groups_and_filters_look_at_the_deal_as_it_opened():
    past = given(
        B2B,
        *of("A", opening(1, owner="anna", value=euro(5)), assign(3, "bob"), revalue(3, None), win(4)),
        *of("B", opening(1, owner="bob"), attributes(2, region="north")),
        *of("C", opening(1, source="web", attributes={"region": "north"})),
    )
    found = funnel(past, group_by="owner")
    assert [(group.group["owner"], group.total.cohort, group.total.won) for group in found.groups] == [
        ("anna", 1, 1),
        ("bob", 1, 0),
        (None, 1, 0),
    ]
    anna = found.groups[0]
    assert (anna.total.win_rate, anna.stages[0].median_days_to_pass) == (1.0, 3.0)
    wheres = (
        {"owner": "bob"},
        {"currency": "EUR"},
        {"currency": None},
        {"attributes.region": "north"},
        {"attributes.region": None, "owner": "bob"},
        {"source": "web", "owner": None},
    )
    assert [funnel(past, where=where).total.cohort for where in wheres] == [1, 1, 2, 1, 1, 1]


def test_a_filter_follows_the_opening_as_it_was_amended():
    past = given(B2B, opening(1, owner="anna"), amend(1, owner="bob", recorded=on(120)))
    past.clock.now = on(130)
    found = [funnel(past, where={"owner": "bob"}, known_at=known).total.cohort for known in (on(110), None)]
    assert found == [0, 1]


def test_a_group_has_shares_of_its_own_cohort():
    past = given(
        B2B,
        *of("A", opening(1, source="web"), win(2)),
        *of("B", opening(1, source="web"), lose(2)),
        *of("C", opening(1), move(2, "proposal")),
    )
    web, other = funnel(past, group_by=["source"]).groups
    assert [row.conversion_from_start for row in web.stages] == [1.0, 0.5, 0.5]
    assert (web.total.close_rate, other.total.close_rate) == (0.5, None)
    assert [row.reached for row in other.stages] == [1, 1, 1]


# Moments


def test_a_bare_date_is_the_whole_day_in_the_zone_and_later_than_now_is_now():
    past = given(B2B, opening(1), move(datetime(2026, 1, 5, 23, 30, tzinfo=UTC), "qualified"))
    asked = [("UTC", date(2026, 1, 5)), ("Europe/Amsterdam", "2026-01-05"), ("Europe/Amsterdam", "2026-01-06")]
    assert [entered(past, as_of=day, tz=tz)[1] for tz, day in asked] == [1, 0, 1]
    past.clock.now = on(150)
    assert funnel(past, as_of="2030-01-01", known_at="2030-01-01").as_of == on(150)


def test_what_was_known_earlier_about_later():
    past = given(B2B, opening(1), win(110, recorded=on(120)))
    past.clock.now = on(130)
    found = funnel(past, as_of=on(115), known_at=on(105))
    assert (found.total.open, found.total.won, found.position) == (1, 0, 2)
