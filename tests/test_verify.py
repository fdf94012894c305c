"""Whoever changes the past is seen: the log against itself and a head kept elsewhere, the read model row by row."""

import glob
import json
import os
import shutil
import sqlite3
import tracemalloc
from collections import Counter
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from given import B2B, Clock, code_of, on
from test_store import EVERYTHING

from dealtrail import DealtrailError, Head, KeyFile, Trail
from dealtrail.cli.app import app
from dealtrail.projections.schema import COLUMNS as READ_COLUMNS
from dealtrail.store import verifying

NOW = Clock(on(40))
# A move that was amended leaves the path that the deal was thought to have gone.
PAST = [*EVERYTHING, {"action": "amend", "deal": "D", "version": 2, "at": on(2, 1)}]
EVENTS = len(PAST) + 2  # an amendment is two events


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one: these tests make thousands of small files."""
    memory = Path("/dev/shm")  # noqa: S108
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A store with every kind of event and a row in every table of its read model, which was kept up step by step."""
    path = tmp_path_factory.mktemp("verify") / "sales.db"
    with Trail.open(path, clock=NOW) as trail:
        for action in PAST:
            trail.record(action)
            trail.pipelines()
    return path


@pytest.fixture
def path(everything, tmp_path):
    """A copy of that store, with its read model."""
    for file in everything.parent.iterdir():
        shutil.copy(file, tmp_path)
    return str(tmp_path / "sales.db")


@pytest.fixture
def bare(path):
    """A copy without its read model."""
    for file in glob.glob(f"{path}.read*"):
        os.remove(file)
    return path


def verified(path, head=None):
    with Trail.open(path, clock=NOW, create=False) as trail:
        return trail.verify(head)


def found(path, head=None):
    """What a verification finds, by kind and position, the first first."""
    return [(one.kind, one.position) for one in verified(path, head).findings]


def head_of(path):
    with Trail.open(path, clock=NOW) as trail:
        return str(trail.head())


def raw(path):
    return closing(sqlite3.connect(path, isolation_level=None))


def tamper(path, *statements):
    """Change a store as somebody does who takes the triggers away, and puts them back so that nobody sees it."""
    with raw(path) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(*([statement] if isinstance(statement, str) else statement))
        for _, sql in triggers:
            db.execute(sql)


VALUES = list(verifying.COLUMNS)


def relink(path, first):
    """Give every event from a position on the chain that its columns ask for, as a forger does who knows the format."""
    kinds = {type(None): "n", int: "i", str: "t", bytes: "b"}
    with raw(path) as db:
        (log,) = db.execute("SELECT id FROM log").fetchone()
        before = db.execute("SELECT chain FROM event WHERE position = ?", (first - 1,)).fetchone()
        rows = db.execute(f"SELECT position, {', '.join(VALUES)} FROM event WHERE position >= ?", (first,)).fetchall()
    chain = before[0] if before else bytes(32)
    updates = []
    for row in sorted(rows):
        hashed = sha256(chain)
        for value in (log, *row):
            data = value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
            hashed.update(f"{kinds[type(value)]}{len(data)}:".encode() + data)
        chain = hashed.digest()
        updates.append(("UPDATE event SET chain = ? WHERE position = ?", (chain, row[0])))
    tamper(path, *updates)


# What is sound


def test_a_store_that_nobody_touched_is_sound_and_its_read_model_is_compared(path):
    done = verified(path)
    assert (done.ok, done.findings, done.position, done.read_position) == (True, [], EVENTS, EVENTS)
    assert done.head == f"{done.position}:{done.chain}" == head_of(path)
    assert verified(path, done.head).ok


def test_the_head_is_the_position_and_the_chain_of_the_last_event(path):
    with raw(path) as db:
        position, chain = db.execute("SELECT position, chain FROM event ORDER BY position DESC LIMIT 1").fetchone()
    assert head_of(path) == f"{position}:{chain.hex()}"
    assert Head.parse(head_of(path)) == Head(position, chain.hex())


def test_a_store_without_events_has_a_head_and_is_sound(tmp_path):
    path = str(tmp_path / "new.db")
    assert head_of(path) == "0:" + "0" * 64
    assert (verified(path).ok, verified(path, "0:" + "0" * 64).ok) == (True, True)


