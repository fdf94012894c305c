"""The read model: a SQLite file of its own that is caught up with the log before it answers, and can be made anew.

It may be deleted at any time. A rebuild writes a new generation, a file with its number in the name, and then moves
a pointer; a file that others hold open is never replaced. The pointer is a small SQLite file too: its write lock lets
one process rebuild at a time, and its commit is the switch.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.decide import redefined
from dealtrail.domain.definitions import Pipeline
from dealtrail.domain.events import Entry
from dealtrail.projections.fold import deal_rows
from dealtrail.projections.schema import DEFINITION, PERIOD, PERSONAL, VISIT, fingerprint, migrate
from dealtrail.store.connections import Datastore, file_name, inode, memory_name, translated
from dealtrail.store.log import Log, Reading

logger = logging.getLogger("dealtrail")

Progress = Callable[[int, int], None]

_BATCH_ROWS = 50_000


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_INSERT_PERIOD = _insert("period", PERIOD)
_INSERT_VISIT = _insert("visit", VISIT)
_INSERT_PERSONAL = _insert("personal", PERSONAL)
_INSERT_DEFINITION = _insert("definition", DEFINITION)
_INSERT_DEAL = "INSERT INTO deal (number, deal) VALUES (?, ?)"
_SET_CHECKPOINT = (
    "INSERT INTO checkpoint (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


class ReadModel:
    """The read model of one log, shared by the threads of a process and by the processes of a host."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = Lock()
        self._point()

    def _point(self) -> None:
        """Open the pointer, at no generation yet."""
        self._number = 0
        self._generation: Datastore | None = None
        self._files: tuple[object, object] = (None, None)
        name = memory_name() if self._log.in_memory else file_name(self._path, create=True)
        self._pointer = Datastore(name, durable=True)
        with translated(self._path):
            self._found()
        self._files = (inode(self._path), None)

    def _look(self) -> None:
        """Begin anew where somebody deleted the files, as anybody may at any time."""
        if self._log.in_memory:
            return
        with self._lock:
            if inode(self._path) != self._files[0]:
                self._point()
            elif self._generation is not None and inode(self._file(self._number)) != self._files[1]:
                self._generation = None

    def _found(self) -> None:
        """Make the pointer where there is none. One that is there is not written to: somebody may be rebuilding."""
        with self._pointer.transaction(commit=False) as c:
            c.execute("SELECT 1 FROM sqlite_master WHERE name = 'generation'")
            if c.fetchone():
                return
        with self._pointer.transaction(commit=True) as c:
            c.execute("CREATE TABLE IF NOT EXISTS generation (number INTEGER NOT NULL)")
            c.execute("INSERT INTO generation SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM generation)")

    @property
    def _path(self) -> str:
        return f"{self._log.path}.read"

    def close(self) -> None:
        """Close every connection."""
        self._pointer.close()
        if self._generation is not None:
            self._generation.close()

    @contextmanager
    def answering(self, position: int) -> Iterator[SQLiteCursor]:
        """A cursor that sees a read model which knows the log at least up to a position."""
        with translated(self._path):
            generation = self._caught_up(position)
            with generation.transaction(commit=False) as c:
                yield c

    def position(self) -> int:
        """Up to where the read model knows the log, without catching up."""
        with translated(self._path):
            generation = self._current()
            return 0 if generation is None else _checkpoint(generation)[1]

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make the read model anew from the log, in a new generation, then switch to it.

        `progress` is called with how many events of how many are folded.
        """
        with translated(self._path):
            self._look()
            self._rebuild(None, progress)

    def _caught_up(self, position: int) -> Datastore:
        while True:
            self._look()
            generation = self._current()
            if generation is not None:
                if _checkpoint(generation)[1] >= position:
                    return generation
                with generation.transaction(commit=True) as c:
                    if self._catch_up(c):
                        return generation
                logger.warning("the read model does not continue this log; rebuilding it")
            self._rebuild(self._number, None)

    def _catch_up(self, c: SQLiteCursor) -> bool:
        """Fold what the log got since the checkpoint, rows and checkpoint in one transaction; False if it cannot be."""
        log_id, position, chain, _ = _read_checkpoint(c)
        with self._log.reading() as reading:
            head = reading.head()
            if log_id != self._log.id or reading.chain_at(position) != bytes.fromhex(chain):
                return False
            for stream in reading.changed_streams(position, head.position):
                entries = reading.entries(stream, head.position)
                if stream.startswith("pipeline:"):
                    c.execute("DELETE FROM definition WHERE pipeline = ?", (stream.removeprefix("pipeline:"),))
                    c.executemany(_INSERT_DEFINITION, _definition_rows(entries))
                    continue
                number = entries[0].position
                if number > position:
                    c.execute(_INSERT_DEAL, (number, stream.removeprefix("deal:")))
                else:
                    for delete in _DELETE_DEAL:
                        c.execute(delete, (number,))
                rows = deal_rows(entries)
                c.executemany(_INSERT_PERIOD, rows.periods)
                c.executemany(_INSERT_VISIT, rows.visits)
                c.executemany(_INSERT_PERSONAL, rows.personal)
            _write_checkpoint(c, self._log.id, head.position, head.chain)
        return True

    def _current(self) -> Datastore | None:
        """The generation that the pointer names, opened; None where it is missing, of other code or of another log."""
        with self._pointer.transaction(commit=False) as c:
            c.execute("SELECT number FROM generation")
            number = c.fetchone()[0]
        with self._lock:
            if number == self._number:
                return self._generation
            # The datastore that this one takes the place of is closed when its last reader lets go of it.
            self._generation, self._number = self._opened(number), number
            self._files = (self._files[0], inode(self._file(number)))
            return self._generation

    def _opened(self, number: int) -> Datastore | None:
        generation = Datastore(file_name(self._file(number), create=False), durable=False)
        try:
            log_id, position, chain, made_by = _checkpoint(generation)
            with self._log.reading() as reading:
                continues = reading.chain_at(position) == bytes.fromhex(chain)
            if log_id == self._log.id and continues and made_by == fingerprint():
                return generation
            logger.warning("the read model was made by other code or of another log; rebuilding it")
        except Exception as trouble:  # whatever is wrong with the file: it is a cache, and is made again
            logger.warning("the read model cannot be read (%s); rebuilding it", trouble)
        generation.close()
        return None

    def _file(self, number: int) -> str:
        return f"{self._path}-{number}"

    def _rebuild(self, instead_of: int | None, progress: Progress | None) -> None:
        """Write the next generation under the pointer's write lock, and move the pointer to it.

        Nothing is done where another process has put one in the place of generation `instead_of` meanwhile.
        """
        with self._pointer.transaction(commit=True) as pointer:
            pointer.execute("SELECT number FROM generation")
            number = pointer.fetchone()[0]
            if instead_of not in (None, number):
                return
            number += 1
            generation = self._founded(number)
            with generation.transaction(commit=True) as c, self._log.reading() as reading:
                _fill(c, reading, self._log.id, progress)
            self._make_durable(generation)
            pointer.execute("UPDATE generation SET number = ?", (number,))
        with self._lock:
            self._generation, self._number = generation, number
            self._files = (self._files[0], inode(self._file(number)))
        self._remove(number - 2)

    def _founded(self, number: int) -> Datastore:
        if self._log.in_memory:
            generation = Datastore(memory_name(), durable=False)
        else:
            self._remove(number)  # what a rebuild that was cut off may have left
            generation = Datastore(file_name(self._file(number), create=True), durable=False)
        with generation.get_connection(commit=True) as connection:
            migrate(connection._sqlite_conn)
        return generation

    def _make_durable(self, generation: Datastore) -> None:
        if self._log.in_memory:
            return
        with generation.get_connection(commit=True) as connection:
            raw = connection._sqlite_conn
            raw.execute("PRAGMA synchronous=FULL")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.execute("PRAGMA synchronous=NORMAL")

    def _remove(self, number: int) -> None:
        """Remove a generation that nobody opens any more; the one before the current stays for slower processes."""
        if number > 0 and not self._log.in_memory:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.remove(self._file(number) + suffix)


_DELETE_DEAL = tuple(f"DELETE FROM {table} WHERE deal = ?" for table in ("period", "visit", "personal"))


def _fill(c: SQLiteCursor, reading: Reading, log_id: str, progress: Progress | None) -> None:
    """Write every row of a new generation, deal by deal."""
    head = reading.head()
    for _, entries in reading.all_streams("pipeline", head.position):
        c.executemany(_INSERT_DEFINITION, _definition_rows(entries))
    done = 0
    deals: list[tuple[int, str]] = []
    periods: list[tuple[Any, ...]] = []
    visits: list[tuple[Any, ...]] = []
    personal: list[tuple[Any, ...]] = []
    batches = (
        (_INSERT_DEAL, deals),
        (_INSERT_PERIOD, periods),
        (_INSERT_VISIT, visits),
        (_INSERT_PERSONAL, personal),
    )

    def flush() -> None:
        for statement, rows in batches:
            c.executemany(statement, rows)
            rows.clear()
        if progress is not None:
            progress(done, head.position)

    for stream, entries in reading.all_streams("deal", head.position):
        rows = deal_rows(entries)
        deals.append((entries[0].position, stream.removeprefix("deal:")))
        periods += rows.periods
        visits += rows.visits
        personal += rows.personal
        done += len(entries)
        if len(periods) >= _BATCH_ROWS:
            flush()
    done = head.position
    flush()
    _write_checkpoint(c, log_id, head.position, head.chain)


def _definition_rows(entries: list[Entry]) -> list[tuple[Any, ...]]:
    pipeline: Pipeline | None = None
    for entry in entries:
        pipeline = redefined(pipeline, entry)
    assert pipeline is not None  # noqa: S101
    return [
        (
            pipeline.key,
            d.version,
            d.position,
            d.recorded_at,
            d.occurred_at,
            pipeline.name,
            msgspec.json.encode(d.stages).decode(),
            msgspec.json.encode(d.moves).decode(),
        )
        for d in pipeline.definitions
    ]


def _checkpoint(generation: Datastore) -> tuple[str, int, str, str]:
    with generation.transaction(commit=False) as c:
        return _read_checkpoint(c)


def _read_checkpoint(c: SQLiteCursor) -> tuple[str, int, str, str]:
    c.execute("SELECT name, value FROM checkpoint")
    stored = dict(c.fetchall())
    return stored["log"], int(stored["position"]), stored["chain"], stored["made_by"]


def _write_checkpoint(c: SQLiteCursor, log_id: str, position: int, chain: bytes) -> None:
    values = {"log": log_id, "position": str(position), "chain": chain.hex(), "made_by": fingerprint()}
    c.executemany(_SET_CHECKPOINT, list(values.items()))
