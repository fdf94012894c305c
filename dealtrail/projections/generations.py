"""Generations: the files that a read model is in, one for each time it was made anew, with its number in the name."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from glob import escape, glob

from dealtrail.projections.schema import migrate
from dealtrail.store.connections import Datastore, file_name, memory_name


class Generations:
    """The files beside the pointer of a read model; those of a log in memory are nowhere."""

    def __init__(self, pointer: str, *, in_memory: bool) -> None:
        self._beginning = f"{pointer}-"
        self._in_memory = in_memory

    def file(self, number: int) -> str:
        """The path of a generation."""
        return f"{self._beginning}{number}"

    def numbers(self) -> list[int]:
        """The generations that have files, the oldest first."""
        return sorted(number for number, beside in self._found() if not beside)

    def named(self, number: int) -> Datastore:
        """A generation that should be there; opened when it is first read."""
        return Datastore(file_name(self.file(number), create=False), durable=False)

    def founded(self, number: int) -> Datastore:
        """A new generation: tables without indexes."""
        if self._in_memory:
            generation = Datastore(memory_name(), durable=False)
        else:
            self._remove(number)  # what a rebuild that was cut off may have left
            generation = Datastore(file_name(self.file(number), create=True), durable=False)
        with generation.get_connection(commit=True) as connection:
            migrate(connection._sqlite_conn, indexes=False)
        return generation

    def finish(self, generation: Datastore) -> None:
        """Add the indexes, faster than row by row, and bring everything to the disk."""
        with generation.get_connection(commit=True) as connection:
            raw = connection._sqlite_conn
            migrate(raw)
            if not self._in_memory:
                raw.execute("PRAGMA synchronous=FULL")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raw.execute("PRAGMA synchronous=NORMAL")

    def remove_before(self, number: int) -> None:
        """Remove the generations that nobody opens any more; the one before the current stays for slower processes.

        All of them, since a process that was killed may have left its own.
        """
        if not self._in_memory:
            for one, _ in self._found():
                if one < number:
                    self._remove(one)

    def _found(self) -> Iterator[tuple[int, str]]:
        """Each file by the number of its generation, with the ending of what SQLite keeps beside it."""
        for path in glob(f"{escape(self._beginning)}*"):
            found = re.fullmatch(r"(\d+)(-wal|-shm)?", path.removeprefix(self._beginning))
            if found:
                yield int(found[1]), found[2] or ""

    def _remove(self, number: int) -> None:
        remove(self.file(number))


def remove(path: str) -> None:
    """Remove a file of SQLite, and what it keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.remove(path + suffix)
