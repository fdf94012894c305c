"""The state of a store's files: how far the log and the read model are, and what they are read and written with."""

import os
import platform
import sqlite3
from datetime import datetime
from glob import escape, glob
from importlib.metadata import version

import msgspec

from dealtrail.domain.times import moment
from dealtrail.projections.readmodel import ReadModel, Rebuilt
from dealtrail.projections.schema import fingerprint
from dealtrail.projections.verification import Verified, last_verified
from dealtrail.store.forgetting import recorded_in_clear
from dealtrail.store.log import Log
from dealtrail.store.recorder import FORMAT

# The versions that mended the WAL-reset bug, by the line of releases that each ends or begins.
_SOUND_WAL = {(3, 44): (3, 44, 6), (3, 50): (3, 50, 7), (3, 51): (3, 51, 3)}


class Sizes(msgspec.Struct, frozen=True):
    """Sizes in bytes: of the log, of its write-ahead log, and of all files of the read model."""

    log: int
    wal: int
    read_model: int


class Status(msgspec.Struct, frozen=True):
    """A store at this moment.

    `chain` is the hash of the log's last event: kept elsewhere, it shows later whether the log was cut or rewritten.
    `brought` is the last position whose `recorded_at` was brought from elsewhere by a restore, 0 where none was.
    `behind` counts the events that the read model does not know yet, and `behind_seconds` says for how long the oldest
    of them has been in the log; the next question catches up with them. `generation` is the file of the read model that
    answers, 0 before the first; `generations` are those that have files. `last_rebuild` and `last_verify` are what the
    files beside the log remember. `files` are sizes in bytes, one by one. `in_clear` counts the events with personal
    texts that were recorded before keys were configured, and is null where none are configured. `advice` says what to
    mend, if anything.
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
    behind_seconds: float
    generation: int
    generations: list[int]
    last_rebuild: Rebuilt | None
    last_verify: Verified | None
    versions: dict[str, str]
    sizes: Sizes
    files: dict[str, int]
    in_clear: int | None
    advice: list[str]


def status(log: Log, model: ReadModel) -> Status:
    """The state of a store. Errors: damaged, busy."""
    with log.reading() as reading:
        head, brought = reading.head(), reading.brought()
    behind, behind_seconds = model.lag()
    files = {} if log.in_memory else _files(log.path)
    rebuilt = model.noted("rebuilt")
    in_clear = recorded_in_clear(log)
    advice = wal_faults(sqlite3.sqlite_version_info)
    if in_clear:
        advice.append(
            f"{in_clear} events with personal texts were recorded in clear before keys were configured, and cannot be "
            "erased"
        )
    return Status(
        path=log.path,
        log=log.id,
        format=FORMAT,
        position=head.position,
        recorded_at=None if head.recorded_at is None else moment(head.recorded_at),
        chain=head.chain.hex(),
        brought=brought,
        read_position=max(0, head.position - behind),
        behind=behind,
        behind_seconds=behind_seconds,
        generation=model.generation,
        generations=model.generations(),
        last_rebuild=None if rebuilt is None else msgspec.json.decode(rebuilt, type=Rebuilt),
        last_verify=last_verified(model),
        versions={
            "dealtrail": version("dealtrail"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "schema": f"log {FORMAT}, read model {fingerprint()[:12]}",
        }
        | {name: version(name) for name in ("eventsourcing", "msgspec", "sqlite-utils")},
        sizes=Sizes(
            log=files.get(log.path, 0),
            wal=files.get(f"{log.path}-wal", 0),
            read_model=sum(size for name, size in files.items() if name.startswith(f"{log.path}.read")),
        ),
        files=files,
        in_clear=in_clear,
        advice=advice,
    )


def wal_faults(found: tuple[int, ...]) -> list[str]:
    """What to do about the known faults that a version of SQLite has in write-ahead logging.

    The WAL-reset bug is in 3.7.0 to 3.51.2, but for 3.44.6 and 3.50.7, which were given the repair of 3.51.3.
    """
    if found >= _SOUND_WAL.get((found[0], found[1]), (3, 51, 3)):
        return []
    given = ".".join(map(str, found))
    return [
        f"SQLite {given} has the WAL-reset bug: a checkpoint that meets a commit in a rare race can corrupt a file; "
        "use 3.51.3 or later, or 3.50.7 or 3.44.6"
    ]


def _files(path: str) -> dict[str, int]:
    """The size of the log, of the read model and of what SQLite keeps beside them."""
    beside = [path, f"{path}-wal", f"{path}-shm", *sorted(glob(f"{escape(path)}.read*"))]
    return {name: os.path.getsize(name) for name in beside if os.path.exists(name)}
