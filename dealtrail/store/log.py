"""The log: opened, appended to under the write lock, and read for replay with SQL of its own."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import uuid4

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.actions import Action
from dealtrail.domain.deal import Deal
from dealtrail.domain.decide import Turn, decide, redefined
from dealtrail.domain.definitions import Pipeline
from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.events import Entry
from dealtrail.domain.times import Instant, instant
from dealtrail.store import mapper
from dealtrail.store.connections import Datastore, file_name, inode, memory_name, translated
from dealtrail.store.feed import Bell
from dealtrail.store.recorder import APPLICATION_ID, FORMAT, Head, LogEvent, LogRecorder

_ENTRY = (
    "originator_id, originator_version, position, recorded_at, occurred_at, topic, state, actor, action_id, "
    "request, amends, personal"
)
# Deals kept decoded between writes; one that is asked for again costs nothing while nobody else wrote.
_CACHED_DEALS = 10_000


class Log:
    """The append-only log of one store, shared by the threads of a process."""

    def __init__(self, path: str, clock: Callable[[], datetime], *, create: bool = True) -> None:
        """Open the log at a path, or `:memory:`, and found it where there is none, unless `create` is false.

        Errors: no_store, not_a_store, newer_store, damaged, read_only, busy.
        """
        self.path = path
        self._clock = clock
        self.in_memory = path == ":memory:"
        if not self.in_memory:
            self._inspect(create)
        name = memory_name() if self.in_memory else file_name(path, create=True)
        self._datastore = Datastore(name, durable=True)
        self.recorder = LogRecorder(self._datastore)
        try:
            with translated(path):
                self.id = self._found(create)
                self._datastore.create_no_more()
            self._file = inode(path)
        except DealtrailError:
            self._datastore.close()
            raise
        self.recorder.log_id = self.id
        self._writing_cache = _Cache()
        self.bell = Bell()

    def _inspect(self, create: bool) -> None:
        """Refuse what is no store before anything is done to it: opening for writing would make it a WAL database."""
        if "\0" in self.path:
            raise error("not_a_store", path=self.path, why="no file can have that name")
        if os.path.isdir(self.path):
            raise error("not_a_store", path=self.path, why="it is a folder")
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise error("not_a_store", path=self.path, why="it is no regular file")
        known = None
        if os.path.exists(self.path) and os.path.getsize(self.path):
            with translated(self.path), closing(sqlite3.connect(file_name(self.path, create=False), uri=True)) as raw:
                known = self._identity(raw.cursor())
        if known is None and not create:
            raise error("no_store", path=self.path)

    def _must_be_there(self) -> None:
        """Refuse to go on with a file that its path no longer leads to: what is written there nobody finds again."""
        if not self.in_memory and inode(self.path) != self._file:
            raise error("gone", path=self.path)

    def _found(self, create: bool) -> str:
        """The id of the log, which is founded where the file is new. Errors: no_store, where it may not be."""
        with self._datastore.transaction(commit=False) as c:
            known = self._identity(c)
        if known is not None:
            return known
        if not create:
            raise error("no_store", path=self.path)
        with self._datastore.transaction(commit=True) as c:
            known = self._identity(c)  # another process may have founded it meanwhile
            if known is None:
                c.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self.recorder._create_table(c)
                known = uuid4().hex
                c.execute("INSERT INTO log (id, format) VALUES (?, ?)", (known, FORMAT))
        return known

    def _identity(self, c: SQLiteCursor | sqlite3.Cursor) -> str | None:
        c.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        tables = {row[0] for row in c.fetchall()}
        if not tables:
            return None
        c.execute("PRAGMA application_id")
        if c.fetchone()[0] != APPLICATION_ID or not {"log", "event"} <= tables:
            raise error("not_a_store", path=self.path, why="it holds the tables of something else")
        c.execute("SELECT id, format FROM log")
        row = c.fetchone()
        if row is None:
            raise error("damaged", path=self.path, why="the log has lost its identity")
        if row[1] > FORMAT:
            raise error("newer_store", path=self.path, format=row[1])
        return str(row[0])

    def close(self) -> None:
        """Close every connection, and end what waits for more."""
        self._datastore.close()
        self.bell.ring(closed=True)

    def clock(self) -> Instant:
        """What the clock reads."""
        reading = self._clock()
        if not isinstance(reading, datetime) or reading.utcoffset() is None:
            raise error("naive_time", "clock", given=reading)
        return instant(reading)

    @contextmanager
    def reading(self) -> Iterator["Reading"]:
        """Read the log as it stands now, while others write."""
        self._must_be_there()
        with translated(self.path), self._datastore.transaction(commit=False) as c:
            yield Reading(c, self.recorder, self.path)

    def present(self) -> tuple[Instant, Head, bool]:
        """Now (the clock, or the last recorded_at where the clock is behind it), the end of the log, and whether it is
        settled: every step that is recorded from here on bears a time that is not before now.

        It is not settled while somebody records: a step takes its time before it can be seen.
        """
        self._must_be_there()
        with translated(self.path), self._datastore.lock_if_free() as settled, self.reading() as reading:
            head = reading.head()
            now = self.clock()
        return now if head.recorded_at is None else max(now, head.recorded_at), head, settled

    @contextmanager
    def writing(self) -> Iterator["Writing"]:
        """Hold the write lock; what was recorded is committed at the end.

        Nothing of it is where an error comes out, or where the writing was discarded.
        """
        self._must_be_there()
        with suppress(_Discarded):
            with translated(self.path), self._datastore.transaction(commit=True) as c:
                self._must_be_there()  # the wait for the lock may have been long
                cache = self._writing_cache
                writing = Writing(Reading(c, self.recorder, self.path), self.clock, cache)
                # Until the commit is through the cache runs ahead of the log: it must not outlive a rollback.
                self._writing_cache = _Cache()
                yield writing
                if writing.discarded:
                    raise _Discarded
                writing.flush()
            self._must_be_there()
            self._writing_cache = cache
            self.bell.ring()


class _Discarded(Exception):
    """A writing was only a rehearsal."""


class Reading:
    """The log as one transaction sees it."""

    def __init__(self, c: SQLiteCursor, recorder: LogRecorder, path: str) -> None:
        self._c = c
        self.recorder = recorder
        self._path = path

    @property
    def cursor(self) -> SQLiteCursor:
        """The cursor of the transaction."""
        return self._c

    def head(self) -> Head:
        """The end of the log."""
        return self.recorder.head(self._c)

    def position_at(self, known_at: Instant) -> int:
        """The last position recorded by a moment: found by halving, since recorded_at only grows."""
        low, high = 0, self.head().position
        while low < high:
            middle = (low + high + 1) // 2
            self._c.execute("SELECT recorded_at FROM event WHERE position = ?", (middle,))
            if self._c.fetchone()[0] <= known_at:
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

    def entries(self, stream: str, upto: int) -> list[Entry]:
        """The entries of a stream up to a position, version 1 first."""
        self._c.execute(
            f"SELECT {_ENTRY} FROM event WHERE originator_id = ? AND position <= ? ORDER BY originator_version",
            (stream, upto),
        )
        return self._stream(self._c.fetchall())

    def following(self, after: int, limit: int) -> list[Entry]:
        """The entries of the whole log after a position, in its order."""
        self._c.execute(
            f"SELECT {_ENTRY} FROM event WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit),
        )
        return [self._entry(row) for row in self._c.fetchall()]

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

    def all_streams(self, kind: str, upto: int) -> Iterator[tuple[str, list[Entry]]]:
        """Every stream of a kind (`deal`, `pipeline`) with its entries, one after the other, in little memory."""
        self._c.execute(
            f"SELECT {_ENTRY} FROM event WHERE originator_id > ? AND originator_id < ? AND position <= ?"
            " ORDER BY originator_id, originator_version",
            (f"{kind}:", f"{kind};", upto),
        )
        rows = iter(self._c.sqlite_cursor)
        for stream, group in groupby(rows, key=lambda row: row[0]):
            yield stream, self._stream(group)

    def _stream(self, rows: Iterable[tuple[Any, ...]]) -> list[Entry]:
        """A whole stream, in which no version is missing."""
        entries = [self._entry(row) for row in rows]
        for version, entry in enumerate(entries, 1):
            if entry.version != version:
                raise error("damaged", path=self._path, why=f"event {version} of {entry.stream} is missing")
        return entries

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        stream, version, position, recorded_at, occurred_at, tag, state, by, id_, request, amends, personal = row
        if type(recorded_at) is not int or type(occurred_at) is not int or not (amends is None or 0 < amends < version):
            raise error("damaged", path=self._path, why=f"the times or the amendment of event {position} make no sense")
        event = mapper.decode(tag, state, self._path)
        part = mapper.decode_personal(personal, self._path)
        return Entry(stream, version, position, recorded_at, occurred_at, event, by, id_, request, amends, part)


class _Cache:
    """What a writer decoded, true as long as the log ends where the writer left it."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.position = -1
        self.deals: dict[str, Deal | None] = {}
        self.pipelines: dict[str, Pipeline] | None = None
        self.pipeline_entries: dict[str, list[Entry]] = {}


