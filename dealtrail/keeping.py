"""Keeping: what whoever looks after a store does with it as a whole. The other half of Trail."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from dealtrail.asking import AskFeed, AskHealth, Asking, AskLastRecordedAt, AskRebuild, AskStatus
from dealtrail.domain.errors import error
from dealtrail.domain.texts import shaped
from dealtrail.domain.times import moment
from dealtrail.projections.health import Health, health
from dealtrail.projections.history import Happened, happened
from dealtrail.projections.status import Status, status
from dealtrail.store.feed import feed
from dealtrail.store.recording import Progress


class Keeping(Asking):
    """Questions to the log itself, and the care of its files."""

    def last_recorded_at(self) -> datetime | None:
        """When the last event of the log was recorded, None where there is none.

        As `known_at` it stands for what the log holds now: whatever comes is recorded later. Give it to several
        questions, such as the pages of a list, so that they fit together.
        """
        with self._asked(AskLastRecordedAt()), self._log.reading() as reading:
            at = reading.head().recorded_at
        return None if at is None else moment(at)

    def follow(self, after: int = 0, *, wait: float | None = None) -> Iterator[Happened]:
        """The events recorded after a position, in log order, each once; those of one step come into sight together.

        `wait`: how many seconds to wait for more at the end of the log, `math.inf` for ever; by default it ends there.
        Nothing is locked while it waits or its caller works. To go on later, pass the last position that was dealt
        with. A feed that waits ends when the trail is closed. Errors: invalid_field, where `after` is beyond the log.
        """
        after = shaped(after, Annotated[int, Meta(ge=0, le=2**53)], "after")
        if isinstance(wait, bool) or not isinstance(wait, int | float | None) or not (wait or 0) >= 0:
            raise error("invalid_field", "wait", why="give a number of seconds from 0, or none")
        self._gate.ask(AskFeed(after=after))
        return (happened(entry) for entry in feed(self._log, after, wait or 0))

    def status(self) -> Status:
        """How far the log and its read model are, which versions are at work, and how large the files are."""
        with self._asked(AskStatus()):
            return status(self._log, self._model)

    def health(self, *, least_free_bytes: int = 100_000_000) -> Health:
        """Whether the store can be read and written at this moment, in a few milliseconds; it waits for nobody.

        Less free disk space than `least_free_bytes` is not `ok`. What is wrong with the files is told, not raised.
        """
        least = shaped(least_free_bytes, Annotated[int, Meta(ge=0)], "least_free_bytes")
        with self._asked(AskHealth()):
            return health(self._log, self._model, least)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make the read model anew from the log; `progress` is called with how many events of how many are folded."""
        self._gate.ask(AskRebuild())
        self._model.rebuild(progress)
