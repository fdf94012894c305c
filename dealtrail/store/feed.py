"""The feed: a log's entries one after the other, waiting at its end for more without holding anything."""

from collections.abc import Iterator
from threading import Condition
from time import monotonic
from typing import TYPE_CHECKING

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.events import Entry

if TYPE_CHECKING:
    from dealtrail.store.log import Log

# Other processes are noticed by asking: one look at the end of an index, a tenth of a millisecond.
POLL_SECONDS = 0.05
_BATCH = 1_000


class Bell:
    """Rings at every commit of this process, and when its log is closed."""

    def __init__(self) -> None:
        self._condition = Condition()
        self.rung = 0
        self.closed = False

    def ring(self, *, closed: bool = False) -> None:
        """Wake whoever waits."""
        with self._condition:
            self.rung += 1
            self.closed = self.closed or closed
            self._condition.notify_all()

    def wait(self, heard: int, seconds: float) -> None:
        """Wait until it has rung more often than `heard`, or for so long."""
        with self._condition:
            self._condition.wait_for(lambda: self.rung != heard, seconds)


def feed(log: "Log", after: int, wait: float) -> Iterator[Entry]:
    """The entries after a position, in log order, each once, until none came for `wait` seconds.

    Nothing is held open while it waits or while an entry is out. Closing the log ends a feed that waits; one that does
    not is refused where its entries are cut short, since whoever asks for all of them must not take some for all.
    Errors: closed, invalid_field (the position is not of this log).
    """
    with log.reading() as reading:
        end = reading.head().position
    if after > end:
        raise error("invalid_field", "after", why=f"the log ends at {end}: {after} is no position of it")
    deadline = None
    while True:
        heard = log.bell.rung
        try:
            with log.reading() as reading:
                entries = reading.following(after, _BATCH)
        except DealtrailError as trouble:
            if wait and trouble.code == "closed":
                return
            raise
        for entry in entries:
            if wait and log.bell.closed:
                return
            after, deadline = entry.position, None
            yield entry
        if not entries:
            deadline = monotonic() + wait if deadline is None else deadline
            left = deadline - monotonic()
            if left <= 0:
                return
            log.bell.wait(heard, min(left, POLL_SECONDS))