def test_a_store_in_memory_is_verified_before_and_after_its_read_model_is_made():
    with Trail.open(":memory:", clock=NOW) as trail:
        for action in PAST:
            trail.record(action)
        assert (trail.verify().ok, trail.verify().read_position) == (True, None)
        trail.pipelines()
        assert (trail.verify(trail.head()).ok, trail.verify().read_position) == (True, EVENTS)


def test_a_log_without_a_read_model_is_folded_all_the_same(bare):
    assert (verified(bare).ok, verified(bare).read_position) == (True, None)


def test_a_head_kept_earlier_fits_the_log_as_it_grows(path):
    with Trail.open(path, clock=NOW) as trail:
        kept = trail.head()
        trail.log_activity("D", "call")
        assert trail.verify(kept).ok
        assert trail.verify(str(kept)).ok
        assert trail.head().position == kept.position + 1


def test_a_read_model_that_is_behind_is_compared_up_to_where_it_is(path):
    with Trail.open(path, clock=NOW) as trail:
        trail.log_activity("D", "call")
        trail.open_deal("b2b", deal="new")
        done = trail.verify()
    assert (done.ok, done.position, done.read_position) == (True, EVENTS + 2, EVENTS)


def test_the_log_is_read_a_chunk_at_a_time(path, monkeypatch):
    monkeypatch.setattr(verifying, "_CHUNK_EVENTS", 3)
    assert verified(path).ok
    tamper(path, "UPDATE event SET actor = 'eve' WHERE position = 10")
    assert found(path) == [("chain", 10)]


def test_a_verification_holds_some_deals_in_memory_and_not_the_log(tmp_path):
    with Trail.open(tmp_path / "big.db", clock=NOW) as trail:
        trail.record(B2B)
        title = "x" * 20_000
        trail.record_all([{"action": "open_deal", "pipeline": "b2b", "title": title} for _ in range(1_000)])
        assert trail.pipeline_report("b2b").total.deals == 1_000
        tracemalloc.start()
        try:
            assert trail.verify().ok
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000 < 1_000 * len(title) / 2


def test_progress_counts_each_event_as_stored_and_as_folded_while_others_record(path, monkeypatch):
    monkeypatch.setattr(verifying, "_CHUNK_EVENTS", 5)
    told = []
    with Trail.open(path, clock=NOW) as trail, Trail.open(path, clock=NOW) as other:

        def progress(done, total):
            told.append((done, total))
            other.log_activity("D", "call")

        done = trail.verify(progress=progress)
    assert (done.ok, done.position) == (True, EVENTS)
    assert told == sorted(told)
    assert told[0] == (5, 2 * EVENTS)
    assert told[-1] == (2 * EVENTS, 2 * EVENTS)


@pytest.mark.parametrize("head", ["", "5", "5:abc", f"-1:{'0' * 64}", f"05:{'0' * 64}", f"5:{'0' * 64}\n", 5, b"5:"])
def test_what_is_no_head_is_refused(path, head):
    with Trail.open(path, clock=NOW) as trail:
        assert code_of(trail.verify, head) == "invalid_field"


# The matrix: what is changed is named by its position


def test_verification_knows_every_column_of_an_event(path):
    with raw(path) as db:
        names = [row[1] for row in db.execute("PRAGMA table_info(event)")]
    assert names == ["position", *verifying.COLUMNS, "chain"]


@pytest.mark.parametrize("name", [*VALUES, "chain"])
def test_a_column_of_an_event_that_was_changed_is_named(path, name):
    for position in (1, 5, EVENTS):
        with raw(path) as db:
            (kind, value) = db.execute(
                f"SELECT typeof({name}), {name} FROM event WHERE position = ?", (position,)
            ).fetchone()
        added = {"integer": 100, "text": "x", "blob": b"x"}
        changed = value + added[kind] if value is not None else 7 if name == "amends" else "x"
        set_to = f"UPDATE event SET {name} = ? WHERE position = ?"
        tamper(path, (set_to, (changed, position)))
        # An event whose chain was changed does not fit the one before, nor the next one it.
        assert found(path)[0] in [("chain", position), ("column", position)]
        places = {place for kind, place in found(path) if kind in ("chain", "column")}
        assert places - {position, position + (name == "chain")} == set()
        tamper(path, (set_to, (value, position)))
        assert found(path) == []


