"""Keys: where the keys of subjects live, apart from the log. A protocol for hosts, and a file for those without one."""

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from typing import Protocol, runtime_checkable

import msgspec

from dealtrail.domain.errors import error
from dealtrail.store import cipher
from dealtrail.store.connections import LOCK_TIMEOUT_SECONDS, file_name, translated

_APPLICATION_ID = 0x6B657973  # "keys": how the file says what it is
_TABLE = "key (log TEXT NOT NULL, subject TEXT NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (log, subject))"
_THOSE = "log = ? AND subject IN (SELECT value FROM json_each(?))"


@runtime_checkable
class Keys(Protocol):
    """The keys of the subjects of any number of logs, 32 bytes each; threads and processes may share them.

    `log` is the id of a log. A subject is a text of at most 255 characters; the empty one is that of the log itself.
    """

    def get(self, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        """The keys of those of some subjects that have one."""
        ...

    def make(self, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        """The keys of some subjects, made where there are none, and durable before this returns."""
        ...

    def destroy(self, log: str, subjects: Collection[str]) -> int:
        """Destroy the keys of some subjects so that nobody finds them again; how many there were."""
        ...


class KeyFile:
    """Keys in a SQLite file of their own, each wrapped by a master key of 32 bytes that the host keeps elsewhere.

    Founded where there is none, unless `create` is false, readable by its owner alone. What is destroyed is written
    over. Errors: invalid_field (the master key), not_installed, wrong_keys (no file, or another kind of file), busy.
    """

    def __init__(self, path: str | os.PathLike[str], master_key: bytes, *, create: bool = True) -> None:
        if not isinstance(master_key, bytes) or len(master_key) != cipher.KEY_BYTES:
            raise error("invalid_field", "master_key", why=f"give {cipher.KEY_BYTES} random bytes")
        cipher.must_be_there()
        self.path = os.fspath(path)
        self._master_key = master_key
        self._found(create)

    def __repr__(self) -> str:
        return f"KeyFile({self.path!r})"

    def _found(self, create: bool) -> None:
        if create:
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as trouble:
                raise error("wrong_keys", path=self.path, why=os.strerror(trouble.errno or 0)) from trouble
        # Looked at before anything is done to it: even how a connection keeps its journal would change another file.
        with self._raw() as c:
            try:
                kind, tables = (c.execute(f"PRAGMA {n}").fetchone()[0] for n in ("application_id", "schema_version"))
            except sqlite3.OperationalError:  # busy, or the disk
                raise
            except sqlite3.DatabaseError:
                kind, tables = 0, 1
        if tables and kind != _APPLICATION_ID:
            raise error("wrong_keys", path=self.path, why="it is no file of keys")
        if tables:
            return
        with self._connection() as c:
            c.execute("BEGIN IMMEDIATE")
            c.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            c.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} WITHOUT ROWID")
            c.execute("COMMIT")

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        """A connection for one use: keys are asked for seldom, and none that is held open outlives a fork."""
        if not os.path.isfile(self.path):
            raise error("wrong_keys", path=self.path, why="there is no such file")
        name = file_name(self.path, create=False)
        with (
            translated(self.path),
            closing(sqlite3.connect(name, LOCK_TIMEOUT_SECONDS, isolation_level=None, uri=True)) as c,
        ):
            yield c

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that leaves nothing of what it destroys, also not in a write-ahead log."""
        with self._raw() as c:
            for pragma in ("journal_mode=DELETE", "synchronous=EXTRA", "secure_delete=ON", "trusted_schema=OFF"):
                c.execute(f"PRAGMA {pragma}")
            yield c

    def get(self, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        """The keys of those of some subjects that have one. Errors: wrong_keys, where the master key is another."""
        with self._raw() as c:
            return self._held(c, log, subjects)

    def make(self, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        """The keys of some subjects, made where there are none, and durable before this returns."""
        with self._connection() as c:
            c.execute("BEGIN IMMEDIATE")
            c.executemany(
                "INSERT INTO key (log, subject, wrapped) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(log, subject, self._wrapped(log, subject, cipher.new_key())) for subject in subjects],
            )
            keys = self._held(c, log, subjects)
            c.execute("COMMIT")
        return keys

    def destroy(self, log: str, subjects: Collection[str]) -> int:
        """Destroy the keys of some subjects; how many there were."""
        with self._connection() as c:
            if c.execute(f"SELECT 1 FROM key WHERE {_THOSE} LIMIT 1", (log, _json(subjects))).fetchone() is None:
                return 0
            destroyed = c.execute(f"DELETE FROM key WHERE {_THOSE}", (log, _json(subjects))).rowcount
            c.execute("VACUUM")
        return destroyed

    def _held(self, c: sqlite3.Connection, log: str, subjects: Collection[str]) -> dict[str, bytes]:
        rows = c.execute(f"SELECT subject, wrapped FROM key WHERE {_THOSE}", (log, _json(subjects))).fetchall()
        return {subject: self._unwrapped(log, subject, wrapped) for subject, wrapped in rows}

    def _wrapped(self, log: str, subject: str, key: bytes) -> bytes:
        return cipher.encrypt(self._master_key, key, _json([log, subject]).encode())

    def _unwrapped(self, log: str, subject: str, wrapped: bytes) -> bytes:
        key = cipher.decrypt(self._master_key, wrapped, _json([log, subject]).encode())
        if key is None:
            raise error("wrong_keys", path=self.path, why="its keys cannot be read with this master key")
        return key


def _json(texts: Collection[str]) -> str:
    return msgspec.json.encode(list(texts)).decode()
