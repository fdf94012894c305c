"""Trail: the one object that a backend holds. It wires the rooms together and decides nothing itself."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import islice
from types import TracebackType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from dealtrail.domain.actions import Action, parse_action
from dealtrail.domain.errors import DealtrailError, InvalidInput, Refused, error, nearest
from dealtrail.domain.events import Entry, EventRetracted, Personal, fields
from dealtrail.domain.periods import parse_period
from dealtrail.domain.texts import DealId, Word, shaped
from dealtrail.domain.times import instant, moment, zone
from dealtrail.projections import deals as deals_room
from dealtrail.projections import funnel_report as funnel_room
from dealtrail.projections import pipeline_report as pipeline_room
from dealtrail.projections import question as question_room
from dealtrail.projections.deals import DealView
from dealtrail.projections.digests import content_digest, digest
from dealtrail.projections.funnel_report import Cohort, FunnelReport
from dealtrail.projections.pipeline_report import PipelineReport
from dealtrail.projections.question import Draft, Facts, Lens, When, shown, understood
from dealtrail.projections.readmodel import ReadModel
from dealtrail.projections.redefinition import Moving, moving
from dealtrail.projections.status import Status, status
from dealtrail.projections.writing import Progress
from dealtrail.store.feed import feed
from dealtrail.store.log import Log, Writing
from dealtrail.store.mapper import name_of

Moment = datetime | date | str | None
AsDefined = Literal["as_of", "current"] | int | Draft | Mapping[str, Any]
Where = Mapping[str, str | int | float | bool | None] | None

_STEPS_PER_COMMIT = 1_000


class Recorded(msgspec.Struct, frozen=True):
    """What an action left in the log: the deal or pipeline, its version, and the position."""

    deal: str | None
    pipeline: str | None
    version: int
    position: int


class Happened(msgspec.Struct, frozen=True):
    """An event with all its coordinates.

    `event` is its name, such as `stage_entered`, and `data` its fields. In a history, `retracted_by` is the version of
    the retraction that took it back, and `amended_by` that of the event which took its place; `amends` is the version
    whose place it took itself.
    """

    position: int
    deal: str | None
    pipeline: str | None
    version: int
    event: str
    occurred_at: datetime
    recorded_at: datetime
    by: str | None
    id: str | None
    data: dict[str, Any]
    title: str | None = None
    note: str | None = None
    personal: Mapping[str, str] | None = None
    amends: int | None = None
    retracted_by: int | None = None
    amended_by: int | None = None


class DefinitionView(msgspec.Struct, frozen=True):
    """A version of a pipeline's definition; `in_force` at T as known at K."""

    pipeline: str
    name: str
    version: int
    occurred_at: datetime
    recorded_at: datetime
    stages: list[Any]
    moves: dict[str, Any]
    in_force: bool


class Imported(msgspec.Struct, frozen=True):
    """What became of one action of many that are steps of their own: `recorded`, or `refused` and why.

    `repeated` where the same `id` had been recorded with the same content already.
    """

    line: int
    recorded: Recorded | None
    refused: DealtrailError | None
    repeated: bool = False


def _now() -> datetime:
    return datetime.now(UTC)


