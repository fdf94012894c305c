"""Backing up: a log as a copy of its file while writers go on, or as lines of what it got since a position."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import msgspec

from dealtrail.domain.errors import error
from dealtrail.store import heads
from dealtrail.store.connections import file_name, translated
from dealtrail.store.lines import LINES, EventLine, Header, Trailer, line_of
from dealtrail.store.log import Log
from dealtrail.store.placing import placed
from dealtrail.store.recorder import FORMAT, Head, link
from dealtrail.store.recording import Progress
from dealtrail.store.verifying import end_of, verify_log

# Some megabytes between two calls of `progress`.
_PAGES = 1_000
_EVENTS = 1_000


class BackedUp(msgspec.Struct, frozen=True):
    """A backup that was made and verified.

    It holds the events after `since` (0: all) up to `position`, where the chain of the log `log` has the value `chain`.
    """

    path: str
    log: str
    since: int
    position: int
    chain: str
    bytes: int


def back_up(log: Log, path: str, *, overwrite: bool, progress: Progress | None) -> BackedUp:
    """A copy of the log's file as one transaction sees it; see `Keeping.backup`."""
    with placed(path, overwrite=overwrite) as partial:
        with log.reading() as reading:
            # The transaction has begun: whatever is recorded from here on is not in the copy, and never makes the
            # copying begin again.
            head = reading.head()
            source: sqlite3.Connection = reading.cursor.sqlite_cursor.connection
            with translated(path), closing(sqlite3.connect(file_name(partial, create=True), uri=True)) as copy:
                source.backup(
                    copy,
                    # Who writes to a database in memory waits for those who read it.
                    pages=-1 if log.in_memory else _PAGES,
                    progress=None if progress is None else lambda _, left, total: progress(total - left, total),
                )
        verify_copy(partial, head, log.path)
        size = os.path.getsize(partial)
    return BackedUp(path, log.id, 0, head.position, head.chain.hex(), size)


def export(log: Log, path: str, since: int, *, overwrite: bool, progress: Progress | None) -> BackedUp:
    """The events after a position as lines; see `Keeping.backup`."""
    with log.reading() as reading:
        head = reading.head()
        chain = reading.chain_at(since)
    if chain is None:
        raise error("invalid_field", "since", why=f"the log ends at {head.position}: {since} is no position of it")
    encode = msgspec.json.Encoder().encode
    with placed(path, overwrite=overwrite) as partial:
        with open(partial, "wb") as file:
            file.write(encode(Header("log", LINES, log.id, FORMAT, since, chain.hex())) + b"\n")
            for done, line in enumerate(_lines(log, since, chain, head.position), 1):
                file.write(encode(line) + b"\n")
                if progress is not None and (done % _EVENTS == 0 or since + done == head.position):
                    progress(done, head.position - since)
            file.write(encode(Trailer("end", head.position - since, head.position, head.chain.hex())) + b"\n")
        size = os.path.getsize(partial)
    return BackedUp(path, log.id, since, head.position, head.chain.hex(), size)


def _lines(log: Log, since: int, chain: bytes, upto: int) -> Iterator[EventLine]:
    """The lines of the events after a position, none missing, each with the chain that it must have. Errors: damaged.

    Nothing is held open between two lots: what lies up to a position never changes.
    """
    while since < upto:
        with log.reading() as reading:
            rows = reading.rows(since, upto, _EVENTS)
        if not rows:
            raise error("damaged", path=log.path, why=f"event {since + 1} is missing")
        for row in rows:
            since += 1
            try:
                chain = link(chain, log.id, since, row[1:-1])
                line = line_of(row)
            except (TypeError, ValueError, AttributeError, OverflowError) as trouble:
                raise error("damaged", path=log.path, why=f"event {since} cannot be read") from trouble
            if (row[0], row[-1]) != (since, chain):
                raise error("damaged", path=log.path, why=f"event {since} does not continue the chain")
            yield line


def verify_copy(copy: str, head: Head, source: str) -> None:
    """Refuse a closed file that is not the log up to a head, whole and sound. Errors: damaged."""
    with closing(Log(copy, lambda: datetime.now(UTC), create=False)) as log:
        end, kept = end_of(log), heads.Head(head.position, head.chain.hex())
        found = verify_log(log, end, kept, lambda done, of: None)
    if found or end != kept:
        why = found[0].why if found else f"it ends at {end}"
        raise error("damaged", path=source, why=f"what was written of it is not sound: {why}")
