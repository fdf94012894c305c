"""The log on disk: nothing in it can be changed, what stands there can be recomputed, and trouble has a code."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from threading import Barrier, Thread

import pytest
from given import B2B, CARE, Clock, code_of, euro, on, stage

from dealtrail import DealtrailError, Trail
from dealtrail.store import connections, mapper
from dealtrail.store.recorder import FORMAT, link

DAY_US = 86_400_000_000

# Every kind of event, every column filled in somewhere: a past as actions, each recorded on day 40.
EVERYTHING = [
    B2B,
    CARE,
    {"action": "open_deal", "pipeline": "b2b", "deal": "D", "at": on(1), "title": "Title of D", "value": euro("10.50")},
    {"action": "open_deal", "pipeline": "b2b", "deal": "Zoë’s", "at": on(1), "by": "anna", "id": "open-2"},
    {"action": "move_deal", "deal": "D", "stage": "qualified", "at": on(2), "by": "anna", "id": "move-1"},
    {"action": "change_value", "deal": "D", "value": None, "at": on(3)},
    {"action": "assign_deal", "deal": "D", "owner": "bram", "at": on(3)},
    {"action": "change_expected_close", "deal": "D", "expected_close": "2026-03-01", "at": on(3)},
    {"action": "set_attributes", "deal": "D", "attributes": {"seats": 5, "gone": None}, "at": on(3)},
    {"action": "log_activity", "deal": "D", "kind": "call", "note": "Note of D", "at": on(4)},
    {"action": "redefine_pipeline", "pipeline": "b2b", "at": on(5), "moves": {"lead": "start"},
     "stages": [stage("start"), stage("qualified", optional=["demo"]), stage("proposal")]},
    {"action": "complete_action", "deal": "D", "key": "demo", "at": on(6), "personal": {"whom": "Person of D"}},
    {"action": "lose_deal", "deal": "D", "reason": "price", "at": on(7)},
    {"action": "reopen_deal", "deal": "D", "stage": "start", "at": on(8)},
    {"action": "disqualify_deal", "deal": "D", "at": on(9)},
    {"action": "reopen_deal", "deal": "D", "at": on(10)},
    {"action": "transfer_deal", "deal": "D", "pipeline": "care", "at": on(11)},
    {"action": "win_deal", "deal": "D", "value": euro("12"), "at": on(12), "id": "win-1"},
    {"action": "retract", "deal": "D", "version": 5, "reason": "a mistake", "id": "retract-1"},
    {"action": "amend", "deal": "D", "version": 7, "kind": "meeting", "note": "Amended note", "id": "amend-1"},
    {"action": "merge_deal", "deal": "Zoë’s", "into": "D", "at": on(13), "personal": {"e-mail": "z@example.org"}},
]  # fmt: skip
PERSONAL_TEXTS = ["Title of D", "Note of D", "Person of D", "Amended note", "z@example.org", "whom", "e-mail"]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sales.db")


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    path = tmp_path_factory.mktemp("everything") / "sales.db"
    with Trail.open(path, clock=Clock(on(40))) as trail:
        for action in EVERYTHING:
            trail.record(action)
    return path


@pytest.fixture
def store(everything, path):
    """A store that holds everything, closed, of one's own."""
    return shutil.copy(everything, path)


@pytest.fixture
def short_wait(monkeypatch):
    """A store that is opened from here on waits for locks only a moment."""
    monkeypatch.setattr(connections, "LOCK_TIMEOUT_SECONDS", 0.05)


def plain(path):
    """The file as any other program sees it."""
    return closing(sqlite3.connect(path, isolation_level=None))


def rows(path, table="event"):
    with plain(path) as db:
        return db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def column(path, name):
    with plain(path) as db:
        return [row[0] for row in db.execute(f"SELECT {name} FROM event ORDER BY position")]


def without_triggers(path, *statements):
    """Damage a store as no statement could while its triggers stand."""
    with plain(path) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)


