"""Connections to SQLite: the library's pool and transactions, with durable pragmas and a fair wait for the lock."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import uniform
from time import monotonic, sleep
from uuid import uuid4

from eventsourcing.persistence import ConnectionPoolClosedError, ConnectionUnavailableError, PersistenceError
from eventsourcing.sqlite import (
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
    SQLiteTransaction,
)

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.store import forks, telemetry

LOCK_TIMEOUT_SECONDS = 60
_COMPILED_STATEMENTS = 128
# Between two attempts at the write lock. SQLite's own handler waits longer the longer it has waited, so that whoever
# came last is served first; among equals that ask equally often, nobody's turn is put off.
_PAUSE_SECONDS = (0.0005, 0.0025)


class _Transaction(SQLiteTransaction):
    """A writing transaction takes the write lock when it begins: what it reads stays true until it commits."""

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        if self.commit:
            _begin_immediate(cursor)
        else:
            cursor.execute("BEGIN")
        return cursor


def _begin_immediate(cursor: SQLiteCursor) -> None:
    deadline = monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as trouble:
            if not trouble.sqlite_errorname.startswith("SQLITE_BUSY") or monotonic() >= deadline:
                raise
        sleep(uniform(*_PAUSE_SECONDS))  # noqa: S311  no secret


class _Connection(SQLiteConnection):
    def __init__(self, raw: sqlite3.Connection, max_age: float | None) -> None:
        super().__init__(raw, max_age)
        self._pid = os.getpid()

    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        with _Transaction(self, commit=commit) as cursor, cursor:
            yield cursor

    def commit(self) -> None:
        """Commit, but in the process that began the transaction alone."""
        if self._pid != os.getpid():
            raise forks.forked()
        super().commit()

    def rollback(self) -> None:
        """Roll back, but in the process that began the transaction alone: its memory of locks is shared by none."""
        if self._pid == os.getpid():
            super().rollback()


class _Pool(SQLiteConnectionPool):
    _shut = False

    def __init__(self, db_name: str, *, durable: bool, writing: bool) -> None:
        self._durable = durable
        self._writing = writing
        self.pid = os.getpid()
        super().__init__(
            db_name=db_name,
            lock_timeout=LOCK_TIMEOUT_SECONDS,
            pool_timeout=LOCK_TIMEOUT_SECONDS,
            # Threads beyond this wait for a connection; sixty-four open files are plenty for one store.
            pool_size=16,
            max_overflow=48,
        )
        forks.watch(self)

    def _create_connection(self) -> SQLiteConnection:
        forks.refuse_what_was_inherited(self)
        # The library would have each connection keep one compiled statement, so that ours were compiled at every use.
        raw = sqlite3.connect(
            self.db_name,
            uri=True,
            check_same_thread=False,
            isolation_level=None,
            cached_statements=_COMPILED_STATEMENTS,
            timeout=LOCK_TIMEOUT_SECONDS,
        )
        if not self.is_sqlite_memory_mode and not self.is_journal_mode_wal:
            if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                raw.execute("PRAGMA journal_mode=WAL")
            self.is_journal_mode_wal = True
        raw.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
        raw.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE fires the triggers that refuse DELETE
        raw.execute("PRAGMA trusted_schema=OFF")
        if self._writing:
            raw.execute("PRAGMA busy_timeout=0")  # `_begin_immediate` does the waiting
        return _Connection(raw, max_age=self.max_age)

    # The library closes connections under the hands of the threads that use them, which can end in a segmentation
    # fault. Here what is in use when the pool is shut is closed by whoever puts it back, its transaction done.

    def get_connection(self, timeout: float | None = None, *, is_writer: bool | None = None) -> SQLiteConnection:
        """A connection of one's own until it is put back."""
        if self._shut:
            raise ConnectionPoolClosedError
        connection = super().get_connection(timeout, is_writer=is_writer)
        if self._shut:  # while this thread waited for its turn
            self.put_connection(connection)
            raise ConnectionPoolClosedError
        return connection

    def put_connection(self, conn: SQLiteConnection) -> None:
        """Take a connection back."""
        with self._put_condition:
            if self._shut:
                conn.close()
            super().put_connection(conn)

    def close(self) -> None:
        """Give no connection any more, and close those that nobody uses.

        One that a forked process inherited is left alone: SQLite forbids to close it.
        """
        if self.pid != os.getpid():
            return
        with self._put_condition:
            self._shut = True
            while self._pool:
                self._pool.popleft().close()


