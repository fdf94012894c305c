"""The simulated year has the shape of a believable one, and is accepted whole."""

from collections import Counter
from datetime import date, timedelta
from statistics import median

import pytest
from given import Clock

from dealtrail import Trail
from dealtrail.domain.actions import KINDS
from dealtrail.simulation import simulate

UNTIL = date(2026, 6, 30)
PIPELINES = ("new-business", "renewals")
# The year, without its last quarter: deals that are younger had no time to be won.
GROWN_UP = "2025-07-01..2026-04-01"


def recorded(**arguments):
    """A trail with a simulated year, every step at its moment; a refusal of any action comes out."""
    clock = Clock()
    trail = Trail.open(":memory:", clock=clock)
    for day in simulate(until=UNTIL, **arguments):
        clock.now = day.recorded_at
        trail.record_all(day.actions)
    return trail


@pytest.fixture(scope="module")
def year():
    """The year of the demo, with nothing refused."""
    with recorded() as trail:
        yield trail


def won(trail):
    """The deals that are won, of both pipelines."""
    return [deal for pipeline in PIPELINES for deal in trail.list_deals(pipeline, status="won", limit=10_000)]


def test_every_deal_is_recorded_and_no_action_is_refused(year):
    opened = sum(event.event == "deal_opened" and event.amends is None for event in year.follow())
    assert opened == 1_200


def test_between_15_and_35_percent_of_the_deals_are_won(year):
    totals = [year.funnel_report(pipeline, cohort=GROWN_UP).total for pipeline in PIPELINES]
    assert 0.15 <= sum(total.won for total in totals) / sum(total.cohort for total in totals) <= 0.35
    assert totals[0].win_rate < totals[1].win_rate


def test_half_of_the_won_deals_took_between_20_and_60_days(year):
    days = [(deal.closed_at - deal.opened_at) / timedelta(days=1) for deal in won(year)]
    assert len(days) > 100
    assert 20 <= median(days) <= 60


def test_each_action_of_a_deal_happens_ten_times_and_pipelines_are_defined_and_redefined():
    counts = Counter(action["action"] for day in simulate(until=UNTIL) for action in day.actions)
    # Two pipelines, of which one is redefined, once: a sales team does that once in a year.
    assert (counts.pop("define_pipeline"), counts.pop("redefine_pipeline")) == (2, 1)
    assert set(counts) == set(KINDS) - {"define_pipeline", "redefine_pipeline"}
    assert [name for name, count in counts.items() if count < 10] == []


def test_the_steps_are_in_order_and_nothing_is_recorded_before_it_happened():
    days = list(simulate(until=UNTIL, deals=200))
    moments = [day.recorded_at for day in days]
    assert sorted(set(moments)) == moments
    assert [
        action for day in days for action in day.actions if action.get("at", day.recorded_at) > day.recorded_at
    ] == []
    assert moments[-1].date() <= UNTIL


def test_the_same_seed_makes_the_same_reports_and_another_seed_others():
    def digests(seed):
        with recorded(seed=seed, deals=150) as trail:
            pipelines = [trail.pipeline_report(pipeline, as_of="2026-03-31") for pipeline in PIPELINES]
            funnels = [trail.funnel_report(pipeline, cohort="2025", definition="current") for pipeline in PIPELINES]
            return [report.content_digest for report in (*pipelines, *funnels)]

    first = digests(3)
    assert digests(3) == first
    assert set(digests(4)).isdisjoint(first)


def test_what_was_known_on_a_day_differs_from_what_is_known_of_it_today(year):
    ends = [date(2026, month, 1) - timedelta(days=1) for month in range(2, 7)]
    told = [year.pipeline_report("new-business", as_of=end) for end in ends]
    known = [year.pipeline_report("new-business", as_of=end, known_at=end) for end in ends]
    differing = [then.stages != now.stages for then, now in zip(known, told, strict=True)]
    assert any(differing)


def test_the_redefinition_restates_an_older_funnel(year):
    old = year.funnel_report("new-business", cohort="2025-Q4", as_of="2026-01-31")
    new = year.funnel_report("new-business", cohort="2025-Q4", as_of="2026-01-31", definition="current")
    assert (old.definition, new.definition) == (1, 2)
    assert old.total == new.total
    assert [row.stage for row in old.stages] != [row.stage for row in new.stages]
