"""Reading the log, as one transaction sees it, with SQL of its own."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.errors import error
from dealtrail.domain.events import Entry, Personal
from dealtrail.domain.times import Instant
from dealtrail.store import mapper
from dealtrail.store.recorder import COLUMNS, ELSEWHERE, Head, LogRecorder

_ENTRY = (
    "originator_id, originator_version, position, recorded_at, occurred_at, topic, state, actor, action_id, "
    "request, amends, personal, clock_behind_us"
)
# The stream of what concerns the keys of the log as a whole.
KEYS_STREAM = "log:keys"


class Reading:
    """The log as one transaction sees it."""

    def __init__(self, c: SQLiteCursor, recorder: LogRecorder, path: str) -> None:
        self._c = c
        self.recorder = recorder
        self._path = path
        self._forgotten: dict[str, bool] = {}
        self._sealing: bool | None = None

    @property
    def path(self) -> str:
        """Where the log is."""
        return self._path

    @property
    def cursor(self) -> SQLiteCursor:
        """The cursor of the transaction."""
        return self._c

    def head(self) -> Head:
        """The end of the log."""
        return self.recorder.head(self._c)

    def position_at(self, known_at: Instant) -> int:
        """The last position recorded by a moment: found by halving, since recorded_at only grows."""
        return self._last("recorded_at", lambda recorded_at: recorded_at <= known_at)

    def brought(self) -> int:
        """The last position whose recorded_at was brought from elsewhere, 0 for none: they come first in the log."""
        if not self.recorder.log_id.startswith(ELSEWHERE):
            return 0
        return self._last("clock_behind_us", lambda behind: behind < 0)

    def _last(self, column: str, holds: Callable[[Any], bool]) -> int:
        """The last position at which something holds that holds up to there and not beyond."""
        low, high = 0, self.head().position
        while low < high:
            middle = (low + high + 1) // 2
            self._c.execute(f"SELECT {column} FROM event WHERE position = ?", (middle,))
            if holds(self._c.fetchone()[0]):
                low = middle
            else:
                high = middle - 1
        return low

    def chain_at(self, position: int) -> bytes | None:
        """The chain at a position; zeros before the first, None beyond the last."""
        if position == 0:
            return bytes(32)
        self._c.execute("SELECT chain FROM event WHERE position = ?", (position,))
        row = self._c.fetchone()
        return row[0] if row else None

    def versions_at(self, streams: list[str], position: int) -> dict[str, int]:
        """How many events of each stream had been recorded at a position."""
        self._c.execute(
            "SELECT originator_id, count(*) FROM json_each(?) JOIN event ON originator_id = value"
            " WHERE event.position <= ? GROUP BY originator_id",
            (msgspec.json.encode(streams).decode(), position),
        )
        return dict(self._c.fetchall())

    def is_forgotten(self, subject: str) -> bool:
        """Whether somebody decided that a subject is forgotten."""
        if subject not in self._forgotten:
            self._forgotten[subject] = self.has(f"subject:{subject}")
        return self._forgotten[subject]

    @property
    def is_sealing(self) -> bool:
        """Whether the log takes no personal text in clear any more."""
        if self._sealing is None:
            self._sealing = self.has(KEYS_STREAM)
        return self._sealing

    def has(self, stream: str) -> bool:
        """Whether a stream holds any event."""
        self._c.execute("SELECT 1 FROM event WHERE originator_id = ? LIMIT 1", (stream,))
        return self._c.fetchone() is not None

    def entries(self, stream: str, upto: int) -> list[Entry]:
        """The entries of a stream up to a position, version 1 first."""
        self._c.execute(
            f"SELECT {_ENTRY} FROM event WHERE originator_id = ? AND position <= ? ORDER BY originator_version",
            (stream, upto),
        )
        return self._stream(self._c.fetchall())

    def deals_after(self, position: int) -> list[str]:
        """The streams of the deals of which anything was recorded after a position, in their order."""
        # The signs keep SQLite from walking through the index of all streams.
        self._c.execute(
            "SELECT DISTINCT originator_id FROM event WHERE position > ? AND +originator_id > 'deal:'"
            " AND +originator_id < 'deal;' ORDER BY +originator_id",
            (position,),
        )
        return [stream for (stream,) in self._c.fetchall()]

    def following(self, after: int, limit: int) -> list[Entry]:
        """The entries of the whole log after a position, in its order."""
        self._c.execute(
            f"SELECT {_ENTRY} FROM event WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit),
        )
        return [self._entry(row) for row in self._c.fetchall()]

    def rows(self, after: int, upto: int, limit: int) -> list[tuple[Any, ...]]:
        """The rows of the log after a position, every column as it is stored, the chain last."""
        self._c.execute(
            f"SELECT {COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (after, upto, limit),
        )
        return list(self._c.fetchall())

    def steps_after(self, after: int, limit: int) -> list[Entry]:
        """At least `limit` entries after a position, where the log has so many, the last of their steps whole."""
        entries = self.following(after, limit)
        while len(entries) >= limit:
            more = self.following(entries[-1].position, limit)
            same = [entry for entry in more if entry.recorded_at == entries[-1].recorded_at]
            entries += same
            if len(same) < limit:
                break
        return entries

    def parts_about(self, subject: str) -> list[bytes] | None:
        """The personal parts, as they are stored, of every deal that ever had a subject; None where none had."""
        self._c.execute(
            "SELECT DISTINCT originator_id FROM event WHERE topic LIKE 'deal_opened.%'"
            " AND json_extract(CAST(state AS TEXT), '$.subject') = ?",
            (subject,),
        )
        streams = [row[0] for row in self._c.fetchall()]
        self._c.execute(
            "SELECT personal FROM json_each(?) JOIN event ON originator_id = value WHERE personal IS NOT NULL",
            (msgspec.json.encode(streams).decode(),),
        )
        return [row[0] for row in self._c.fetchall()] if streams else None

    def personal_parts(self) -> Iterator[Personal]:
        """The personal part of every event that has one, in little memory. Errors: damaged."""
        self._c.execute("SELECT personal FROM event WHERE personal IS NOT NULL")
        for (stored,) in self._c.sqlite_cursor:
            part = mapper.decode_personal(stored, self._path)
            assert part is not None  # noqa: S101
            yield part

    def lengths(self, kind: str) -> dict[str, int]:
        """How many events each stream of a kind holds."""
        self._c.execute(
            "SELECT originator_id, count(*) FROM event WHERE originator_id > ? AND originator_id < ?"
            " GROUP BY originator_id",
            (f"{kind}:", f"{kind};"),
        )
        return dict(self._c.fetchall())

    def all_streams(self, kind: str, upto: int) -> Iterator[tuple[str, list[Entry]]]:
        """Every stream of a kind (`deal`, `pipeline`) with its entries, one after the other, in little memory."""
        self._c.execute(
            f"SELECT {_ENTRY} FROM event WHERE originator_id > ? AND originator_id < ? AND position <= ?"
            " ORDER BY originator_id, originator_version",
            (f"{kind}:", f"{kind};", upto),
        )
        cursor = self._c.sqlite_cursor
        # By the lot: SQLite and the fold disturb one another less in the caches of the processor.
        rows = chain.from_iterable(iter(lambda: cursor.fetchmany(256), []))
        for stream, group in groupby(rows, key=lambda row: row[0]):
            yield stream, self._stream(group)

    def _stream(self, rows: Iterable[tuple[Any, ...]]) -> list[Entry]:
        """A whole stream, in which no version is missing."""
        entries = list(map(self._entry, rows))
        for version, entry in enumerate(entries, 1):
            if entry.version != version:
                raise error("damaged", path=self._path, why=f"event {version} of {entry.stream} is missing")
        return entries

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        stream, version, position, recorded_at, occurred_at, tag, state, by, id_, request, amends, own, behind = row
        are_times = type(recorded_at) is type(occurred_at) is type(behind) is int
        if not are_times or not (amends is None or 0 < amends < version):
            raise error("damaged", path=self._path, why=f"the times or the amendment of event {position} make no sense")
        event = mapper.decode(tag, state, self._path)
        part = None if own is None else mapper.decode_personal(own, self._path)
        return Entry(stream, version, position, recorded_at, occurred_at, event, by, id_, request, amends, part, behind)