class Datastore(SQLiteDatastore):
    """A SQLite file (or a database in memory) shared by threads, each transaction on a connection of its own.

    `durable` syncs every commit to the disk; without it a power cut may lose the newest commits, but no more.
    """

    def __init__(self, db_name: str, *, durable: bool) -> None:
        # The parent would make a pool that knows nothing of ours; it sets nothing else but these two.
        self.single_row_tracking = True
        self.originator_id_type = "text"
        self._readers = _Pool(db_name, durable=durable, writing=False)
        self.pool = self._readers  # as the parent knows it
        # The pool hands out its connections in the order in which they were asked for: readers would wait behind
        # a writer that waits for the lock. A database in memory lets nobody read while it is written to anyway.
        in_memory = self._readers.is_sqlite_memory_mode
        self._writers = self._readers if in_memory else _Pool(db_name, durable=durable, writing=True)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Iterator[SQLiteConnection]:
        """A connection to write with, one at a time, or one to read with. Errors: forked."""
        pool = self._writers if commit else self._readers
        if pool.pid != os.getpid():
            raise forks.forked()
        connection = pool.get_connection(is_writer=commit)
        try:
            yield connection
        finally:
            pool.put_connection(connection)

    @contextmanager
    def lock_if_free(self) -> Iterator[bool]:
        """Hold the write lock if nobody has it, and say so; never wait for it."""
        if self._writers is self._readers:  # a database in memory, which nobody writes to while another reads
            yield True
            return
        with ExitStack() as held:
            try:
                connection = self._writers.get_connection(timeout=0, is_writer=True)
                held.callback(self._writers.put_connection, connection)
                connection._sqlite_conn.execute("BEGIN IMMEDIATE")
                held.callback(connection.rollback)
                free = True
            except (ConnectionUnavailableError, sqlite3.OperationalError):
                free = False
            yield free

    def create_no_more(self) -> None:
        """Open the file from here on only where it is: one that vanishes must not come back empty."""
        for pool in (self._readers, self._writers):
            pool.db_name = pool.db_name.replace("?mode=rwc", "?mode=rw")

    def close(self) -> None:
        """Close every connection."""
        self._writers.close()
        self._readers.close()


def memory_name() -> str:
    """The name of a new database in memory that several connections of this process share."""
    return f"file:dealtrail-{uuid4().hex}?mode=memory&cache=shared"


def file_name(path: str, *, create: bool) -> str:
    """The name of a file as SQLite wants it, so that no character of the path is taken for a parameter."""
    from pathlib import Path

    return f"{Path(os.path.realpath(path)).as_uri()}?mode={'rwc' if create else 'rw'}"


def inode(path: str) -> tuple[int, int] | None:
    """Which file a path leads to at present; None for none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Errors of SQLite and of the library as ours, so that no other reaches the caller."""
    try:
        yield
    except DealtrailError as trouble:
        telemetry.trouble(trouble)
        raise
    except ConnectionPoolClosedError as trouble:
        raise error("closed") from trouble
    except (sqlite3.Error, PersistenceError) as trouble:
        translation = _translated(path, trouble)
        telemetry.trouble(translation)
        raise translation from trouble


_CODES = {
    "BUSY": "busy",
    "LOCKED": "busy",
    "PROTOCOL": "busy",  # so many came and went at once that SQLite gave up counting them
    "FULL": "full",
    "READONLY": "read_only",
    "PERM": "read_only",
    "IOERR": "disk_error",
    "IOERR_SHMSIZE": "full",  # there was no room for the index of the write-ahead log
}


def _translated(path: str, trouble: Exception) -> DealtrailError:
    cause = trouble if isinstance(trouble, sqlite3.Error) else trouble.__cause__
    code = getattr(cause, "sqlite_errorname", "") or ""
    name = code.removeprefix("SQLITE_")
    kind = name if name in _CODES else name.partition("_")[0]
    if isinstance(trouble, ConnectionUnavailableError):
        return error("busy", path=path)
    if kind in _CODES:
        return error(_CODES[kind], path=path, why=str(trouble), sqlite=code)
    if kind == "NOTADB":
        return error("not_a_store", path=path, why="the file is no SQLite database")
    if kind == "CANTOPEN":
        return _cannot_open(path)
    return error("damaged", path=path, why=f"SQLite answered {code or type(trouble).__name__}: {trouble}")


def _cannot_open(path: str) -> DealtrailError:
    """What is in the way: SQLite says of a folder without rights, of too many open files and of no file the same."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        return error("not_a_store", path=path, why="there is no such folder")
    if not os.access(folder, os.W_OK | os.X_OK) or (os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)):
        return error("read_only", path=path)
    return error("disk_error", path=path, why="a file of the store cannot be opened")
