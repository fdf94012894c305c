"""Trail: the one object that a backend holds. It wires the rooms together and decides nothing itself."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from msgspec import UNSET, UnsetType

from dealtrail import asking
from dealtrail.asking import AsDefined, Moment, Where, moments
from dealtrail.domain.actions import Action
from dealtrail.domain.errors import DealtrailError
from dealtrail.domain.texts import DealId, shaped
from dealtrail.gate import Authorize, Gate
from dealtrail.keeping import Keeping
from dealtrail.process import Process
from dealtrail.projections import deals as deals_room
from dealtrail.projections.behind import Report, deals_behind, report_of
from dealtrail.projections.deals import DealView
from dealtrail.projections.definitions import known_pipeline, known_pipelines
from dealtrail.projections.funnel_report import AskedOfCohort, FunnelReport, funnel_report
from dealtrail.projections.history import Happened, history
from dealtrail.projections.pipeline_report import PipelineReport, pipeline_report
from dealtrail.projections.pipelines import DefinitionView, definition_view
from dealtrail.projections.question import Asked, parse_where, when
from dealtrail.projections.readmodel import ReadModel
from dealtrail.shorthand import Shorthand
from dealtrail.store import recording
from dealtrail.store.forgetting import use_keys
from dealtrail.store.keys import Keys
from dealtrail.store.log import Log
from dealtrail.store.recording import Imported, Progress, Recorded


def _now() -> datetime:
    return datetime.now(UTC)


class Trail(Shorthand, Keeping, Process):
    """A store of deals: actions go in, reports about any moment come out. Threads may share it.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, log: Log, authorize: Authorize | None = None) -> None:
        self._gate = Gate(authorize)
        self._log = log
        self._model = ReadModel(log)
        self._whole: Trail | None = None  # of what this is a view; held so that nobody closes it meanwhile

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] = _now,
        create: bool = True,
        authorize: Authorize | None = None,
        keys: Keys | None = None,
    ) -> "Trail":
        """Open a store, founding it where there is none unless `create` is false: a file, or `:memory:`.

        `clock` returns the present as an aware datetime. `authorize` is called with who acts or asks, and the typed
        action or question, before each; what it raises refuses it (`forbidden`). Then every action needs its `by`.
        With `keys` personal texts are encrypted from here on, and forgetting that was broken off is finished.
        Errors: no_store, not_a_store, newer_store, damaged, busy, wrong_keys, not_installed.
        """
        log = Log(os.fspath(path), clock, create=create)
        try:
            if keys is not None:
                use_keys(log, keys)
            return cls(log, authorize)
        except BaseException:
            log.close()
            raise

    def acting(self, actor: str) -> "Trail":
        """This trail for one actor: an action without `by` is the actor's, one with another `by` is refused.

        It costs nothing, and is not closed: closing this trail closes it. Errors: invalid_field, forbidden.
        """
        view = copy(self)
        view._gate, view._whole = self._gate.acting(actor), self
        return view

    def close(self) -> None:
        """Close every file."""
        if self._whole is None:
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
        return recording.record_all(self._log, self._gate.together(actions), progress)

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
        return recording.record_each(self._log, self._gate.apart(actions), atomic=atomic, dry_run=dry_run)

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
        at = when(self._log, as_of, known_at, tz)
        asked = Asked.parsed(definition, group_by, where, tz)
        with self._asked(asking.AskPipelineReport(pipeline=pipeline, **moments(at), **asked.fields())):
            return pipeline_report(self._log, self._model, pipeline, at, asked)

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
        at = when(self._log, as_of, known_at, tz)
        asked = Asked.parsed(definition, group_by, where, tz)
        of_cohort = AskedOfCohort.parsed(cohort, within, fiscal_year_start, tz)
        with self._asked(
            asking.AskFunnelReport(pipeline=pipeline, **moments(at), **asked.fields(), **of_cohort.shown())
        ):
            return funnel_report(self._log, self._model, pipeline, at, asked, of_cohort)

    def deals(
        self,
        report: Report | Mapping[str, Any],
        *,
        stage: str | None = None,
        field: str | None = None,
        group: Where = None,
        currency: str | None = None,
        path: Sequence[str | None] | None = None,
        reason: str | UnsetType | None = UNSET,
    ) -> list[DealView]:
        """The deals behind a cell of a report, as they are at its moments, in the order of their ids.

        `report` may also be one that was read back from its JSON, as a dict.
        Without `stage` a cell of the total; `field` by default `deals`, or `reached` (`cohort` in the total);
        `group` as the report names it; `currency` for one currency of an amount; `reason` for one reason of `lost` or
        `disqualified`, None for those without one. Behind a share stand the deals that it counts, behind a median those
        that it is made of. Of a report about conformance, `path` are the stages of a variant or, with `field` entry,
        back or skip, the two ends of a deviation; `stage` goes with `field="loops"`.
        Errors: invalid_field, unknown_stage.
        """
        cell: dict[str, Any] = {"stage": stage, "field": field, "group": group, "currency": currency, "path": path}
        cell["reason"] = reason
        of = report_of(report)
        with self._asked(asking.AskDeals(report=of, as_of=of.as_of, known_at=of.known_at, **cell)):
            return deals_behind(self._log, self._model, of, **cell)

    # Deals

    def deal(self, deal: str, *, as_of: Moment = None, known_at: Moment = None, tz: str = "UTC") -> DealView | None:
        """One deal's state at (T, K); None where the moment is before its opening.

        Errors: invalid_deal; unknown_deal, where no event of it was recorded by `known_at`.
        """
        at = when(self._log, as_of, known_at, tz)
        name = shaped(deal, DealId, "deal")
        with self._asked(asking.AskDeal(deal=name, **moments(at))):
            return deals_room.deal(self._log, self._model, name, at)

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
        at = when(self._log, as_of, known_at, tz)
        only: dict[str, Any] = {"status": status, "stage": stage, "owner": owner, "where": parse_where(where)}
        page: dict[str, Any] = {"sort": sort, "limit": limit, "after": after}
        with self._asked(asking.AskListing(pipeline=pipeline, **moments(at), **only, **page)):
            return deals_room.list_deals(self._log, self._model, pipeline, at, **only, **page)

    def history(self, deal: str, *, known_at: Moment = None, tz: str = "UTC") -> list[Happened]:
        """Every event of a deal recorded by `known_at`, version 1 first, retracted and amended ones marked.

        Errors: invalid_deal, unknown_deal.
        """
        at = when(self._log, None, known_at, tz)
        name = shaped(deal, DealId, "deal")
        with self._asked(asking.AskHistory(deal=name, known_at=moments(at)["known_at"])):
            return history(self._log, name, at.position)

    # Pipelines

    def pipelines(self, *, as_of: Moment = None, known_at: Moment = None, tz: str = "UTC") -> list[DefinitionView]:
        """Every pipeline known at K, in the order of their keys, with its definition in force at T."""
        at = when(self._log, as_of, known_at, tz)
        with self._asked(asking.AskPipelines(**moments(at))), self._model.answering(at.position) as c:
            known = known_pipelines(c, at.position)
        return [definition_view(known[key], known[key].in_force(at.as_of).version, at) for key in sorted(known)]

    def definitions(
        self, pipeline: str, *, as_of: Moment = None, known_at: Moment = None, tz: str = "UTC"
    ) -> list[DefinitionView]:
        """Every version of a pipeline's definition known at K, version 1 first. Errors: unknown_pipeline."""
        at = when(self._log, as_of, known_at, tz)
        question = asking.AskDefinitions(pipeline=pipeline, **moments(at))
        with self._asked(question), self._model.answering(at.position) as c:
            known = known_pipeline(c, pipeline, at.position)
        return [definition_view(known, version, at) for version in range(1, len(known.definitions) + 1)]
