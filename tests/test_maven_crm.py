"""A real table of opportunities (Maven CRM) against figures worked out from its rows in plain Python.

The table is a snapshot taken at the end of 2017, with dates and no times. An opportunity that was engaged is opened
in stage `engaging` at the start of that day, and won or lost at noon of the day on which it closed; a win is worth its
close value in US dollars. One that is only prospected has no date at all: all that is known is that it stood there
when the snapshot was taken, so it is opened at that moment. What an opportunity was worth before it closed is nowhere
said, and stays missing. Nobody is said to have been prospecting before, so no deal passes that stage by a move.
"""

import csv
from collections import Counter
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction

import pytest
from given import define
from real_data import DATA, days_at, needs, share

from dealtrail import Trail

pytestmark = needs("maven_crm")

TAKEN = datetime(2017, 12, 31, 12, tzinfo=UTC)
END = {"Won": "win_deal", "Lost": "lose_deal"}


def started(row):
    return datetime.combine(date.fromisoformat(row["engage_date"]), time(), tzinfo=UTC)


def closed(row):
    return datetime.combine(date.fromisoformat(row["close_date"]), time(12), tzinfo=UTC)


def actions(row):
    deal = {"deal": row["opportunity_id"]}
    facts = {name: row[name] for name in ("account", "product") if row[name]}
    engaged = row["deal_stage"] != "Prospecting"
    stage, at = ("engaging", started(row)) if engaged else ("prospecting", TAKEN)
    opening = {"action": "open_deal", "pipeline": "sales", "stage": stage, "at": at, "owner": row["sales_agent"]}
    yield deal | opening | {"attributes": facts}
    if row["deal_stage"] == "Won":
        value = {"amount": row["close_value"], "currency": "USD"}
        yield deal | {"action": "win_deal", "at": closed(row), "value": value}
    elif row["deal_stage"] == "Lost":
        yield deal | {"action": "lose_deal", "at": closed(row)}


@pytest.fixture(scope="module")
def rows():
    with open(DATA / "maven_crm/sales_pipeline.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trail(rows):
    with Trail.open(":memory:") as trail:
        trail.record(define("prospecting", "engaging", pipeline="sales", day=datetime(2016, 1, 1, tzinfo=UTC)))
        trail.record_all(action for row in rows for action in actions(row))
        yield trail


def standing(rows, at):
    """The opportunities that were engaged and not closed at a moment."""
    engaged = [row for row in rows if row["engage_date"] and started(row) <= at]
    return [row for row in engaged if not row["close_date"] or closed(row) > at]


def test_the_pipeline_of_the_snapshot_is_what_its_rows_say(trail, rows):
    report = trail.pipeline_report("sales", as_of=TAKEN)
    count = Counter(row["deal_stage"] for row in rows)
    assert [(row.stage, row.deals, row.value) for row in report.stages] == [
        ("prospecting", count["Prospecting"], {}),
        ("engaging", count["Engaging"], {}),
    ]
    assert [row.median_days_in_stage for row in report.stages] == [
        0.0,
        days_at([TAKEN - started(row) for row in rows if row["deal_stage"] == "Engaging"], Fraction(1, 2)),
    ]


@pytest.mark.parametrize("day", [date(2016, 12, 31), date(2017, 3, 1), date(2017, 7, 15), date(2017, 12, 30)])
def test_the_agents_of_any_day_had_the_deals_that_the_rows_say(trail, rows, day):
    at = datetime.combine(day, time.max, tzinfo=UTC)
    waiting = {}
    for row in standing(rows, at):
        waiting.setdefault(row["sales_agent"], []).append(at - started(row))
    report = trail.pipeline_report("sales", as_of=day, group_by="owner")
    assert [(g.group["owner"], g.total.deals, g.total.median_days_in_stage) for g in report.groups] == [
        (agent, len(spans), days_at(spans, Fraction(1, 2))) for agent, spans in sorted(waiting.items())
    ]


def test_opportunities_without_an_account_are_the_last_group_and_can_be_asked_for(trail, rows):
    report = trail.pipeline_report("sales", as_of=TAKEN, group_by="attributes.account")
    count = Counter(row["account"] for row in rows if row["deal_stage"] in ("Engaging", "Prospecting"))
    missing = count.pop("")
    assert [(g.group["attributes.account"], g.total.deals) for g in report.groups] == [
        *sorted(count.items()),
        (None, missing),
    ]
    alone = trail.pipeline_report("sales", as_of=TAKEN, where={"attributes.account": None})
    assert alone.total.deals == missing


@pytest.mark.parametrize(
    ("cohort", "first", "until", "as_of", "product"),
    [
        ("2017-Q1", date(2017, 1, 1), date(2017, 4, 1), date(2017, 12, 31), None),
        ("2017-Q1", date(2017, 1, 1), date(2017, 4, 1), date(2017, 4, 30), None),
        ("2017", date(2017, 1, 1), date(2018, 1, 1), date(2017, 12, 30), "GTXPro"),
        ("2016-11", date(2016, 11, 1), date(2016, 12, 1), date(2017, 3, 10), "MG Special"),
    ],
)
def test_the_funnel_of_any_cohort_is_what_the_rows_say(trail, rows, cohort, first, until, as_of, product):
    at = datetime.combine(as_of, time.max, tzinfo=UTC)
    opened = [row for row in rows if (row["engage_date"] and first <= started(row).date() < until)]
    if first <= TAKEN.date() < until and at >= TAKEN:
        opened += [row for row in rows if row["deal_stage"] == "Prospecting"]
    opened = [row for row in opened if product in (None, row["product"])]
    ended = [row for row in opened if row["close_date"] and closed(row) <= at]
    won = [row for row in ended if row["deal_stage"] == "Won"]
    lost = len(ended) - len(won)
    where = {} if product is None else {"attributes.product": product}
    report = trail.funnel_report("sales", cohort=cohort, as_of=as_of, where=where)
    total, engaging = report.total, report.stages[1]
    assert total.cohort == len(opened) > 0
    assert (total.won, total.lost, total.open) == (len(won), lost, len(opened) - len(ended))
    assert (total.win_rate, total.close_rate) == (share(len(won), len(opened)), share(len(won), len(ended)))
    spans = [closed(row) - started(row) for row in won]
    assert (engaging.passed, engaging.median_days_to_pass, engaging.p90_days_to_pass) == (
        len(won),
        days_at(spans, Fraction(1, 2)),
        days_at(spans, Fraction(9, 10)),
    )


def test_the_wins_of_a_cohort_are_worth_what_the_rows_say(trail, rows):
    report = trail.funnel_report("sales", cohort="2017-Q2", as_of=TAKEN, group_by="owner")
    expected = Counter()
    for row in rows:
        if row["deal_stage"] == "Won" and "2017-04-01" <= row["engage_date"] < "2017-07-01":
            expected[row["sales_agent"]] += int(row["close_value"])
    found = {
        group.group["owner"]: sum(deal.value.amount for deal in trail.deals(report, field="won", group=group.group))
        for group in report.groups
    }
    assert found == {agent: Decimal(expected[agent]) for agent in found}
    assert set(expected) <= set(found)