class Writing:
    """A write transaction: decides actions on all that was recorded before them, and appends what follows."""

    def __init__(self, reading: Reading, clock: Callable[[], Instant], cache: _Cache) -> None:
        self._reading = reading
        self._clock = clock
        self._cache = cache
        self._head = reading.head()
        self._pending: list[LogEvent] = []
        self._position = self._head.position
        self._recorded_at = self._head.recorded_at
        self.discarded = False
        if cache.position != self._position:
            cache.clear()
        cache.position = self._position

    @property
    def position(self) -> int:
        """The position of the last event, recorded or decided."""
        return self._position

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """Every pipeline with its definitions, by key."""
        if self._cache.pipelines is None:
            self._cache.pipelines = {}
            for stream, entries in self._reading.all_streams("pipeline", self._head.position):
                self._cache.pipeline_entries[stream] = entries
                for entry in entries:
                    self._redefine(stream, entry)
        return self._cache.pipelines

    def _redefine(self, stream: str, entry: Entry) -> None:
        assert self._cache.pipelines is not None  # noqa: S101
        key = stream.removeprefix("pipeline:")
        self._cache.pipelines[key] = redefined(self._cache.pipelines.get(key), entry)

    def deal(self, deal: str) -> Deal | None:
        """A deal with all its entries, or None where no event of it was ever recorded."""
        deals = self._cache.deals
        if deal not in deals:
            entries = self._reading.entries(f"deal:{deal}", self._head.position)
            deals[deal] = Deal.of(deal, entries) if entries else None
        return deals[deal]

    def recorded(self, stream: str, id: str) -> Entry | None:
        """The entry that an action of that idempotency key left in a stream."""
        kind, _, name = stream.partition(":")
        entries: Iterable[Entry]
        if kind == "deal":
            deal = self.deal(name)
            entries = deal.entries if deal else ()
        else:
            _ = self.pipelines
            entries = self._cache.pipeline_entries.get(stream, ())
        return next((entry for entry in entries if entry.id == id), None)

    def step(self, actions: Iterable[Action]) -> list[Entry]:
        """Decide one atomic step: each action after the one before, all with one recorded_at, later than any other.

        Returns for each action the entry that it left, or had left the first time. An error leaves the transaction
        in a state that must be rolled back, unless it came from the only action of the step.
        """
        reading = self._clock()
        recorded_at = reading if self._recorded_at is None else max(reading, self._recorded_at + 1)
        left: list[Entry] = []
        for index, action in enumerate(actions):
            turn = Turn(recorded_at, self._position + 1, uuid4().hex)
            try:
                entries = decide(action, self, turn)
            except DealtrailError as refusal:
                refusal.facts["index"] = index
                raise
            if entries[0].position == turn.position:
                self._append(entries, recorded_at - reading)
            left.append(entries[-1])
        return left

    def _append(self, entries: list[Entry], clock_behind_us: int) -> None:
        stream = entries[0].stream
        kind, _, name = stream.partition(":")
        if kind == "deal":
            deal = self.deal(name)
            self._cache.deals[name] = deal.followed_by(entries) if deal else Deal.of(name, entries)
        else:
            self._redefine(stream, entries[0])
            self._cache.pipeline_entries.setdefault(stream, []).append(entries[0])
        self._pending += [_stored(entry, clock_behind_us) for entry in entries]
        self._position = entries[-1].position
        self._recorded_at = entries[-1].recorded_at

    def flush(self) -> None:
        """Write what was decided, at the positions that it was decided for; it may be read back from then on."""
        if self._pending:
            self._reading.recorder._insert_events(self._reading.cursor, self._pending)
            self._head = self._reading.head()
        self._pending = []
        if len(self._cache.deals) > _CACHED_DEALS:
            self._cache.clear()
        self._cache.position = self._position

    def discard(self) -> None:
        """Record nothing of it after all."""
        self.discarded = True


def _stored(entry: Entry, clock_behind_us: int) -> LogEvent:
    topic, state = mapper.encode(entry.event)
    return LogEvent(
        originator_id=entry.stream,
        originator_version=entry.version,
        topic=topic,
        state=state,
        occurred_at=entry.occurred_at,
        recorded_at=entry.recorded_at,
        clock_behind_us=clock_behind_us,
        actor=entry.by,
        action_id=entry.id,
        request=entry.request,
        amends=entry.amends,
        personal=mapper.encode_personal(entry.personal),
    )
