"""Disks that are full, that fail to keep what they were given, and write-ahead logs that were torn or changed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from random import Random

import pytest
from given import code_of, stages

from dealtrail import DealtrailError, Trail
from dealtrail.store import ending

CALL = {"action": "log_activity", "deal": "D", "kind": "call"}


def found(path):
    """A closed store with a pipeline and a deal, and a read model that knows both."""
    with Trail.open(path) as trail:
        trail.define_pipeline("b2b", stages("lead", "qualified"))
        trail.open_deal("b2b", deal="D")
        trail.pipeline_report("b2b")
    return str(path)


@pytest.fixture
def path(tmp_path):
    return found(tmp_path / "sales.db")


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT * FROM event ORDER BY position").fetchall()


def told(call):
    """What a call answers, or the code of its refusal."""
    try:
        return call()
    except DealtrailError as refusal:
        return refusal.code


# A disk without room


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount, so no small disk can be made")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size", [1, 10], ids=["single actions", "batches"])
def test_a_full_disk_keeps_what_was_acknowledged_and_goes_on_when_there_is_room(small_disk, size):
    path = found(small_disk / "sales.db")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    step, acknowledged = [CALL | {"note": "x" * 2_000}] * size, 2
    with Trail.open(path) as trail:
        while (answer := told(lambda: trail.record_all(step))) != "full":
            acknowledged = answer[-1].position
        assert acknowledged > 2
        assert told(lambda: trail.record_all(step)) == "full"
        assert trail.history("D")[-1].position == acknowledged
        ballast.unlink()
        assert trail.record_all(step)[-1].position == acknowledged + size
        assert trail.pipeline_report("b2b").position == acknowledged + size
    assert len(rows(path)) == acknowledged + size


def test_a_store_on_a_full_disk_is_full_to_whoever_opens_it_anew(small_disk):
    path = found(small_disk / "sales.db")
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="space"):
        ballast.write_bytes(bytes(2_000_000))

    def attempt():
        with Trail.open(path) as trail:
            return trail.record(CALL).position

    assert told(attempt) == "full"
    ballast.unlink()
    assert attempt() == 3
    assert len(rows(path)) == 3


# A disk that does not keep what it was given

SYNCING = """
import json, sys
from dealtrail import DealtrailError, Trail
def told(call):
    try:
        return call()
    except DealtrailError as trouble:
        return trouble.code
trail = Trail.open(sys.argv[1])
step = [{"action": "log_activity", "deal": "D", "kind": "call"}] * 2
print(json.dumps([told(lambda: trail.record_all(step)[-1].position) for _ in range(6)]))
print(json.dumps([told(lambda: trail.history("D")[-1].position), told(lambda: trail.pipeline_report("b2b").position)]))
trail.close()
trail = Trail.open(sys.argv[1])
print(json.dumps(told(lambda: trail.record_all(step)[-1].position)))
"""


@pytest.fixture
def strace():
    """The beginning of a command under whose eyes a call to the system fails."""
    command = shutil.which("strace")
    if command is None:
        pytest.skip("there is no strace to make a sync fail")
    done = subprocess.run([command, "-f", "-e", "trace=fdatasync", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace may not look at processes here: {done.stderr.strip()}")
    return [command, "-f", "-qq", "-e", "trace=fdatasync,fsync"]


@pytest.mark.parametrize("when", ["1", "2", "3", "5"])
def test_a_failed_sync_acknowledges_nothing_and_nothing_is_recorded_until_the_store_is_opened_again(
    path, tmp_path, strace, when
):
    """The first two syncs of a new write-ahead log are of its head; from then on there is one for each step."""
    failing = [
        "-P",
        f"{path}-wal",
        "-e",
        f"inject=fdatasync,fsync:error=EIO:when={when}",
        "-o",
        str(tmp_path / "trace"),
    ]
    command = [*strace, *failing, sys.executable, "-c", SYNCING, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "INJECTED" in (tmp_path / "trace").read_text(), done.stderr
    steps, read, reopened = map(json.loads, done.stdout.splitlines())
    acknowledged = [position for position in steps if isinstance(position, int)]
    assert acknowledged == [4, 6, 8, 10][: len(acknowledged)]
    assert steps[len(acknowledged) :] == ["disk_error", *["must_reopen"] * (5 - len(acknowledged))]
    end = acknowledged[-1] if acknowledged else 2
    assert read == [end, end]
    # The step of the failed sync may have come to be recorded or not: whole in either case.
    assert reopened in (end + 2, end + 4)
    assert len(rows(path)) == reopened


def test_before_it_records_a_reopened_store_looks_at_its_end(path):
    with Trail.open(path) as trail:
        trail.record_all([CALL] * 3)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER event_never_changes")
        db.execute("UPDATE event SET actor = 'eve' WHERE position = 4")
        db.commit()
    before = rows(path)
    with Trail.open(path) as trail:
        assert trail.history("D")[2].by == "eve"  # what can be read can be read
        with pytest.raises(DealtrailError) as caught:
            trail.record(CALL)
        assert code_of(lambda: list(trail.record_each([CALL]))) == "damaged"
    assert (caught.value.code, "event 4 " in caught.value.message) == ("damaged", True)
    assert rows(path) == before


@pytest.mark.parametrize(("position", "outcome"), [(5, "recorded"), (6, "damaged"), (9, "damaged")])
def test_the_look_at_the_end_goes_back_so_many_events(path, monkeypatch, position, outcome):
    monkeypatch.setattr(ending, "CHECKED_EVENTS", 4)
    with Trail.open(path) as trail:
        trail.record_all([CALL] * 7)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER event_never_changes")
        db.execute("UPDATE event SET occurred_at = occurred_at - 1 WHERE position = ?", (position,))
        db.commit()
    with Trail.open(path) as trail:
        assert told(lambda: trail.record(CALL) and "recorded") == outcome


def test_an_event_that_is_missing_at_the_end_is_noticed(path):
    with Trail.open(path) as trail:
        trail.record_all([CALL] * 3)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER event_never_goes")
        db.execute("DELETE FROM event WHERE position = 4")
        db.commit()
    with Trail.open(path) as trail, pytest.raises(DealtrailError) as caught:
        trail.open_deal("b2b", deal="E")
    assert (caught.value.code, "event 4 " in caught.value.message) == ("damaged", True)


# Torn write-ahead logs

DYING = """
import os, sys
from dealtrail import Trail
trail = Trail.open(sys.argv[1])
for number in range(12):
    call = {"action": "log_activity", "deal": "D", "kind": "call", "note": "x" * 40 * number}
    trail.record_all([call] * (number % 3 + 1))
