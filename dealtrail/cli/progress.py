"""What a long wait looks like: on stderr, from one second on, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_SECONDS = 1.0


class Ticker:
    """Counts something long: call it with how many of how many (None where nobody knows) are done."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._begun = monotonic()
        self._shown: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> "Ticker":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._shown is not None:
            self._shown[0].stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show how far it is."""
        if self._shown is None:
            if monotonic() - self._begun < _PATIENCE_SECONDS or not sys.stderr.isatty():
                return
            self._shown = self._start()
        progress, task = self._shown
        progress.update(task, completed=done, total=total)

    def _start(self) -> tuple["Progress", "TaskID"]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        progress.start()
        return progress, progress.add_task(self._what, total=None)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something goes on of which nobody knows how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    spinner = Console(stderr=True).status(what)
    timer = Timer(_PATIENCE_SECONDS, spinner.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        spinner.stop()
