"""The health of a store, cheap enough to be asked every few seconds by whoever decides where requests go."""

import os
from contextlib import suppress
from shutil import disk_usage

import msgspec

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log


class Health(msgspec.Struct, frozen=True):
    """Whether a store works at this moment, and `why` not: a sentence for each thing that is wrong.

    `lock_free` says whether the write lock could be had without waiting: somebody may well be recording. `behind` and
    `behind_seconds` are the lag of the read model, and `free_bytes` is the room on the disk; None where that could not
    be told. `damaged`: the end of the log, or the read model, cannot be read as it was written. Only a verification
    reads all of it.
    """

    ok: bool
    why: list[str]
    can_read: bool
    can_write: bool
    lock_free: bool | None
    behind: int | None
    behind_seconds: float | None
    free_bytes: int | None
    damaged: bool


def health(log: Log, model: ReadModel, least_free_bytes: int) -> Health:
    """Look whether a store works; see `Trail.health`."""
    troubles: list[DealtrailError] = []
    why = []
    lock_free = behind = behind_seconds = free = None
    try:
        log.read_end()
        lock_free = log.lock_is_free()
    except DealtrailError as trouble:
        troubles.append(trouble)
    can_read = not troubles
    try:
        behind, behind_seconds = model.lag()
    except DealtrailError as trouble:
        troubles.append(trouble)
    can_write = can_read and _writable(log)
    if can_read and not can_write:
        troubles.append(error("read_only", path=log.path))
    with suppress(FileNotFoundError):  # the folder went with the file, which the troubles say
        free = None if log.in_memory else disk_usage(os.path.dirname(os.path.abspath(log.path))).free
    if free is not None and free < least_free_bytes:
        why.append(f"{free} bytes are free on the disk; make room for at least {least_free_bytes}")
    why = list(dict.fromkeys(str(trouble) for trouble in troubles)) + why
    damaged = any(trouble.code == "damaged" for trouble in troubles)
    return Health(not why, why, can_read, can_write, lock_free, behind, behind_seconds, free, damaged)


def _writable(log: Log) -> bool:
    """Whether the rights of this process let it write the log and what SQLite keeps beside it."""
    folder = os.path.dirname(os.path.abspath(log.path))
    return log.in_memory or (os.access(log.path, os.W_OK) and os.access(folder, os.W_OK | os.X_OK))
