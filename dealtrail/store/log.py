"""The log of one store: found or founded, read, and written to under the write lock."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from uuid import uuid4

from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.times import Instant, instant
from dealtrail.store import telemetry
from dealtrail.store.connections import Datastore, file_name, inode, memory_name, translated
from dealtrail.store.ending import check_end
from dealtrail.store.feed import Bell
from dealtrail.store.reading import Reading
from dealtrail.store.recorder import APPLICATION_ID, FORMAT, Head, LogRecorder
from dealtrail.store.sealing import Vault
from dealtrail.store.writing import Cache, Writing


class Log:
    """The append-only log of one store, shared by the threads of a process."""

    def __init__(
        self,
        path: str,
        clock: Callable[[], datetime],
        *,
        create: bool = True,
        new_id: str | None = None,
        durable: bool = True,
    ) -> None:
        """Open the log at a path, or `:memory:`, and found it where there is none, unless `create` is false.

        `new_id` is the id of a log that is founded; by default one is made. Without `durable` a power cut may lose the
        newest commits.
        Errors: no_store, not_a_store, newer_store, damaged, read_only, busy.
        """
        self.path = path
        self.vault: Vault | None = None
        self._clock = clock
        self.in_memory = path == ":memory:"
        if not self.in_memory:
            self._inspect(create)
        name = memory_name() if self.in_memory else file_name(path, create=True)
        self._datastore = Datastore(name, durable=durable)
        self.recorder = LogRecorder(self._datastore)
        try:
            with translated(path):
                self.id = self._found(create, new_id or uuid4().hex)
                self._datastore.create_no_more()
            self._file = inode(path)
        except DealtrailError:
            self._datastore.close()
            raise
        self.recorder.log_id = self.id
        self._writing_cache = Cache()
        self._end_checked = False
        self._unsynced = False
        self.bell = Bell()
        telemetry.logger.info("opened %s: log %s", path, self.id)

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

    def _must_be_sure(self) -> None:
        """Refuse to write once a sync failed: nobody can tell whether the disk holds what it was given then."""
        if self._unsynced:
            raise error("must_reopen", path=self.path)

    def _found(self, create: bool, new_id: str) -> str:
        """The id of the log, which is founded where the file is new. Errors: no_store, where it may not be."""
        with self._datastore.transaction(commit=False) as c:
            known = self._identity(c)
        if known is not None:
            return known
        if not create:
            raise error("no_store", path=self.path)
        founded = False
        with self._datastore.transaction(commit=True) as c:
            known = self._identity(c)  # another process may have founded it meanwhile
            if known is None:
                c.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self.recorder._create_table(c)
                known = new_id
                c.execute("INSERT INTO log (id, format) VALUES (?, ?)", (known, FORMAT))
                founded = True
        if founded:
            telemetry.logger.info("founded %s: log %s", self.path, known)
        return known

    def _identity(self, c: SQLiteCursor | sqlite3.Cursor) -> str | None:
        try:
            return self._read_identity(c)
        except UnicodeDecodeError as trouble:  # Python cannot even read what SQLite says of a schema that is damaged
            raise error("damaged", path=self.path, why="its schema cannot be read") from trouble

    def _read_identity(self, c: SQLiteCursor | sqlite3.Cursor) -> str | None:
        c.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        tables = {row[0] for row in c.fetchall()}
        if not tables:
            return None
        c.execute("PRAGMA application_id")
        if c.fetchone()[0] != APPLICATION_ID or not {"log", "event"} <= tables:
            raise error("not_a_store", path=self.path, why="it holds the tables of something else")
        c.execute("SELECT id, format FROM log")
        row = c.fetchone()
        if row is None or type(row[1]) is not int:
            raise error("damaged", path=self.path, why="the log has lost its identity")
        if row[1] > FORMAT:
            raise error("newer_store", path=self.path, format=row[1], sign=f"format {row[1]}")
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
    def reading(self) -> Iterator[Reading]:
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

    def read_end(self) -> None:
        """Read the last event, as everything that comes builds on it. Errors: damaged, gone, and whatever hinders."""
        with self.reading() as reading:
            end = reading.head().position
            reading.following(end - 1, 1)

    def lock_is_free(self) -> bool:
        """Whether nobody holds the write lock; it does not wait."""
        with translated(self.path), self._datastore.lock_if_free() as free:
            return free

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Hold the write lock; what was recorded is committed at the end.

        Nothing of it is where an error comes out, or where the writing was discarded. Errors: must_reopen, damaged.
        """
        self._must_be_there()
        self._must_be_sure()
        with telemetry.Work("record", self.path, current=False) as work, suppress(_Discarded):
            with self._noticing_syncs(), translated(self.path), self._datastore.transaction(commit=True) as c:
                work.waited()
                self._must_be_there()  # the wait for the lock may have been long
                self._must_be_sure()
                if not self._end_checked:
                    check_end(c, self.id, self.path)
                    self._end_checked = True
                cache = self._writing_cache
                writing = Writing(Reading(c, self.recorder, self.path), self.clock, cache, self.vault)
                # Until the commit is through the cache runs ahead of the log: it must not outlive a rollback.
                self._writing_cache = Cache()
                before = writing.position
                yield writing
                if writing.discarded:
                    raise _Discarded
                writing.flush()
            self._must_be_there()
            self._writing_cache = cache
            self.bell.ring()
            telemetry.recorded(writing.position - before)

    @contextmanager
    def _noticing_syncs(self) -> Iterator[None]:
        try:
            yield
        except DealtrailError as trouble:
            self._unsynced = self._unsynced or trouble.facts.get("sqlite") == "SQLITE_IOERR_FSYNC"
            raise


class _Discarded(Exception):
    """A writing was only a rehearsal."""
