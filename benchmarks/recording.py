"""Recording: one durable event against a bare application of the library, and a batch against executemany."""

import sqlite3
import tempfile
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate

from benchmarks.harness import Figure, alternate, figure
from benchmarks.stores import Clock, cache_folder, copied, opened, store
from benchmarks.workload import SIZES, workload
from dealtrail import Trail
from dealtrail.store.log import Log
from dealtrail.store.recorder import LogEvent

_SINGLE_ROUNDS = 200
_BATCH_ROUNDS = 5
_BATCH = 50_000
_NOTE = "x" * 200


class _Thing(Aggregate):
    class Noted(Aggregate.Event):
        """Something of a given size."""

        note: str


class _Bare(Application[Any]):
    pass


def run(size: str) -> list[Figure]:
    """Every line of the table about recording."""
    return [_single(size), *_batch(size)]


def _single(size: str) -> Figure:
    with copied(store(size)) as path, opened(path) as trail:
        env = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path.parent / "bare.db")}
        bare = _Bare(env)
        things = [_Thing() for _ in range(_SINGLE_ROUNDS + 1)]
        bare.save(*things)
        ours_recorded = trail.record(_action(_SINGLE_ROUNDS))
        state_size = _stored_size(path, ours_recorded.position)
        things[-1].trigger_event(_Thing.Noted, note="")
        bare.save(things[-1])
        least = bare.recorder.select_events(things[-1].id)[-1]
        note = "x" * (state_size - len(least.state))

        def theirs(number: int) -> None:
            things[number].trigger_event(_Thing.Noted, note=note)
            bare.save(things[number])

        pragmas = [_pragmas(bare.factory.datastore), _pragmas(Log(str(path), Clock())._datastore)]  # type: ignore[attr-defined]
        assert pragmas[0] == pragmas[1], pragmas
        ours, peers = alternate(_SINGLE_ROUNDS, lambda n: trail.record(_action(n)), theirs)
        stored = len(bare.recorder.select_events(things[0].id)[-1].state)
        assert stored == state_size, (stored, state_size)
        bare.close()
    setting = (
        f"ours: Trail.record of a dict, on a deal that must be read, in a store of {size}; theirs: trigger_event and"
        f" save, eventsourcing {version('eventsourcing')}, an almost empty store; {state_size} bytes of state,"
        f" {pragmas[0]} on both sides"
    )
    what, against = "one durable record", "a bare eventsourcing application saving one event"
    return figure("record", what, against, size, "≤ 1.5×", setting, ours, peers)


def _action(number: int) -> dict[str, Any]:
    return {"action": "set_attributes", "deal": f"D-{number * 7:07}", "attributes": {"remark": _NOTE}, "by": "anna"}


def _stored_size(path: Path, position: int) -> int:
    with sqlite3.connect(path) as c:
        size: int = c.execute("SELECT length(state) FROM event WHERE position = ?", (position,)).fetchone()[0]
    return size


def _pragmas(datastore: Any) -> str:
    with datastore.get_connection(commit=False) as connection:
        c = connection._sqlite_conn
        named = ("journal_mode", "synchronous")
        return ", ".join(f"{name}={c.execute(f'PRAGMA {name}').fetchone()[0]}" for name in named)


def _batch(size: str) -> list[Figure]:
    """A batch in one commit: decided events appended, and the whole way of `record_all`, against the bare rows."""
    actions = [step.action for step in islice(workload(SIZES[size]), _BATCH)]
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        first = Path(folder) / "first.db"
        with Trail.open(first, clock=Clock()) as trail:
            trail.record_all(actions)
        schema, rows = _schema_and_rows(first)
        events = [_log_event(row) for row in rows]

        def append(number: int) -> None:
            log = Log(str(Path(folder) / f"append-{number}.db"), Clock())
            log.recorder.insert_events(events)
            log.close()

        def whole(number: int) -> None:
            with Trail.open(Path(folder) / f"whole-{number}.db", clock=Clock()) as trail:
                trail.record_all(actions)

        def bare(number: int) -> None:
            _write(Path(folder) / f"bare-{number}.db", schema, rows)

        appended, recorded, theirs = alternate(_BATCH_ROUNDS, append, whole, bare)
        for name in ("append-0", "whole-0", "bare-0"):
            assert _contents(Path(folder) / f"{name}.db") == _contents(first), name
    peer = "executemany of the same encoded rows into the same table"
    setting = (
        f"{len(rows):,} events, one transaction, the file founded and synced within the timed region;"
        " journal_mode=WAL, synchronous=FULL on both sides"
    )
    rate = [len(rows) / ms * 1_000 for ms in appended]
    whole_rate = [len(rows) / ms * 1_000 for ms in recorded]
    return [
        figure("append", "atomic batch append of decided events", peer, size, "≤ 4×", setting, appended, theirs),
        figure("append-rate", "atomic batch append of decided events", "", size, "≥ 60,000 events/s", setting, rate,
               None, "events/s"),
        figure("record-all", "record_all: checked, decided and appended", peer, size, "", setting, recorded, theirs),
        figure("record-all-rate", "record_all: checked, decided and appended", "", size, "", setting, whole_rate,
               None, "events/s"),
    ]  # fmt: skip


def _schema_and_rows(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    with sqlite3.connect(path) as c:
        schema = [row[0] for row in c.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE"
                                              " 'sqlite_%' ORDER BY type = 'trigger', type = 'index'")]  # fmt: skip
        return schema, c.execute("SELECT * FROM event ORDER BY position").fetchall()


def _log_event(row: tuple[Any, ...]) -> LogEvent:
    _, originator_id, originator_version, topic, state, *rest, _ = row
    names = ("occurred_at", "recorded_at", "clock_behind_us", "actor", "action_id", "request", "amends", "personal")
    return LogEvent(originator_id, originator_version, topic, state, **dict(zip(names, rest, strict=True)))


def _write(path: Path, schema: list[str], rows: list[tuple[Any, ...]]) -> None:
    c = sqlite3.connect(path, isolation_level=None)
    c.execute("PRAGMA journal_mode=WAL")
    c.execute("PRAGMA synchronous=FULL")
    for sql in schema:
        c.execute(sql)
    c.execute("BEGIN IMMEDIATE")
    c.executemany(f"INSERT INTO event VALUES ({','.join('?' * len(rows[0]))})", rows)
    c.execute("COMMIT")
    c.close()


def _contents(path: Path) -> list[tuple[Any, ...]]:
    """What a log says, apart from when it was recorded and the chain, which differ from log to log."""
    with sqlite3.connect(path) as c:
        return c.execute(
            "SELECT position, originator_id, originator_version, topic, state, occurred_at, actor, amends, personal"
            " FROM event ORDER BY position"
        ).fetchall()
