"""Keeping: what whoever looks after a store does with it as a whole. The other half of Trail."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from dealtrail.asking import (
    AskAdoptKeys,
    AskBackup,
    AskCheckReport,
    AskFeed,
    AskForgetting,
    AskHead,
    AskHealth,
    AskLastRecordedAt,
    AskRebuild,
    AskStatus,
    AskVerify,
)
from dealtrail.domain.errors import error
from dealtrail.domain.texts import DealId, Reason, Word, shaped
from dealtrail.domain.times import moment
from dealtrail.gate import Asking
from dealtrail.projections.checking import Checked, ReportCheck, check_report, kept_report
from dealtrail.projections.health import Health, health
from dealtrail.projections.history import Happened, happened
from dealtrail.projections.status import Status, status
from dealtrail.projections.verification import Verification, verify
from dealtrail.store import forgetting
from dealtrail.store.copying import BackedUp, back_up, export
from dealtrail.store.feed import feed
from dealtrail.store.forgetting import Forgotten
from dealtrail.store.heads import Head
from dealtrail.store.keys import Keys
from dealtrail.store.recording import Progress, redistribute
from dealtrail.store.restoring import Restored, restore
from dealtrail.store.sealing import shown
from dealtrail.store.verifying import end_of

_Position = Annotated[int, Meta(ge=0, le=2**53)]


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

    def head(self) -> Head:
        """The end of the log, position and chain: to be kept elsewhere, where whoever can write the store cannot."""
        with self._asked(AskHead()):
            return end_of(self._log)

    def verify(self, head: Head | str | None = None, progress: Progress | None = None) -> Verification:
        """Recompute what the log and the read model say, and tell what is wrong: the first wrong position, or the row.

        The log is read as it is stored: the chain over every column, numbering, times, tables and triggers, SQLite's
        own integrity check. Then everything is folded again, and the read model compared row by row. `head`: one kept
        elsewhere, as a `Head` or its text; without it a cut end, an older copy in the place of the log, or a log that
        was written anew is not seen. `progress` is called with how much of how much is done. Nothing is written but
        when it was verified, beside the read model.
        Errors: invalid_field, closed, gone, disk_error.
        """
        kept = None if head is None else Head.parse(head)
        self._gate.ask(AskVerify())
        return verify(self._log, self._model, kept, progress)

    def check_report(self, report: Checked | Mapping[str, Any]) -> ReportCheck:
        """Make a report again from its own question, and tell whether it is the same, or what differs and why.

        `report` may be one that was read back from its JSON, as a dict. The answer also says what the same question
        would say otherwise as known now, and which later events explain it. Errors: those of the report's shape, such
        as missing_field and invalid_field.
        """
        given = kept_report(report)
        with self._asked(AskCheckReport(report=given)):
            return check_report(self._log, self._model, given)

    def follow(self, after: int = 0, *, wait: float | None = None) -> Iterator[Happened]:
        """The events recorded after a position, in log order, each once; those of one step come into sight together.

        `wait`: how many seconds to wait for more at the end of the log, `math.inf` for ever; by default it ends there.
        Nothing is locked while it waits or its caller works. To go on later, pass the last position that was dealt
        with. A feed that waits ends when the trail is closed. Errors: invalid_field, where `after` is beyond the log.
        """
        after = shaped(after, _Position, "after")
        if isinstance(wait, bool) or not isinstance(wait, int | float | None) or not (wait or 0) >= 0:
            raise error("invalid_field", "wait", why="give a number of seconds from 0, or none")
        self._gate.ask(AskFeed(after=after))
        return (happened(shown(self._log, entry)) for entry in feed(self._log, after, wait or 0))

    def forget(self, subject: str, by: str, reason: str, *, partly: bool = False) -> Forgotten:
        """Make the personal texts about a subject unreadable for ever, by destroying its key; figures stay as they are.

        `by` is who decided it and `reason` why, both recorded: give ids and facts. The same subject again changes
        nothing. Texts that were recorded in clear cannot be erased: with any of them it is refused, unless `partly`.
        Errors: keys_missing, unknown_subject, recorded_in_clear, invalid_*.
        """
        subject, by, reason = (
            shaped(given, kind, name)
            for given, kind, name in ((subject, DealId, "subject"), (by, Word, "by"), (reason, Reason, "reason"))
        )
        self._gate.named(by)
        self._gate.ask(AskForgetting(subject=subject, by=by, reason=reason, partly=partly))
        return forgetting.forget(self._log, subject, by, reason, partly=partly)

    def adopt_keys(self, keys: Keys) -> None:
        """Encrypt personal texts from here on, in a store that has none in clear.

        `Trail.open` with `keys` does so in any store, and says what was recorded in clear before.
        Errors: recorded_in_clear, wrong_keys, not_installed.
        """
        self._gate.ask(AskAdoptKeys())
        forgetting.use_keys(self._log, keys, adopt=True)

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
        since = None if since is None else shaped(since, _Position, "since")
        self._gate.ask(AskBackup(dest=path, since=since))
        if since is None:
            return back_up(self._log, path, overwrite=overwrite, progress=progress)
        return export(self._log, path, since, overwrite=overwrite, progress=progress)

    @staticmethod
    def restore(
        path: str | os.PathLike[str],
        files: Iterable[str | os.PathLike[str]],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        progress: Progress | None = None,
        keys: Keys | None = None,
    ) -> Restored:
        """Found a new store from JSON Lines: a log as it was, or a history that was recorded elsewhere.

        For a log give what `backup` wrote with `since=0`, then its increments in order: positions, times and chain are
        the same, and so are all digests. A history is one file of actions that bear a `recorded_at`; with `keys` its
        personal texts are encrypted from the start, while those of a log stay as they are. `progress` is called with
        how many bytes of how many are read. Errors: file_exists, cut_file, invalid_line, log_gap,
        other_log, wrong_chain, not_after_previous, newer_store, and for a history those of its actions; nothing is left
        at `path` then. Where it came in a line, `facts["line"]` says in which.
        """
        if isinstance(files, str | os.PathLike):
            raise error("invalid_field", "files", why="give a list of paths, in order")
        return restore(os.fspath(path), [os.fspath(file) for file in files], clock, progress, keys)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make the read model anew from the log; `progress` is called with how many events of how many are folded.

        The next lead then makes anew the index by which leads are distributed.
        """
        self._gate.ask(AskRebuild())
        self._model.rebuild(progress)
        redistribute(self._log)