trail.pipeline_report("b2b")
os._exit(0)  # without closing, so that the write-ahead log stays
"""


@pytest.fixture
def torn(tmp_path):
    """A folder with a store whose newest steps stand in the write-ahead log alone, and the ends of its steps."""
    folder = tmp_path / "whole"
    folder.mkdir()
    path = found(folder / "sales.db")
    subprocess.run([sys.executable, "-c", DYING, path], check=True)
    os.remove(f"{path}-shm")
    copy = shutil.copytree(folder, tmp_path / "read")
    everything = rows(copy / "sales.db")
    # A step ends where the next event bears another recorded_at.
    times = [row[6] for row in everything] + [None]
    ends = [at for at in range(2, len(everything) + 1) if times[at - 1] != times[at]]
    return folder, everything, ends


def tear(folder, tmp_path, everything, ends, offsets, rnd):
    """Cut the write-ahead log, or change a bit of it, at each offset; count what comes of it."""
    whole = (folder / "sales.db-wal").read_bytes()
    counts = {"prefix": 0, "refused": 0, "lost": 0}
    place = tmp_path / "torn"
    for offset in offsets:
        for damaged in (whole[:offset], flipped(whole, offset, rnd.randrange(8))):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(folder, place)
            (place / "sales.db-wal").write_bytes(damaged)
            outcome = told(lambda: reopened(place / "sales.db"))
            if isinstance(outcome, str):
                assert outcome in ("damaged", "disk_error", "not_a_store")
                counts["refused"] += 1
                continue
            kept, after = outcome
            assert kept in ends, (offset, kept)
            assert after[:kept] == everything[:kept]
            assert len(after) == kept + 1
            counts["prefix"] += 1
            counts["lost"] += kept < len(everything)
    return counts


def reopened(path):
    """How many events a store still has, and all of its rows once something more was recorded."""
    with Trail.open(path) as trail:
        kept = len(list(trail.follow()))
        assert trail.record(CALL).position == kept + 1
    return kept, rows(path)


def flipped(data, offset, bit):
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def test_a_write_ahead_log_that_was_cut_or_changed_reopens_as_a_prefix_of_whole_steps_or_is_refused(
    tmp_path, torn, report_line
):
    folder, everything, ends = torn
    size = (folder / "sales.db-wal").stat().st_size
    # Every place in the head of the log and of a frame is of one kind or another; the rest is data.
    offsets = [*range(0, 56, 5), *Random(1).sample(range(size), 60)]
    counts = tear(folder, tmp_path, everything, ends, offsets, Random(2))
    report_line(f"torn write-ahead logs: {2 * len(offsets)} of {size} bytes, {counts}")
    assert counts["lost"] > len(offsets)  # most of them lose something, or this showed nothing


def test_that_the_newest_steps_were_lost_is_shown_by_the_read_model_and_by_a_head_that_was_kept(torn, caplog):
    folder, everything, ends = torn
    path, wal = str(folder / "sales.db"), folder / "sales.db-wal"
    wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2])
    head = everything[-1][0], everything[-1][-1].hex()
    with Trail.open(path) as trail:
        assert trail.pipeline_report("b2b").position in ends[:-1]
        status = trail.status()
        assert status.position in ends[:-1]
        assert (status.position, status.chain) != head
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"the log ends at position {status.position}, but its read model knew {head[0]}" in caplog.text


@pytest.mark.slow
def test_a_write_ahead_log_that_was_cut_or_changed_at_two_thousand_offsets(tmp_path, torn, report_line):
    folder, everything, ends = torn
    size = (folder / "sales.db-wal").stat().st_size
    offsets = sorted({*range(56), *Random(3).sample(range(56, size), 1_944)})
    counts = tear(folder, tmp_path, everything, ends, offsets, Random(4))
    report_line(f"torn write-ahead logs: {2 * len(offsets)} of {size} bytes, {counts}")
    assert len(offsets) == 2_000
    assert counts["lost"] > len(offsets)
