"""Writing the read model: what the log got since the checkpoint, or all of it."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.events import Entry
from dealtrail.domain.pipelines import Pipeline, redefined
from dealtrail.projections.fold import FOREVER, Folding, Mark, Path, PersonalPoint
from dealtrail.projections.rows import (
    Cell,
    StateColumns,
    marks_of,
    marks_text,
    path_columns,
    restored,
)
from dealtrail.projections.schema import COLUMNS, STATE, fingerprint, insert
from dealtrail.store.reading import Reading
from dealtrail.store.recording import Progress

_CHUNK_EVENTS = 20_000
_BATCH_ROWS = 10_000

# A deal's own row, but for what only a correction changes, is written over in place.
_MOVING = (
    *("last_at", "last_root", "from_at", "known_from"),
    *(name for name in STATE if name != "opened_at"),
    *("last_known", "shape", "ats", "knowns", "bases", "reasons"),
)
_GO_ON = f"UPDATE deal SET {', '.join(f'{name} = ?' for name in _MOVING)} WHERE number = ?"
_MOVING_PLACES = [COLUMNS["deal"].index(name) for name in (*_MOVING, "number")]
_FORGET = tuple(
    f"DELETE FROM {table} WHERE {column} = ?"
    for table, column in (("deal", "number"), ("period", "deal"), ("past_path", "deal"), ("personal", "deal"))
)
_OWN_ROWS = (
    f"SELECT deal.deal, number, cell.*, marks, {', '.join(f'deal.{name}' for name in COLUMNS['deal'][2:])}"
    " FROM json_each(?) AS given JOIN deal ON deal.deal = given.value"
    " JOIN cell ON cell.id = deal.cell JOIN shape ON shape.id = deal.shape"
)
_SET_CHECKPOINT = (
    "INSERT INTO checkpoint (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_TABLES = ("deal", "period", "past_path", "personal")


def deal_rows(
    number: int, deal: str, folding: Folding, columns: StateColumns, shape: Callable[[Path], Any]
) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of a deal by table, their columns as in `COLUMNS`; `shape` says what stands for the marks of a path."""
    assert folding.open is not None  # noqa: S101  a deal begins with its opening
    opened_into, _, *path = path_columns(folding.path, shape(folding.path))
    own = (
        number,
        deal,
        *folding.last,
        folding.open.from_at,
        folding.open.known_from,
        *columns.of(folding.open.state),
        opened_into,
        *path,
    )
    of_period = columns.of_period
    rows = {
        "deal": [own],
        "period": [of_period(number, period) for period in folding.ended],
        "past_path": [(number, past.known_to, *path_columns(past, shape(past))) for past in folding.past_paths],
    }
    if folding.personal or folding.past_personal:
        points = [(point, known_from, FOREVER) for point, known_from in folding.personal.items()]
        rows["personal"] = [_personal(number, *point) for point in (*points, *folding.past_personal)]
    return rows


class _Writer:
    """Rows on their way into the tables, a batch of each at a time."""

    def __init__(self, c: SQLiteCursor) -> None:
        self._c = c
        self._rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
        self._moved: list[tuple[Any, ...]] = []
        c.execute("SELECT pipeline, status, definition, stage, currency, id FROM cell")
        self._cells: dict[Cell, int] = {tuple(row[:5]): row[5] for row in c.fetchall()}
        self._shapes: dict[tuple[Mark, ...], int] = {}
        self._columns = StateColumns(self._cell)

    def add(self, number: int, deal: str, folding: Folding, *, known: bool = False) -> None:
        """The rows of a deal; `known` says that it has a row of its own already."""
        rows = deal_rows(number, deal, folding, self._columns, self._shape)
        if known:
            (row,) = rows.pop("deal")
            self._moved.append(tuple([row[place] for place in _MOVING_PLACES]))
        for table, some in rows.items():
            self._rows[table] += some

    @property
    def waiting(self) -> int:
        """How many rows of the largest table wait to be written."""
        return len(self._rows["period"])

    def flush(self) -> None:
        """Write what waits."""
        for table, rows in self._rows.items():
            self._c.executemany(insert(table), rows)
            rows.clear()
        self._c.executemany(_GO_ON, self._moved)
        self._moved.clear()

    def _cell(self, cell: Cell) -> int:
        number = self._cells.get(cell)
        if number is None:
            number = self._cells[cell] = len(self._cells) + 1
            self._c.execute(insert("cell"), (number, *cell))
        return number

    def _shape(self, path: Path) -> int:
        marks = tuple(path.marks)
        number = self._shapes.get(marks)
        if number is None:
            text = marks_text(marks)
            self._c.execute("SELECT id FROM shape WHERE marks = ?", (text,))
            row = self._c.fetchone()
            if row is None:
                self._c.execute("INSERT INTO shape (marks) VALUES (?)", (text,))
                row = (self._c.sqlite_cursor.lastrowid,)
            number = self._shapes[marks] = row[0]
        return number