class Trail:
    """A store of deals: actions go in, reports about any moment come out. Threads may share it.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._model = ReadModel(log)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, clock: Callable[[], datetime] = _now, create: bool = True
    ) -> "Trail":
        """Open a store, founding it where there is none unless `create` is false: a file, or `:memory:`.

        `clock` returns the present as an aware datetime. Errors: no_store, not_a_store, newer_store, damaged, busy.
        """
        log = Log(os.fspath(path), clock, create=create)
        try:
            return cls(log)
        except BaseException:
            log.close()
            raise

    def close(self) -> None:
        """Close every file."""
        self._model.close()
        self._log.close()

    def __enter__(self) -> "Trail":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Recording

    def record(self, action: Mapping[str, Any] | Action) -> Recorded:
        """Record one action: a dict in the shape of `docs/reference.md`, or a typed action.

        The same `id` with the same content again records nothing and returns what the first time returned.
        Errors: InvalidInput and Refused with the code of the rule, Conflict; nothing is recorded then.
        """
        return self.record_all([action])[0]

    def record_all(
        self, actions: Iterable[Mapping[str, Any] | Action], progress: Progress | None = None
    ) -> list[Recorded]:
        """Record a batch as one atomic step: all of it or, where one action is refused, nothing.

        The actions are judged one after the other and share one recorded_at. An error's `facts["index"]` tells which
        action it was, from 0. `progress` is called with how many of how many are decided.
        """
        if not isinstance(actions, Iterable):
            raise error("invalid_field", "actions", why="give a list of actions")
        parsed = []
        for index, action in enumerate(actions):
            with _at_index(index):
                parsed.append(parse_action(action))
        done: list[Recorded] = []
        with self._log.writing() as writing:
            for entry in writing.step(parsed):
                done.append(_recorded(entry))
                if progress is not None and (len(done) % 1_000 == 0 or len(done) == len(parsed)):
                    progress(len(done), len(parsed))
        return done

    def record_each(
        self,
        actions: Iterable[Mapping[str, Any] | Action | DealtrailError],
        *,
        atomic: bool = False,
        dry_run: bool = False,
    ) -> Iterator[Imported]:
        """Record many actions, each a step of its own: those refused are reported, the others kept.

        An error in the place of an action is what whoever read it found wrong with it: it is passed through as refused.
        Many steps share one commit, and what is yielded is durable. With `atomic` all of them share one, and nothing
        is recorded where any is refused; with `dry_run` nothing is in any case. Both hold the write lock, and what was
        yielded is durable only once the iteration has ended.
        """
        numbered = enumerate(actions, 1)
        if atomic or dry_run:
            yield from self._record_at_once(numbered, dry_run)
            return
        # Each commit's actions are fetched before its transaction begins: what their source does, or how long it
        # takes, touches no lock of the store.
        while batch := list(islice(numbered, _STEPS_PER_COMMIT)):
            with self._log.writing() as writing:
                outcomes = [_outcome(writing, line, action) for line, action in batch]
            yield from outcomes

    def _record_at_once(self, numbered: Iterable[tuple[int, Any]], dry_run: bool) -> Iterator[Imported]:
        with self._log.writing() as writing:
            for line, action in numbered:
                outcome = _outcome(writing, line, action)
                if dry_run or outcome.refused is not None:
                    writing.discard()
                if line % _STEPS_PER_COMMIT == 0:
                    writing.flush()
                yield outcome

    def preview_redefinition(self, pipeline: str, stages: Any, **more: Any) -> list[Moving]:
        """The open deals that `redefine_pipeline` with these arguments would put into another stage, recording nothing.

        Errors: those with which it would be refused.
        """
        action = {**more, "action": "redefine_pipeline", "pipeline": pipeline, "stages": stages}
        with self._log.writing() as writing:
            writing.step([parse_action(action)])
            writing.discard()
        at = question_room.when(self._log, None, None, "UTC")
        with self._model.answering(at.position) as c:
            known = question_room.pipeline(c, pipeline, at.position)
            draft = Draft(stages, more.get("moves"))
            before, after = (question_room.lens(known, given, at) for given in ("current", draft))
            return moving(c, before, after, at)

    # Reports

    def pipeline_report(
        self,
        pipeline: str,
        *,
        as_of: Moment = None,
        known_at: Moment = None,
        definition: AsDefined = "as_of",
        group_by: str | Iterable[str] = (),
        where: Where = None,
        tz: str = "UTC",
    ) -> PipelineReport:
        """How many deals, worth what, stand in each stage at `as_of`, as known at `known_at`.

        A date means the end of that day in `tz`. `definition`: `"as_of"`, `"current"`, a version, or a `Draft`.
        Errors: unknown_pipeline, cannot_restate, unknown_definition, invalid_*.
        """
        at = question_room.when(self._log, as_of, known_at, tz)
        return self._pipeline_report(pipeline, at, definition, group_by, where, tz)

    def _pipeline_report(
        self, pipeline: str, at: When, definition: Any, group_by: Any, where: Any, tz: str
    ) -> PipelineReport:
        groups, filters = question_room.parse_group_by(group_by), question_room.parse_where(where)
        with self._model.answering(at.position) as c:
            lens = question_room.lens(question_room.pipeline(c, pipeline, at.position), definition, at)
            found = pipeline_room.standing(c, lens, at, filters, groups)
        figures = pipeline_room.figures(found, lens, at.as_of, groups)
        question = _question("pipeline", pipeline, at, understood(definition, lens), groups, filters, tz)
        return PipelineReport(
            pipeline=pipeline,
            as_of=moment(at.as_of),
            known_at=moment(at.known_at),
            **self._provenance(question, lens, at, figures),
            stages=figures.stages,
            total=figures.total,
            groups=figures.groups,
        )

    def funnel_report(
        self,
        pipeline: str,
        *,
        cohort: str,
        as_of: Moment = None,
        known_at: Moment = None,
        definition: AsDefined = "as_of",
        within: int | float | None = None,
        group_by: str | Iterable[str] = (),
        where: Where = None,
        tz: str = "UTC",
        fiscal_year_start: int = 1,
    ) -> FunnelReport:
        """Of the deals opened in a period, how many went through each stage, how fast, and where they dropped out.

        `cohort`: `2026`, `2026-Q1`, `2026-03`, `2026-W09`, `2026-03-15` or `A..B`, in `tz`. `within`: a number of days
        from each deal's opening. `where` and `group_by` look at the deal as it opened.
        Errors: unknown_pipeline, invalid_period, cannot_restate, unknown_definition, invalid_*.
        """
        at = question_room.when(self._log, as_of, known_at, tz)
        return self._funnel_report(pipeline, at, cohort, definition, within, group_by, where, tz, fiscal_year_start)

    def _funnel_report(
        self,
        pipeline: str,
        at: When,
        cohort: Any,
        definition: Any,
        within: Any,
        group_by: Any,
        where: Any,
        tz: str,
        fiscal_year_start: Any,
    ) -> FunnelReport:
        groups, filters = question_room.parse_group_by(group_by), question_room.parse_where(where)
        if type(fiscal_year_start) is not int or not 1 <= fiscal_year_start <= 12:
            raise error("invalid_field", "fiscal_year_start", why="give a month, 1 to 12")
        period = parse_period(cohort, zone(tz), fiscal_year_start)
        span = funnel_room.window(within)
        with self._model.answering(at.position) as c:
            lens = question_room.lens(question_room.pipeline(c, pipeline, at.position), definition, at)
            found = funnel_room.journeys(c, lens, at, period, span, filters, groups)
        figures = funnel_room.figures(found, lens, groups)
        within = question_room.plain_number(within)
        question = _question("funnel", pipeline, at, understood(definition, lens), groups, filters, tz) | {
            "cohort": cohort,
            "within": within,
            "fiscal_year_start": fiscal_year_start,
        }
        return FunnelReport(
            pipeline=pipeline,
            cohort=Cohort(moment(period[0]), moment(period[1])),
            as_of=moment(at.as_of),
            known_at=moment(at.known_at),
            within=within,
            **self._provenance(question, lens, at, figures),
            stages=figures.stages,
            total=figures.total,
            groups=figures.groups,
        )

    def _provenance(self, question: dict[str, Any], lens: Lens, at: When, figures: Any) -> dict[str, Any]:
        """Where a report came from, as every report says it."""
        content = content_digest(question, figures)
        with self._log.reading() as reading:
            chain = reading.chain_at(at.position)
        if chain is None:
            raise error("damaged", path=self._log.path, why="the log ends before what was read from it")
        return {
            "question": question,
            "position": at.position,
            "definition": lens.number,
            "draft": lens.draft,
            "content_digest": content,
            "digest": digest(content, chain),
        }

    def deals(
        self,
        report: PipelineReport | FunnelReport | Mapping[str, Any],
        *,
        stage: str | None = None,
        field: str | None = None,
        group: Where = None,
        currency: str | None = None,
    ) -> list[DealView]:
        """The deals behind a cell of a report, as they are at its moments, in the order of their ids.

        `report` may also be one that was read back from its JSON, as a dict.
        Without `stage` a cell of the total; `field` by default `deals`, or `reached` (`cohort` in the total);
        `group` as the report names it; `currency` for one currency of an amount. Behind a share stand the deals that
        it counts, behind a median those that it is made of. Errors: invalid_field, unknown_stage.
        """
        report = _report(report)
        asked = report.question
        at = _moments_of(report)
        groups, filters = (
            question_room.parse_group_by(asked["group_by"]),
            question_room.parse_where(asked["where"]),
        )
        if group is not None and not (isinstance(group, Mapping) and set(group) == set(groups)):
            raise error("invalid_field", "group", why=f"give a value for each of: {', '.join(groups) or 'none'}")
        wanted = {name: (group or {})[name] for name in groups} if group is not None else {}
        with self._model.answering(at.position) as c:
            known = question_room.pipelines(c, at.position)
            lens = question_room.lens(known[report.pipeline], asked["definition"], at)
            index = None if stage is None else _stage_index(lens, stage)
            numbers: set[int] = set()
            if isinstance(report, PipelineReport):
                holds = _field(pipeline_room.FIELDS, field or "deals")
                for tally in pipeline_room.standing(c, lens, at, filters, groups, deals=True):
                    if index in (None, tally.stage) and _is_of(tally.facts, wanted, currency):
                        numbers.update(holds(tally, lens, at.as_of))
            else:
                period = parse_period(asked["cohort"], zone(asked["tz"]), asked["fiscal_year_start"])
                span = funnel_room.window(asked["within"])
                by = (*groups, "currency")
                for journey in funnel_room.journeys(c, lens, at, period, span, filters, by):
                    if _is_of(journey.facts, wanted, currency) and _counts(journey, index, field):
                        numbers.update(journey.deals)
            return self._views(c, at, known, numbers)

    # Deals

    def deal(self, deal: str, *, as_of: Moment = None, known_at: Moment = None, tz: str = "UTC") -> DealView | None:
        """One deal's state at (T, K); None where the moment is before its opening.

        Errors: invalid_deal; unknown_deal, where no event of it was recorded by `known_at`.
        """
        at = question_room.when(self._log, as_of, known_at, tz)
        deal = shaped(deal, DealId, "deal")
        with self._model.answering(at.position) as c:
            numbers = deals_room.numbers_of(c, [deal])
            if not numbers or numbers[0] > at.position:
                raise error("unknown_deal", "deal", deal=deal)
            found = self._views(c, at, question_room.pipelines(c, at.position), numbers)
        return found[0] if found else None

    def list_deals(
        self,
        pipeline: str,
        *,
        status: str | None = None,
        stage: str | None = None,
        owner: str | None = None,
        where: Where = None,
        sort: str = "deal",
        limit: int = 100,
        after: str | None = None,
        as_of: Moment = None,
        known_at: Moment = None,
        tz: str = "UTC",
    ) -> list[DealView]:
        """A page of the deals in a pipeline at (T, K): at most `limit`, behind the deal `after` in the order of `sort`.

        `sort`: deal, opened_at, stage_since, expected_close or value, with `-` in front to turn it round. Merged deals
        are listed only with `status="merged"`. Errors: unknown_pipeline, unknown_stage, invalid_field, invalid_where.
        """
        at = question_room.when(self._log, as_of, known_at, tz)
        filters = question_room.parse_where(where)
        owner = shaped(owner, Word | None, "owner")
        if status is not None and status not in deals_room.STATUSES:
            raise error(
                "invalid_field",
                "status",
                why=f"give one of {', '.join(deals_room.STATUSES)}{nearest(status, deals_room.STATUSES)}",
            )
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise error("invalid_field", "limit", why="give a whole number from 1")
        with self._model.answering(at.position) as c:
            known = question_room.pipelines(c, at.position)
            lens = question_room.lens(question_room.pipeline(c, pipeline, at.position), "as_of", at)
            index = None if stage is None else _stage_index(lens, stage)
            listed = deals_room.listed(c, at, lens, status, owner, index, filters)
            names = deals_room.page(c, listed, sort, limit, after)
            found = {view.deal: view for view in self._views(c, at, known, deals_room.numbers_of(c, names))}
        return [found[name] for name in names]

    def _views(self, c: Any, at: When, known: Any, numbers: Iterable[int]) -> list[DealView]:
        return self._with_versions(deals_room.views(c, at, known, numbers), at)

    def _with_versions(self, views: list[DealView], at: When) -> list[DealView]:
        with self._log.reading() as reading:
            versions = reading.versions_at([f"deal:{view.deal}" for view in views], at.position)
        return [msgspec.structs.replace(view, version=versions[f"deal:{view.deal}"]) for view in views]

    def history(self, deal: str, *, known_at: Moment = None, tz: str = "UTC") -> list[Happened]:
        """Every event of a deal recorded by `known_at`, version 1 first, retracted and amended ones marked.

        Errors: invalid_deal, unknown_deal.
        """
        at = question_room.when(self._log, None, known_at, tz)
        deal = shaped(deal, DealId, "deal")
        with self._log.reading() as reading:
            entries = reading.entries(f"deal:{deal}", at.position)
        if not entries:
            raise error("unknown_deal", "deal", deal=deal)
        retracted = {e.event.version: e.version for e in entries if isinstance(e.event, EventRetracted)}
        amended = {entry.amends: entry.version for entry in entries if entry.amends is not None}
        return [_happened(entry, retracted.get(entry.version), amended.get(entry.version)) for entry in entries]

    # Pipelines

    def pipelines(self, *, as_of: Moment = None, known_at: Moment = None, tz: str = "UTC") -> list[DefinitionView]:
        """Every pipeline known at K, in the order of their keys, with its definition in force at T."""
        at = question_room.when(self._log, as_of, known_at, tz)
        with self._model.answering(at.position) as c:
            known = question_room.pipelines(c, at.position)
        return [_definition(known[key], known[key].in_force(at.as_of).version, at) for key in sorted(known)]

    def definitions(
        self, pipeline: str, *, as_of: Moment = None, known_at: Moment = None, tz: str = "UTC"
    ) -> list[DefinitionView]:
        """Every version of a pipeline's definition known at K, version 1 first. Errors: unknown_pipeline."""
        at = question_room.when(self._log, as_of, known_at, tz)
        with self._model.answering(at.position) as c:
            known = question_room.pipeline(c, pipeline, at.position)
        return [_definition(known, version, at) for version in range(1, len(known.definitions) + 1)]

    # The log

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
        after = shaped(after, Annotated[int, Meta(ge=0, le=2**53)], "after")
        if isinstance(wait, bool) or not isinstance(wait, int | float | None) or not (wait or 0) >= 0:
            raise error("invalid_field", "wait", why="give a number of seconds from 0, or none")
        return (_happened(entry, None, None) for entry in feed(self._log, after, wait or 0))

    def status(self) -> Status:
        """How far the log and its read model are, which versions are at work, and how large the files are."""
        return status(self._log, self._model)

    def rebuild(self, progress: Progress | None = None) -> None:
        """Make the read model anew from the log; `progress` is called with how many events of how many are folded."""
        self._model.rebuild(progress)

    # Shorthand: each builds the action of its name and records it

    def define_pipeline(self, pipeline: str, stages: Any, **more: Any) -> Recorded:
        """Define a new pipeline by its stages; optional: name, at, by, id."""
        return self.record({**more, "action": "define_pipeline", "pipeline": pipeline, "stages": stages})

    def redefine_pipeline(self, pipeline: str, stages: Any, **more: Any) -> Recorded:
        """Record the next definition of a pipeline; optional: moves, at, by, id, expected_version."""
        return self.record({**more, "action": "redefine_pipeline", "pipeline": pipeline, "stages": stages})

    def open_deal(self, pipeline: str, **more: Any) -> Recorded:
        """Open a deal; optional: deal, stage, value, owner, source, expected_close, attributes, title, …."""
        return self.record({**more, "action": "open_deal", "pipeline": pipeline})

    def move_deal(self, deal: str, stage: str, **more: Any) -> Recorded:
        """Move a deal to another stage."""
        return self.record({**more, "action": "move_deal", "deal": deal, "stage": stage})

    def change_value(self, deal: str, value: Any, **more: Any) -> Recorded:
        """Give a deal another value, or none."""
        return self.record({**more, "action": "change_value", "deal": deal, "value": value})

    def assign_deal(self, deal: str, owner: str | None, **more: Any) -> Recorded:
        """Give a deal another owner, or none."""
        return self.record({**more, "action": "assign_deal", "deal": deal, "owner": owner})

    def change_expected_close(self, deal: str, expected_close: date | str | None, **more: Any) -> Recorded:
        """Change the date on which a deal should close."""
        return self.record({**more, "action": "change_expected_close", "deal": deal, "expected_close": expected_close})

    def set_attributes(self, deal: str, attributes: Mapping[str, Any], **more: Any) -> Recorded:
        """Set attributes of a deal; None removes one."""
        return self.record({**more, "action": "set_attributes", "deal": deal, "attributes": attributes})

    def complete_action(self, deal: str, key: str, **more: Any) -> Recorded:
        """Complete a sales-process action of the deal's stage."""
        return self.record({**more, "action": "complete_action", "deal": deal, "key": key})

    def log_activity(self, deal: str, kind: str, **more: Any) -> Recorded:
        """Log a call, a mail, a meeting; optional: note."""
        return self.record({**more, "action": "log_activity", "deal": deal, "kind": kind})

    def win_deal(self, deal: str, **more: Any) -> Recorded:
        """Win a deal; optional: value."""
        return self.record({**more, "action": "win_deal", "deal": deal})

    def lose_deal(self, deal: str, **more: Any) -> Recorded:
        """Lose a deal; optional: reason."""
        return self.record({**more, "action": "lose_deal", "deal": deal})

    def disqualify_deal(self, deal: str, **more: Any) -> Recorded:
        """Disqualify a deal; optional: reason."""
        return self.record({**more, "action": "disqualify_deal", "deal": deal})

    def reopen_deal(self, deal: str, **more: Any) -> Recorded:
        """Open a closed deal again; optional: stage."""
        return self.record({**more, "action": "reopen_deal", "deal": deal})

    def transfer_deal(self, deal: str, pipeline: str, **more: Any) -> Recorded:
        """Put a deal into another pipeline; optional: stage."""
        return self.record({**more, "action": "transfer_deal", "deal": deal, "pipeline": pipeline})

    def merge_deal(self, deal: str, into: str, **more: Any) -> Recorded:
        """Say that a deal is the same as another, which stays."""
        return self.record({**more, "action": "merge_deal", "deal": deal, "into": into})

    def retract(self, deal: str, version: int, reason: str, **more: Any) -> Recorded:
        """Take back an event that was recorded by mistake."""
        return self.record({**more, "action": "retract", "deal": deal, "version": version, "reason": reason})

    def amend(self, deal: str, version: int, **more: Any) -> Recorded:
        """Correct an event: the fields named replace its own; `at` moves it in time."""
        return self.record({**more, "action": "amend", "deal": deal, "version": version})


