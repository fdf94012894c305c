"""Process: questions about the sales process inside a pipeline. A part of Trail."""

from collections.abc import Iterable
from typing import Any

from dealtrail.asking import (
    AsDefined,
    AskClosingReport,
    AskConformance,
    AskNextActions,
    AskPreview,
    Moment,
    Where,
    moments,
)
from dealtrail.domain.actions import parse_action
from dealtrail.gate import Asking
from dealtrail.projections.closing_report import ClosingReport, closing_report
from dealtrail.projections.conformance import ConformanceReport, conformance
from dealtrail.projections.definitions import Draft, known_pipeline, lens_of
from dealtrail.projections.funnel_report import AskedOfCohort
from dealtrail.projections.question import Asked, when
from dealtrail.projections.redefinition import Moving, moving
from dealtrail.projections.todo import NextActions, next_actions
from dealtrail.store import recording


class Process(Asking):
    """What deals really go through, and what is to be done for them."""

    def preview_redefinition(self, pipeline: str, stages: Any, **more: Any) -> list[Moving]:
        """The open deals that `redefine_pipeline` with these arguments would put into another stage, recording nothing.

        Errors: those with which it would be refused.
        """
        action = parse_action({**more, "action": "redefine_pipeline", "pipeline": pipeline, "stages": stages})
        with self._asked(AskPreview(action=action)):
            recording.rehearse(self._log, action)
            at = when(self._log, None, None, "UTC")
            with self._model.answering(at.position) as c:
                known = known_pipeline(c, pipeline, at.position)
                draft = Draft(stages, **{name: more[name] for name in Draft.__struct_fields__ if name in more})
                before, after = (lens_of(known, given, at) for given in ("current", draft))
                return moving(c, before, after, at)

    def conformance(
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
        limit: int = 20,
        tz: str = "UTC",
        fiscal_year_start: int = 1,
    ) -> ConformanceReport:
        """How the deals opened in a period really went, against what a definition allows: deviations, paths, loops.

        All arguments but `limit`, how many paths to tell apart, are those of `funnel_report`; `definition` may be one
        that was not in force when the deals went, such as a `Draft`.
        Errors: unknown_pipeline, invalid_period, cannot_restate, unknown_definition, invalid_*.
        """
        at = when(self._log, as_of, known_at, tz)
        asked = Asked.parsed(definition, group_by, where, tz)
        of_cohort = AskedOfCohort.parsed(cohort, within, fiscal_year_start, tz)
        more = {**moments(at), **asked.fields(), **of_cohort.shown()}
        with self._asked(AskConformance(pipeline=pipeline, limit=limit, **more)):
            return conformance(self._log, self._model, pipeline, at, asked, of_cohort, limit)

    def next_actions(
        self,
        pipeline: str,
        *,
        owner: str | None = None,
        as_of: Moment = None,
        known_at: Moment = None,
        tz: str = "UTC",
    ) -> NextActions:
        """What is to be done for the open deals of a pipeline, the required and the longest waiting first.

        With it come the deals that are stalled, that have no owner, and that should have closed before today in `tz`.
        `owner`: only the deals of that one. Stages are read under the definition in force at `as_of`.
        Errors: unknown_pipeline, invalid_field, invalid_tz, those of moments.
        """
        at = when(self._log, as_of, known_at, tz)
        with self._asked(AskNextActions(pipeline=pipeline, owner=owner, tz=tz, **moments(at))):
            return next_actions(self._log, self._model, pipeline, at, owner, tz)

    def closing_report(
        self,
        pipeline: str,
        *,
        as_of: Moment = None,
        known_at: Moment = None,
        definition: AsDefined = "as_of",
        group_by: str | Iterable[str] = (),
        where: Where = None,
        tz: str = "UTC",
    ) -> ClosingReport:
        """When the open deals of a pipeline should close, month by month, and how often their dates were moved.

        All arguments are those of `pipeline_report`. A deal is overdue where its date lies before the day of `as_of`
        in `tz`. Errors: unknown_pipeline, cannot_restate, unknown_definition, invalid_*.
        """
        at = when(self._log, as_of, known_at, tz)
        asked = Asked.parsed(definition, group_by, where, tz)
        with self._asked(AskClosingReport(pipeline=pipeline, **moments(at), **asked.fields())):
            return closing_report(self._log, self._model, pipeline, at, asked)