def open_and_close(path):
    Trail.open(path).close()


def test_the_past_of_these_tests_holds_every_kind_of_event(store):
    of_forgetting = {"keys_configured.1", "forgetting_begun.1", "subject_forgotten.1"}  # see test_forgetting.py
    assert set(column(store, "topic")) == set(mapper.TAGS.values()) - of_forgetting


# Nothing is changed

COLUMNS = (
    "position, originator_id, originator_version, topic, state, occurred_at, recorded_at, clock_behind_us, "
    "actor, action_id, request, amends, personal, chain"
)
NEXT = "SELECT max(position) + 1 FROM event"


def insert(how, position=f"({NEXT})", stream="'deal:new'", version="1", action_id="NULL", then=""):
    return (
        f"{how} INTO event ({COLUMNS}) VALUES ({position}, {stream}, {version}, 'deal_merged.1', x'7b7d', 0, 0, 0, "
        f"NULL, {action_id}, NULL, NULL, NULL, zeroblob(32)) {then}"
    )


def test_the_next_position_and_a_new_version_are_accepted(store):
    with plain(store) as db:
        db.execute("BEGIN")
        assert db.execute(insert("INSERT")).rowcount == 1
        db.execute("ROLLBACK")


WAYS = ["INSERT", "INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT OR ROLLBACK", "INSERT OR FAIL"]
UPSERTS = ["ON CONFLICT DO NOTHING", "ON CONFLICT DO UPDATE SET topic = 'x'"]
TAKEN = {
    "a position that is taken": {"position": "3"},
    "the last position": {"position": "(SELECT max(position) FROM event)"},
    "a version that is taken": {"stream": "'deal:D'", "version": "2"},
    "an action id that is taken": {"stream": "'deal:D'", "version": "999", "action_id": "'move-1'"},
    "a position and a version that are taken": {"position": "3", "stream": "'deal:D'"},
    "a gap": {"position": f"({NEXT}) + 1"},
    "no position": {"position": "NULL"},
    "position 0": {"position": "0"},
    "a position below 0": {"position": "-1"},
}


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN.keys())
@pytest.mark.parametrize(
    "statement",
    [
        *(pytest.param((how, ""), id=how) for how in WAYS),
        *(pytest.param(("INSERT", then), id=f"UPSERT {then}") for then in UPSERTS),
    ],
)
def test_an_event_cannot_be_put_in_where_it_does_not_follow(store, statement, taken):
    how, then = statement
    before = rows(store), rows(store, "sqlite_sequence")
    with plain(store) as db, pytest.raises(sqlite3.IntegrityError, match="takes the next position"):
        db.execute(insert(how, **taken, then=then))
    assert (rows(store), rows(store, "sqlite_sequence")) == before


@pytest.mark.parametrize("how", ["UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"])
@pytest.mark.parametrize("name", COLUMNS.split(", "))
def test_no_column_of_an_event_can_be_updated(store, how, name):
    before = rows(store)
    with plain(store) as db, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        db.execute(f"{how} event SET {name} = 1 WHERE position = 5")
    assert rows(store) == before


@pytest.mark.parametrize("which", ["", "WHERE position = 5", "WHERE position = (SELECT max(position) FROM event)"])
def test_no_event_can_be_deleted(store, which):
    before = rows(store)
    with plain(store) as db, pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        db.execute(f"DELETE FROM event {which}")
    assert rows(store) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET id = 'other'",
        "UPDATE OR IGNORE log SET format = 2",
        "DELETE FROM log",
        "INSERT INTO log VALUES ('other', 1)",
        "INSERT OR IGNORE INTO log VALUES ('other', 1)",
        "INSERT OR REPLACE INTO log SELECT id, 2 FROM log",
        "INSERT INTO log SELECT id, 2 FROM log WHERE true ON CONFLICT DO UPDATE SET format = 2",
        "INSERT INTO log SELECT id, 2 FROM log WHERE true ON CONFLICT DO NOTHING",
    ],
)
def test_the_identity_of_a_log_stays(store, statement):
    before = rows(store, "log")
    assert len(before) == 1
    with plain(store) as db, pytest.raises(sqlite3.IntegrityError, match="identity of a log|holds one log"):
        db.execute(statement)
    assert rows(store, "log") == before