def _recorded(entry: Entry) -> Recorded:
    kind, _, name = entry.stream.partition(":")
    return Recorded(
        name if kind == "deal" else None, name if kind == "pipeline" else None, entry.version, entry.position
    )


def _outcome(writing: Writing, line: int, action: Any) -> Imported:
    """Record one action as a step of its own, or say why it is refused."""
    before = writing.position
    try:
        if isinstance(action, DealtrailError):
            raise action
        recorded = _recorded(writing.step([parse_action(action)])[0])
    except (InvalidInput, Refused) as refusal:
        # Without its traceback, whose frames would keep the whole writing alive for as long as the refusal is.
        return Imported(line, None, refusal.with_traceback(None))
    return Imported(line, recorded, None, repeated=recorded.position <= before)


def _happened(entry: Entry, retracted_by: int | None, amended_by: int | None) -> Happened:
    kind, _, name = entry.stream.partition(":")
    personal = entry.personal or Personal()
    return Happened(
        position=entry.position,
        deal=name if kind == "deal" else None,
        pipeline=name if kind == "pipeline" else None,
        version=entry.version,
        event=name_of(entry.event),
        occurred_at=moment(entry.occurred_at),
        recorded_at=moment(entry.recorded_at),
        by=entry.by,
        id=entry.id,
        data=fields(entry.event),
        title=personal.title,
        note=personal.note,
        personal=personal.personal,
        amends=entry.amends,
        retracted_by=retracted_by,
        amended_by=amended_by,
    )


