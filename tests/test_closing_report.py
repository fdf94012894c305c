"""The closing report against figures worked out by hand."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from click.testing import CliRunner
from given import (
    CARE,
    amend,
    assign,
    code_of,
    define,
    euro,
    expect,
    given,
    lose,
    merge,
    move,
    on,
    opening,
    redefine,
    reopen,
    retract,
    stage,
    transfer,
)

from dealtrail import DealtrailError, Draft, Trail
from dealtrail.cli.app import app

FORECAST = define(stage("lead", probability="0.1"), stage("offer", probability="0.6"))


def report(*past, **question):
    return given(FORECAST, *past).trail.closing_report("b2b", **question)


def months(found):
    return {row.month: row.deals for row in found.months}


def moved(*past, **question):
    """Of deal D: pushes, days pushed, pulls, days pulled."""
    total = report(*past, **question).total
    return total.pushes, total.days_pushed, total.pulls, total.days_pulled


# Months and what is overdue


def test_deals_stand_in_the_month_in_which_they_should_close_and_those_without_date_come_last():
    found = report(
        opening(1, deal="A", expected_close="2026-05-31", value=euro("100.10")),
        opening(1, deal="B", expected_close="2026-04-30", value=euro("50")),
        opening(1, deal="C"),
        opening(1, deal="E", expected_close="2026-05-01", value=euro("10"), stage="offer"),
        opening(1, deal="F", expected_close="2027-04-01"),
    )
    assert list(months(found).items()) == [("2026-04", 1), ("2026-05", 2), ("2027-04", 1), (None, 1)]
    may = found.months[1]
    assert may.value == {"EUR": Decimal("110.10")}
    assert may.weighted_value == {"EUR": Decimal("16.01")}  # 100.10 × 0.1 + 10 × 0.6
    assert (found.total.deals, found.total.value) == (5, {"EUR": Decimal("160.10")})
    assert found.total.weighted_value == {"EUR": Decimal("21.01")}


def test_a_deal_is_overdue_from_the_day_after_its_date_on():
    past = opening(1, expected_close="2026-02-10")
    assert report(past, as_of="2026-02-10").total.overdue == 0
    after = report(past, as_of="2026-02-12")
    assert (after.total.overdue, after.months[0].overdue, after.stages[0].overdue) == (1, 1, 1)
    assert [(one.deal, one.days_over) for one in after.deals] == [("D", 2)]


def test_the_day_is_that_of_the_time_zone():
    question = {"as_of": datetime(2026, 2, 10, 23, 30, tzinfo=UTC)}
    past = opening(1, expected_close="2026-02-10")
    assert report(past, **question).total.overdue == 0
    assert report(past, **question, tz="Europe/Amsterdam").total.overdue == 1


def test_only_deals_that_are_open_and_in_the_pipeline_are_there():
    dated = {"expected_close": "2026-02-10"}
    found = report(
        CARE,
        *(opening(1, deal=deal, **dated) for deal in "ABCE"),
        opening(1, "care", deal="F", **dated),
        opening(1, deal="G", **dated),
        lose(2, deal="A"),
        merge(2, "E", deal="B"),
        transfer(2, deal="C"),
        lose(2, deal="G"),
        reopen(3, deal="G"),
    )
    assert [one.deal for one in found.deals] == ["E", "G"]


def test_a_pipeline_without_open_deals_has_no_month_and_every_stage():
    found = report()
    assert (found.months, [row.stage for row in found.stages], found.deals) == ([], ["lead", "offer"], [])
    assert found.total.median_days_slipped is None


# Slippage


def test_a_later_date_is_a_push_and_an_earlier_one_a_pull():
    found = report(
        opening(1, expected_close="2026-03-01"),
        expect(2, "2026-03-31"),
        expect(3, "2026-03-21"),
        expect(4, "2026-04-01"),
    )
    total = found.total
    assert (total.pushed, total.pushes, total.days_pushed) == (1, 2, 41)  # 30 and 11
    assert (total.pulled, total.pulls, total.days_pulled) == (1, 1, 10)
    assert (total.dated, total.median_days_slipped) == (1, 31.0)
    (one,) = found.deals
    assert (one.first_expected_close, one.expected_close) == (date(2026, 3, 1), date(2026, 4, 1))


def test_the_first_date_and_the_same_date_again_are_no_move():
    assert moved(opening(1), expect(2, "2026-03-01"), expect(3, "2026-03-01")) == (0, 0, 0, 0)


def test_a_date_that_is_taken_away_and_given_anew_was_moved_from_the_one_to_the_other():
    past = opening(1, expected_close="2026-03-01"), expect(2, None)
    assert moved(*past) == (0, 0, 0, 0)
    assert report(*past).total.dated == 1
    assert moved(*past, expect(3, "2026-03-08")) == (1, 7, 0, 0)


def test_of_changes_at_one_moment_only_the_last_counts():
    """Also where they were recorded one after the other, unless it is asked what was known between."""
    past = (
        opening(1, expected_close="2026-03-01"),
        expect(2, "2026-06-01", recorded=on(101)),
        expect(2, "2026-03-05", recorded=on(102)),
    )
    assert moved(*past) == (1, 4, 0, 0)
    assert moved(*past, known_at=on(101)) == (1, 92, 0, 0)
    assert moved(opening(1, expected_close="2026-03-01"), [expect(2, "2026-06-01"), expect(2, "2026-03-05")]) == (
        1,
        4,
        0,
        0,
    )


def test_slippage_is_that_by_as_of_as_known_at_known_at():
    past = (
        opening(1, expected_close="2026-03-01"),
        expect(10, "2026-03-02"),
        expect(20, "2026-03-04"),
        expect(15, "2026-02-20", recorded=on(103)),
        retract(2, recorded=on(104)),
    )
    assert moved(*past, known_at=on(102)) == (2, 3, 0, 0)
    assert moved(*past, known_at=on(102), as_of=on(12)) == (1, 1, 0, 0)
    assert moved(*past, known_at=on(103)) == (2, 13, 1, 10)  # 1, -10, 12
    assert moved(*past) == (1, 12, 1, 9)
    assert moved(*past, as_of=on(16)) == (0, 0, 1, 9)


def test_an_amended_date_was_never_another():
    past = opening(1, expected_close="2026-03-01"), expect(2, "2027-03-01"), amend(2, expected_close="2026-03-11")
    assert moved(*past) == (1, 10, 0, 0)
    assert moved(*past, amend(1, expected_close="2026-03-11")) == (0, 0, 0, 0)


def test_other_changes_move_no_date():
    past = opening(1, expected_close="2026-03-01"), move(2, "offer"), assign(3, "zoe"), move(4, "lead")
    assert moved(*past) == (0, 0, 0, 0)


SEVERAL = (
    opening(1, deal="A", owner="anna", expected_close="2026-03-01"),
    opening(1, deal="B", owner="anna", expected_close="2026-03-01", stage="offer"),
    opening(1, deal="C", owner="ben", expected_close="2026-03-01", stage="offer"),
    expect(2, "2026-03-11", deal="A"),
    expect(2, "2026-03-04", deal="B"),
    expect(2, "2026-02-27", deal="C"),
)


def test_slippage_is_told_by_the_stage_of_now():
    lead, offer = report(*SEVERAL).stages
    assert (lead.dated, lead.days_pushed, lead.pulls, lead.median_days_slipped) == (1, 10, 0, 10.0)
    assert (offer.dated, offer.days_pushed, offer.days_pulled, offer.median_days_slipped) == (2, 3, 2, 0.5)


def test_slippage_is_told_by_owner_and_other_fields():
    found = report(*SEVERAL, group_by="owner", where={"currency": None})
    assert [(g.group["owner"], g.total.days_pushed, g.total.days_pulled) for g in found.groups] == [
        ("anna", 13, 0),
        ("ben", 0, 2),
    ]
    assert [months(group) for group in found.groups] == [{"2026-03": 2}, {"2026-02": 1}]
    assert [row.dated for row in found.groups[0].stages] == [1, 1]


# Definitions, refusals, digests


def test_stages_and_probabilities_are_those_of_the_definition_read_under():
    past = given(FORECAST, opening(1, expected_close="2026-03-01", value=euro(100)))
    one = [stage("only", probability="0.5")]
    found = past.trail.closing_report("b2b", definition=Draft(one, {"lead": "only", "offer": "only"}))
    assert (found.draft, [row.stage for row in found.stages]) == (True, ["only"])
    assert found.total.weighted_value == {"EUR": Decimal("50.00")}


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"group_by": "title"}, "invalid_group_by"),
        ({"where": {"title": "x"}}, "invalid_where"),
        ({"tz": "Mars"}, "invalid_tz"),
        ({"definition": 7}, "unknown_definition"),
        ({"definition": 1}, "cannot_restate"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(question, code):
    past = given(FORECAST, redefine(2, "lead", "offer"))
    assert code_of(past.trail.closing_report, "b2b", **question) == code


def test_an_unknown_pipeline_is_refused():
    assert code_of(given(FORECAST).trail.closing_report, "c2c") == "unknown_pipeline"


def test_the_same_question_has_the_same_digest_and_another_past_another():
    past = given(FORECAST, *SEVERAL)
    first = past.trail.closing_report("b2b")
    assert past.trail.closing_report("b2b", as_of=first.as_of, known_at=first.known_at) == first
    assert report(*SEVERAL[:-1]).content_digest != first.content_digest


# The command line

LINES = [
    "2026-02 1 1",
    "2026-03 2 0",
    "Total 3 1",
    "Lead 1 1 1 10 0 0 0 10.00",
    "Offer 2 1 1 3 1 1 2 0.50",
    "Total 3 2 2 13 1 1 2 3.00",
    "C ben offer 2026-02-27 3 2026-03-01 0 0 1 2",
]


def test_a_report_that_names_its_deals_has_no_cells_also_when_read_back():
    past = given(FORECAST, opening(2, expected_close="2026-03-01"))
    for made in (past.trail.closing_report("b2b"), past.trail.next_actions("b2b")):
        for one in (made, msgspec.json.decode(msgspec.json.encode(made))):
            with pytest.raises(DealtrailError) as caught:
                past.trail.deals(one)
            assert (caught.value.code, caught.value.field) == ("invalid_field", "report")
            assert "names its deals itself" in caught.value.message


def test_the_command_line_shows_months_slippage_and_deals(tmp_path):
    path = str(tmp_path / "sales.db")
    with Trail.open(path) as trail:
        trail.record_all([FORECAST, *SEVERAL])
    at = ("--as-of", "2026-03-02", "--db", path)
    shown = CliRunner().invoke(app, ["closing", "b2b", *at]).output.splitlines()
    assert [" ".join(line.split()) for line in shown if line[:3] in ("202", "Lea", "Off", "Tot", "C  ")] == LINES
    rows = CliRunner().invoke(app, ["closing", "b2b", "--group-by", "owner", "--format", "csv", *at]).output
    assert rows.splitlines() == ["group.owner,month,deals,overdue", "anna,2026-03,2,0", "ben,2026-02,1,1"]
    found = json.loads(CliRunner().invoke(app, ["closing", "b2b", "--format", "json", *at]).output)
    assert (found["total"]["pushes"], found["deals"][0]["deal"]) == (2, "C")
