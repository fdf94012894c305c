"""The log's table: the library's recorder over rows with positions without gaps, times, metadata and a hash chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor

FORMAT = 1
APPLICATION_ID = 0x6465616C  # "deal": how the file says what it is
# How the id of a log begins whose first times were brought from elsewhere. The chain takes in the id, so that the mark
# cannot be taken away. Each event with such a time has a `clock_behind_us` below zero: so long before it was brought.
ELSEWHERE = "elsewhere-"

# Metadata is nullable so that the recorder stores what the library alone knows of; the log always fills it.
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS event (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        originator_id TEXT NOT NULL,
        originator_version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        state BLOB NOT NULL,
        occurred_at INTEGER,
        recorded_at INTEGER,
        clock_behind_us INTEGER,
        actor TEXT,
        action_id TEXT,
        request BLOB,
        amends INTEGER,
        personal BLOB,
        chain BLOB NOT NULL,
        UNIQUE (originator_id, originator_version)
    )""",
    "CREATE UNIQUE INDEX IF NOT EXISTS event_action ON event (originator_id, action_id) WHERE action_id IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS log (id TEXT NOT NULL PRIMARY KEY, format INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TRIGGER IF NOT EXISTS event_never_changes BEFORE UPDATE ON event
        BEGIN SELECT RAISE(ABORT, 'an event is never changed'); END""",
    """CREATE TRIGGER IF NOT EXISTS event_never_goes BEFORE DELETE ON event
        BEGIN SELECT RAISE(ABORT, 'an event is never deleted'); END""",
    # Also what INSERT OR REPLACE would have to pass: nothing is put in but the next position of a new version.
    """CREATE TRIGGER IF NOT EXISTS event_comes_last BEFORE INSERT ON event
        WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM event)
          OR EXISTS (SELECT 1 FROM event
                     WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version)
          OR EXISTS (SELECT 1 FROM event WHERE originator_id = NEW.originator_id AND action_id = NEW.action_id)
        BEGIN SELECT RAISE(ABORT, 'an event takes the next position and a new version'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_never_changes BEFORE UPDATE ON log
        BEGIN SELECT RAISE(ABORT, 'the identity of a log is never changed'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_never_goes BEFORE DELETE ON log
        BEGIN SELECT RAISE(ABORT, 'the identity of a log is never deleted'); END""",
    """CREATE TRIGGER IF NOT EXISTS log_is_one BEFORE INSERT ON log WHEN EXISTS (SELECT 1 FROM log)
        BEGIN SELECT RAISE(ABORT, 'a file holds one log'); END""",
)

# Every column of an event as it is stored, the chain last.
COLUMNS = (
    "position, originator_id, originator_version, topic, state, occurred_at, recorded_at, clock_behind_us, "
    "actor, action_id, request, amends, personal, chain"
)
_INSERT = f"INSERT INTO event ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


@dataclass(frozen=True)
class LogEvent(StoredEvent):
    """A stored event with what our log keeps beside it."""

    occurred_at: int | None = None
    recorded_at: int | None = None
    clock_behind_us: int | None = None
    actor: str | None = None
    action_id: str | None = None
    request: bytes | None = None
    amends: int | None = None
    personal: bytes | None = None


@dataclass(frozen=True)
class Head:
    """The end of the log: its last position, the chain there, and when that was recorded."""

    position: int
    chain: bytes
    recorded_at: int | None


def link(chain: bytes, log: str, position: int, row: Sequence[Any]) -> bytes:
    """The next value of the chain: SHA-256 over the one before, the log's id, the position and every stored column.

    Each part is hashed as it is stored, with its type and its length in front, so that no two rows read alike.
    """
    parts = [chain]
    for value in (log, position, *row):
        kind = type(value)
        if value is None:
            parts.append(b"n0:")
        elif kind is int:
            data = b"%d" % value
            parts += (b"i%d:" % len(data), data)
        elif kind is str:
            data = value.encode()
            parts += (b"t%d:" % len(data), data)
        elif kind is bytes:
            parts += (b"b%d:" % len(value), value)
        else:
            raise TypeError(kind.__name__)
    return sha256(b"".join(parts)).digest()


class LogRecorder(SQLiteApplicationRecorder):
    """The library's application recorder over our table. Whoever inserts holds the write lock."""

    log_id = ""

    def construct_create_table_statements(self) -> list[str]:
        """The table, its indexes and the triggers that refuse any change of the past."""
        return list(SCHEMA)

    def head(self, c: SQLiteCursor) -> Head:
        """The end of the log as this transaction sees it."""
        c.execute("SELECT position, chain, recorded_at FROM event ORDER BY position DESC LIMIT 1")
        row = c.fetchone()
        return Head(*row) if row else Head(0, bytes(32), None)

    def _insert_events(self, c: SQLiteCursor, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        head = self.head(c)
        return list(range(head.position + 1, self.append(c, head, stored_events).position + 1))

    def append(self, c: SQLiteCursor, head: Head, stored_events: Sequence[StoredEvent]) -> Head:
        """Put events behind the end of the log, which is `head`; where it ends then."""
        chain, recorded_at = head.chain, head.recorded_at
        rows = []
        for position, event in enumerate(stored_events, head.position + 1):
            log_event = event if isinstance(event, LogEvent) else LogEvent(**vars(event))
            row = (
                str(log_event.originator_id),
                log_event.originator_version,
                log_event.topic,
                log_event.state,
                log_event.occurred_at,
                log_event.recorded_at,
                log_event.clock_behind_us,
                log_event.actor,
                log_event.action_id,
                log_event.request,
                log_event.amends,
                log_event.personal,
            )
            chain = link(chain, self.log_id, position, row)
            rows.append((position, *row, chain))
            recorded_at = log_event.recorded_at
        c.executemany(_INSERT, rows)
        return Head(head.position + len(rows), chain, recorded_at)

    def put_back(self, c: SQLiteCursor, rows: Sequence[Sequence[object]]) -> None:
        """Put in rows of all columns as they were stored before: whoever brings them has followed their chain."""
        c.executemany(_INSERT, rows)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The stored events of one stream."""
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                "SELECT originator_id, originator_version, topic, state FROM event WHERE originator_id = ?"
                " AND originator_version > ? AND originator_version <= ?"
                f" ORDER BY originator_version {'DESC' if desc else 'ASC'} LIMIT ?",
                (
                    str(originator_id),
                    -(2**62) if gt is None else gt,
                    2**62 if lte is None else lte,
                    -1 if limit is None else limit,
                ),
            )
            return [StoredEvent(self.convert_originator_id(row[0]), *row[1:]) for row in c.fetchall()]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The stored events of the whole log, in its order."""
        first = -1 if start is None else start - inclusive_of_start
        chosen = f"AND topic IN ({','.join('?' * len(topics))})" if topics else ""
        with self.datastore.transaction(commit=False) as c:
            c.execute(
                "SELECT position, originator_id, originator_version, topic, state FROM event"
                f" WHERE position > ? AND position <= ? {chosen} ORDER BY position LIMIT ?",
                (first, 2**62 if stop is None else stop, *topics, limit),
            )
            return [
                Notification(self.convert_originator_id(row[1]), row[2], row[3], row[4], row[0]) for row in c.fetchall()
            ]

    def _max_notification_id(self, c: SQLiteCursor) -> int:
        c.execute("SELECT max(position) FROM event")
        highest: int = c.fetchone()[0]
        return highest