def _definition(known: Any, version: int, at: When) -> DefinitionView:
    definition = known.version(version)
    return DefinitionView(
        pipeline=known.key,
        name=known.name,
        version=version,
        occurred_at=moment(definition.occurred_at),
        recorded_at=moment(definition.recorded_at),
        stages=msgspec.to_builtins(definition.stages),
        moves=msgspec.to_builtins(definition.moves),
        in_force=version == known.in_force(at.as_of).version,
    )


def _question(
    report: str, pipeline: str, at: When, definition: Any, group_by: Any, where: Any, tz: str
) -> dict[str, Any]:
    """Every argument as it was understood: the report can be made again from it."""
    return {
        "report": report,
        "pipeline": pipeline,
        "as_of": shown(at.as_of),
        "known_at": shown(at.known_at),
        "definition": definition,
        "group_by": list(group_by),
        "where": where,
        "tz": tz,
    }


def _report(given: object) -> PipelineReport | FunnelReport:
    """A report, also one as its JSON says it."""
    if isinstance(given, PipelineReport | FunnelReport):
        return given
    kind: Any = FunnelReport if isinstance(given, Mapping) and "cohort" in given else PipelineReport
    return shaped(given, kind, "report")  # type: ignore[no-any-return]


def _moments_of(report: PipelineReport | FunnelReport) -> When:
    return When(instant(report.as_of), instant(report.known_at), report.position)


def _stage_index(lens: Lens, stage: str) -> int:
    if not lens.under.has(stage):
        raise lens.pipeline.unknown_stage(stage, lens.under)
    return lens.under.index(stage)


def _is_of(found: Facts, group: Mapping[str, Any], currency: str | None) -> bool:
    return question_room.fits(group, found) and currency in (None, found.currency)


def _counts(journey: funnel_room.Journey, index: int | None, field: str | None) -> bool:
    """Whether a field of a stage, or of the total, counts these deals."""
    if index is None:
        return bool(_field(funnel_room.TOTAL_FIELDS, field or "cohort")(journey))
    return bool(_field(funnel_room.STAGE_FIELDS, field or "reached")(journey, index))


def _field(known: Mapping[str, Any], field: str) -> Any:
    if not isinstance(field, str) or field not in known:
        raise error("invalid_field", "field", why=f"give one of {', '.join(known)}{nearest(field, known)}")
    return known[field]


@contextmanager
def _at_index(index: int) -> Iterator[None]:
    """Say which action of a batch was refused."""
    try:
        yield
    except DealtrailError as refusal:
        refusal.facts["index"] = index
        raise
