"""The peers of a rebuild: the very rows of a finished read model written again, and a projection the library's way."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventsourcing.persistence import Tracking, TrackingRecorder
from eventsourcing.projection import Projection
from eventsourcing.sqlite import SQLiteCursor, SQLiteDatastore, SQLiteTrackingRecorder

from benchmarks.harness import timer
from benchmarks.stores import Clock
from dealtrail.store import mapper
from dealtrail.store.log import Log

# As our read model has them while it is rebuilt.
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL")
_CHUNK = 50_000


def model_file(store: Path) -> Path:
    """The finished read model of a store: of the SQLite files beside the log, the largest of the newest generation."""
    found = [
        file
        for file in store.parent.glob(store.name + "?*")
        if not file.name.endswith(("-wal", "-shm")) and file.stat().st_size > 0
    ]
    return max(found, key=lambda file: (file.stat().st_size > 20_000, file.stat().st_mtime_ns))


def rewrite(store: Path, target: Path) -> float:
    """Scan and decode the log, then write the rows and indexes of its read model; the seconds that this took.

    Every table of the finished file is read in chunks outside the timed region: each comes to `executemany` as a
    ready list. Indexes are made after the rows. All is one transaction, followed by a checkpoint.
    """
    seconds = 0.0
    begun = timer()
    with sqlite3.connect(store) as log:
        for topic, state in log.execute("SELECT topic, state FROM event ORDER BY position"):
            mapper.decode(topic, state)
    seconds += timer() - begun
    done = sqlite3.connect(model_file(store))
    made = sqlite3.connect(target, isolation_level=None)
    for pragma in PRAGMAS:
        made.execute(f"PRAGMA {pragma}")
    made.execute("BEGIN")
    for name, sql in _schema(done, "table"):
        made.execute(sql)
        for insert, rows in _ready(done, name):
            begun = timer()
            made.executemany(insert, rows)
            seconds += timer() - begun
    begun = timer()
    for _, sql in _schema(done, "index"):
        made.execute(sql)
    made.execute("COMMIT")
    made.execute("PRAGMA synchronous=FULL")
    made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    seconds += timer() - begun
    for name, _ in _schema(done, "table"):
        count = f'SELECT count(*) FROM "{name}"'
        assert made.execute(count).fetchone() == done.execute(count).fetchone(), name
    made.close()
    done.close()
    return seconds


def _schema(c: sqlite3.Connection, kind: str) -> list[tuple[str, str]]:
    return c.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = ? AND sql IS NOT NULL AND name NOT LIKE 'sqlite_%'", (kind,)
    ).fetchall()


def _ready(c: sqlite3.Connection, table: str) -> Iterator[tuple[str, list[Any]]]:
    """A table's rows in lists, each with its statement; generated columns are left to SQLite."""
    columns = [row[1] for row in c.execute(f'PRAGMA table_xinfo("{table}")') if row[6] == 0]
    named = ", ".join(f'"{column}"' for column in columns)
    insert = f'INSERT INTO "{table}" ({named}) VALUES ({", ".join("?" * len(columns))})'
    cursor = c.execute(f'SELECT {named} FROM "{table}"')
    while rows := cursor.fetchmany(_CHUNK):
        yield insert, rows


class _View(SQLiteTrackingRecorder):
    """One row per deal, written in the transaction that moves the tracking."""

    def construct_create_table_statements(self) -> list[str]:
        """The tracking table and that of the view."""
        view = "CREATE TABLE IF NOT EXISTS standing (deal TEXT PRIMARY KEY, version INTEGER, event BLOB) WITHOUT ROWID"
        return [*super().construct_create_table_statements(), view]

    def stand(self, deal: str, version: int, event: bytes, tracking: Tracking) -> None:
        """Write where a deal stands, once."""
        c: SQLiteCursor
        with self.datastore.transaction(commit=True) as c:
            self._insert_tracking(c, tracking)
            c.execute(
                "INSERT INTO standing VALUES (?, ?, ?)"
                " ON CONFLICT (deal) DO UPDATE SET version = excluded.version, event = excluded.event",
                (deal, version, event),
            )


class _Standing(Projection[TrackingRecorder]):
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Take in one event, in a transaction of its own."""
        notification = domain_event[0]
        self.view.stand(  # type: ignore[attr-defined]
            str(notification.originator_id), notification.originator_version, notification.state, tracking
        )


def project(store: Path, target: Path, count: int, *, relaxed: bool) -> float:
    """Project the first events of a log one by one, as the library does it; the seconds that this took.

    The library syncs every commit, as it comes; `relaxed` gives it the pragmas of our read model.
    """
    log = Log(str(store), Clock())
    datastore = SQLiteDatastore(str(target))
    if relaxed:
        with datastore.get_connection(commit=True) as connection:
            for pragma in PRAGMAS:
                connection._sqlite_conn.execute(f"PRAGMA {pragma}")
    view = _View(datastore)
    view.create_table()
    projection = _Standing(view)
    done = 0
    begun = timer()
    while done < count:
        for notification in log.recorder.select_notifications(done + 1, 1_000, stop=count):
            event = mapper.decode(notification.topic, notification.state)
            projection.process_event((notification, event), Tracking("log", notification.id))
            done += 1
    seconds = timer() - begun
    assert view.max_tracking_id("log") == count
    datastore.close()
    log.close()
    return seconds
