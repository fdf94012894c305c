"""Restoring: a new log founded from lines, those of a log as they were, or a history that was recorded elsewhere."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from dealtrail.domain.actions import parse_action
from dealtrail.domain.errors import error
from dealtrail.domain.times import Instant, moment, parse_time
from dealtrail.store import mapper
from dealtrail.store.connections import translated
from dealtrail.store.copying import verify_copy
from dealtrail.store.forgetting import use_keys, vault_of
from dealtrail.store.keys import Keys
from dealtrail.store.lines import EventLine, Header, LineFile, Row, row_of
from dealtrail.store.log import Log
from dealtrail.store.placing import placed
from dealtrail.store.recorder import ELSEWHERE, Head, link
from dealtrail.store.recording import Progress

_PER_COMMIT = 1_000
T = TypeVar("T")


class Restored(msgspec.Struct, frozen=True):
    """A store that was founded from lines and verified, and its head.

    `brought` is the last position whose `recorded_at` was brought from elsewhere, 0 where none was.
    """

    path: str
    log: str
    position: int
    chain: str
    brought: int


def restore(
    path: str, files: Sequence[str], clock: Callable[[], datetime], progress: Progress | None, keys: Keys | None = None
) -> Restored:
    """Found a store from files of lines; see `Keeping.restore`."""
    if not files:
        raise error("invalid_field", "files", why="give at least one file of lines")
    with placed(path) as partial:
        with LineFile(files[0]) as lines:
            header = lines.header()
            if header.dealtrail == "history" and len(files) > 1:
                raise lines.invalid("a history is restored from one file alone; put all its lines into one")
        brings = header.dealtrail == "history"
        now = clock()
        new_id = f"{ELSEWHERE}{uuid4().hex}" if brings else header.log
        # Nothing of it is acknowledged before the whole file is brought to the disk.
        with closing(Log(partial, lambda: now, new_id=new_id, durable=False)) as log:
            if brings and keys is not None:
                log.vault = vault_of(log, keys)
            tell = _Told(files, progress)
            head = Head(0, bytes(32), None)
            for file in files:
                with LineFile(file) as lines:
                    if brings:
                        _record(log, lines, tell)
                    else:
                        head = _append(log, lines, head, tell)
            if brings and keys is not None:
                use_keys(log, keys)  # what says so bears a time of this log's clock, behind all that was brought
            with log.reading() as reading:
                head, brought = reading.head(), reading.brought()
        verify_copy(partial, head, path)
    return Restored(path, new_id, head.position, head.chain.hex(), brought)


def _append(log: Log, lines: LineFile, head: Head, tell: "_Told") -> Head:
    """Put the events of a file behind what came before it, as they were, and give the new head."""
    header = lines.header()
    _must_follow(log, lines, header, head)
    rows = _Rows(log.id, lines, head)
    for lot in _lots(rows):
        with translated(log.path), log.recorder.datastore.transaction(commit=True) as c:
            log.recorder.put_back(c, lot)
        tell(lines)
    tell(lines)
    end, head = lines.trailer, rows.head
    if end is None or (end.position, end.chain) != (head.position, head.chain.hex()):
        raise lines.invalid(f"the trailer does not name the head to which the lines lead, {head.position}")
    return head


def _must_follow(log: Log, lines: LineFile, header: Header, head: Head) -> None:
    """Refuse a file that does not go on where the one before it ended. Errors: other_log, log_gap, wrong_chain."""
    if header.dealtrail != "log" or header.log != log.id:
        raise error("other_log", path=lines.path, given=header.log or "a history", log=log.id)
    if header.since != head.position:
        raise error("log_gap", path=lines.path, since=header.since, position=head.position)
    if header.chain != head.chain.hex():
        raise error("wrong_chain", path=lines.path, line=lines.number, position=head.position)


class _Rows:
    """The rows of a file, each the next of the log, and the head to which they have led so far."""

    def __init__(self, log_id: str, lines: LineFile, head: Head) -> None:
        self._log_id = log_id
        self._lines = lines
        self.head = head

    def __iter__(self) -> Iterator[Row]:
        """Errors: invalid_line, wrong_chain, not_after_previous, newer_store, damaged."""
        for found in self._lines.body():
            position = self.head.position + 1
            try:
                row = row_of(msgspec.convert(found, EventLine))
                chain = link(self.head.chain, self._log_id, position, row[1:-1])
            except (ValueError, TypeError, OverflowError) as trouble:
                raise self._lines.invalid(f"this is no event: {trouble}") from None
            if (row[0], row[-1]) != (position, chain):
                raise error("wrong_chain", path=self._lines.path, line=self._lines.number, position=row[0])
            recorded_at: Instant = row[6]
            if self.head.recorded_at is not None and recorded_at < self.head.recorded_at:
                raise error("not_after_previous", "recorded_at")
            mapper.decode(row[3], row[4], self._lines.path)
            mapper.decode_personal(row[12], self._lines.path)
            self.head = Head(position, chain, recorded_at)
            yield row


def _record(log: Log, lines: LineFile, tell: "_Told") -> None:
    """Record the actions of a history, each a step of its own at its `recorded_at`, judged as any action is."""
    lines.header()
    now, last = log.clock(), None
    with log.writing() as writing:
        for count, found in enumerate(lines.body(), 1):
            recorded_at = _recorded_at(found, now, last)
            writing.step([parse_action(found)], recorded_at)
            last = recorded_at
            if count % _PER_COMMIT == 0:
                writing.flush()
                tell(lines)
    tell(lines)


def _recorded_at(found: dict[str, Any], now: Instant, last: Instant | None) -> Instant:
    """Take from an action when it was recorded. Errors: missing_field, not_after_previous, and those of a time."""
    if "recorded_at" not in found:
        raise error("missing_field", "recorded_at")
    recorded_at = parse_time(found.pop("recorded_at"), "recorded_at")
    if last is not None and recorded_at <= last:
        raise error("not_after_previous", "recorded_at")
    if recorded_at >= now:
        raise error("invalid_field", "recorded_at", why=f"it is not earlier than now ({moment(now).isoformat()})")
    return recorded_at


class _Told:
    """Tells how many bytes of how many are read, over all files."""

    def __init__(self, files: Sequence[str], progress: Progress | None) -> None:
        self._total = sum(os.path.getsize(file) for file in files if os.path.isfile(file))
        self._read: dict[str, int] = {}
        self._progress = progress

    def __call__(self, lines: LineFile) -> None:
        """Tell how far a file is read."""
        self._read[lines.path] = lines.bytes_read
        if self._progress is not None:
            self._progress(sum(self._read.values()), self._total)


def _lots(items: Iterable[T]) -> Iterator[list[T]]:
    """What shares a commit."""
    rest = iter(items)
    while lot := list(islice(rest, _PER_COMMIT)):
        yield lot
