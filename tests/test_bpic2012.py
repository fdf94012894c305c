"""A real log of loan applications (BPI Challenge 2012) against figures worked out from its rows in plain Python.

The application's own states are the pipeline; offers and work items are left out. Cases are read in the file's order:
many events of a case share their time, and then the order in which they are recorded holds.
"""

import csv
import gzip
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from zoneinfo import ZoneInfo

import pytest
from given import define
from real_data import DATA, days_at, needs, share

from dealtrail import Trail

pytestmark = needs("bpic2012")

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
STAGES = ["a_submitted", "a_partlysubmitted", "a_preaccepted", "a_accepted", "a_finalized"]
ENDINGS = {"A_APPROVED": "win_deal", "A_CANCELLED": "lose_deal", "A_DECLINED": "disqualify_deal"}
STATUS = {"A_APPROVED": "won", "A_CANCELLED": "lost", "A_DECLINED": "disqualified"}


def read():
    """Each case with its amount and its steps (moment, activity), in the order of the file."""
    with open(DATA / "bpic2012/cases.csv", newline="") as file:
        amounts = {row["case"]: row["amount_req"] for row in csv.DictReader(file)}
    wanted = {stage.upper() for stage in STAGES} | ENDINGS.keys()
    with gzip.open(DATA / "bpic2012/events.csv.gz", "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["activity"] in wanted]
    return {
        case: (amounts[case], [(datetime.fromisoformat(row["timestamp"]), row["activity"]) for row in of_case])
        for case, of_case in groupby(rows, key=lambda row: row["case"])
    }


def actions(case, amount, steps):
    for at, activity in steps:
        action = {"deal": case, "at": at}
        if activity == "A_SUBMITTED":
            value = {"amount": amount, "currency": "EUR"}
            yield action | {"action": "open_deal", "pipeline": "loans", "value": value}
        elif activity in ENDINGS:
            yield action | {"action": ENDINGS[activity]}
        else:
            yield action | {"action": "move_deal", "stage": activity.lower()}


@pytest.fixture(scope="module")
def cases():
    return read()


@pytest.fixture(scope="module")
def trail(cases):
    with Trail.open(":memory:") as trail:
        trail.record(define(*STAGES, pipeline="loans", day=datetime(2011, 1, 1, tzinfo=UTC)))
        trail.record_all(action for case, (amount, steps) in cases.items() for action in actions(case, amount, steps))
        yield trail


def end_of(day):
    return datetime.combine(day, time.max, tzinfo=AMSTERDAM)


def until(steps, at):
    return [step for step in steps if step[0] <= at]


def test_the_pipeline_at_the_end_of_2011(trail):
    report = trail.pipeline_report("loans", as_of=date(2011, 12, 31), tz="Europe/Amsterdam")
    assert {row.stage: (row.deals, row.value) for row in report.stages} == {
        "a_submitted": (0, {}),
        "a_partlysubmitted": (5, {"EUR": Decimal(144_000)}),
        "a_preaccepted": (130, {"EUR": Decimal(1_813_950)}),
        "a_accepted": (1, {"EUR": Decimal(5_000)}),
        "a_finalized": (509, {"EUR": Decimal(8_436_067)}),
    }


def test_the_funnel_of_all_cases(trail):
    report = trail.funnel_report("loans", cohort="2011-10-01..2012-03-01", tz="Europe/Amsterdam")
    assert [row.entered for row in report.stages] == [13_087, 13_087, 7_367, 5_113, 5_015]
    total = report.total
    assert (total.cohort, total.won, total.disqualified, total.lost, total.open) == (13_087, 2_246, 7_635, 2_807, 399)


@pytest.mark.parametrize(
    "day", [date(2011, 10, 1), date(2011, 10, 30), date(2011, 11, 15), date(2012, 1, 20), date(2012, 2, 29)]
)
def test_the_pipeline_at_any_day_is_what_the_rows_say(trail, cases, day):
    at = end_of(day)
    deals, value, waiting = Counter(), Counter(), {stage: [] for stage in STAGES}
    for amount, steps in cases.values():
        seen = until(steps, at)
        if seen and seen[-1][1] not in ENDINGS:
            since, activity = seen[-1]
            stage = activity.lower()
            deals[stage] += 1
            value[stage] += int(amount)
            waiting[stage].append(at.astimezone(UTC) - since.astimezone(UTC))
    report = trail.pipeline_report("loans", as_of=day, tz="Europe/Amsterdam")
    assert report.as_of == at
    assert [(row.stage, row.deals, row.value.get("EUR", 0), row.median_days_in_stage) for row in report.stages] == [
        (stage, deals[stage], value[stage], days_at(waiting[stage], Fraction(1, 2))) for stage in STAGES
    ]
    assert report.total.weighted_value.get("EUR", 0) == Decimal(sum(value.values())) / 2


@pytest.mark.parametrize(
    ("cohort", "first", "end", "day", "within"),
    [
        ("2011-10", date(2011, 10, 1), date(2011, 11, 1), None, None),
        ("2011-Q4", date(2011, 10, 1), date(2012, 1, 1), date(2011, 12, 31), None),
        ("2011-W45", date(2011, 11, 7), date(2011, 11, 14), date(2012, 1, 15), 14),
        ("2012-01-10", date(2012, 1, 10), date(2012, 1, 11), date(2012, 1, 10), None),
        ("2011-10-01..2012-03-01", date(2011, 10, 1), date(2012, 3, 1), None, 30),
    ],
)
def test_the_funnel_of_any_cohort_is_what_the_rows_say(trail, cases, cohort, first, end, day, within):
    begin, stop = (datetime.combine(border, time(), tzinfo=AMSTERDAM) for border in (first, end))
    latest = end_of(day) if day else datetime(2013, 1, 1, tzinfo=UTC)
    journeys = []
    for _, steps in cases.values():
        opened = steps[0][0]
        if begin <= opened < stop and opened <= latest:
            horizon = latest if within is None else min(latest, opened.astimezone(UTC) + timedelta(days=within))
            journeys.append(until(steps, horizon))
    report = trail.funnel_report("loans", cohort=cohort, as_of=day, within=within, tz="Europe/Amsterdam")

    status = Counter(STATUS.get(seen[-1][1], "open") for seen in journeys)
    total = report.total
    assert (total.cohort, total.won, total.lost, total.disqualified, total.open, total.transferred) == (
        len(journeys),
        *(status[name] for name in ("won", "lost", "disqualified", "open")),
        0,
    )
    for index, (row, stage) in enumerate(zip(report.stages, STAGES, strict=True)):
        entered = reached = passed = 0
        ended, spans = Counter(), []
        for seen in journeys:
            places = [STAGES.index(name.lower()) if name.lower() in STAGES else None for _, name in seen]
            furthest = max(place for place in places if place is not None)
            won = seen[-1][1] == "A_APPROVED"
            entered += index in places
            reached += won or furthest >= index
            passed += won or furthest > index
            if furthest == index and not won:
                ended[STATUS.get(seen[-1][1], "open")] += 1
            if index in places:
                since = places.index(index)
                beyond = [
                    at
                    for (at, name), place in list(zip(seen, places, strict=True))[since + 1 :]
                    if name == "A_APPROVED" or (place is not None and place > index)
                ]
                spans += [beyond[0] - seen[since][0]] if beyond else []
        found = (row.stage, row.entered, row.reached, row.passed, row.open, row.lost, row.disqualified)
        assert found == (stage, entered, reached, passed, ended["open"], ended["lost"], ended["disqualified"])
        assert (row.conversion_from_start, row.conversion_to_next) == (
            share(reached, len(journeys)),
            share(passed, reached),
        )
        assert (row.median_days_to_pass, row.p90_days_to_pass) == (
            days_at(spans, Fraction(1, 2)),
            days_at(spans, Fraction(9, 10)),
        )