@pytest.mark.parametrize("name", [*VALUES, "chain"])
def test_a_column_of_an_event_that_became_another_type_is_named(path, name):
    other = "'text'" if name in ("state", "request", "personal", "chain") else "x'31'"
    tamper(path, f"UPDATE event SET {name} = {other} WHERE position = 5")
    assert found(path)[0] == ("column", 5)


def test_positions_that_were_changed_leave_gaps_that_are_named(path):
    tamper(path, f"UPDATE event SET position = {EVENTS + 5} WHERE position = 5")
    assert found(path)[0] == ("position", 5)
    assert ("position", EVENTS + 1) in found(path)


def test_two_events_that_were_swapped_are_named(path):
    tamper(
        path,
        "UPDATE event SET position = -5 WHERE position = 5",
        "UPDATE event SET position = 5 WHERE position = 9",
        "UPDATE event SET position = 9 WHERE position = -5",
    )
    assert found(path)[0] == ("chain", 5)
    assert ("chain", 9) in found(path)


def test_an_event_that_was_dropped_is_named(path):
    tamper(path, "DELETE FROM event WHERE position = 7")
    assert found(path)[0] == ("position", 7)


def test_the_first_event_that_was_dropped_is_named(path):
    tamper(path, "DELETE FROM event WHERE position = 1")
    assert found(path)[0] == ("position", 1)


def test_an_event_that_was_dropped_and_its_gap_closed_is_named(path):
    tamper(
        path,
        "DELETE FROM event WHERE position = 7",
        "UPDATE event SET position = -(position - 1) WHERE position > 7",
        "UPDATE event SET position = -position WHERE position < 0",
    )
    assert found(path)[0] == ("chain", 7)


def put_in(position):
    """Room for an event at a position, and a copy of another there, of a deal of its own."""
    names = ", ".join([*VALUES, "chain"])
    values = ", ".join(
        "'deal:eve'" if n == "originator_id" else "1" if n == "originator_version" else n for n in VALUES
    )
    return (
        f"UPDATE event SET position = -(position + 1) WHERE position >= {position}",
        "UPDATE event SET position = -position WHERE position < 0",
        f"INSERT INTO event (position, {names}) SELECT {position}, {values}, chain FROM event WHERE position = 3",
    )


@pytest.mark.parametrize("position", [1, 8, EVENTS + 1])
def test_an_event_that_was_put_in_is_named(path, position):
    tamper(path, *(put_in(position) if position > 3 else put_in(4)))
    assert found(path)[0] == ("chain", max(position, 4))


def test_an_event_without_a_row_at_the_end_is_missed_by_the_numbers_that_sqlite_gave(path):
    tamper(path, f"DELETE FROM event WHERE position > {EVENTS - 3}")
    assert ("tail", None) in found(path)


@pytest.mark.parametrize("first", [1, 12, EVENTS])
def test_a_chain_that_was_computed_anew_shows_against_a_kept_head_alone(bare, first):
    kept = head_of(bare)
    tamper(bare, f"UPDATE event SET actor = 'eve' WHERE position = {first}")
    assert found(bare, kept)[0] == ("chain", first)
    relink(bare, first)
    assert found(bare) == []
    assert found(bare, kept) == [("head", EVENTS)]


def cut(path, last):
    """Cut the end off a log so that not even SQLite remembers it."""
    tamper(
        path,
        f"DELETE FROM event WHERE position > {last}",
        f"UPDATE sqlite_sequence SET seq = {last} WHERE name = 'event'",
    )


def test_a_tail_that_was_cut_off_shows_against_a_kept_head_alone(bare):
    kept = head_of(bare)
    cut(bare, EVENTS - 3)
    assert found(bare) == []
    assert found(bare, kept) == [("head", EVENTS - 2)]


def test_a_tail_that_was_cut_off_and_written_anew_shows_against_a_kept_head_alone(bare):
    kept = head_of(bare)
    cut(bare, EVENTS - 3)
    with Trail.open(bare, clock=NOW) as trail:
        for _ in range(6):
            trail.log_activity("D", "forged")
    assert found(bare) == []
    assert found(bare, kept) == [("head", EVENTS)]


def test_an_older_backup_that_was_put_back_shows_against_a_kept_head_alone(bare, tmp_path):
    backup = shutil.copy(bare, tmp_path / "backup.db")
    with Trail.open(bare, clock=NOW) as trail:
        trail.log_activity("D", "call")
        kept = trail.head()
    for file in glob.glob(f"{bare}*"):
        os.remove(file)
    shutil.copy(backup, bare)
    assert found(bare) == []
    assert found(bare, kept) == [("head", EVENTS + 1)]


