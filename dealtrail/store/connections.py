"""Connections to SQLite: the library's pool and transactions, with durable pragmas and a write lock taken at once."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
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

LOCK_TIMEOUT_SECONDS = 60


class _Transaction(SQLiteTransaction):
    """A writing transaction takes the write lock when it begins: what it reads stays true until it commits."""

    def __enter__(self) -> SQLiteCursor:
        cursor = self.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE" if self.commit else "BEGIN")
        return cursor


class _Connection(SQLiteConnection):
    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        with _Transaction(self, commit=commit) as cursor, cursor:
            yield cursor


class _Pool(SQLiteConnectionPool):
    _shut = False

    def __init__(self, db_name: str, *, durable: bool) -> None:
        self._durable = durable
        super().__init__(
            db_name=db_name,
            lock_timeout=LOCK_TIMEOUT_SECONDS,
            pool_timeout=LOCK_TIMEOUT_SECONDS,
            # Threads beyond this wait for a connection; sixty-four open files are plenty for one store.
            pool_size=16,
            max_overflow=48,
        )

    def _create_connection(self) -> SQLiteConnection:
        raw = super()._create_connection()._sqlite_conn
        raw.row_factory = None
        raw.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
        raw.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE fires the triggers that refuse DELETE
        raw.execute("PRAGMA trusted_schema=OFF")
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
        """Give no connection any more, and close those that nobody uses."""
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
        self.pool = _Pool(db_name, durable=durable)


def memory_name() -> str:
    """The name of a new database in memory that several connections of this process share."""
    return f"file:dealtrail-{uuid4().hex}?mode=memory&cache=shared"


def file_name(path: str, *, create: bool) -> str:
    """The name of a file as SQLite wants it, so that no character of the path is taken for a parameter."""
    from pathlib import Path

    return f"{Path(path).absolute().as_uri()}?mode={'rwc' if create else 'rw'}"


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Errors of SQLite and of the library as ours, so that no other reaches the caller."""
    try:
        yield
    except DealtrailError:
        raise
    except ConnectionPoolClosedError as trouble:
        raise error("closed") from trouble
    except (sqlite3.Error, PersistenceError) as trouble:
        raise _translated(path, trouble) from trouble


_CODES = {"BUSY": "busy", "LOCKED": "busy", "FULL": "full", "READONLY": "read_only", "IOERR": "disk_error"}


def _translated(path: str, trouble: Exception) -> DealtrailError:
    cause = trouble if isinstance(trouble, sqlite3.Error) else trouble.__cause__
    code = getattr(cause, "sqlite_errorname", "") or ""
    kind = code.removeprefix("SQLITE_").partition("_")[0]
    if isinstance(trouble, ConnectionUnavailableError):
        return error("busy", path=path)
    if kind in _CODES:
        return error(_CODES[kind], path=path, why=str(trouble))
    if kind == "NOTADB":
        return error("not_a_store", path=path, why="the file is no SQLite database")
    if kind == "CANTOPEN":
        return error("not_a_store", path=path, why="the file cannot be opened")
    return error("damaged", path=path, why=f"SQLite answered {code or type(trouble).__name__}: {trouble}")
