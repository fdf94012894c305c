"""The workload of the benchmarks, at a tiny size: the same each time, shaped as it says, and recorded whole."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from benchmarks.stores import Clock
from benchmarks.workload import BEGIN, DAY, END, PIPELINE, SIZES, STAGES, instant, workload
from dealtrail import Trail

TINY = SIZES["M"]._replace(deals=1_000)
BACKDATED = SIZES["H"]._replace(deals=1_000)


def events(shape):
    """Each event that an action leaves; an amendment leaves two."""
    return [step for step in workload(shape) for _ in range(2 if step.action["action"] == "amend" else 1)]


def share_of(shape, holds):
    found = events(shape)
    return sum(map(holds, found)) / len(found)


def is_backdated(step):
    return "at" in step.action and step.recorded_at - instant(step.action["at"]) >= DAY


def is_correction(step):
    return step.action["action"] in ("amend", "retract")


def test_the_same_shape_gives_the_same_workload_and_another_seed_another():
    assert list(workload(TINY)) == list(workload(TINY))
    assert list(workload(TINY)) != list(workload(TINY._replace(seed=1)))


def test_the_clock_goes_on_in_many_small_steps_over_three_years():
    recorded = [step.recorded_at for step in workload(TINY)]
    assert recorded == sorted(recorded)
    assert recorded[0] == BEGIN
    assert END - 10 * DAY < recorded[-1] < END
    assert max(b - a for a, b in pairwise(recorded)) < 10 * DAY
    assert len(set(recorded)) > 0.99 * len(recorded)


def test_a_deal_leaves_about_six_events():
    assert 5.5 < len(events(TINY)) / TINY.deals < 6.5


@pytest.mark.parametrize(("shape", "wanted"), [(TINY, 0.02), (BACKDATED, 0.30)], ids=["M", "H"])
def test_the_share_recorded_late_is_that_of_the_shape(shape, wanted):
    assert share_of(shape, is_backdated) == pytest.approx(wanted, rel=0.25)


def test_what_is_late_in_h_is_late_by_months():
    late = [
        timedelta(microseconds=s.recorded_at - instant(s.action["at"])) for s in events(BACKDATED) if is_backdated(s)
    ]
    assert timedelta(days=60) < sum(late, timedelta()) / len(late) < timedelta(days=150)


def test_one_event_in_a_hundred_is_amended_or_retracted():
    actions = Counter(step.action["action"] for step in workload(TINY))
    assert actions["amend"] > 0 < actions["retract"]
    assert (actions["amend"] + actions["retract"]) / len(events(TINY)) == pytest.approx(0.01, rel=0.35)


def test_pipelines_have_four_to_eight_stages_and_one_is_redefined_once_with_a_split_by_conditions():
    redefined = [step.action for step in workload(TINY) if step.action["action"] == "redefine_pipeline"]
    assert [action["pipeline"] for action in redefined] == [PIPELINE]
    assert any("when" in rule for move in redefined[0]["moves"].values() if isinstance(move, list) for rule in move)
    assert {len(stages) for stages in STAGES.values()} == {4, 6, 8}


def test_owners_are_two_hundred_and_currencies_three():
    opened = [step.action for step in workload(TINY) if step.action["action"] == "open_deal"]
    assert len({action["owner"] for action in opened}) == pytest.approx(200, abs=5)
    assert len({action["value"]["currency"] for action in opened if "value" in action}) == 3


@pytest.mark.parametrize(
    "shape",
    [TINY._replace(deals=400), BACKDATED._replace(deals=400), TINY._replace(deals=400)._replace(padding=50)],
    ids=["M", "H", "padded"],
)
def test_no_action_is_refused_and_three_deals_in_a_hundred_are_open_at_any_moment(shape):
    clock = Clock()

    def ticking():
        for step in workload(shape):
            clock.now = step.recorded_at
            yield step.action

    with Trail.open(":memory:", clock=clock) as trail:
        refused = [outcome for outcome in trail.record_each(ticking()) if outcome.refused is not None]
        assert refused == []
        clock.now = END
        open_deals = [
            sum(trail.pipeline_report(key, as_of=day).total.deals for key in {pipeline for pipeline, _ in STAGES})
            for day in ("2022-06-30", "2023-03-31", "2023-12-31", "2024-09-30")
        ]
    assert sum(open_deals) / len(open_deals) == pytest.approx(shape.padding + 0.03 * shape.deals, rel=0.2)