def test_an_older_copy_shows_against_a_read_model_that_went_further(path):
    cut(path, EVENTS - 3)
    done = verified(path)
    assert [(one.kind, one.table) for one in done.findings] == [("read_model", "checkpoint")]
    assert f"goes up to position {EVENTS}, but the log ends at {EVENTS - 3}" in done.findings[0].why


def test_a_log_written_anew_shows_against_a_read_model_of_the_one_before(path):
    tamper(path, "UPDATE event SET actor = 'eve' WHERE position = 12")
    relink(path, 12)
    assert [(one.kind, one.table) for one in verified(path).findings] == [("read_model", "checkpoint")]


def test_findings_are_cut_off_and_begin_with_the_first(path):
    tamper(path, "UPDATE event SET actor = 'eve'")
    assert found(path)[: verifying.MOST] == [("chain", position) for position in range(1, verifying.MOST + 1)]
    assert ("chain", verifying.MOST + 1) not in found(path)


# What no honest writer records, though the chain be right

ODD = {
    "recorded before the one before it": (
        "UPDATE event SET recorded_at = recorded_at - 2 WHERE position = 9",
        "time",
        9,
    ),
    "recorded before it occurred": ("UPDATE event SET occurred_at = recorded_at + 1 WHERE position = 9", "time", 9),
    "a clock that was ahead": ("UPDATE event SET clock_behind_us = -1 WHERE position = 9", "time", 9),
    "an amendment of what comes after it": ("UPDATE event SET amends = 90 WHERE position = 9", "column", 9),
    "of neither a deal nor a pipeline": ("UPDATE event SET originator_id = 'x' WHERE position = 9", "column", 9),
    "a version left out": (
        "UPDATE event SET originator_version = 99 WHERE originator_id = 'deal:D' AND originator_version = 10",
        "version",
        None,
    ),
    "a tag that nobody knows": ("UPDATE event SET topic = 'deal_vanished.1' WHERE position = 9", "event", 9),
    "bytes that are no event": ("UPDATE event SET state = x'7b' WHERE position = 9", "event", 9),
    "a personal part that is none": ("UPDATE event SET personal = x'7b' WHERE position = 9", "event", 9),
    "an event of a deal that was not opened": (
        "UPDATE event SET originator_id = 'deal:E', originator_version = 1 WHERE topic = 'deal_merged.1'",
        "event",
        None,
    ),
}


@pytest.mark.parametrize(("statement", "kind", "position"), ODD.values(), ids=ODD.keys())
def test_what_no_honest_writer_records_is_named_though_the_chain_is_right(bare, statement, kind, position):
    tamper(bare, statement)
    relink(bare, 1)
    kinds = found(bare)
    assert kind in [name for name, _ in kinds]
    assert position is None or (kind, position) in kinds
    assert "chain" not in [name for name, _ in kinds]


def test_versions_that_were_swapped_are_named_though_the_chain_is_right(bare):
    of = "WHERE originator_id = 'deal:D' AND originator_version ="
    tamper(
        bare,
        f"UPDATE event SET originator_version = 100 {of} 3",
        f"UPDATE event SET originator_version = 3 {of} 4",
        f"UPDATE event SET originator_version = 4 {of} 100",
    )
    relink(bare, 1)
    assert [kind for kind, _ in found(bare)] == ["version"]


# Tables and triggers

OBJECTS = [
    "trigger event_never_changes",
    "trigger event_never_goes",
    "trigger event_comes_last",
    "trigger log_never_changes",
    "trigger log_never_goes",
    "trigger log_is_one",
    "index event_action",
]


def test_every_trigger_of_a_log_is_tried(path):
    with raw(path) as db:
        made = db.execute("SELECT type || ' ' || name FROM sqlite_master WHERE type <> 'table' AND sql IS NOT NULL")
        assert sorted(row[0] for row in made) == sorted(OBJECTS)


@pytest.mark.parametrize("one", OBJECTS)
def test_a_trigger_or_index_that_was_removed_is_named(path, one):
    with raw(path) as db:
        db.execute(f"DROP {one}")
    assert [(f.kind, f.why) for f in verified(path).findings] == [("schema", f"the {one} was removed")]


