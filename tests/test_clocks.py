"""Clocks that jump: what is recorded keeps its order, and each event says by how much the clock was behind."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from given import B2B, MICROSECOND, Clock, code_of, on

from dealtrail import Trail

HOUR, YEAR = timedelta(hours=1), timedelta(days=365)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sales.db"


def steps(path, clock, readings):
    """Record a step of two events at each reading of the clock, each by a trail of its own."""
    for number, reading in enumerate(readings):
        clock.now = reading
        with Trail.open(path, clock=clock) as trail:
            if number == 0:
                trail.record(B2B | {"at": None})
            trail.record_all([{"action": "open_deal", "pipeline": "b2b", "deal": f"{number}-{n}"} for n in "ab"])


def shown(path, after=0):
    """Each event's time and mark, as the feed shows them."""
    with Trail.open(path) as trail:
        return [(event.recorded_at, event.clock_behind_us) for event in trail.follow(after)]


JUMPS = {
    # Readings of the clock, when each step is recorded, and by how many microseconds the clock is behind that.
    # The first reading serves the definition too, so that the first pair comes a microsecond later.
    "it goes on": ([on(1), on(2), on(3)], [on(1) + MICROSECOND, on(2), on(3)], [1, 0, 0]),
    "equal ticks": ([on(1)] * 3, [on(1) + n * MICROSECOND for n in (1, 2, 3)], [1, 2, 3]),
    "an hour back": (
        [on(1), on(2), on(2) - HOUR, on(2) - HOUR, on(2) + HOUR],
        [on(1) + MICROSECOND, on(2), on(2) + MICROSECOND, on(2) + 2 * MICROSECOND, on(2) + HOUR],
        [1, 0, 3_600_000_001, 3_600_000_002, 0],
    ),
    "a year ahead, then right again": (
        [on(1), on(2) + YEAR, on(3), on(3) + YEAR],
        [on(1) + MICROSECOND, on(2) + YEAR, on(2) + YEAR + MICROSECOND, on(3) + YEAR],
        # From day 3 to a year after day 2 there are 364 days.
        [1, 0, 364 * 86_400_000_000 + 1, 0],
    ),
}


@pytest.mark.parametrize(("readings", "recorded", "behind"), JUMPS.values(), ids=JUMPS.keys())
def test_recorded_at_grows_with_each_step_and_the_mark_says_what_the_clock_read(path, readings, recorded, behind):
    steps(path, Clock(on(1)), readings)
    found = shown(path, after=1)
    assert found[::2] == found[1::2] == list(zip(recorded, behind, strict=True))
    assert recorded == sorted(set(recorded))
    assert [at - timedelta(microseconds=us) for at, us in found[::2]] == readings


@pytest.mark.parametrize(("readings", "recorded"), [jump[:2] for jump in JUMPS.values()], ids=JUMPS.keys())
def test_a_known_at_still_means_one_position(path, readings, recorded):
    steps(path, Clock(on(1)), readings)
    with Trail.open(path, clock=Clock(on(3) + 2 * YEAR)) as trail:
        for number, at in enumerate(recorded, 1):
            at_it = trail.pipeline_report("b2b", as_of=at, known_at=at)
            before = trail.pipeline_report("b2b", as_of=at, known_at=at - MICROSECOND)
            assert (at_it.position, before.position) == (1 + 2 * number, 2 * number - 1)


def test_many_steps_of_one_commit_at_a_clock_that_stands_are_a_microsecond_apart(path):
    with Trail.open(path, clock=Clock(on(1))) as trail:
        trail.record(B2B)
        actions = [{"action": "open_deal", "pipeline": "b2b", "deal": f"D{number}"} for number in range(4)]
        list(trail.record_each(actions))
    assert shown(path) == [(on(1) + n * MICROSECOND, n) for n in range(5)]


def test_the_present_of_a_step_and_of_a_question_is_never_before_what_was_recorded(path):
    clock = Clock(on(9))
    with Trail.open(path, clock=clock) as trail:
        trail.record(B2B)
        clock.now = on(9) - HOUR
        assert trail.pipeline_report("b2b").known_at == on(9)
        trail.open_deal("b2b", deal="D")
        assert code_of(trail.log_activity, "D", "call", at=on(9) + 3 * MICROSECOND) == "future_time"
        (opened,) = trail.history("D")
        assert (opened.occurred_at, opened.recorded_at) == (on(9) + MICROSECOND, on(9) + MICROSECOND)


def test_both_events_of_an_amendment_bear_the_mark(path):
    clock = Clock(on(9))
    with Trail.open(path, clock=clock) as trail:
        trail.record(B2B)
        clock.now = on(10)
        trail.open_deal("b2b", deal="D")
        clock.now = on(10) - HOUR
        trail.amend("D", 1, owner="anna")
        assert [event.clock_behind_us for event in trail.history("D")] == [0, 3_600_000_001, 3_600_000_001]


def test_a_mark_that_was_taken_away_breaks_the_chain(path):
    steps(path, Clock(on(2)), [on(2), on(2) - HOUR])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER event_never_changes")
        db.execute("UPDATE event SET clock_behind_us = 0 WHERE position = 4")
        db.commit()
    with Trail.open(path) as trail:
        assert code_of(trail.open_deal, "b2b") == "damaged"
