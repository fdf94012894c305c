"""Reading the rows of a CSV file, plain or gzipped, a little at a time, whatever the file holds."""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

import msgspec

from dealtrail.domain.errors import DealtrailError, error, nearest

Source = str | os.PathLike[str] | IO[bytes]

MAX_LINE_BYTES = 1_048_576
MAX_COLUMNS = 1_000
# Event logs shrink to a tenth or a twentieth. What grows two hundred times was made to fill a disk.
MAX_GZIP_RATIO = 200
# Below this size no ratio is asked: a short file may well consist of one row, over and over.
_RATIO_FROM_BYTES = 16_777_216
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


class Row(msgspec.Struct, frozen=True):
    """A row of a file: the line it begins on, its cells by column, and why it cannot be used, if it cannot."""

    line: int
    cells: dict[str, str]
    bad: DealtrailError | None = None


class CsvFile:
    """A CSV file with a header, opened: `columns` are known at once, `rows()` are read as they are asked for.

    Errors that concern the whole file: unreadable_file, gzip_bomb, line_too_long, wrong_encoding, invalid_csv,
    empty_file, duplicate_header, too_many_columns. Use it as a context manager.
    """

    def __init__(self, source: Source, encoding: str = "utf-8", delimiter: str = ",") -> None:
        self.name = str(getattr(source, "name", "the input")) if hasattr(source, "read") else os.fspath(source)
        self._encoding = encoding
        self._opened = ExitStack()
        try:
            self._reader = csv.reader(self._lines(self._bytes(source)), delimiter=delimiter, strict=True)
            self.columns = self._header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, if it was opened here."""
        self._opened.close()

    def __enter__(self) -> "CsvFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def require(self, column: str, field: str) -> None:
        """Refuse a file that lacks a column. Errors: missing_column."""
        if column not in self.columns:
            raise error("missing_column", field, path=self.name, column=column, nearest=nearest(column, self.columns))

    def rows(self) -> Iterator[Row]:
        """The rows below the header; empty lines are passed over. A row of its own fault comes with its error."""
        while True:
            line = self._reader.line_num + 1
            try:
                values = next(self._reader)
            except StopIteration:
                return
            except csv.Error as trouble:
                # A quote that is never closed swallows the lines after it: then no row below can be trusted.
                if self._reader.line_num > line:
                    raise self._invalid(line, trouble) from None
                yield Row(line, {}, self._invalid(line, trouble))
                continue
            if not values:
                continue
            cells = dict(zip(self.columns, values, strict=False))
            if len(values) == len(self.columns):
                yield Row(line, cells)
            else:
                yield Row(line, cells, error("field_count", line=line, given=len(values), columns=len(self.columns)))

    def _header(self) -> list[str]:
        try:
            header = next(self._reader, None)
        except csv.Error as trouble:
            raise self._invalid(1, trouble) from None
        if not header:
            raise error("empty_file", path=self.name)
        if len(header) > MAX_COLUMNS:
            raise error("too_many_columns", path=self.name, given=len(header), most=MAX_COLUMNS)
        for place, column in enumerate(header):
            if column in header[:place]:
                raise error("duplicate_header", path=self.name, column=column)
        return header

    def _invalid(self, line: int, trouble: csv.Error) -> DealtrailError:
        return error("invalid_csv", path=self.name, line=line, why=str(trouble))

    def _bytes(self, source: Source) -> IO[bytes]:
        """The bytes of the file, unpacked where they are gzipped, whatever its name says."""
        try:
            if isinstance(source, str | os.PathLike):
                raw: IO[bytes] = self._opened.enter_context(open(source, "rb"))  # noqa: SIM115  the stack closes it
            else:
                raw = source
            return unpacked(raw, self.name)
        except (OSError, ValueError) as trouble:
            raise self._unreadable(trouble) from None

    def _lines(self, source: IO[bytes]) -> Iterator[str]:
        """The lines of the file as text. Errors: unreadable_file, gzip_bomb, line_too_long, wrong_encoding."""
        number = 0
        while line := self._line(source):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise error("line_too_long", path=self.name, line=number, most=MAX_LINE_BYTES)
            if number == 1:
                line = line.removeprefix(_BOM)
            try:
                yield line.decode(self._encoding)
            except UnicodeError:
                raise error("wrong_encoding", path=self.name, line=number, encoding=self._encoding) from None

    def _line(self, source: IO[bytes]) -> bytes:
        try:
            return source.readline(MAX_LINE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as trouble:
            raise self._unreadable(trouble) from None

    def _unreadable(self, trouble: Exception) -> DealtrailError:
        return error("unreadable_file", path=self.name, why=getattr(trouble, "strerror", None) or str(trouble))


def unpacked(raw: IO[bytes], name: str) -> IO[bytes]:
    """The bytes of a stream, unpacked where they are gzipped. Errors, where they are read: gzip_bomb."""
    packed = _Counted(raw)
    # A buffer, so that the first bytes can be looked at also where the input cannot be wound back.
    buffered = io.BufferedReader(packed)
    if buffered.peek(2)[:2] != _GZIP:
        return buffered
    opened = _Counted(gzip.GzipFile(fileobj=buffered), name, packed)  # type: ignore[arg-type]
    return io.BufferedReader(opened, 65_536)


class _Counted(io.RawIOBase):
    """A stream that counts what was read of it, and stops where that grew too far beyond what it was unpacked from."""

    def __init__(self, inner: IO[bytes], name: str = "", packed: "_Counted | None" = None) -> None:
        # What is there at once: whoever writes into a pipe line by line is not kept waiting for a buffer to fill.
        self._read = getattr(inner, "read1", inner.read)
        self._name = name
        self._packed = packed
        self.count = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as one read goes. Errors: gzip_bomb."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        if self._packed is not None and self.count > max(_RATIO_FROM_BYTES, MAX_GZIP_RATIO * self._packed.count):
            raise error("gzip_bomb", path=self._name, most=MAX_GZIP_RATIO)
        return len(data)