# Positions and the chain


def test_positions_have_no_gap_after_refusals(path):
    with Trail.open(path) as trail:
        trail.record(B2B | {"at": None})
        for number in range(5):
            trail.open_deal("b2b", deal=f"D{number}")
            assert code_of(trail.open_deal, "b2b", deal=f"D{number}") == "deal_exists"
            assert code_of(trail.record_all, [{"action": "log_activity", "deal": "D0", "kind": "call"},
                                              {"action": "log_activity", "deal": "no", "kind": "call"}]) \
                == "unknown_deal"  # fmt: skip
    assert column(path, "position") == [1, 2, 3, 4, 5, 6]


def test_positions_have_no_gap_when_threads_and_trails_record_at_once(path):
    with Trail.open(path) as one, Trail.open(path) as other:
        one.record(B2B | {"at": None})
        start = Barrier(6)

        def work(trail, name):
            start.wait()
            for number in range(10):
                trail.open_deal("b2b", deal=f"{name}-{number}")

        threads = [Thread(target=work, args=(trail, n)) for n, trail in enumerate([one, other] * 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert column(path, "position") == list(range(1, 62))


def recomputed(path):
    """The chain as its format is written down, by other means than the package's."""
    with plain(path) as db:
        (log,) = db.execute("SELECT id FROM log").fetchone()
        values = COLUMNS.split(", ")[1:-1]
        typed = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in values)
        stored = db.execute(f"SELECT position, {typed} FROM event ORDER BY position").fetchall()
    kinds = {"null": "n", "integer": "i", "text": "t", "blob": "b"}
    chain, chains = bytes(32), []
    for position, *pairs in stored:
        hashed = sha256(chain)
        parts = [
            ("text", log.encode()),
            ("integer", str(position).encode()),
            *zip(pairs[::2], pairs[1::2], strict=True),
        ]
        for kind, data in parts:
            data = data or b""
            hashed.update(f"{kinds[kind]}{len(data)}:".encode() + data)
        chain = hashed.digest()
        chains.append(chain)
    return chains


def test_the_chain_is_what_its_format_says(store):
    assert recomputed(store) == column(store, "chain")


def test_the_chain_goes_on_over_many_commits_trails_and_ways_of_recording(path):
    with Trail.open(path) as trail:
        trail.record(B2B | {"at": None})
        trail.record_all([{"action": "open_deal", "pipeline": "b2b", "deal": f"A{n}", "by": "é"} for n in range(20)])
    with Trail.open(path) as trail, Trail.open(path) as other:
        imported = list(trail.record_each([{"action": "open_deal", "pipeline": "b2b"} for _ in range(20)]))
        other.record({"action": "log_activity", "deal": "A3", "kind": "call", "note": "x"})
    assert [line.refused for line in imported] == [None] * 20
    assert recomputed(path) == column(path, "chain")
    assert len(column(path, "chain")) == 42


def test_two_logs_with_the_same_actions_have_different_chains(tmp_path):
    paths = [str(tmp_path / name) for name in ("a.db", "b.db")]
    for path in paths:
        with Trail.open(path, clock=Clock(on(40))) as trail:
            trail.record(B2B)
    assert column(paths[0], "chain") != column(paths[1], "chain")
    assert column(paths[0], "state") == column(paths[1], "state")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("1",), (1,)),
        ((b"1",), ("1",)),
        ((None,), ("",)),
        ((None,), (b"",)),
        (("",), (b"",)),
        ((None, "x"), ("x", None)),
        (("t1:a",), ("a",)),
        ((12, 3), (1, 23)),
    ],
)
def test_rows_that_differ_never_read_alike_in_the_chain(one, other):
    assert link(bytes(32), "log", 1, one) != link(bytes(32), "log", 1, other)


