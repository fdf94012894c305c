"""The file of keys: what it holds can be read with its master key alone, and is where it says before it says so."""

import os
import sqlite3
import sys
from contextlib import closing
from threading import Barrier, Thread

import pytest
from given import code_of

from dealtrail import KeyFile, Trail

MASTER_KEY, ANOTHER = bytes(32), b"\1" * 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sales.keys"


@pytest.fixture
def keys(path):
    return KeyFile(path, MASTER_KEY)


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT log, subject, wrapped FROM key ORDER BY 1, 2").fetchall()


def test_a_key_is_made_once_and_found_again(keys, path):
    made = keys.make("L", ["a", "b"])
    assert {len(key) for key in made.values()} == {32}
    assert made["a"] != made["b"]
    assert keys.make("L", ["b", "a"]) == made
    assert KeyFile(path, MASTER_KEY).get("L", ["a", "b", "c"]) == made
    assert keys.get("L", ["c"]) == {}
    assert keys.get("another log", ["a"]) == {}
    assert keys.make("another log", ["a"])["a"] != made["a"]


def test_a_key_is_destroyed_alone_and_once(keys):
    made = keys.make("L", ["a", "b"]) | {"other": keys.make("M", ["a"])["a"]}
    assert keys.destroy("L", ["a", "never there"]) == 1
    assert keys.destroy("L", ["a"]) == 0
    assert keys.get("L", ["a", "b"]) == {"b": made["b"]}
    assert keys.get("M", ["a"]) == {"a": made["other"]}
    assert keys.make("L", ["a"])["a"] != made["a"]


def test_no_key_stands_in_the_file_as_it_is(keys, path):
    made = keys.make("L", ["a", "b"])
    held = path.read_bytes()
    assert [subject for subject, key in made.items() if key in held] == []
    assert MASTER_KEY.hex() not in repr(keys)


def test_a_file_gets_smaller_when_keys_are_destroyed(keys, path):
    keys.make("L", [f"s{n}" for n in range(500)])
    before = path.stat().st_size
    assert keys.destroy("L", [f"s{n}" for n in range(499)]) == 499
    assert path.stat().st_size < before / 5


def test_what_is_destroyed_is_written_over_also_where_the_file_could_not_be_made_smaller(keys, path, monkeypatch):
    class NoRoom(sqlite3.Connection):
        def execute(self, statement, *more):
            if statement == "VACUUM":
                raise sqlite3.OperationalError("no room")
            return super().execute(statement, *more)

    connect = sqlite3.connect
    keys.make("L", ["a", "b"])
    ((_, _, wrapped), (_, _, kept)) = rows(path)
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=NoRoom, **named))
    assert code_of(keys.destroy, "L", ["a"]) == "damaged"
    assert wrapped not in path.read_bytes()
    assert kept in path.read_bytes()
    assert keys.destroy("L", ["a"]) == 0


def test_another_master_key_reads_nothing_and_changes_nothing(keys, path):
    made = keys.make("L", ["a"])
    other = KeyFile(path, ANOTHER)
    assert code_of(other.get, "L", ["a"]) == "wrong_keys"
    assert code_of(other.make, "L", ["a"]) == "wrong_keys"
    assert keys.get("L", ["a"]) == made


def test_a_store_is_not_opened_with_another_master_key(path, tmp_path):
    with Trail.open(tmp_path / "sales.db", keys=KeyFile(path, MASTER_KEY)) as trail:
        end = trail.status().position
    assert code_of(Trail.open, tmp_path / "sales.db", keys=KeyFile(path, ANOTHER)) == "wrong_keys"
    with Trail.open(tmp_path / "sales.db", keys=KeyFile(path, MASTER_KEY)) as trail:
        assert trail.status().position == end


def test_a_wrapped_key_is_bound_to_its_subject_and_its_log(keys, path):
    keys.make("L", ["a", "b"])
    keys.make("M", ["a"])
    with closing(sqlite3.connect(path)) as db, db:
        wrapped = {(log, subject): wrapped for log, subject, wrapped in rows(path)}
        db.execute("UPDATE key SET wrapped = ? WHERE subject = 'b'", (wrapped["L", "a"],))
        db.execute("UPDATE key SET wrapped = ? WHERE log = 'M'", (wrapped["L", "a"],))
    assert code_of(keys.get, "L", ["b"]) == "wrong_keys"
    assert code_of(keys.get, "M", ["a"]) == "wrong_keys"


@pytest.mark.parametrize("master_key", [b"", bytes(31), bytes(33), "0" * 32, None])
def test_a_master_key_is_32_bytes(path, master_key):
    assert code_of(KeyFile, path, master_key) == "invalid_field"
    assert not path.exists()


def test_a_file_is_founded_for_its_owner_alone_and_only_where_it_may_be(path, tmp_path):
    assert code_of(KeyFile, path, MASTER_KEY, create=False) == "wrong_keys"
    assert not path.exists()
    KeyFile(path, MASTER_KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    KeyFile(path, MASTER_KEY, create=False)
    assert code_of(KeyFile, tmp_path / "no folder" / "keys", MASTER_KEY) == "wrong_keys"
    assert code_of(KeyFile, tmp_path, MASTER_KEY) == "wrong_keys"


def test_a_file_of_something_else_is_refused_and_left_as_it_is(path, tmp_path):
    path.write_text("no database at all, but long enough to be read as the head of one" * 20)
    store = tmp_path / "sales.db"
    Trail.open(store).close()
    for other in (path, store):
        held = other.read_bytes()
        assert code_of(KeyFile, other, MASTER_KEY) == "wrong_keys"
        assert other.read_bytes() == held


def test_a_file_that_vanished_is_not_founded_again(keys, path):
    os.remove(path)
    assert code_of(keys.make, "L", ["a"]) == "wrong_keys"
    assert not path.exists()


def test_threads_that_make_the_same_keys_get_the_same(path):
    subjects, made, barrier = [f"s{n}" for n in range(20)], [], Barrier(4)

    def make():
        barrier.wait()
        made.append(KeyFile(path, MASTER_KEY).make("L", subjects))

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert [one for one in made if one != made[0]] == []
    assert len(rows(path)) == 20


def test_without_the_package_keys_are_refused_and_nothing_is_founded(path, tmp_path, monkeypatch):
    keys = KeyFile(path, MASTER_KEY)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    assert code_of(KeyFile, tmp_path / "new.keys", MASTER_KEY) == "not_installed"
    assert not (tmp_path / "new.keys").exists()
    with Trail.open(tmp_path / "sales.db") as trail:
        assert code_of(trail.adopt_keys, keys) == "not_installed"
        assert trail.status().position == 0
