"""What an operator sees: health, status, log lines."""

import logging
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from glob import glob

import msgspec
import pytest
from given import B2B, code_of, given, move, on, opening

from dealtrail import Trail
from dealtrail.projections.status import wal_faults
from dealtrail.store import telemetry

NOW = on(100)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sales.db"


@pytest.fixture
def clock():
    return {"now": NOW}


@pytest.fixture
def trail(path, clock):
    with Trail.open(path, clock=lambda: clock["now"]) as one:
        yield one


@pytest.fixture
def lines(caplog):
    """The lines that were logged, each with its level."""
    caplog.set_level(logging.INFO, "dealtrail")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "dealtrail"]


# Health


def test_a_store_that_works_is_healthy_and_says_how_far_behind_it_is(trail, clock):
    trail.record_all([B2B, opening(2)])
    trail.pipelines()
    trail.record(move(3, "qualified"))
    clock["now"] += timedelta(seconds=90)
    found = trail.health()
    assert (found.ok, found.why, found.can_read, found.can_write, found.lock_free) == (True, [], True, True, True)
    # The move was recorded two microseconds after the clock, behind the two events before it.
    assert (found.behind, found.behind_seconds) == (1, 89.999999)
    assert found.free_bytes > 0
    assert not found.damaged


def test_health_waits_for_no_writer_and_says_that_there_is_one(trail, path):
    trail.record(B2B)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = trail.health()
    assert (found.ok, found.lock_free) == (True, False)


def test_too_little_room_is_not_healthy(trail):
    found = trail.health(least_free_bytes=10**18)
    assert not found.ok
    assert "make room" in found.why[0]


def test_a_file_that_is_gone_is_not_healthy(trail, path):
    trail.record(B2B)
    os.rename(path, f"{path}.old")
    found = trail.health()
    assert (found.ok, found.can_read, found.behind) == (False, False, None)
    assert found.why[0].startswith("gone: ")


def test_a_folder_that_is_gone_is_not_healthy(tmp_path):
    folder = tmp_path / "stores"
    folder.mkdir()
    with Trail.open(folder / "sales.db") as trail:
        shutil.rmtree(folder)
        found = trail.health()
    assert (found.ok, found.free_bytes) == (False, None)
    assert found.why[0].startswith("gone: ")


def test_the_room_that_should_be_is_a_number_of_bytes(trail):
    assert code_of(trail.health, least_free_bytes="1 GB") == "invalid_field"
    assert code_of(trail.health, least_free_bytes=-1) == "invalid_field"


def test_a_damaged_end_of_the_log_is_not_healthy(path):
    with Trail.open(path) as trail:
        trail.record(B2B)
        with closing(sqlite3.connect(path)) as raw:
            raw.executescript("DROP TRIGGER event_never_changes; UPDATE event SET state = x'7b'")
        found = trail.health()
    assert (found.ok, found.can_read, found.damaged) == (False, False, True)
    assert "damaged: " in found.why[0]


def test_a_trail_in_memory_and_a_closed_one_have_a_health():
    trail = given(B2B).trail
    found = trail.health()
    assert (found.ok, found.free_bytes) == (True, None)
    trail.close()
    assert trail.health().why == ["closed: this trail is closed; open it again"]


def test_a_store_that_may_not_be_written_is_not_healthy(trail, monkeypatch):
    trail.record(B2B)
    monkeypatch.setattr(os, "access", lambda path, right: not right & os.W_OK)
    found = trail.health()
    assert (found.ok, found.can_read, found.can_write) == (False, True, False)
    assert found.why[0].startswith("read_only: ")


# Status


def test_the_status_tells_the_lag_the_generations_and_the_last_rebuild(trail, path, clock):
    trail.record_all([B2B, opening(2)])
    fresh = trail.status()
    assert (fresh.behind, fresh.generation, fresh.generations, fresh.last_rebuild) == (2, 0, [], None)
    trail.pipelines()
    clock["now"] += timedelta(hours=1)
    trail.rebuild()
    trail.record(move(3, "qualified"))
    clock["now"] += timedelta(minutes=1)
    found = trail.status()
    assert (found.generation, found.generations) == (2, [1, 2])
    assert (found.last_rebuild.at, found.last_rebuild.generation) == (NOW + timedelta(hours=1), 2)
    assert found.last_rebuild.position == 2
    assert (found.read_position, found.behind, found.behind_seconds) == (2, 1, 60)
    assert found.last_verify is None
    assert found.sizes.log == path.stat().st_size
    assert found.sizes.wal == os.path.getsize(f"{path}-wal")
    assert found.sizes.read_model == sum(os.path.getsize(name) for name in glob(f"{path}.read*"))
    assert found.versions["schema"].startswith("log 1, read model ")


