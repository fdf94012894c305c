"""The read model: a SQLite file of its own that is caught up with the log before it answers, and can be made anew.

It may be deleted at any time. A rebuild writes a new generation, a file with its number in the name, and then moves
a pointer; a file that others hold open is never replaced. The pointer is a small SQLite file too: its write lock lets
one process rebuild at a time, and its commit is the switch.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from threading import Lock
from time import perf_counter

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.times import moment
from dealtrail.projections.generations import Generations, remove
from dealtrail.projections.schema import fingerprint
from dealtrail.projections.writing import catch_up, fill, read_checkpoint
from dealtrail.store import telemetry
from dealtrail.store.connections import Datastore, file_name, inode, memory_name, translated
from dealtrail.store.log import Log
from dealtrail.store.reading import Reading
from dealtrail.store.recording import Progress
from dealtrail.store.telemetry import logger

# A read model that is further behind than this, and than it is long, is faster made anew than caught up.
_REBUILD_BEHIND = 50_000


class Rebuilt(msgspec.Struct, frozen=True):
    """When the read model was last made anew, as which generation, up to which position, and how long that took."""

    at: datetime
    generation: int
    position: int
    seconds: float


class ReadModel:
    """The read model of one log, shared by the threads of a process and by the processes of a host."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = Lock()
        self._generations = Generations(self._path, in_memory=log.in_memory)
        self._point()
        if not log.in_memory:
            telemetry.watch(self)

    def _point(self) -> None:
        """Open the pointer, at no generation yet; make one anew that cannot be read."""
        self._number = 0
        self._generation: Datastore | None = None
        self._files: tuple[object, object] = (None, None)
        known = inode(self._path)
        try:
            self._open_pointer()
        except DealtrailError as trouble:
            if self._log.in_memory or trouble.code not in ("damaged", "not_a_store") or not os.path.isfile(self._path):
                raise
            logger.warning("%s cannot be read (%s); rebuilding it", self._path, trouble.message)
            if inode(self._path) == known:  # nobody else has made it anew meanwhile
                remove(self._path)
            self._open_pointer()
        self._files = (inode(self._path), None)

    def _open_pointer(self) -> None:
        name = memory_name() if self._log.in_memory else file_name(self._path, create=True)
        self._pointer = Datastore(name, durable=True)
        try:
            with translated(self._path):
                self._found()
        except DealtrailError:
            self._pointer.close()
            raise

    def _look(self) -> None:
        """Begin anew where somebody deleted the files, as anybody may at any time."""
        if self._log.in_memory:
            return
        with self._lock:
            if inode(self._path) != self._files[0]:
                self._point()
            elif self._generation is not None and inode(self._generations.file(self._number)) != self._files[1]:
                self._generation = None

    def _found(self) -> None:
        """Make the pointer where there is none. One that is there is not written to: somebody may be rebuilding."""
        with self._pointer.transaction(commit=False) as c:
            c.execute("SELECT 1 FROM sqlite_master WHERE name = 'generation'")
            if c.fetchone():
                c.execute("SELECT typeof(number) FROM generation")
                if c.fetchall() != [("integer",)]:
                    raise error("damaged", path=self._path, why="it names no generation")
                return
        with self._pointer.transaction(commit=True) as c:
            c.execute("CREATE TABLE IF NOT EXISTS generation (number INTEGER NOT NULL)")
            c.execute("INSERT INTO generation SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM generation)")

    @property
    def _path(self) -> str:
        return f"{self._log.path}.read"

    def close(self) -> None:
        """Close every connection."""
        telemetry.unwatch(self)
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

    @property
    def store(self) -> str:
        """The path of the log."""
        return self._log.path

    def lag(self) -> tuple[int, float]:
        """How many events are not folded yet, and for how many seconds the oldest of them has been in the log."""
        position = self.position()
        with self._log.reading() as reading:
            behind = max(0, reading.head().position - position)
            oldest = reading.following(position, 1) if behind else []
        return behind, max(0, self._log.clock() - oldest[0].recorded_at) / 1_000_000 if oldest else 0.0

    @property
    def generation(self) -> int:
        """The number of the generation that answers; 0 before the first."""
        with translated(self._path):
            self._current()
        return self._number

    def generations(self) -> list[int]:
        """The numbers of the generations that have files: the one that answers, and older ones."""
        if self._log.in_memory:
            return [self._number] if self._number else []
        return self._generations.numbers()

    @contextmanager
    def as_it_stands(self) -> Iterator[SQLiteCursor | None]:
        """A cursor that sees the read model without catching up, whatever it holds; None where there is none."""
        with ExitStack() as held:
            held.enter_context(translated(self._path))
            c = held.enter_context(self._pointer.transaction(commit=False))
            c.execute("SELECT number FROM generation")
            number = c.fetchone()[0]
            generation = self._generation if number == self._number else None
            if generation is None and not self._log.in_memory and os.path.exists(self._generations.file(number)):
                generation = self._generations.named(number)
                held.callback(generation.close)
            yield None if generation is None else held.enter_context(generation.transaction(commit=False))

    def note(self, name: str, value: str) -> None:
        """Keep something about the whole read model beside the pointer, where it outlives a rebuild."""
        with translated(self._path), self._pointer.transaction(commit=True) as c:
            _note(c, name, value)

    def noted(self, name: str) -> str | None:
        """What was kept under a name; None for nothing."""
        with translated(self._path), self._pointer.transaction(commit=False) as c:
            c.execute("SELECT 1 FROM sqlite_master WHERE name = 'note'")
            if not c.fetchone():
                return None
            c.execute("SELECT value FROM note WHERE name = ?", (name,))
            row = c.fetchone()
        return None if row is None else str(row[0])

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
            self._rebuild(self._number, None)

    def _catch_up(self, c: SQLiteCursor) -> bool:
        """Fold what the log got since the checkpoint; False where the read model must or should be made anew."""
        log_id, position, chain, _ = read_checkpoint(c)
        with self._log.reading() as reading:
            if log_id != self._log.id or not _follows(self.store, reading, position, chain):
                return False
            behind = reading.head().position - position
            if behind > max(_REBUILD_BEHIND, position):
                logger.info("%s is %d events behind; rebuilding it", self._path, behind)
                return False
            with telemetry.Work("catch_up", self.store):
                catch_up(c, reading, self._log.id, position)
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
            self._files = (self._files[0], inode(self._generations.file(number)))
            return self._generation

    def _opened(self, number: int) -> Datastore | None:
        generation = self._generations.named(number)
        try:
            log_id, position, chain, made_by = _checkpoint(generation)
            if log_id != self._log.id or made_by != fingerprint():
                logger.warning("%s was made by other code or of another log; rebuilding it", self._path)
            else:
                with self._log.reading() as reading:
                    if _follows(self.store, reading, position, chain):
                        return generation
        except Exception as trouble:  # whatever is wrong with the file: it is a cache, and is made again
            logger.warning("%s cannot be read (%s); rebuilding it", self._path, trouble)
        generation.close()
        return None

    def _rebuild(self, instead_of: int | None, progress: Progress | None) -> None:
        """Write the next generation under the pointer's write lock, and move the pointer to it.

        Nothing is done where another process has put one in the place of generation `instead_of` meanwhile.
        """
        with self._pointer.transaction(commit=True) as pointer, telemetry.Work("rebuild", self.store):
            began = perf_counter()
            pointer.execute("SELECT number FROM generation")
            number = pointer.fetchone()[0]
            if instead_of not in (None, number):
                return
            number += 1
            generation = self._generations.founded(number)
            with generation.transaction(commit=True) as c, self._log.reading() as reading:
                fill(c, reading, self._log.id, progress)
            self._generations.finish(generation)
            pointer.execute("UPDATE generation SET number = ?", (number,))
            position, seconds = _checkpoint(generation)[1], round(perf_counter() - began, 3)
            made = Rebuilt(moment(self._log.clock()), number, position, seconds)
            _note(pointer, "rebuilt", msgspec.json.encode(made).decode())
            logger.info("made generation %d of %s: %d events in %.1f s", number, self._path, position, seconds)
        with self._lock:
            self._generation, self._number = generation, number
            self._files = (self._files[0], inode(self._generations.file(number)))
        self._generations.remove_before(number - 1)


def _follows(store: str, reading: Reading, position: int, chain: str) -> bool:
    """Whether a log holds what its read model was made of; where it does not, its reader should know."""
    found = reading.chain_at(position)
    if found is None:
        logger.warning(
            "%s: the log ends at position %d, but its read model knew %d: its newest steps were lost, or an older file"
            " was put in its place; rebuilding the read model",
            store,
            reading.head().position,
            position,
        )
    elif found != bytes.fromhex(chain):
        logger.warning(
            "%s: the log differs at position %d from what its read model was made of; rebuilding the read model",
            store,
            position,
        )
    return found == bytes.fromhex(chain)


def _note(c: SQLiteCursor, name: str, value: str) -> None:
    c.execute("CREATE TABLE IF NOT EXISTS note (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
    c.execute("INSERT OR REPLACE INTO note (name, value) VALUES (?, ?)", (name, value))


def _checkpoint(generation: Datastore) -> tuple[str, int, str, str]:
    with generation.transaction(commit=False) as c:
        return read_checkpoint(c)
