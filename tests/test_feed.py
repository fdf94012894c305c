"""The feed: every event once and in order, whoever records, with nothing held open while it waits."""

import math
import sqlite3
from contextlib import closing
from queue import Queue
from threading import Thread

import pytest
from given import B2B, code_of

from dealtrail import Trail
from dealtrail.store import feed

OPENING = {"action": "open_deal", "pipeline": "b2b"}
PATIENCE_SECONDS = 60  # how long a test waits for what must come; nothing is measured


@pytest.fixture(params=["a file", "memory"])
def trail(request, tmp_path):
    with Trail.open(tmp_path / "sales.db" if request.param == "a file" else ":memory:") as opened:
        opened.record(B2B | {"at": None})
        yield opened


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sales.db"
    with Trail.open(path) as trail:
        trail.record(B2B | {"at": None})
    return path


@pytest.fixture
def followed():
    """Follow a trail in a thread: a queue of the positions that come, and None when the feed has ended."""
    threads = []

    def start(trail, after=0):
        came = Queue()

        def follow():
            for event in trail.follow(after, wait=math.inf):
                came.put(event.position)
            came.put(None)

        threads.append(Thread(target=follow, daemon=True))
        threads[-1].start()
        return came

    yield start
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def positions(events):
    return [event.position for event in events]


def test_a_feed_begins_after_its_position_and_ends_at_the_end_of_the_log(trail):
    trail.record_all([OPENING] * 3)
    assert positions(trail.follow()) == [1, 2, 3, 4]
    assert positions(trail.follow(2)) == [3, 4]
    assert positions(trail.follow(4)) == []


def test_a_feed_that_waited_in_vain_ends(trail):
    assert positions(trail.follow(wait=0.001)) == [1]


def test_a_waiting_feed_gives_what_another_thread_records_and_ends_with_the_trail(trail, followed):
    came = followed(trail)
    assert came.get(timeout=PATIENCE_SECONDS) == 1
    for position in (2, 3, 4):
        trail.record(OPENING)
        assert came.get(timeout=PATIENCE_SECONDS) == position
    trail.close()
    assert came.get(timeout=PATIENCE_SECONDS) is None


def test_an_event_of_this_process_wakes_the_feed_without_asking(trail, followed, monkeypatch):
    monkeypatch.setattr(feed, "POLL_SECONDS", 10 * PATIENCE_SECONDS)
    came = followed(trail, after=1)
    trail.record(OPENING)
    assert came.get(timeout=PATIENCE_SECONDS) == 2
    trail.close()


def test_a_waiting_feed_gives_what_another_opener_of_the_file_records(path, followed):
    with Trail.open(path) as trail, Trail.open(path) as other:
        came = followed(trail, after=1)
        other.record_all([OPENING] * 2)
        assert [came.get(timeout=PATIENCE_SECONDS) for _ in range(2)] == [2, 3]


def test_each_event_comes_once_and_in_order_while_several_record(path, followed):
    with Trail.open(path) as trail, Trail.open(path) as other:
        came = followed(trail)

        def record(recorder, batch):
            for _ in range(20):
                recorder.record_all([OPENING] * batch)

        writers = [Thread(target=record, args=args) for args in ((trail, 1), (trail, 3), (other, 2))]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        # 1 definition, then 20 times 1 + 3 + 2 openings
        assert [came.get(timeout=PATIENCE_SECONDS) for _ in range(121)] == list(range(1, 122))
        assert came.empty()


def test_a_feed_resumed_wherever_it_broke_off_misses_nothing(trail, monkeypatch):
    monkeypatch.setattr(feed, "_BATCH", 3)
    trail.record_all([OPENING] * 9)
    seen = []
    for taken in (1, 3, 4, 5):
        for event, _ in zip(trail.follow(seen[-1] if seen else 0), range(taken), strict=False):
            seen.append(event.position)
    assert seen == list(range(1, 11))


def test_of_a_step_that_is_not_committed_nothing_is_seen(path):
    with Trail.open(path) as trail:
        seen = []
        trail.record_all([OPENING] * 3, progress=lambda done, of: seen.append(positions(trail.follow(1))))
        assert seen == [[]]
        assert positions(trail.follow(1)) == [2, 3, 4]


def test_whoever_consumes_a_feed_may_record(trail):
    recorded = []
    for event in trail.follow(wait=0.001):
        if event.event == "pipeline_defined" or (event.event == "deal_opened" and event.position < 5):
            recorded.append(trail.record(OPENING).position)
    assert recorded == [2, 3, 4, 5]


def test_nothing_is_held_open_while_an_event_is_out(path):
    with Trail.open(path) as trail, closing(sqlite3.connect(path)) as other:
        events = trail.follow(wait=math.inf)
        assert next(events).position == 1
        # A reader anywhere in the write-ahead log would keep it from being emptied.
        trail.record(OPENING)
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        assert next(events).position == 2


def test_a_waiting_feed_ends_at_the_next_event_when_its_consumer_closes_the_trail(trail):
    trail.record_all([OPENING] * 3)
    seen = []
    for event in trail.follow(wait=math.inf):
        seen.append(event.position)
        trail.close()
    assert seen == [1]


def test_a_feed_that_does_not_wait_is_refused_where_closing_cuts_it_short(trail, monkeypatch):
    monkeypatch.setattr(feed, "_BATCH", 1)
    trail.record_all([OPENING] * 3)
    events = trail.follow()
    next(events)
    trail.close()
    assert code_of(next, events) == "closed"


def test_a_closed_trail_has_no_feed_to_wait_for(trail):
    trail.close()
    assert code_of(next, trail.follow(wait=math.inf)) == "closed"


def test_a_position_beyond_the_end_is_of_another_log(trail):
    assert positions(trail.follow(1)) == []
    assert code_of(next, trail.follow(2)) == "invalid_field"
    assert code_of(next, trail.follow(2, wait=math.inf)) == "invalid_field"


@pytest.mark.parametrize("after", [-1, True, 1.5, "1", 2**64])
def test_a_position_is_a_whole_number(trail, after):
    assert code_of(trail.follow, after) == "invalid_field"


@pytest.mark.parametrize("wait", [-1, True, math.nan, "1"])
def test_a_wait_is_a_number_of_seconds(trail, wait):
    assert code_of(trail.follow, wait=wait) == "invalid_field"
