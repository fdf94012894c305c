"""A log as lines of JSON: a header, one line for each event with all that the log keeps of it, and a trailer.

A part of a log begins after a position, `since`, whose chain stands in the header; the trailer says where it ends. So
a file that was cut, parts in the wrong order and lines that were changed are noticed by whoever reads them.
"""

from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

import msgspec

from dealtrail.domain.errors import DealtrailError, InvalidInput, Refused, error
from dealtrail.domain.texts import parse_json
from dealtrail.domain.times import instant, moment
from dealtrail.store.recorder import FORMAT

LINES = 1
# No event is as long: its attributes, its definition or its personal part have limits of their own.
_LONGEST_BYTES = 2**26

Row = tuple[Any, ...]


class Header(msgspec.Struct, frozen=True):
    """The first line: `log` for a part of a log, or `history` for actions that were recorded elsewhere."""

    dealtrail: str
    lines: int
    log: str = ""
    format: int = FORMAT
    since: int = 0
    chain: str = ""


class EventLine(msgspec.Struct, frozen=True):
    """An event: `state` and `personal` are the stored texts as they are, so that the chain can be made again."""

    position: int
    recorded_at: datetime
    occurred_at: datetime
    clock_behind_us: int | None
    stream: str
    version: int
    event: str
    state: str
    by: str | None
    id: str | None
    request: str | None
    amends: int | None
    personal: str | None
    chain: str


class Trailer(msgspec.Struct, frozen=True):
    """The last line: how many lines stand between header and trailer, and the head of the log that they lead to."""

    dealtrail: str
    count: int
    position: int | None = None
    chain: str | None = None


def line_of(row: Row) -> EventLine:
    """The line of an event, as its row is stored. Raises ValueError, TypeError … where no event is stored so."""
    position, stream, version, tag, state, occurred_at, recorded_at, *more, chain = row
    behind, by, id_, request, amends, personal = more
    return EventLine(
        position=position,
        recorded_at=moment(recorded_at),
        occurred_at=moment(occurred_at),
        clock_behind_us=behind,
        stream=stream,
        version=version,
        event=tag,
        state=state.decode(),
        by=by,
        id=id_,
        request=None if request is None else request.hex(),
        amends=amends,
        personal=None if personal is None else personal.decode(),
        chain=chain.hex(),
    )


def row_of(line: EventLine) -> Row:
    """The row of a line, as it was stored. Raises ValueError where there is none."""
    return (
        line.position,
        line.stream,
        line.version,
        line.event,
        line.state.encode(),
        instant(line.occurred_at),
        instant(line.recorded_at),
        line.clock_behind_us,
        line.by,
        line.id,
        None if line.request is None else bytes.fromhex(line.request),
        line.amends,
        None if line.personal is None else line.personal.encode(),
        bytes.fromhex(line.chain),
    )


class LineFile:
    """A file of such lines, being read: its header, and what stands up to its trailer.

    As a context manager it says of a refusal in which line of the file it came.
    Errors: unreadable_file, invalid_line, cut_file, newer_store.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.number = 0
        self.bytes_read = 0
        self.trailer: Trailer | None = None
        try:
            self._file = open(path, "rb")  # noqa: SIM115  it is closed by __exit__
        except (OSError, ValueError) as trouble:
            why = getattr(trouble, "strerror", None) or str(trouble)  # a name that no file can have is a ValueError
            raise error("unreadable_file", path=path, why=why) from trouble

    def __enter__(self) -> "LineFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if isinstance(raised, InvalidInput | Refused) and "path" not in raised.facts:
            raised.message = f"{self.path}, line {self.number}: {raised.message}"
            raised.facts |= {"path": self.path, "line": self.number}

    def header(self) -> Header:
        """The first line."""
        raw = self._next()
        if not raw.endswith(b"\n"):
            raise self._cut("the first line has no end")
        why = "the file begins with no header; give one that `backup --since` wrote, or a history with a header"
        try:
            found = parse_json(raw)
            header = msgspec.convert(found, Header)
        except (DealtrailError, msgspec.ValidationError, UnicodeEncodeError):
            raise self.invalid(why) from None
        if header.dealtrail not in ("log", "history"):
            raise self.invalid(why)
        for name, given, known in (("lines", header.lines, LINES), ("format", header.format, FORMAT)):
            if given > known:
                raise error("newer_store", path=self.path, sign=f"{name} {given}")
        if header.dealtrail == "log" and not (
            header.log.isascii() and header.log.isprintable() and 1 <= len(header.log) <= 64
        ):
            raise self.invalid("the header names no log")
        return header

    def body(self) -> Iterator[dict[str, Any]]:
        """The lines between header and trailer."""
        count = 0
        while True:
            raw = self._next()
            try:
                found = parse_json(raw)
            except DealtrailError:
                if raw.endswith(b"\n"):
                    raise
                raise self._cut("the last line has no end") from None
            if "dealtrail" in found:
                break
            count += 1
            yield found
        self._finish(found, count)

    def _finish(self, found: dict[str, Any], count: int) -> None:
        try:
            self.trailer = msgspec.convert(found, Trailer)
        except (msgspec.ValidationError, UnicodeEncodeError) as trouble:
            raise self.invalid(f"this is no trailer: {trouble}") from None
        if self.trailer.dealtrail != "end":
            raise self.invalid("a second header stands in the file; give one file for each export")
        if self.trailer.count != count:
            raise self._cut(f"the trailer counts {self.trailer.count} lines, and {count} are there")
        if self._read():
            self.number += 1
            raise self.invalid("something stands behind the trailer; give one file for each export")

    def _next(self) -> bytes:
        raw = self._read()
        if not raw:
            raise self._cut("it has no trailer")
        self.number += 1
        if len(raw) > _LONGEST_BYTES:
            raise self.invalid(f"it is longer than {_LONGEST_BYTES} bytes")
        return raw

    def _read(self) -> bytes:
        try:
            raw = self._file.readline(_LONGEST_BYTES + 1)
        except OSError as trouble:
            raise error("unreadable_file", path=self.path, why=trouble.strerror or str(trouble)) from trouble
        self.bytes_read += len(raw)
        return raw

    def invalid(self, why: str) -> DealtrailError:
        """The refusal of the line that was read last."""
        return error("invalid_line", path=self.path, line=self.number, why=why)

    def _cut(self, why: str) -> DealtrailError:
        return error("cut_file", path=self.path, line=self.number, why=why)