# Times


def test_each_step_is_recorded_later_than_the_one_before_whatever_the_clock_does(path):
    clock = Clock(on(10))
    with Trail.open(path, clock=clock) as trail:
        trail.record(B2B)
        trail.open_deal("b2b", deal="D", at=on(1))  # the clock stands
        clock.now = on(9)
        trail.log_activity("D", "call")  # it goes back
        trail.record_all([{"action": "log_activity", "deal": "D", "kind": kind} for kind in ("mail", "visit")])
    with Trail.open(path, clock=clock) as trail:
        trail.log_activity("D", "call")
        clock.now = on(11)
        trail.log_activity("D", "call")
    first = column(path, "recorded_at")[0]
    assert [at - first for at in column(path, "recorded_at")] == [0, 1, 2, 3, 3, 4, DAY_US]
    assert column(path, "clock_behind_us") == [0, 1, DAY_US + 2, DAY_US + 3, DAY_US + 3, DAY_US + 4, 0]


def test_the_steps_of_one_commit_are_recorded_one_after_the_other(path):
    with Trail.open(path, clock=Clock(on(40))) as trail:
        trail.record(B2B)
        refused = {"action": "move_deal", "deal": "no", "stage": "lead"}
        accepted = [{"action": "open_deal", "pipeline": "b2b"} for _ in range(3)]
        assert [line.refused is None for line in trail.record_each([accepted[0], refused, *accepted[1:]])] == [
            True, False, True, True,
        ]  # fmt: skip
    first = column(path, "recorded_at")[0]
    assert [at - first for at in column(path, "recorded_at")] == [0, 1, 2, 3]


def test_an_action_without_a_time_occurs_when_it_is_recorded(path):
    clock = Clock(on(10))
    with Trail.open(path, clock=clock) as trail:
        trail.record(B2B)
        clock.now = on(9)
        trail.open_deal("b2b", deal="D")
    assert column(path, "occurred_at")[1] == column(path, "recorded_at")[1] == column(path, "recorded_at")[0] + 1


def test_a_clock_without_a_zone_is_refused(path):
    with Trail.open(path, clock=lambda: on(10).replace(tzinfo=None)) as trail:
        assert code_of(trail.record, B2B) == "naive_time"
        assert code_of(trail.pipelines) == "naive_time"


# The personal part


def test_the_personal_part_stands_in_its_column_and_nowhere_else_in_the_row(store):
    names = COLUMNS.split(", ")
    found = {text: set() for text in PERSONAL_TEXTS}
    for row in rows(store):
        for name, value in zip(names, row, strict=True):
            data = value if isinstance(value, bytes) else str(value).encode()
            for text in found:
                if text.encode() in data:
                    found[text].add(name)
    assert found == {text: {"personal"} for text in PERSONAL_TEXTS}


def test_an_event_without_a_personal_part_has_nothing_in_the_column(store):
    assert column(store, "personal").count(None) == len(column(store, "personal")) - 5


def test_an_action_id_never_gives_a_personal_text_away(path):
    with Trail.open(path) as trail:
        trail.record(B2B | {"at": None})
        for deal, title in (("D", "Ann"), ("E", "Bob")):
            trail.open_deal("b2b", deal=deal, title=title)
        trail.record({"action": "log_activity", "deal": "D", "kind": "call", "note": "Ann", "id": "x"})
    with Trail.open(f"{path}-2") as trail:
        trail.record(B2B | {"at": None})
        trail.open_deal("b2b", deal="D")
        trail.record({"action": "log_activity", "deal": "D", "kind": "call", "note": "Bob", "id": "x"})
    requests = column(path, "request")[-1], column(f"{path}-2", "request")[-1]
    assert requests[0] == requests[1] is not None


# All or nothing


