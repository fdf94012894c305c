"""The outbox is killed at random statements and started again: nothing is lost, nothing takes effect twice."""

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import outbox
import pytest

from dealtrail import Trail

HERE = Path(__file__).parent
STAGES = [{"key": "lead", "name": "Lead", "probability": "0.1"}]
EVENTS = 40

# A forwarder that kills itself, as a power cut would, just before the n-th statement to the receiver's file. What it
# delivers it appends to a file: a receiver without transactions.
KILLED = """
import os, signal, sys
import outbox
from dealtrail import Trail

store, receiver, sent, how, fatal = *sys.argv[1:5], int(sys.argv[5])
db = outbox.opened(receiver)
count = 0

def trace(statement):
    global count
    count += 1
    if count == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

db.set_trace_callback(trace)
with Trail.open(store) as trail, open(sent, "a") as out:
    if how == "mirror":
        outbox.mirror(trail, db)
    else:
        outbox.deliver(trail, db, lambda event: print(event.position, file=out, flush=True))
db.close()
"""


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "sales.db"
    with Trail.open(path) as trail:
        trail.define_pipeline("b2b", STAGES)
        trail.record_all([{"action": "open_deal", "pipeline": "b2b"}] * (EVENTS - 1))
    return path


def run_until_done(store, tmp_path, how, seed):
    """Start it again and again, killed at random, until it ends by itself; how often it was killed."""
    rnd = random.Random(seed)
    for kills in range(1_000):
        fatal = rnd.randint(2, 40)
        arguments = [store, tmp_path / "receiver.db", tmp_path / "sent", how, fatal]
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, *map(str, arguments)], cwd=HERE, capture_output=True, text=True
        )
        if ended.returncode == 0:
            return kills
        assert ended.returncode == -9, ended.stderr
    raise AssertionError("it never ended")


def rows(path, question):
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute(question)]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_receiver_with_transactions_has_every_event_once_however_often_the_outbox_was_killed(store, tmp_path, seed):
    assert run_until_done(store, tmp_path, "mirror", seed) > 2
    receiver = tmp_path / "receiver.db"
    assert rows(receiver, "SELECT position FROM activity ORDER BY rowid") == list(range(1, EVENTS + 1))
    assert rows(receiver, "SELECT position FROM reached") == [EVENTS]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_receiver_without_gets_every_event_and_can_tell_the_one_that_comes_again(store, tmp_path, seed):
    kills = run_until_done(store, tmp_path, "deliver", seed)
    assert kills > 0
    sent = [int(line) for line in (tmp_path / "sent").read_text().split()]
    assert sent == sorted(sent)
    assert set(sent) == set(range(1, EVENTS + 1))
    # Only what a killed run had handed over last comes again, at the beginning of the next.
    assert len(sent) - EVENTS <= kills


def test_a_receiver_that_refuses_an_event_gets_that_event_again(store, tmp_path):
    got = []

    def send(event):
        got.append(event.position)
        if got == [1, 2, 3]:
            raise OSError("the receiver is down")

    with Trail.open(store) as trail, closing(outbox.opened(str(tmp_path / "receiver.db"))) as db:
        with pytest.raises(OSError, match="down"):
            outbox.deliver(trail, db, send)
        outbox.deliver(trail, db, send)
    assert got == [1, 2, 3, *range(3, EVENTS + 1)]


def test_a_second_forwarder_of_the_same_feed_is_stopped(tmp_path):
    path = str(tmp_path / "receiver.db")
    with closing(outbox.opened(path)) as one, closing(outbox.opened(path)) as other:
        assert outbox.reached(one, "mirror") == outbox.reached(other, "mirror") == 0
        outbox.move_on(one, "mirror", 1)
        with pytest.raises(outbox.TwoAtOnce):
            outbox.move_on(other, "mirror", 1)
        outbox.move_on(other, "mirror", 2)


def test_the_command_mirrors_a_store(store, tmp_path):
    receiver = tmp_path / "receiver.db"
    subprocess.run([sys.executable, HERE / "outbox.py", store, receiver], check=True)
    assert rows(receiver, "SELECT event FROM activity LIMIT 2") == ["pipeline_defined", "deal_opened"]
