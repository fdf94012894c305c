"""The state of a store's files: how far the log and the read model are, and what they are read and written with."""

import os
import platform
import sqlite3
from datetime import datetime
from glob import escape, glob
from importlib.metadata import version

import msgspec

from dealtrail.domain.times import moment
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log
from dealtrail.store.recorder import FORMAT

_SOUND_WAL = (3, 51, 3)


class Status(msgspec.Struct, frozen=True):
    """A store at this moment.

    `chain` is the hash of the log's last event: kept elsewhere, it shows later whether the log was cut or rewritten.
    `brought` is the last position whose `recorded_at` was brought from elsewhere by a restore, 0 where none was.
    `behind` counts the events that the read model does not know yet; the next question catches up with them. `files`
    are sizes in bytes. `advice` says what to mend, if anything.
    """

    path: str
    log: str
    format: int
    position: int
    recorded_at: datetime | None
    chain: str
    brought: int
    read_position: int
    behind: int
    versions: dict[str, str]
    files: dict[str, int]
    advice: list[str]


def status(log: Log, model: ReadModel) -> Status:
    """The state of a store. Errors: damaged, busy."""
    with log.reading() as reading:
        head, brought = reading.head(), reading.brought()
    read_position = min(model.position(), head.position)
    advice = []
    if sqlite3.sqlite_version_info < _SOUND_WAL:
        wanted = ".".join(map(str, _SOUND_WAL))
        advice.append(
            f"SQLite {sqlite3.sqlite_version} can, in a rare race of writers, corrupt a file; use {wanted} or later"
        )
    return Status(
        path=log.path,
        log=log.id,
        format=FORMAT,
        position=head.position,
        recorded_at=None if head.recorded_at is None else moment(head.recorded_at),
        chain=head.chain.hex(),
        brought=brought,
        read_position=read_position,
        behind=head.position - read_position,
        versions={
            "dealtrail": version("dealtrail"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        }
        | {name: version(name) for name in ("eventsourcing", "msgspec", "sqlite-utils")},
        files={} if log.in_memory else _sizes(log.path),
        advice=advice,
    )


def _sizes(path: str) -> dict[str, int]:
    """The size of the log, of the read model and of what SQLite keeps beside them."""
    beside = [path, f"{path}-wal", f"{path}-shm", *sorted(glob(f"{escape(path)}.read*"))]
    return {name: os.path.getsize(name) for name in beside if os.path.exists(name)}
