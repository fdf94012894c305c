"""Keeping: what whoever looks after a store does with it as a whole. The other half of Trail."""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from dealtrail.domain.errors import error
from dealtrail.domain.texts import shaped
from dealtrail.domain.times import moment
from dealtrail.projections.history import Happened, happened
from dealtrail.projections.readmodel import ReadModel
from dealtrail.projections.status import Status, status
from dealtrail.store.copying import BackedUp, back_up, export
from dealtrail.store.feed import feed
from dealtrail.store.log import Log
from dealtrail.store.recording import Progress
from dealtrail.store.restoring import Restored, restore

_Position = Annotated[int, Meta(ge=0, le=2**53)]


class Keeping:
    """Questions to the log itself, and the care of its files."""

    _log: Log
    _model: ReadModel

    def last_recorded_at(self) -> datetime | None:
        """When the last event of the log was recorded, None where there is none.

        As `known_at` it stands for what the log holds now: whatever comes is recorded later. Give it to several
        questions, such as the pages of a list, so that they fit together.
        """
        with self._log.reading() as reading:
            at = reading.head().recorded_at
        return None if at is None else moment(at)

    def follow(self, after: int = 0, *, wait: float | None = None) -> Iterator[Happened]:
        """The events recorded after a position, in log order, each once; those of one step come into sight together.

        `wait`: how many seconds to wait for more at the end of the log, `math.inf` for ever; by default it ends there.
        Nothing is locked while it waits or its caller works. To go on later, pass the last position that was dealt
        with. A feed that waits ends when the trail is closed. Errors: invalid_field, where `after` is beyond the log.
        """
        after = shaped(after, _Position, "after")
        if isinstance(wait, bool) or not isinstance(wait, int | float | None) or not (wait or 0) >= 0:
            raise error("invalid_field", "wait", why="give a number of seconds from 0, or none")
        return (happened(entry) for entry in feed(self._log, after, wait or 0))

    def status(self) -> Status:
        """How far the log and its read model are, which versions are at work, and how large the files are."""
        return status(self._log, self._model)

    def backup(
        self,
        dest: str | os.PathLike[str],
        *,
        since: int | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> BackedUp:
        """Back the log up into a new file, while others write: a store of its own, verified before it gets its name.

        With `since`, a position, it is JSON Lines of the events after it (0: of all), as `restore` takes them.
        `progress` is called with how many pages, or events, of how many are written. `overwrite` replaces what stands
        at `dest`. Errors: file_exists, unwritable_file, full, disk_error, damaged, invalid_field where `since` is no
        position; nothing is left at `dest` then.
        """
        path = os.fspath(dest)
        if since is None:
            return back_up(self._log, path, overwrite=overwrite, progress=progress)
        since = shaped(since, _Position, "since")
        return export(self._log, path, since, overwrite=overwrite, progress=progress)

    @staticmethod
    def restore(
        path: str | os.PathLike[str],
        files: Iterable[str | os.PathLike[str]],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress: Progress | None = None,
    ) -> Restored:
        """Found a new store from JSON Lines: a log as it was, or a history that was recorded elsewhere.

        For a log give what `backup` wrote with `since=0`, then its increments in order: positions, times and chain are
        the same, and so are all digests. A history is one file of actions that bear a `recorded_at`. `progress` is
        called with how many bytes of how many are read. Errors: file_exists, cut_file, invalid_line, log_gap,
        other_log, wrong_chain, not_after_previous, newer_store, and for a history those of its actions; nothing is left
        at `path` then. Where it came in a line, `facts["line"]` says in which.
        """
        if isinstance(files, str | os.PathLike):
            raise error("invalid_field", "files", why="give a list of paths, in order")
        return restore(os.fspath(path), [os.fspath(file) for file in files], clock, progress)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make the read model anew from the log; `progress` is called with how many events of how many are folded."""
        self._model.rebuild(progress)
