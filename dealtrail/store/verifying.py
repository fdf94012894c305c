"""Verifying the log: what its file holds, read as raw values by SQL, and all that can be computed of it again.

Nothing here goes through the code that wrote the log: a mistake there, or a change by another program, would be made
twice and not be seen. Every list of findings begins with the first wrong position and is cut off at `MOST`.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.errors import DealtrailError
from dealtrail.store.heads import Head
from dealtrail.store.log import Log
from dealtrail.store.recorder import ELSEWHERE, FORMAT, SCHEMA
from dealtrail.store.recording import Progress

MOST = 20
_CHUNK_EVENTS = 10_000

# Every column of an event that the chain covers, in its order, with the types that its values may have.
COLUMNS: dict[str, tuple[str, ...]] = {
    "originator_id": ("text",),
    "originator_version": ("integer",),
    "topic": ("text",),
    "state": ("blob",),
    "occurred_at": ("integer",),
    "recorded_at": ("integer",),
    "clock_behind_us": ("integer",),
    "actor": ("text", "null"),
    "action_id": ("text", "null"),
    "request": ("blob", "null"),
    "amends": ("integer", "null"),
    "personal": ("blob", "null"),
}
_STREAM_KINDS = (b"deal:", b"pipeline:", b"subject:", b"log:")
_LETTERS = {"null": b"n", "integer": b"i", "text": b"t", "blob": b"b"}
# The bytes of a text as they are stored, also where they are no text at all.
_RAW = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in (*COLUMNS, "chain"))
_EVENTS = f"SELECT position, {_RAW} FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
_LAST = "SELECT position, typeof(chain), CAST(chain AS BLOB) FROM event ORDER BY position DESC LIMIT 1"
_STREAMS = (
    "SELECT position FROM (SELECT position, originator_version AS version,"
    " lag(originator_version, 1, 0) OVER stream AS version_before, lag(position, 1, 0) OVER stream AS position_before"
    " FROM event WINDOW stream AS (PARTITION BY originator_id ORDER BY originator_version))"
    f" WHERE version IS NOT version_before + 1 OR position <= position_before LIMIT {MOST}"
)
_SCHEMA = "SELECT name, type, tbl_name, sql FROM sqlite_master"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be: of which `kind` it is, where, and in a sentence.

    `position` is the place in the log; `table` and `row` are those of the read model.
    """

    kind: str
    why: str
    position: int | None = None
    table: str | None = None
    row: str | None = None


def end_of(log: Log) -> Head:
    """The end of the log as it is stored. Errors: damaged."""
    with log.reading() as reading:
        reading.cursor.execute(_LAST)
        row = reading.cursor.fetchone()
    return Head(row[0], (row[2] or b"").hex()) if row else Head(0, bytes(32).hex())


def verify_log(log: Log, end: Head, kept: Head | None, progress: Progress) -> list[Finding]:
    """What is wrong with the log up to its end, the first wrong position first; `progress` counts its events."""
    found: list[Finding] = []
    checks: tuple[Callable[[], list[Finding]], ...] = (
        lambda: _events(log, end.position, progress),
        lambda: _kept(log, end, kept),
        lambda: _identity(log),
        lambda: _streams(log),
        lambda: _tail(log),
        lambda: _file(log),
    )
    for check in checks:
        try:
            found += check()
        except DealtrailError as trouble:
            if trouble.code != "damaged":
                raise
            found.append(Finding("damaged", trouble.facts["why"]))
    return found


def _events(log: Log, upto: int, progress: Progress) -> list[Finding]:
    """Each event against the one before it."""
    seen = _Seen(log.id)
    try:
        while seen.position < upto and len(seen.found) < MOST:
            with log.reading() as reading:
                reading.cursor.execute(_EVENTS, (seen.position, upto, _CHUNK_EVENTS))
                before = seen.position
                for row in reading.cursor.sqlite_cursor:
                    if not seen.follow(row) or len(seen.found) >= MOST:
                        return seen.found
            progress(seen.position, upto)
            if seen.position == before:
                seen.note("position", seen.position + 1, f"positions {seen.position + 1} to {upto} are missing")
                break
    except DealtrailError as trouble:
        if trouble.code != "damaged":
            raise
        why = f"the log cannot be read from position {seen.position + 1} on: {trouble.facts['why']}"
        seen.note("file", seen.position + 1, why)
    return seen.found


