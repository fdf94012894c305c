"""What is to be done for the open deals, and which of them are neglected: worked out by hand."""

import csv
from datetime import date

import pytest
from given import (
    CARE,
    assign,
    code_of,
    complete,
    define,
    expect,
    given,
    lose,
    merge,
    move,
    on,
    opening,
    redefine,
    stage,
    transfer,
)

from dealtrail import NextActions

B2B = define(
    stage("lead", required=["call"], optional=["mail"], rots_after_days=10),
    stage("demo", required=["invite", "hold"], rots_after_days=20),
    "offer",
)
PAST = [
    B2B,
    CARE,
    # A has been a lead for 28 days on day 30; its call is done, so only the mail is left.
    *(opening(2, deal="A", owner="anna", expected_close="2026-01-20"), complete(3, "call", deal="A")),
    # B has been in demo for 25 days, and one of two actions is done.
    *(opening(2, deal="B", owner="bo"), complete(3, "call", deal="B"), move(5, "demo", deal="B")),
    complete(6, "hold", deal="B"),
    # C is a lead for 9.5 days and nobody's; E has been in offer, which asks for nothing, for 27.
    *(opening(on(20, 12), deal="C", expected_close="2026-01-30"), opening(3, deal="E", stage="offer", owner="anna")),
    # None of these is open here.
    *(opening(2, deal="L"), lose(5, deal="L"), opening(2, deal="T"), transfer(5, deal="T")),
    *(opening(2, deal="M"), merge(5, into="A", deal="M")),
]
T = on(30)


def ask(past, **question):
    return past.trail.next_actions("b2b", **{"as_of": T, **question})


def todo(report):
    return [(row.deal, row.action, row.required) for row in report.actions]


@pytest.fixture(scope="module")
def past():
    return given(*PAST)


def test_the_required_come_first_and_then_those_that_have_waited_longest(past):
    # C waits for less time than B, but A's mail is not required.
    assert todo(ask(past)) == [
        ("B", "invite", True),
        ("C", "call", True),
        ("A", "mail", False),
        ("C", "mail", False),
    ]
    first = ask(past).actions[0]
    assert (first.owner, first.stage, first.name, first.stage_since, first.days_in_stage) == (
        "bo",
        "demo",
        "Invite",
        on(5),
        25.0,
    )


def test_an_action_is_to_be_done_again_where_the_deal_was_put_into_the_stage_again(past):
    again = given(*PAST, move(26, "lead", deal="B"), move(27, "offer", deal="A"), move(28, "lead", deal="A"))
    assert [row for row in todo(ask(again)) if row[0] in "AB"] == [
        ("B", "call", True),
        ("A", "call", True),
        ("B", "mail", False),
        ("A", "mail", False),
    ]


def test_stalled_deals_come_with_the_days_that_they_are_over(past):
    # A: 28 − 10; B: 25 − 20. C has 9.5 of 10 days, and an offer does not rot.
    assert [(row.deal, row.days_over) for row in ask(past).stalled] == [("A", 18.0), ("B", 5.0)]
    assert [row.deal for row in ask(past, as_of=on(12)).stalled] == []
    assert [row.deal for row in ask(past, as_of=on(12, 0, 1)).stalled] == ["A"]


def test_deals_without_owner_are_told(past):
    assert [(row.deal, row.days_in_stage) for row in ask(past).unowned] == [("C", 9.5)]
    given_away = given(*PAST, assign(29, None, deal="E"), assign(29, "bo", deal="C"))
    assert [row.deal for row in ask(given_away).unowned] == ["E"]


def test_deals_past_their_expected_close_are_told_the_latest_first(past):
    assert [(row.deal, row.expected_close, row.days_over) for row in ask(past).overdue] == [
        ("A", date(2026, 1, 20), 10)
    ]
    # C should close on the 30th, which is day 30 itself.
    assert [(row.deal, row.days_over) for row in ask(past, as_of=on(31)).overdue] == [("A", 11), ("C", 1)]
    later = given(*PAST, expect(29, "2026-03-01", deal="A"))
    assert ask(later).overdue == []