def test_a_trigger_that_was_made_to_do_nothing_is_named(path):
    with raw(path) as db:
        db.execute("DROP TRIGGER event_never_goes")
        db.execute("CREATE TRIGGER event_never_goes BEFORE DELETE ON event BEGIN SELECT 1; END")
    assert [one.why for one in verified(path).findings] == ["the trigger event_never_goes was changed"]


def test_a_trigger_that_was_added_is_named_and_a_table_of_another_program_is_not(path):
    with raw(path) as db:
        db.execute("CREATE TABLE backups (id)")
        assert verified(path).ok
        db.execute("CREATE TRIGGER eve AFTER INSERT ON event BEGIN SELECT 1; END")
    assert [one.kind for one in verified(path).findings] == ["schema"]


@pytest.mark.parametrize(
    ("statement", "kind"), [("UPDATE log SET format = 0", "identity"), ("UPDATE log SET format = 'one'", "damaged")]
)
def test_a_log_that_does_not_say_its_format_is_named(path, statement, kind):
    tamper(path, statement)
    assert json.loads(run(path, "verify", "--format", "json").stdout)["findings"][0]["kind"] == kind


def test_a_log_that_got_another_identity_is_wrong_from_the_first_event_on(path):
    tamper(path, "UPDATE log SET id = 'other'")
    assert found(path)[0] == ("chain", 1)


# The read model


def read_file(path):
    """The file of the current generation."""
    with raw(f"{path}.read") as db:
        (number,) = db.execute("SELECT number FROM generation").fetchone()
    return f"{path}.read-{number}"


# Of a cell or the marks of a path, those that some row stands for.
USED = {
    "cell": "WHERE id IN (SELECT cell FROM deal)",
    "shape": "WHERE id IN (SELECT shape FROM deal)",
    "checkpoint": "WHERE name = 'position'",
}


@pytest.mark.parametrize("table", READ_COLUMNS)
def test_every_column_of_the_read_model_that_was_edited_is_named(path, table):
    file = read_file(path)
    for name in READ_COLUMNS[table]:
        where = f"WHERE rowid = (SELECT rowid FROM {table} {USED.get(table, '')} ORDER BY rowid LIMIT 1)"
        with raw(file) as db:
            old = db.execute(f"SELECT rowid, {name} FROM {table} {where}").fetchone()
            edited = "1" if old[1] is None else old[1] + 1000 if isinstance(old[1], int) else old[1] + "1"
            db.execute(f"UPDATE {table} SET {name} = ? {where}", (edited,))
        done = verified(path)
        assert {one.kind for one in done.findings} == {"read_model"}, name
        assert table in ("cell", "shape") or table in {one.table for one in done.findings}, name
        with raw(file) as db:
            if (table, name) in (("cell", "id"), ("shape", "id"), ("deal", "number")):
                db.execute(f"UPDATE {table} SET {name} = ? WHERE {name} = ?", (old[1], edited))
            else:
                db.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (old[1], old[0]))
        assert verified(path).ok, name


def test_an_edited_row_is_named_with_its_columns_and_without_the_personal_part(path):
    with raw(read_file(path)) as db:
        db.execute("UPDATE deal SET owner = 'eve', amount = '1' WHERE deal = 'D'")
        db.execute("UPDATE personal SET title = 'Secret' WHERE title = 'Title of D'")
    done = verified(path)
    deal, personal = done.findings
    assert (deal.table, deal.row) == ("deal", "deal='D'")
    assert deal.why == "deal (deal='D'): amount, owner: not what the log says"
    assert personal.table == "personal"
    assert "Secret" not in str(personal)
    assert "Title of D" not in str(personal)


def test_an_edited_cell_is_named_by_the_rows_that_stand_in_it(path):
    with raw(read_file(path)) as db:
        db.execute("UPDATE cell SET stage = 'elsewhere' WHERE id = (SELECT cell FROM deal WHERE deal = 'D')")
    assert "cell.stage" in verified(path).findings[0].why


@pytest.mark.parametrize("table", ["deal", "period", "past_path", "personal", "definition", "cell", "shape"])
def test_a_row_that_was_deleted_is_named(path, table):
    with raw(read_file(path)) as db:
        where = f"WHERE rowid = (SELECT rowid FROM {table} {USED.get(table, '')} LIMIT 1)"
        assert db.execute(f"DELETE FROM {table} {where}").rowcount == 1
    assert {one.kind for one in verified(path).findings} == {"read_model"}