def test_a_batch_is_recorded_whole_or_not_at_all(store):
    before = rows(store)
    batch = [
        {"action": "open_deal", "pipeline": "b2b", "deal": "E"},
        {"action": "move_deal", "deal": "E", "stage": "qualified"},
        {"action": "move_deal", "deal": "E", "stage": "qualified"},
    ]
    with Trail.open(store, clock=Clock(on(41))) as trail:
        with pytest.raises(DealtrailError) as caught:
            trail.record_all(batch)
        assert (caught.value.code, caught.value.facts["index"]) == ("already_in_stage", 2)
        assert rows(store) == before
        assert code_of(trail.deal, "E") == "unknown_deal"
        assert [one.version for one in trail.record_all(batch[:2])] == [1, 2]
    assert len({row[6] for row in rows(store)[len(before) :]}) == 1


def test_a_batch_whose_last_action_has_no_shape_leaves_nothing(store):
    before = rows(store)
    with Trail.open(store) as trail:
        with pytest.raises(DealtrailError) as caught:
            trail.record_all([{"action": "open_deal", "pipeline": "b2b", "deal": "E"}, {"action": "open_sesame"}])
        assert (caught.value.code, caught.value.facts["index"]) == ("unknown_action", 1)
    assert rows(store) == before


class Interrupted(Exception):
    """What no part of the package knows of."""


def test_whatever_breaks_off_a_batch_leaves_nothing_and_the_trail_usable(store):
    before = rows(store)

    def broken_off():
        yield {"action": "open_deal", "pipeline": "b2b", "deal": "E"}
        raise Interrupted

    with Trail.open(store) as trail:
        for record in (trail.record_all, lambda actions: list(trail.record_each(actions))):
            with pytest.raises(Interrupted):
                record(broken_off())
            assert rows(store) == before
        assert trail.open_deal("b2b", deal="E").position == len(before) + 1


def test_an_error_of_the_callers_own_database_is_not_taken_for_one_of_the_store(store):
    def from_a_database_of_the_caller():
        yield {"action": "open_deal", "pipeline": "b2b", "deal": "E"}
        with closing(sqlite3.connect(":memory:")) as db:
            db.execute("SELECT * FROM missing")

    with Trail.open(store) as trail, pytest.raises(sqlite3.OperationalError, match="missing"):
        list(trail.record_each(from_a_database_of_the_caller()))


KILLED = """
import os, sys
from dealtrail import Trail
def actions():
    for number in range(1500):
        yield {"action": "open_deal", "pipeline": "b2b", "deal": f"K{number}"}
    os._exit(9)
trail = Trail.open(sys.argv[1])
for line in trail.record_each(actions()):
    pass
"""


def test_a_process_that_dies_while_it_records_leaves_whole_commits_and_a_sound_chain(store):
    before = rows(store)
    done = subprocess.run([sys.executable, "-c", KILLED, store], check=False, capture_output=True)
    assert done.returncode == 9, done.stderr.decode()
    with Trail.open(store) as trail:
        assert trail.pipeline_report("b2b").total.deals == 1000
        trail.open_deal("b2b", deal="after")
    assert rows(store)[: len(before)] == before
    assert column(store, "position") == list(range(1, len(before) + 1002))
    assert recomputed(store) == column(store, "chain")


# Opening


def foreign_database(path):
    with plain(path) as db:
        db.execute("CREATE TABLE event (position, something)")
        db.execute("CREATE TABLE log (id, format)")


NO_STORES = {
    "a PNG": lambda path: _written(path, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20),
    "a short text": lambda path: _written(path, b"hello"),
    "a long text": lambda path: _written(path, b"date,deal,amount\n" * 1000),
    "zeros": lambda path: _written(path, bytes(8192)),
    "a SQLite file of something else": foreign_database,
    "half a header": lambda path: _written(path, b"SQLite format 3\0" + bytes(20)),
}


def _written(path, data):
    with open(path, "wb") as file:
        file.write(data)