def test_a_day_has_passed_where_it_has_in_the_time_zone(past):
    # At 16:00 in UTC on the 30th it is the 31st in Tokyo.
    assert [row.deal for row in ask(past, as_of=on(30, 16)).overdue] == ["A"]
    assert [row.deal for row in ask(past, as_of=on(30, 16), tz="Asia/Tokyo").overdue] == ["A", "C"]


def test_an_owner_sees_only_own_deals(past):
    report = ask(past, owner="anna")
    assert (todo(report), [row.deal for row in report.stalled]) == ([("A", "mail", False)], ["A"])
    assert (report.unowned, [row.deal for row in report.overdue]) == ([], ["A"])
    assert ask(past, owner="nobody").actions == []


def test_what_was_to_be_done_then_is_told_again():
    past = given(
        define(stage("lead", required=["call"]), recorded=on(1)),
        opening(2, recorded=on(2)),
        complete(3, "call", recorded=on(9)),
    )
    assert todo(ask(past, as_of=on(5), known_at=on(5))) == [("D", "call", True)]
    assert todo(ask(past, as_of=on(5))) == []


def test_actions_are_those_of_the_definition_in_force():
    past = given(B2B, opening(2), redefine(10, stage("lead", required=["visit"]), "demo", "offer"))
    assert todo(ask(past, as_of=on(9))) == [("D", "call", True), ("D", "mail", False)]
    assert todo(ask(past)) == [("D", "visit", True)]


def test_stages_that_became_one_are_one_wait():
    moves = {"lead": "early", "demo": "early"}
    past = given(
        B2B,
        *(opening(2), complete(3, "call"), move(4, "demo")),
        redefine(10, stage("early", required=["call"]), "offer", moves=moves),
    )
    (row,) = ask(past).actions
    # In early since day 2; what was done before the deal was last put into a stage does not count, as for the rules.
    assert (row.action, row.stage_since) == ("call", on(2))


def test_the_report_says_where_it_came_from(past):
    report = ask(past, owner="anna", tz="Asia/Tokyo")
    assert report.question == {
        "report": "next_actions",
        "pipeline": "b2b",
        "as_of": "2026-01-30T00:00:00Z",
        "known_at": report.question["known_at"],
        "definition": "as_of",
        "owner": "anna",
        "tz": "Asia/Tokyo",
    }
    question = {name: report.question[name] for name in ("as_of", "known_at", "owner", "tz")}
    again = past.trail.next_actions("b2b", **question)
    assert isinstance(again, NextActions)
    assert again.digest == report.digest
    assert ask(past, owner="bo", tz="Asia/Tokyo").digest != report.digest


def test_a_question_that_makes_no_sense_is_refused(past):
    assert code_of(past.trail.next_actions, "b2c") == "unknown_pipeline"
    assert code_of(ask, past, owner="") == "invalid_field"
    assert code_of(ask, past, owner=7) == "invalid_field"
    assert code_of(ask, past, tz="Mars/Base") == "invalid_tz"


# The command


def test_the_command_tells_it_as_tables_json_and_csv(shop):
    on_day = ("todo", "b2b", "--as-of", "2025-03-31")
    lines = [" ".join(line.split()) for line in shop.run(*on_day).stdout.splitlines()]
    # D-1 has been in demo since 15 January, D-3 a lead since 1 March, for 30.62 days of 10.
    assert {"To do: 1", "D-1 anna demo 75.62 Held required", "Stalled: 1", "D-3 lead 30.62 20.62"} <= set(lines)
    assert {"Without owner: 1", "D-3 lead 30.62", "Past expected close: none"} <= set(lines)
    answer = shop.json(*on_day, "--owner", "anna")
    assert ([row["deal"] for row in answer["actions"]], answer["stalled"]) == (["D-1"], [])
    rows = list(csv.DictReader(shop.lines(*on_day)))
    assert [(row["list"], row["deal"], row["action"], row["days_over"]) for row in rows] == [
        ("actions", "D-1", "held", ""),
        ("stalled", "D-3", "", "20.62"),
        ("unowned", "D-3", "", ""),
    ]
    assert shop.lines(*on_day, "--owner", "nobody") == [
        "list,deal,owner,stage,stage_since,days_in_stage,action,name,required,expected_close,days_over",
        "",
    ]
