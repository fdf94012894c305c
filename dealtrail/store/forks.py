"""What a fork must not do to SQLite: its connections may be neither used nor closed in the child.

SQLite keeps in the memory of a process which locks the process holds on a file. A child inherits that memory but not
the locks, so that connections of its own would rely on locks that nobody holds, and the last of the others to close
would take the write-ahead log away from under it. So the parent closes its idle connections just before a fork
(the next use opens new ones). Where another thread is in the middle of a transaction, that cannot be: then the child
keeps what it inherited as it is, and refuses to open those files.
"""

import ctypes
import os
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from dealtrail.domain.errors import DealtrailError, error

if TYPE_CHECKING:
    from dealtrail.store.connections import _Pool

_lock = RLock()
_pools: "WeakSet[_Pool]" = WeakSet()
_held: "list[_Pool]" = []
_inherited: set[str] = set()


def watch(pool: "_Pool") -> None:
    """Look after a pool's connections when this process forks."""
    with _lock:
        _pools.add(pool)


def forked() -> DealtrailError:
    """The refusal of a trail that was opened before the fork."""
    return error("forked", why="a process cannot use a trail that another opened; open it again in this process")


def refuse_what_was_inherited(pool: "_Pool") -> None:
    """Refuse to open a file whose locks this process only believes to hold. Errors: forked."""
    if _file(pool) in _inherited:
        raise error(
            "forked",
            why="this process was forked in the middle of a transaction; fork where none is under way, or spawn",
        )


def _file(pool: "_Pool") -> str:
    return pool.db_name.partition("?")[0]


def _before() -> None:
    """Close the idle connections, and let nobody open one until the fork is done."""
    _lock.acquire()
    for pool in list(_pools):
        pool._put_condition.acquire()
        _held.append(pool)
        if pool.is_sqlite_memory_mode:
            continue  # its database would be gone with its last connection
        while pool._pool:
            pool._pool.popleft().close()


def _release() -> None:
    while _held:
        _held.pop()._put_condition.release()
    _lock.release()


def _in_child() -> None:
    for pool in _held:
        left: list[Any] = [*pool._pool, *pool._in_use.values()]
        if pool._in_use and not pool.is_sqlite_memory_mode:
            _inherited.add(_file(pool))
        for connection in left:
            # One reference that nobody gives back: else the collector, or the end of the process, would close it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection._sqlite_conn))
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)