@pytest.mark.parametrize("table", ["period", "past_path", "personal"])
def test_a_row_that_stands_there_twice_is_named(path, table):
    with raw(read_file(path)) as db:
        db.execute(f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1")
    assert [(one.kind, one.table) for one in verified(path).findings] == [("read_model", table)]


@pytest.mark.parametrize("table", ["deal", "period", "past_path", "personal"])
def test_a_row_of_a_deal_that_the_log_does_not_know_is_named(path, table):
    names = ", ".join(READ_COLUMNS[table])
    key = "number" if table == "deal" else "deal"
    values = ", ".join({key: "999", "deal": "'eve'"}.get(n, n) if table == "deal" or n == key else n
                       for n in READ_COLUMNS[table])  # fmt: skip
    with raw(read_file(path)) as db:
        db.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} LIMIT 1")
    assert [(one.kind, one.table) for one in verified(path).findings] == [("read_model", table)]


def test_a_read_model_of_another_log_is_named(path, tmp_path):
    with Trail.open(tmp_path / "other.db", clock=NOW) as trail:
        trail.record(B2B)
        trail.pipelines()
    for file in glob.glob(f"{tmp_path}/other.db.read*"):
        os.replace(file, file.replace("other", "sales"))
    assert [one.why for one in verified(path).findings] == ["the read model was made of another log"]


def test_a_read_model_of_other_code_is_not_compared_since_it_is_made_anew(path):
    with raw(read_file(path)) as db:
        db.execute("UPDATE checkpoint SET value = 'older' WHERE name = 'made_by'")
    assert (verified(path).ok, verified(path).read_position) == (True, None)


def test_a_read_model_that_is_no_database_is_named(path):
    Path(read_file(path)).write_bytes(b"nothing" * 1000)
    assert [one.kind for one in verified(path).findings] == ["read_model"]