@pytest.mark.parametrize("make", NO_STORES.values(), ids=NO_STORES.keys())
def test_a_file_of_something_else_is_no_store_and_stays_as_it_was(path, make):
    make(path)
    with open(path, "rb") as file:
        before = file.read()
    assert code_of(Trail.open, path) == "not_a_store"
    with open(path, "rb") as file:
        assert file.read() == before
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_a_folder_is_no_store(tmp_path):
    assert code_of(Trail.open, tmp_path) == "not_a_store"
    assert os.listdir(tmp_path) == []


def test_a_place_that_does_not_exist_is_no_store(tmp_path):
    assert code_of(Trail.open, tmp_path / "no" / "such" / "sales.db") == "not_a_store"
    assert os.listdir(tmp_path) == []


def test_an_empty_file_becomes_a_store(path):
    _written(path, b"")
    with Trail.open(path) as trail:
        trail.record(B2B | {"at": None})
    with Trail.open(path) as trail:
        assert [view.pipeline for view in trail.pipelines()] == ["b2b"]


@pytest.mark.parametrize("name", ["a?b#c%20d&mode=memory.db", "é 東京.db", "-x.db", "'\"; --.db", ":memory", "a:b.db"])
def test_a_store_may_have_any_name(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Trail.open(name) as trail:
        trail.record(B2B | {"at": None})
    assert rows(tmp_path / name, "event")[0][1] == "pipeline:b2b"
    assert {found.split(".read")[0] for found in os.listdir(tmp_path)} == {name}


def test_a_name_that_no_file_can_have_is_no_store_and_touches_no_other(tmp_path):
    assert code_of(Trail.open, f"{tmp_path}/a\0b") == "not_a_store"
    assert os.listdir(tmp_path) == []


def test_opening_a_store_again_changes_nothing_in_it(store):
    before = rows(store), rows(store, "log")
    open_and_close(store)
    assert (rows(store), rows(store, "log")) == before


def test_a_store_of_a_newer_format_is_left_alone(store):
    without_triggers(store, f"UPDATE log SET format = {FORMAT + 1}")
    with pytest.raises(DealtrailError) as caught:
        Trail.open(store)
    assert (caught.value.code, caught.value.facts["format"]) == ("newer_store", FORMAT + 1)


def test_a_store_that_lost_its_identity_is_damaged(store):
    without_triggers(store, "DELETE FROM log")
    assert code_of(Trail.open, store) == "damaged"


# Damage

USES = {
    "history": lambda trail: trail.history("D"),
    "deal": lambda trail: trail.deal("D"),
    "list_deals": lambda trail: trail.list_deals("b2b"),
    "pipeline_report": lambda trail: trail.pipeline_report("b2b"),
    "funnel_report": lambda trail: trail.funnel_report("b2b", cohort="2026"),
    "follow": lambda trail: list(trail.follow()),
    "record": lambda trail: trail.log_activity("D", "call"),
    "record_all": lambda trail: trail.record_all([{"action": "log_activity", "deal": "D", "kind": "call"}]),
    "rebuild": lambda trail: trail.rebuild(),
}
DAMAGE = {
    "a tag of no event": "topic = 'deal_teleported'",
    "a tag that is a Python path": "topic = 'os:system'",
    "a cut-off state": "state = x'7b22'",
    "a state that is no UTF-8": "state = x'7b227374616765223aff7d'",
    "a state with a broken letter": "state = CAST(replace(state, 'qualified', x'ff') AS BLOB)",
    "an empty state": "state = x''",
    "a state that is a number": "state = 7",
    "a personal part that is no JSON": "personal = x'7b'",
    "a personal part that is a number": "personal = 7",
    "no time": "occurred_at = NULL",
    "a time that is text": "occurred_at = 'yesterday'",
}


def outcomes(path, names=tuple(USES)):
    """What comes of each use of a store: the code of its refusal, or whatever else came out."""
    found = {}
    for name in names:
        try:
            with Trail.open(path) as trail:
                USES[name](trail)
            found[name] = "no error"
        except Exception as trouble:
            found[name] = getattr(trouble, "code", type(trouble).__name__)
    return found


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_event_is_reported_by_everything_that_reads_it(store, damage):
    without_triggers(store, f"UPDATE event SET {damage} WHERE originator_id = 'deal:D' AND originator_version = 2")
    before = rows(store)
    assert outcomes(store) == dict.fromkeys(USES, "damaged")
    assert rows(store) == before


def test_an_amendment_of_nothing_is_reported_by_everything_that_makes_a_timeline_of_it(store):
    without_triggers(store, "UPDATE event SET amends = 99 WHERE originator_id = 'deal:D' AND originator_version = 2")
    makers = [name for name in USES if name not in ("history", "follow")]
    assert outcomes(store, makers) == dict.fromkeys(makers, "damaged")


@pytest.mark.parametrize("tag", ["stage_entered.2", "deal_teleported.1"])
def test_an_event_of_a_newer_code_is_refused_by_everything_that_reads_it_and_says_so(store, tag):
    without_triggers(
        store, f"UPDATE event SET topic = '{tag}' WHERE originator_id = 'deal:D' AND originator_version = 2"
    )
    before = rows(store)
    readers = [name for name in USES if not name.startswith("record")]  # a writer sees first that the chain is broken
    assert outcomes(store, readers) == dict.fromkeys(readers, "newer_store")
    assert rows(store) == before
    with Trail.open(store) as trail, pytest.raises(DealtrailError) as caught:
        trail.history("D")
    assert caught.value.message == (
        f"{store} was written by a newer dealtrail (it holds events tagged '{tag}'); upgrade"
    )


def test_the_report_of_a_damaged_event_names_the_store_and_the_tag(store):
    without_triggers(store, "UPDATE event SET topic = 'deal_teleported' WHERE position = 5")
    with Trail.open(store) as trail, pytest.raises(DealtrailError) as caught:
        trail.pipeline_report("b2b")
    assert os.path.basename(store) in caught.value.message
    assert "deal_teleported" in caught.value.message


def test_a_damaged_definition_is_reported_and_nothing_is_recorded_under_what_is_left_of_it(store):
    without_triggers(store, "UPDATE event SET topic = 'unknown' WHERE topic = 'pipeline_redefined.1'")
    before = rows(store)
    opening = {"action": "open_deal", "pipeline": "b2b"}
    with Trail.open(store) as trail:
        assert code_of(trail.record, opening) == "damaged"
        assert code_of(lambda: list(trail.record_each([opening] * 3))) == "damaged"
    assert rows(store) == before


def test_a_file_with_damaged_pages_is_damaged(store):
    with Trail.open(store) as trail:
        trail.record_all([{"action": "open_deal", "pipeline": "b2b"} for _ in range(300)])
    with open(store, "r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xa5" * 4096 * 20)
    assert outcomes(store, ("follow", "rebuild")) == dict.fromkeys(("follow", "rebuild"), "damaged")


def test_a_file_that_was_cut_off_is_damaged(store):
    with Trail.open(store) as trail:
        trail.record_all([{"action": "open_deal", "pipeline": "b2b"} for _ in range(300)])
    os.truncate(store, os.path.getsize(store) // 3)

    def read():
        with Trail.open(store) as trail:
            list(trail.follow())

    assert code_of(read) == "damaged"


# Locks


def test_recording_while_another_writes_is_busy_and_works_afterwards(store, short_wait):
    with Trail.open(store) as trail, plain(store) as other:
        other.execute("BEGIN IMMEDIATE")
        assert code_of(trail.log_activity, "D", "call") == "busy"
        assert code_of(lambda: list(trail.record_each([{"action": "open_deal", "pipeline": "b2b"}]))) == "busy"
        other.execute("ROLLBACK")
        assert trail.log_activity("D", "call").position == len(rows(store))


def test_reading_goes_on_while_another_writes(store, short_wait):
    with Trail.open(store) as trail, plain(store) as other:
        other.execute("BEGIN IMMEDIATE")
        assert trail.pipeline_report("b2b").position == len(trail.history("D")) + 5
        open_and_close(store)


def test_opening_a_store_that_another_keeps_to_itself_is_busy(store, short_wait):
    with plain(store) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert code_of(Trail.open, store) == "busy"


def test_founding_a_store_in_a_file_that_another_has_locked_is_busy(path, short_wait):
    with plain(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert code_of(Trail.open, path) == "busy"
        other.execute("ROLLBACK")
    open_and_close(path)


def test_a_store_is_opened_and_recorded_to_while_another_process_rebuilds_its_read_model(store, short_wait):
    with Trail.open(store) as trail:
        trail.rebuild()
    with plain(f"{store}.read") as rebuilding:
        rebuilding.execute("BEGIN IMMEDIATE")
        with Trail.open(store) as trail:
            assert trail.log_activity("D", "call").deal == "D"
            assert trail.deal("D").status == "won"


def test_threads_that_found_one_store_together_found_one_log(path):
    opened, start = [], Barrier(6)

    def found():
        start.wait()
        opened.append(Trail.open(path))

    threads = [Thread(target=found) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    opened[0].record(B2B | {"at": None})
    assert {trail.pipelines()[0].pipeline for trail in opened} == {"b2b"}
    for trail in opened:
        trail.close()
    assert len(rows(path, "log")) == 1


# Closing


@pytest.mark.parametrize("use", [*USES.values(), lambda trail: trail.pipelines(),
                                 lambda trail: trail.definitions("b2b"),
                                 lambda trail: list(trail.record_each([B2B]))],
                         ids=[*USES, "pipelines", "definitions", "record_each"])  # fmt: skip
@pytest.mark.parametrize("where", ["a file", "memory"])
def test_a_closed_trail_says_so(store, use, where):
    trail = Trail.open(store if where == "a file" else ":memory:")
    trail.close()
    assert code_of(use, trail) == "closed"


def test_closing_twice_is_closing(store):
    trail = Trail.open(store)
    trail.close()
    trail.close()
    assert code_of(trail.pipelines) == "closed"


@pytest.mark.parametrize("where", ["a file", "memory"])
def test_closing_lets_a_thread_finish_what_it_has_begun(path, where):
    trail = Trail.open(path if where == "a file" else ":memory:")
    trail.record(B2B | {"at": None})
    with trail._log.reading() as reading:
        trail.close()
        assert code_of(trail.pipelines) == "closed"
        assert [entry.stream for entry in reading.following(0, 10)] == ["pipeline:b2b"]
    assert code_of(trail.history, "D") == "closed"


def test_a_step_that_was_begun_before_closing_is_recorded(path):
    trail = Trail.open(path)
    trail.record_all([B2B | {"at": None}], progress=lambda done, of: trail.close())
    assert code_of(trail.pipelines) == "closed"
    assert len(rows(path)) == 1


def test_threads_that_use_a_trail_while_it_is_closed_are_answered_or_told_that_it_is_closed(path):
    for _ in range(10):
        trail, start, outcomes = Trail.open(path), Barrier(5), []

        def use(trail=trail, start=start, outcomes=outcomes):
            start.wait()
            try:
                for _ in range(1_000):
                    trail.pipelines()
            except DealtrailError as trouble:
                outcomes.append(trouble.code)

        threads = [Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        start.wait()
        trail.close()
        for thread in threads:
            thread.join()
        assert outcomes == ["closed"] * 4


def test_a_closed_store_is_one_file_that_can_be_copied(store, tmp_path):
    assert sorted(os.listdir(tmp_path)) == sorted({"sales.db", "sales.db.read"} & set(os.listdir(tmp_path)))
    copy = shutil.copy(store, tmp_path / "copy.db")
    with Trail.open(store) as one, Trail.open(copy) as other:
        assert list(one.follow()) == list(other.follow())
