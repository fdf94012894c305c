"""What a host's tests are given: sentences that fail where they should, a clock, fixtures, no pytest forced on it."""

import doctest
import gc
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from given import code_of

from dealtrail import testing
from dealtrail.testing import NOW, Clock, given, trail_in_memory

pytest_plugins = ["pytester"]

B2B = {
    "action": "define_pipeline",
    "pipeline": "b2b",
    "stages": [{"key": key, "name": key, "probability": "0.5"} for key in ("lead", "proposal")],
}
OPENED = {"action": "open_deal", "deal": "D", "pipeline": "b2b", "by": "anna"}
MOVED = {"action": "move_deal", "deal": "D", "stage": "proposal"}


def test_the_examples_of_the_documentation_hold():
    result = doctest.testmod(testing)
    assert result.attempted > 8
    assert result.failed == 0


def test_a_sentence_that_holds_goes_on():
    past = given(B2B).when(OPENED, MOVED).then("deal_opened", "stage_entered", stage="proposal")
    assert past.when(MOVED).refused("already_in_stage", field="stage") is past
    assert [event.event for event in past.log()] == ["pipeline_defined", "deal_opened", "stage_entered"]


@pytest.mark.parametrize(
    ("sentence", "complaint"),
    [
        (lambda past: past.when(OPENED).then(), "recorded ['deal_opened'], not []"),
        (lambda past: past.when(OPENED).then("deal_opened", "stage_entered"), "not ['deal_opened', 'stage_entered']"),
        (lambda past: past.when(OPENED).then("deal_opened", by="bram"), "recorded {'by': 'anna'}, not {'by': 'bram'}"),
        (lambda past: past.when(OPENED).then("deal_opened", colour="red"), "has no field colour; it has pipeline,"),
        (lambda past: past.when(MOVED).then("stage_entered"), "refused: unknown_deal"),
        (lambda past: past.when(MOVED).then(), "refused: unknown_deal"),
        (lambda past: past.when(OPENED).refused("deal_exists"), "not refused: recorded ['deal_opened']"),
        (lambda past: past.when(MOVED).refused("deal_exists"), "not as deal_exists: unknown_deal"),
        (lambda past: past.when(MOVED).refused("unknown_deal", field="stage"), "refused at deal, not as"),
        (lambda past: past.when().then(stage="lead"), "no event was expected"),
    ],
)
def test_a_sentence_that_does_not_hold_fails_and_says_why(sentence, complaint):
    with pytest.raises(AssertionError) as caught:
        sentence(given(B2B))
    assert complaint in str(caught.value)


def test_a_past_that_is_refused_is_no_past():
    assert code_of(given, B2B, MOVED) == "unknown_deal"


def test_everything_of_the_past_is_recorded_at_the_moment_given():
    past = given([B2B, OPENED], now="2026-03-01T09:00Z")
    assert {event.recorded_at for event in past.log()} == {datetime(2026, 3, 1, 9, tzinfo=UTC)}


def test_a_clock_stands_where_it_is_put():
    clock = Clock()
    assert clock() == clock() == NOW
    clock.set(datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(days=1, hours=2, minutes=3, seconds=4)
    assert clock() == datetime(2026, 3, 2, 2, 3, 4, tzinfo=UTC)


def test_a_clock_is_put_to_a_moment_with_a_zone():
    assert code_of(Clock, datetime(2026, 3, 1)) == "naive_time"  # noqa: DTZ001
    assert code_of(Clock().set, "2026-03-01") == "bare_date"


def test_a_trail_outlives_the_sentence_that_made_it():
    trail = given(B2B).trail
    gc.collect()
    assert [known.pipeline for known in trail.pipelines()] == ["b2b"]


def test_a_trail_in_memory_is_closed_when_it_is_let_go():
    trail = trail_in_memory()
    log = trail._log
    del trail
    gc.collect()
    assert code_of(log.reading().__enter__) == "closed"


def test_the_fixtures_give_a_test_a_trail_and_its_clock_of_its_own(pytester):
    pytester.makeconftest('pytest_plugins = ["dealtrail.testing.plugin"]')
    pytester.makepyfile(
        """
        from dealtrail.testing import NOW

        STAGES = [{"key": "lead", "name": "Lead", "probability": "0.1"}]

        def test_one(trail, trail_clock):
            assert trail.pipelines() == []
            trail.define_pipeline("b2b", STAGES)
            trail_clock.advance(days=3)
            assert (trail.pipeline_report("b2b").as_of - NOW).days == 3

        def test_another(trail, trail_clock):
            assert trail.pipelines() == []
            assert trail_clock() == NOW
        """
    )
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=2)


def test_neither_the_library_nor_its_sentences_import_pytest():
    code = "import sys, dealtrail.testing; print('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