def test_an_index_of_the_read_model_that_differs_from_its_table_is_named(path):
    with raw(read_file(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'deal_opened'").fetchone()
        db.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'deal_opened'", (sql.replace("opened_at", "last_at"),)
        )
    assert "SQLite says" in verified(path).findings[0].why


# What the store remembers


def test_status_tells_of_the_last_verification_and_a_rebuild_keeps_it(path):
    clock = Clock(on(40))
    with Trail.open(path, clock=clock) as trail:
        assert trail.status().last_verify is None
        trail.verify()
        clock.now = on(41)
        trail.log_activity("D", "call")
        trail.verify(f"{EVENTS}:{'0' * 64}")
        trail.rebuild()
        last = trail.status().last_verify
    assert (last.at, last.position, last.findings) == (on(41), EVENTS + 1, 1)


# Personal texts under keys


def test_a_store_whose_personal_texts_are_encrypted_is_verified_before_and_after_a_subject_is_forgotten(tmp_path):
    keys = KeyFile(tmp_path / "sales.keys", bytes(range(32)))
    path = tmp_path / "sales.db"
    with Trail.open(path, clock=NOW, keys=keys) as trail:
        trail.record_all([action for action in PAST if "personal" not in action])
        trail.pipelines()
        assert (trail.verify().ok, trail.verify().read_position) == (True, trail.head().position)
        before = trail.head()
        trail.forget("D", by="dpo-1", reason="asked to be forgotten")
        assert trail.verify(before).ok
        trail.pipelines()
        assert trail.verify(before).findings == []
        trail.rebuild()
        assert trail.verify(before).findings == []
    with Trail.open(path, clock=NOW) as trail:
        assert (trail.verify(before).ok, trail.verify().read_position) == (True, trail.head().position)


# Bytes of the file


def values(path):
    """Every value that the file holds, with its type; None where they cannot be read."""
    names = {
        "sqlite_master": ("type", "name", "tbl_name", "sql"),
        "event": ("position", *VALUES, "chain"),
        "log": ("id", "format"),
        "sqlite_sequence": ("name", "seq"),
    }
    try:
        with raw(path) as db:
            return [
                db.execute(
                    f"SELECT {', '.join(f'typeof({name}), CAST({name} AS BLOB)' for name in columns)} FROM {table}"
                ).fetchall()
                for table, columns in names.items()
            ]
    except (sqlite3.Error, UnicodeDecodeError):
        return None


def kind_of(data, place, page_size):
    """In what a byte lies: the header of the file, free space, an index, or what holds a table together."""
    begin = place // page_size * page_size
    at = begin + (100 if begin == 0 else 0)
    if place < 100:
        return "header of the file"
    cells, content = int.from_bytes(data[at + 3 : at + 5]), int.from_bytes(data[at + 5 : at + 7])
    if at + (8 if data[at] in (10, 13) else 12) + 2 * cells <= place < begin + content:
        return "free space"
    return "index" if data[at] in (2, 10) else "table, no value"


def flipped(path, places, rnd):
    """Flip a bit at so many places, one at a time: how many were named or refused, and of what kind the others are."""
    with raw(path) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
    data, whole = Path(path).read_bytes(), values(path)
    counted = Counter()
    for place in rnd.sample(range(len(data)), places):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rnd.randrange(8)
        os.remove(path)  # a new file: locks on the one before may still be held by what an error left
        Path(path).write_bytes(damaged)
        changed = values(path) != whole
        try:
            seen = "" if verified(path).ok else "named"
        except DealtrailError as refusal:
            # Byte 18 says which version of SQLite's format may write: a greater one than SQLite knows is only read.
            refused = {"damaged", "not_a_store", "newer_store"} | ({"read_only"} if place == 18 else set())
            assert refusal.code in refused, (place, refusal)
            seen = "refused at opening"
        counted[seen if changed else kind_of(data, place, page_size)] += 1
        assert seen or not changed, f"a change of a stored value at byte {place} was not seen"
        for file in glob.glob(f"{path}-*"):
            os.remove(file)
    return counted


@pytest.mark.parametrize("places", [600, pytest.param(None, marks=pytest.mark.slow, id="all")])
def test_a_byte_that_is_flipped_is_named_or_refused_wherever_it_changes_a_stored_value(bare, places, capsys):
    with raw(bare) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA page_size = 1024")  # less free space, so that more of the places hold something
        db.execute("VACUUM")
    assert verified(bare).ok
    flips = places or os.path.getsize(bare)
    counted = flipped(bare, flips, Random(1))
    if places is None:
        with capsys.disabled():
            print(f"\n{flips:,} bytes flipped: " + ", ".join(f"{kind} {n:,}" for kind, n in counted.most_common()))
    assert counted.total() == flips
    assert counted["named"] + counted["refused at opening"] > flips / 3
    assert set(counted) <= {
        "named",
        "refused at opening",
        "header of the file",
        "free space",
        "index",
        "table, no value",
    }


# The command line


def run(path, *words):
    return CliRunner().invoke(app, ["--db", path, *words])


def test_the_head_is_one_line_to_be_kept(path):
    printed = run(path, "head")
    assert (printed.exit_code, printed.stdout) == (0, f"{head_of(path)}\n")
    assert json.loads(run(path, "head", "--format", "json").stdout)["position"] == EVENTS


def test_the_command_tells_that_a_store_is_sound(path):
    done = run(path, "verify", "--head", head_of(path))
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"sound up to position {EVENTS}" in done.stdout
    told = json.loads(run(path, "verify", "--format", "json").stdout)
    assert (told["ok"], told["findings"], told["head"]) == (True, [], head_of(path))


def test_the_command_names_what_it_finds_and_exits_with_1(path):
    tamper(path, "UPDATE event SET actor = 'eve' WHERE position = 12")
    done = run(path, "verify")
    assert done.exit_code == 1
    assert "event 12 or its chain is not what was recorded" in done.stdout
    done = run(path, "verify", "--format", "json")
    assert done.exit_code == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["kind"], finding["position"]) == ("chain", 12)


def test_the_command_names_why_a_store_cannot_be_opened(path):
    tamper(path, "DELETE FROM log")
    done = run(path, "verify", "--format", "json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["ok"], told["position"], [one["kind"] for one in told["findings"]]) == (False, None, ["damaged"])
    assert "lost its identity" in told["findings"][0]["why"]


def test_the_command_refuses_what_is_no_head_and_a_store_that_is_not_there(path, tmp_path):
    assert "invalid_field" in run(path, "verify", "--head", "12").stderr
    assert "no_store" in run(str(tmp_path / "none.db"), "verify").stderr


def test_status_shows_the_last_verification(path):
    assert "sound" not in run(path, "status").stdout
    run(path, "verify")
    assert f"position {EVENTS}: sound" in run(path, "status").stdout