def test_the_status_repeats_what_was_noted_of_the_last_verification(trail):
    trail.record(B2B)
    trail._model.note("verified", '{"at":"2026-01-01T00:00:00Z","position":1,"findings":0}')
    trail.rebuild()
    assert msgspec.to_builtins(trail.status().last_verify)["findings"] == 0


def test_what_was_noted_goes_with_the_files_of_the_read_model(path):
    with Trail.open(path) as trail:
        trail.record(B2B)
        trail.rebuild()
    for name in glob(f"{path}.read*"):
        os.remove(name)
    with Trail.open(path) as trail:
        assert trail.status().last_rebuild is None


@pytest.mark.parametrize(
    ("version", "faulty"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 3), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_a_version_of_sqlite_with_known_faults_is_named(version, faulty):
    advice = wal_faults(version)
    assert bool(advice) == faulty
    assert all(".".join(map(str, version)) in one and "3.51.3" in one for one in advice)


# Log lines


def test_opening_founding_and_a_rebuild_are_logged(path, lines):
    with Trail.open(path) as trail:
        trail.record(B2B)
        trail.pipelines()
        log = trail.status().log
    assert lines()[:2] == [("INFO", f"founded {path}: log {log}"), ("INFO", f"opened {path}: log {log}")]
    assert lines()[2][1].startswith(f"made generation 1 of {path}.read: 1 events in 0.")
    assert len(lines()) == 3


def test_a_catch_up_of_a_second_is_logged(path, lines, monkeypatch):
    with Trail.open(path) as trail:
        trail.record(B2B)
        trail.pipelines()
        monkeypatch.setattr(telemetry, "SLOW_SECONDS", 0)
        trail.record(opening(2, at="2026-01-01T00:00:00Z"))
        trail.pipelines()
    assert [line.split(" took ")[0] for level, line in lines() if level == "INFO" and " took " in line] == [
        f"record of {path}",
        f"catch_up of {path}",
        f"pipelines of {path}",
    ]


def test_a_long_wait_for_the_write_lock_is_a_warning(path, lines, monkeypatch):
    monkeypatch.setattr(telemetry, "SLOW_SECONDS", 0.05)
    with (
        Trail.open(path) as trail,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as raw,
    ):
        raw.execute("BEGIN IMMEDIATE")
        threading.Timer(0.1, raw.execute, ["ROLLBACK"]).start()
        trail.record(B2B)
    (line,) = [line for level, line in lines() if level == "WARNING"]
    assert line.endswith(f" s for the write lock of {path}")
    assert line.startswith("waited 0.")


def test_damage_is_logged_once_as_an_error(path, lines):
    with Trail.open(path) as trail:
        trail.record(B2B)
        with closing(sqlite3.connect(path)) as raw:
            raw.executescript("DROP TRIGGER event_never_changes; UPDATE event SET state = x'7b'")
        assert code_of(trail.pipelines) == "damaged"
    errors = [line for level, line in lines() if level == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith(f"damaged: {path}: ")


def test_a_newer_store_is_logged_as_an_error(path, lines):
    Trail.open(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript("DROP TRIGGER log_never_changes; UPDATE log SET format = 99")
    assert code_of(Trail.open, path) == "newer_store"
    assert [line[:12] for level, line in lines() if level == "ERROR"] == ["newer_store:"]


def test_a_refusal_of_a_rule_is_no_line(path, lines):
    with Trail.open(path) as trail:
        before = len(lines())
        assert code_of(trail.pipeline_report, "b2b") == "unknown_pipeline"
        assert code_of(trail.record, opening(2)) == "unknown_pipeline"
    assert [line for level, line in lines()[before:] if not line.startswith("made generation")] == []


def test_a_host_that_does_not_configure_logging_hears_nothing():
    assert any(isinstance(one, logging.NullHandler) for one in logging.getLogger("dealtrail").handlers)