def catch_up(c: SQLiteCursor, reading: Reading, log_id: str, position: int) -> None:
    """Fold what the log got since a position: rows and checkpoint, in one transaction of the caller's.

    A deal whose new events come last in business time goes on from its own row; any other is folded again.
    """
    head = reading.head()
    writer = _Writer(c)
    while position < head.position:
        entries = reading.steps_after(position, _CHUNK_EVENTS)
        position = entries[-1].position
        by_stream: dict[str, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream in [stream for stream in by_stream if not stream.startswith("deal:")]:
            del by_stream[stream]
            if stream.startswith("pipeline:"):
                _write_pipeline(c, reading.entries(stream, position))
        _go_on(c, writer, reading, {stream.removeprefix("deal:"): new for stream, new in by_stream.items()}, position)
        writer.flush()
    write_checkpoint(c, log_id, head.position, head.chain)


def _go_on(c: SQLiteCursor, writer: _Writer, reading: Reading, new: dict[str, list[Entry]], position: int) -> None:
    for deal, entries in new.items():
        if entries[0].version == 1:
            writer.add(entries[0].position, deal, Folding().fold(entries))
    known = [deal for deal, entries in new.items() if entries[0].version > 1]
    c.execute(_OWN_ROWS, (msgspec.json.encode(known).decode(),))
    for deal, number, _, pipeline, status, definition, stage, currency, marks, *row in c.fetchall():
        folding = restored(row, (pipeline, status, definition, stage, currency), marks_of(marks))
        if folding.goes_on(new[deal]):
            writer.add(number, deal, folding.fold(new[deal]), known=True)
            continue
        for statement in _FORGET:
            c.execute(statement, (number,))
        writer.add(number, deal, Folding().fold(reading.entries(f"deal:{deal}", position)))


def fill(c: SQLiteCursor, reading: Reading, log_id: str, progress: Progress | None) -> None:
    """Write every row of a new generation, deal by deal."""
    head = reading.head()
    for _, entries in reading.all_streams("pipeline", head.position):
        _write_pipeline(c, entries)
    writer = _Writer(c)
    done = 0
    for stream, entries in reading.all_streams("deal", head.position):
        writer.add(entries[0].position, stream.removeprefix("deal:"), Folding().fold(entries))
        done += len(entries)
        if writer.waiting >= _BATCH_ROWS:
            writer.flush()
            if progress is not None:
                progress(done, head.position)
    writer.flush()
    if progress is not None:
        progress(head.position, head.position)
    write_checkpoint(c, log_id, head.position, head.chain)


def _write_pipeline(c: SQLiteCursor, entries: Iterable[Entry]) -> None:
    rows = definition_rows(entries)
    c.execute("DELETE FROM definition WHERE pipeline = ?", (rows[0][0],))
    c.executemany(insert("definition"), rows)


def definition_rows(entries: Iterable[Entry]) -> list[tuple[Any, ...]]:
    """The rows of a pipeline's definitions, version 1 first."""
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
            msgspec.json.encode(d.said).decode(),
        )
        for d in pipeline.definitions
    ]


def _personal(number: int, point: PersonalPoint, known_from: int, known_to: int) -> tuple[Any, ...]:
    named = None if point.personal is None else msgspec.json.encode(dict(point.personal), order="sorted").decode()
    return (number, point.at, point.root, point.title, named, known_from, known_to)


def read_checkpoint(c: SQLiteCursor) -> tuple[str, int, str, str]:
    """The log's id, the position up to which it is folded, the chain there, and the fingerprint of the code."""
    c.execute("SELECT name, value FROM checkpoint")
    stored = dict(c.fetchall())
    return stored["log"], int(stored["position"]), stored["chain"], stored["made_by"]


def write_checkpoint(c: SQLiteCursor, log_id: str, position: int, chain: bytes) -> None:
    """Say up to where the log is folded."""
    values = {"log": log_id, "position": str(position), "chain": chain.hex(), "made_by": fingerprint()}
    c.executemany(_SET_CHECKPOINT, list(values.items()))
