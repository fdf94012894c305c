"""Tenants: a store for each, of which a few are open at once; those that nobody uses are closed, oldest use first."""

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Condition, Lock
from time import monotonic
from types import TracebackType
from typing import Any

from dealtrail.domain.errors import error
from dealtrail.store.connections import LOCK_TIMEOUT_SECONDS
from dealtrail.trail import Trail

# As a key of a pipeline: no character of it means anything to a path.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class _Seat:
    """The place of a tenant among those that are open: its trail, once opened, and how many use it."""

    def __init__(self, leaving: "_Seat | None") -> None:
        self.leaving = leaving  # whose place this is: it is closed before this one is opened
        self.trail: Trail | None = None
        self.users = 0
        self.opening = Lock()


class Tenants:
    """Stores in a folder, one for each tenant, opened when they are asked for. Threads may share it.

    At most `open_at_most` stores are open. To open another, the one that was let go of longest ago is closed; one in
    use never is. The other arguments are those of `Trail.open`: `clock`, `create`, `authorize`.
    """

    def __init__(self, directory: str | os.PathLike[str], open_at_most: int = 50, **open_options: Any) -> None:
        if isinstance(open_at_most, bool) or not isinstance(open_at_most, int) or open_at_most < 1:
            raise error("invalid_field", "open_at_most", why="give a whole number from 1")
        self._directory = os.fspath(directory)
        self._most = open_at_most
        self._options = open_options
        self._seats: OrderedDict[str, _Seat] = OrderedDict()
        self._changed = Condition()
        self._closed = False

    def path(self, tenant: str) -> str:
        """The file of a tenant's store. Errors: invalid_key, for whatever is no key such as `acme` or `acme-2`."""
        if not isinstance(tenant, str) or not _NAME.fullmatch(tenant):
            raise error("invalid_key", "tenant", given=tenant)
        return os.path.join(self._directory, f"{tenant}.db")

    @contextmanager
    def trail(self, tenant: str) -> Iterator[Trail]:
        """The trail of a tenant, open for as long as it is used. It is not to be closed by its user.

        Where all places are in use, this waits for one. Errors: invalid_key; all_in_use, after 60 seconds; closed; and
        those of `Trail.open`.
        """
        path = self.path(tenant)
        seat = self._taken(tenant)
        try:
            yield self._opened(seat, path)
        finally:
            self._left(tenant, seat)

    def close(self) -> None:
        """Close every store that nobody uses, and the others when they are let go of; open none any more."""
        with self._changed:
            self._closed = True
            idle = [name for name, seat in self._seats.items() if not seat.users]
            seats = [self._seats.pop(name) for name in idle]
            self._changed.notify_all()
        with ExitStack() as closing:
            for seat in seats:
                closing.callback(_close, seat)

    def __enter__(self) -> "Tenants":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self, tenant: str) -> _Seat:
        """The seat of a tenant, for one user more."""
        deadline = monotonic() + LOCK_TIMEOUT_SECONDS
        with self._changed:
            while True:
                if self._closed:
                    raise error("closed")
                seat = self._seats.get(tenant) or self._free(tenant)
                if seat is not None:
                    seat.users += 1
                    return seat
                if not self._changed.wait(deadline - monotonic()):
                    raise error("all_in_use", most=self._most)

    def _free(self, tenant: str) -> _Seat | None:
        """A new seat, perhaps in the place of one that nobody uses; None where all are in use."""
        leaving = None
        if len(self._seats) >= self._most:
            idle = next((name for name, seat in self._seats.items() if not seat.users), None)
            if idle is None:
                return None
            leaving = self._seats.pop(idle)
        seat = self._seats[tenant] = _Seat(leaving)
        return seat

    def _opened(self, seat: _Seat, path: str) -> Trail:
        """The trail of a seat: opened by whoever comes first, while other tenants go on."""
        with seat.opening:
            if seat.leaving is not None:
                _close(seat.leaving)
                seat.leaving = None
            if seat.trail is None:
                seat.trail = Trail.open(path, **self._options)
            return seat.trail

    def _left(self, tenant: str, seat: _Seat) -> None:
        with self._changed:
            seat.users -= 1
            self._seats.move_to_end(tenant)
            over = not seat.users and (self._closed or seat.trail is None)
            if over:
                del self._seats[tenant]
            self._changed.notify_all()
        if over:
            _close(seat)


def _close(seat: _Seat) -> None:
    """Close the trail of a seat that nobody uses, and of the one whose place it did not get round to take."""
    with ExitStack() as closing:
        if seat.trail is not None:
            closing.callback(seat.trail.close)
        if seat.leaving is not None:
            closing.callback(_close, seat.leaving)
