"""Putting a new file in its place: under another name until it is whole and on the disk, then by one rename."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from dealtrail.domain.errors import error


@contextmanager
def placed(path: str, *, overwrite: bool = False) -> Iterator[str]:
    """The name of an empty new file to write to; at the end it bears its path, or else nothing of it is left.

    What stands at the path is replaced only with `overwrite`, and never a store that is open. Whoever is killed on the
    way leaves a file whose name ends in `.partial`. Errors: file_exists, unwritable_file.
    """
    if "\0" in path or path == ":memory:":
        raise error("unwritable_file", path=path, why="no file can have that name")
    partial = f"{path}.{uuid4().hex[:8]}.partial"
    try:
        _must_be_free(path, overwrite)
        with open(partial, "xb"):
            pass
        yield partial
        _sync(partial)
        _must_be_free(path, overwrite)
        _rename(partial, path, overwrite)
        _sync(os.path.dirname(os.path.abspath(path)))
    except OSError as trouble:
        raise error("unwritable_file", path=path, why=trouble.strerror or str(trouble)) from trouble
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.remove(partial + suffix)


def _must_be_free(path: str, overwrite: bool) -> None:
    """Refuse to take the place of a file. Errors: file_exists."""
    if os.path.lexists(path) and not overwrite:
        raise error("file_exists", path=path, why="give the path of a new file")
    for beside in (f"{path}-wal", f"{path}-shm"):
        # SQLite would take these for those of the new file, and apply to it what another one still had to get.
        if os.path.lexists(beside):
            why = "it belongs to a store that is open, or was not closed: open and close that, or remove it"
            raise error("file_exists", path=beside, why=why)


def _rename(partial: str, path: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(partial, path)
        return
    try:
        os.link(partial, path)  # unlike a rename, it fails where somebody has put a file there meanwhile
    except FileExistsError:
        raise error("file_exists", path=path, why="give the path of a new file") from None
    except OSError:  # a file system without links
        os.rename(partial, path)


def _sync(path: str) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
