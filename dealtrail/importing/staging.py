"""Staging: the rows of an event log on the disk, so that they can be sorted and joined in little memory."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from dealtrail.domain.errors import error
from dealtrail.domain.times import Instant
from dealtrail.importing.rows import Row
from dealtrail.store.connections import translated

_PLACE = "the folder for temporary files"
_BATCH = 1_000
_SCHEMA = """
CREATE TABLE event (line INTEGER PRIMARY KEY, deal TEXT NOT NULL, at INTEGER NOT NULL, activity TEXT NOT NULL,
                    cells BLOB NOT NULL, late INTEGER NOT NULL DEFAULT 0);
CREATE TABLE facts (deal TEXT NOT NULL PRIMARY KEY, cells BLOB NOT NULL) WITHOUT ROWID;
"""


class Staged(msgspec.Struct, frozen=True):
    """A row in its turn: `ordinal` counts from 1 the rows of one case, activity and time.

    `facts` are the cells of the row of its case, None where there is none; `late` is what `mark_late` was told.
    """

    deal: str
    at: Instant
    line: int
    activity: str
    ordinal: int
    cells: dict[str, str]
    facts: dict[str, str] | None
    late: bool


class Staging:
    """A database of our own in a file without a name, which is gone when it is closed. A context manager."""

    def __init__(self) -> None:
        # An empty name is a file in the folder for temporary ones; what fits the cache never reaches the disk.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA temp_store=FILE")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        self._pending: list[tuple[Any, ...]] = []
        self.count = 0

    def close(self) -> None:
        """Close and forget everything."""
        self._db.close()

    def __enter__(self) -> "Staging":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_facts(self, case: str, row: Row, path: str) -> None:
        """Keep the row of a case. Errors: duplicate_case."""
        with translated(_PLACE):
            found = self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (case, _encode(row.cells)))
        if not found.rowcount:
            raise error("duplicate_case", path=path, line=row.line, case=case)

    def add_event(self, case: str, at: Instant, activity: str, row: Row) -> None:
        """Keep a row of the event log."""
        self._pending.append((row.line, case, at, activity, _encode(row.cells)))
        self.count += 1
        if len(self._pending) == _BATCH:
            self._write()

    def groups(self) -> Iterator[list[Staged]]:
        """The rows case by case, each case in order of time; those of one case and time together, as in the file."""
        self._write()
        for (deal, at), together in groupby(self._sorted(), key=itemgetter(0, 1)):
            seen: Counter[str] = Counter()
            group = []
            for _, _, line, activity, cells, facts, late in together:
                seen[activity] += 1
                joined = None if facts is None else _decode(facts)
                group.append(Staged(deal, at, line, activity, seen[activity], _decode(cells), joined, bool(late)))
            yield group

    def _sorted(self) -> Iterator[tuple[Any, ...]]:
        with translated(_PLACE):
            yield from self._db.execute(
                "SELECT deal, at, line, activity, event.cells, facts.cells, late"
                " FROM event LEFT JOIN facts USING (deal) ORDER BY deal, at, line"
            )

    def mark_late(self, line: int) -> None:
        """Say of a row that it came too late to be recorded in its turn."""
        self._db.execute("UPDATE event SET late = 1 WHERE line = ?", (line,))

    def _write(self) -> None:
        with translated(_PLACE):
            self._db.executemany(
                "INSERT INTO event (line, deal, at, activity, cells) VALUES (?, ?, ?, ?, ?)", self._pending
            )
        self._pending = []


def _encode(cells: dict[str, str]) -> bytes:
    return msgspec.json.encode(cells)


def _decode(stored: bytes) -> dict[str, str]:
    return msgspec.json.decode(stored, type=dict[str, str])
