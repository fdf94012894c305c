"""Comparing the read model with the log: everything folded again, and each row held against what comes of it."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.errors import DealtrailError
from dealtrail.domain.events import Entry
from dealtrail.projections.fold import Folding
from dealtrail.projections.rows import StateColumns, marks_text
from dealtrail.projections.schema import COLUMNS, fingerprint
from dealtrail.projections.writing import deal_rows, definition_rows, read_checkpoint
from dealtrail.store.log import Log
from dealtrail.store.reading import Reading
from dealtrail.store.recording import Progress
from dealtrail.store.verifying import MOST, Finding, unsound

Row = tuple[Any, ...]

# Where the rows of a deal stand, and by which column they are found.
_OF_DEAL = {"deal": "deal", "period": "deal", "past_path": "deal", "personal": "deal"}
# By what a finding calls a row.
_NAMES = {
    "deal": ("deal",),
    "period": ("deal", "from_at", "known_from"),
    "past_path": ("deal", "path_from", "path_to"),
    "personal": ("deal", "at", "known_from"),
    "definition": ("pipeline", "version"),
}


def folded(log: Log, upto: int, c: SQLiteCursor | None, progress: Progress) -> tuple[int | None, list[Finding]]:
    """Fold the log up to a position, and compare the read model that `c` sees, if any, with what comes of it.

    Returns up to where the read model was compared (None: not at all) and what is wrong; `progress` counts events.
    """
    position: int | None = None
    found: list[Finding] = []
    if c is not None:
        position, found = _checkpoint(c, log)
    with log.reading() as reading:
        comparison = _Comparison(c if position is not None else None, position or 0)
        try:
            comparison.begin()
            for entries in _each(reading, "pipeline", upto):
                comparison.pipeline(entries)
            # No row is made of these, but each must be an event that can be read.
            done = sum(len(entries) for kind in ("subject", "log") for entries in _each(reading, kind, upto))
            for entries in _each(reading, "deal", upto):
                comparison.deal(entries)
                done += len(entries)
                progress(done, upto)
                if len(comparison.found) >= MOST:
                    return position, found + comparison.found
            comparison.rest(reading)
        except sqlite3.DatabaseError as trouble:
            return position, [*found, *comparison.found, Finding("read_model", f"SQLite says: {trouble}")]
        except DealtrailError as trouble:
            if trouble.code not in ("damaged", "newer_store"):
                raise
            return position, [*found, *comparison.found, _unreadable(reading, upto, trouble)]
    return position, found + comparison.found


def _each(reading: Reading, kind: str, upto: int) -> Iterator[list[Entry]]:
    return (entries for _, entries in reading.all_streams(kind, upto))


def _unreadable(reading: Reading, upto: int, trouble: DealtrailError) -> Finding:
    """The first event that cannot be read, found one by one."""
    for before in range(upto):
        try:
            reading.following(before, 1)
        except DealtrailError as refusal:
            return Finding("event", str(refusal), before + 1)
    return Finding("event", str(trouble))


def _checkpoint(c: SQLiteCursor, log: Log) -> tuple[int | None, list[Finding]]:
    """Up to where the read model says that it goes: None where its rows are not to be compared.

    Those that other code made are not: the next question makes them anew.
    """
    found = [Finding("read_model", f"SQLite says: {line}") for line in unsound(c)]
    try:
        log_id, position, chain, made_by = read_checkpoint(c)
    except (KeyError, ValueError):
        return None, [*found, Finding("read_model", "its checkpoint cannot be read", table="checkpoint")]
    with log.reading() as reading:
        last = reading.head().position
        there = reading.chain_at(position)
    if log_id != log.id:
        why = "the read model was made of another log"
    elif there is None:
        why = (
            f"the read model goes up to position {position}, but the log ends at {last}: the log's end was cut off, "
            "or an older copy was put in its place"
        )
    elif there.hex() != chain:
        why = f"the read model was made of a log that is another one up to position {position}"
    else:
        return (position if made_by == fingerprint() else None), found
    return None, [*found, Finding("read_model", why, table="checkpoint", row="position")]


class _Comparison:
    """The rows of the read model against those that the log gives; without a cursor the log is only folded."""

    def __init__(self, c: SQLiteCursor | None, position: int) -> None:
        self._c = c
        self._position = position
        self._deals = 0
        self._definitions: list[Row] = []
        self._cells: dict[Any, Any] = {}
        self.found: list[Finding] = []

    def begin(self) -> None:
        """Read what the numbers of cells stand for."""
        if self._c is not None:
            self._c.execute("SELECT id, pipeline, status, definition, stage, currency FROM cell")
            self._cells = {row[0]: tuple(row[1:]) for row in self._c.fetchall()}

    def pipeline(self, entries: list[Entry]) -> None:
        """Take the entries of a pipeline."""
        try:
            definition_rows(entries)
            known = [entry for entry in entries if entry.position <= self._position]
            self._definitions += definition_rows(known) if known else []
        except Exception as trouble:
            self._cannot_fold(entries, trouble)

    def deal(self, entries: list[Entry]) -> None:
        """Take the entries of a deal, and compare its rows as they should be at the read model's position."""
        known = [entry for entry in entries if entry.position <= self._position]
        number, deal = entries[0].position, entries[0].stream.removeprefix("deal:")
        try:
            folding = Folding().fold(known or entries)
            wanted = deal_rows(number, deal, folding, StateColumns(_itself), lambda path: marks_text(path.marks))
            if known and len(known) < len(entries):
                Folding().fold(entries)
        except Exception as trouble:
            self._cannot_fold(entries, trouble)
            return
        if known and self._c is not None:
            self._deals += 1
            for table in _OF_DEAL:
                key = deal if table == "deal" else number
                found = self._rows(f"{table} WHERE {_OF_DEAL[table]} = ?", table, key)
                self._compare(table, wanted.get(table, []), found)

    def rest(self, reading: Reading) -> None:
        """Compare the definitions, and look for rows of deals that the log does not know."""
        c = self._c
        if c is None:
            return
        self._compare("definition", self._definitions, self._rows("definition", "definition"))
        c.execute("SELECT count(*) FROM deal")
        if c.fetchone()[0] > self._deals:
            self._strangers(c, reading)
        for table in ("period", "past_path", "personal"):
            c.execute(
                f"SELECT deal FROM {table} WHERE NOT EXISTS (SELECT 1 FROM deal WHERE number = {table}.deal)"
                f" LIMIT {MOST}"
            )
            for (number,) in c.fetchall():
                self._note(table, f"deal={number!r}", "the read model knows no deal of that number")

    def _strangers(self, c: SQLiteCursor, reading: Reading) -> None:
        opening = "SELECT 1 FROM event WHERE position = ? AND originator_id = ? AND originator_version = 1"
        c.execute("SELECT number, deal FROM deal")
        for number, deal in c.sqlite_cursor:
            reading.cursor.execute(opening, (number, f"deal:{deal}"))
            if (reading.cursor.fetchone() is None or number > self._position) and len(self.found) < MOST:
                self._note("deal", f"deal={deal!r}", "the log knows no such deal")

    def _rows(self, source: str, table: str, *values: Any) -> list[Row]:
        """Rows with the cell and the marks that their numbers stand for."""
        assert self._c is not None  # noqa: S101
        marks = f"coalesce((SELECT marks FROM shape WHERE shape.id = {table}.shape), {table}.shape)"
        columns = ", ".join(marks if name == "shape" else name for name in COLUMNS[table])
        self._c.execute(f"SELECT {columns} FROM {source}", values)
        rows: list[Row] = self._c.fetchall()
        if "cell" in COLUMNS[table]:
            place = COLUMNS[table].index("cell")
            rows = [(*row[:place], self._cells.get(row[place], row[place]), *row[place + 1 :]) for row in rows]
        return rows

    def _compare(self, table: str, wanted: Iterable[Row], found: Iterable[Row]) -> None:
        """Two sets of rows, each as often as it stands there; values are told apart by their types too."""
        if sorted(map(repr, wanted)) == sorted(map(repr, found)):
            return
        rows = {repr(row): row for row in (*wanted, *found)}
        counts = Counter(map(repr, wanted))
        counts.subtract(map(repr, found))
        missing = [rows[text] for text, count in sorted(counts.items()) if count > 0]
        surplus = [rows[text] for text, count in sorted(counts.items()) if count < 0]
        for one, other in zip_longest(missing, surplus):
            if other is None:
                self._note(table, _name(table, one), "the row is missing")
            elif one is None:
                self._note(table, _name(table, other), "the row stands there too often, or should not stand there")
            else:
                wrong = ", ".join(_differing(COLUMNS[table], one, other))
                self._note(table, _name(table, other), f"{wrong}: not what the log says")

    def _note(self, table: str, row: str, why: str) -> None:
        self.found.append(Finding("read_model", f"{table} ({row}): {why}", table=table, row=row))

    def _cannot_fold(self, entries: list[Entry], trouble: Exception) -> None:
        """An event that the chain covers and no honest writer records: whatever the fold makes of it, it is told."""
        why = f"the events of {entries[0].stream} cannot be folded: {type(trouble).__name__}: {trouble}"
        self.found.append(Finding("event", why, entries[0].position))


def _itself(cell: Any) -> Any:
    """What stands for a cell where rows are compared: not its number, but what it says."""
    return cell


def _name(table: str, row: Row) -> str:
    """What a row is called: nothing of the personal part."""
    named = dict(zip(COLUMNS[table], row, strict=True))
    return ", ".join(f"{name}={named[name]!r}" for name in _NAMES[table])


def _differing(columns: Iterable[str], wanted: Row, found: Row) -> Iterator[str]:
    """The columns in which two rows differ; of a cell, what of it."""
    for name, one, other in zip(columns, wanted, found, strict=True):
        if repr(one) != repr(other):
            if name == "cell" and isinstance(other, tuple):
                yield from (f"cell.{part}" for part in _differing(COLUMNS["cell"][1:], one, other))
            else:
                yield "shape.marks" if name == "shape" else name