class _Seen:
    """The events up to one, as far as the next is judged by them."""

    def __init__(self, log_id: str) -> None:
        self._log = log_id.encode()
        self.position = 0
        self._chain = bytes(32)
        self._recorded_at = 0
        # Whether times that were brought from elsewhere may still come: they come first.
        self._brought = log_id.startswith(ELSEWHERE)
        self.found: list[Finding] = []

    def note(self, kind: str, position: int, why: str) -> None:
        """Keep a finding."""
        self.found.append(Finding(kind, why, position))

    def follow(self, row: tuple[Any, ...]) -> bool:
        """Judge the next event, then take it as it is stored, to judge by it what follows. False: nothing can."""
        position, *cells = row
        types, values = cells[:-2:2], [value or b"" for value in cells[1:-2:2]]
        stored = cells[-1] or b""
        expected = self.position + 1
        if position < expected:
            self.note("file", position, f"position {position} stands behind position {self.position}")
            return False
        if position > expected:
            missing = f"position {expected} is" if position == expected + 1 else f"{expected} to {position - 1} are"
            self.note("position", expected, f"{missing} missing: {position} follows {self.position}")
        wrong = [
            f"{name} is of type {kind}"
            for (name, allowed), kind in zip(COLUMNS.items(), types, strict=True)
            if kind not in allowed
        ]
        if cells[-2] != "blob":
            wrong.append(f"chain is of type {cells[-2]}")
        if wrong:
            self.note("column", position, f"event {position}: {', '.join(wrong)}")
        elif position == expected and _link(self._chain, self._log, position, types, values) != stored:
            self.note("chain", position, f"event {position} or its chain is not what was recorded")
        else:
            self._judge(position, dict(zip(COLUMNS, values, strict=True)))
        recorded_at = values[list(COLUMNS).index("recorded_at")]
        self.position, self._chain = position, stored
        self._recorded_at = self._recorded_at if wrong else int(recorded_at)
        return True

    def _judge(self, position: int, cells: dict[str, bytes]) -> None:
        """What no honest writer records, though its chain be right."""
        recorded_at, occurred_at = int(cells["recorded_at"]), int(cells["occurred_at"])
        behind = int(cells["clock_behind_us"])
        self._brought = self._brought and behind < 0
        if position > 1 and recorded_at < self._recorded_at:
            self.note("time", position, f"event {position} was recorded earlier than the one before it")
        elif occurred_at > recorded_at:
            self.note("time", position, f"event {position} occurred later than it was recorded")
        elif behind < 0 and not self._brought:
            self.note("time", position, f"event {position} was recorded before the clock said so")
        elif cells["amends"] and not 0 < int(cells["amends"]) < int(cells["originator_version"]):
            self.note("column", position, f"event {position} amends an event that does not come before it")
        elif not cells["originator_id"].startswith(_STREAM_KINDS):
            self.note("column", position, f"event {position} is of neither a deal nor a pipeline, a subject or the log")


def _link(chain: bytes, log: bytes, position: int, types: list[str], values: list[bytes]) -> bytes:
    """The chain at an event, by the format that the decision about the hash chain writes down."""
    parts = [chain, b"t%d:" % len(log), log, b"i%d:%d" % (len(b"%d" % position), position)]
    for kind, value in zip(types, values, strict=True):
        parts += (_LETTERS[kind], b"%d:" % len(value), value)
    return sha256(b"".join(parts)).digest()


def _kept(log: Log, end: Head, kept: Head | None) -> list[Finding]:
    """A head that was kept elsewhere against the log."""
    if kept is None:
        return []
    if kept.position > end.position:
        why = (
            f"the log ends at {end.position}, but its head was kept at {kept.position}: the end was cut off, "
            "or an older copy was put in its place"
        )
        return [Finding("head", why, end.position + 1)]
    with log.reading() as reading:
        reading.cursor.execute("SELECT CAST(chain AS BLOB) FROM event WHERE position = ?", (kept.position,))
        row = reading.cursor.fetchone()
    chain = bytes(32) if kept.position == 0 else (row and row[0]) or b""
    if chain.hex() == kept.chain:
        return []
    why = f"the log up to position {kept.position} is not the one whose head was kept: it was written anew"
    return [Finding("head", why, kept.position)]


def _identity(log: Log) -> list[Finding]:
    """Who the log says that it is, and the tables, indexes and triggers that keep it."""
    with log.reading() as reading:
        reading.cursor.execute("SELECT format FROM log")
        formats = [row[0] for row in reading.cursor.fetchall()]
        reading.cursor.execute(_SCHEMA)
        stands = {name: tuple(row) for name, *row in reading.cursor.fetchall()}
    found = []
    if len(formats) != 1 or type(formats[0]) is not int or not 1 <= formats[0] <= FORMAT:
        found.append(Finding("identity", "the log does not say in one row who it is and which format it has"))
    wanted = _wanted()
    for name, (kind, _, _) in wanted.items():
        if stands.get(name) != wanted[name]:
            how = "changed" if name in stands else "removed"
            found.append(Finding("schema", f"the {kind} {name} was {how}"))
    for name, (kind, of, _) in stands.items():
        if name not in wanted and of in wanted:  # tables of other programs do the log no harm
            found.append(Finding("schema", f"the {kind} {name} of the table {of} does not belong to a log"))
    return found


@cache
def _wanted() -> dict[str, tuple[str, str, str | None]]:
    """The schema of a log as SQLite writes it down."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in SCHEMA:
            db.execute(statement)
        return {name: tuple(row) for name, *row in db.execute(_SCHEMA).fetchall()}


def _streams(log: Log) -> list[Finding]:
    """The versions of each deal and pipeline: 1, 2, 3 … in the order of positions."""
    with log.reading() as reading:
        reading.cursor.execute(_STREAMS)
        positions = sorted(row[0] for row in reading.cursor.fetchall())
    return [
        Finding("version", f"event {position} does not bear the next version of its deal or pipeline", position)
        for position in positions
    ]


def _tail(log: Log) -> list[Finding]:
    """The end of the log against the last position that SQLite remembers to have given."""
    with log.reading() as reading:
        reading.cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'")
        given = [row[0] for row in reading.cursor.fetchall()]
        reading.cursor.execute("SELECT max(position) FROM event")
        last = reading.cursor.fetchone()[0] or 0
    if given == [last] or (not given and not last):
        return []
    return [Finding("tail", f"the log ends at {last}, but SQLite gave positions up to {given[0] if given else 'none'}")]


def _file(log: Log) -> list[Finding]:
    """The file as SQLite sees it: its pages, and its indexes against its rows."""
    with log.reading() as reading:
        return [Finding("file", f"SQLite says: {line}") for line in unsound(reading.cursor)]


def unsound(c: SQLiteCursor) -> list[str]:
    """What SQLite itself finds wrong with a file, in its own words."""
    c.execute(f"PRAGMA integrity_check({MOST})")
    return [line for (line,) in c.fetchall() if line != "ok"]
