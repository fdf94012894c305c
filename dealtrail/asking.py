"""Asking: every question to a trail as a typed struct, as a hook that says who may is shown it."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import msgspec

from dealtrail.domain.actions import Action, DealAction, RedefinePipeline
from dealtrail.domain.conditions import Scalar
from dealtrail.domain.times import moment
from dealtrail.projections.behind import Report
from dealtrail.projections.checking import Checked
from dealtrail.projections.definitions import Draft
from dealtrail.projections.question import When

__all__ = [
    "Action",
    "AskAdoptKeys",
    "AskBackup",
    "AskCheckReport",
    "AskClosingReport",
    "AskConformance",
    "AskDeal",
    "AskDeals",
    "AskDefinitions",
    "AskFeed",
    "AskForgetting",
    "AskFunnelReport",
    "AskHead",
    "AskHealth",
    "AskHistory",
    "AskLastRecordedAt",
    "AskListing",
    "AskNextActions",
    "AskPipelineReport",
    "AskPipelines",
    "AskPreview",
    "AskRebuild",
    "AskStatus",
    "AskVerify",
    "CohortQuestion",
    "DealAction",
    "Question",
    "ReportQuestion",
    "TimedQuestion",
]


class Question(msgspec.Struct, frozen=True, kw_only=True, tag_field="question", tag="question"):
    """A question to a trail, its arguments as they were understood. Its tag is the name of the method of `Trail`."""

    @property
    def name(self) -> str:
        """The method of `Trail`."""
        return str(self.__struct_config__.tag)


class TimedQuestion(Question, frozen=True, kw_only=True):
    """A question about a pair of moments: those that the answer will be about, never later than now."""

    as_of: datetime
    known_at: datetime


class ReportQuestion(TimedQuestion, frozen=True, kw_only=True):
    """What every report is asked."""

    pipeline: str
    definition: Any
    group_by: tuple[str, ...]
    where: dict[str, Scalar | None]
    tz: str


class CohortQuestion(ReportQuestion, frozen=True, kw_only=True):
    """What a report on a cohort is asked. `where` and `group_by` look at deals as they opened."""

    cohort: str
    within: int | float | None
    fiscal_year_start: int


class AskPipelineReport(ReportQuestion, frozen=True, kw_only=True, tag="pipeline_report"):
    """`Trail.pipeline_report`."""


class AskFunnelReport(CohortQuestion, frozen=True, kw_only=True, tag="funnel_report"):
    """`Trail.funnel_report`."""


class AskConformance(CohortQuestion, frozen=True, kw_only=True, tag="conformance"):
    """`Trail.conformance`."""

    limit: int


class AskClosingReport(ReportQuestion, frozen=True, kw_only=True, tag="closing_report"):
    """`Trail.closing_report`."""


class AskNextActions(TimedQuestion, frozen=True, kw_only=True, tag="next_actions"):
    """`Trail.next_actions`."""

    pipeline: str
    owner: str | None
    tz: str


class AskDeals(TimedQuestion, frozen=True, kw_only=True, tag="deals"):
    """`Trail.deals`. The report came from the caller: what it says of itself is true only if it can be made again."""

    report: Report
    stage: str | None
    field: str | None
    group: dict[str, Scalar | None] | None
    currency: str | None
    path: Sequence[str | None] | None
    reason: str | msgspec.UnsetType | None


class AskDeal(TimedQuestion, frozen=True, kw_only=True, tag="deal"):
    """`Trail.deal`."""

    deal: str


class AskListing(TimedQuestion, frozen=True, kw_only=True, tag="list_deals"):
    """`Trail.list_deals`."""

    pipeline: str
    status: str | None
    stage: str | None
    owner: str | None
    where: dict[str, Scalar | None]
    sort: str
    limit: int
    after: str | None


class AskHistory(Question, frozen=True, kw_only=True, tag="history"):
    """`Trail.history`: the events of a deal that had been recorded by `known_at`."""

    deal: str
    known_at: datetime


class AskPipelines(TimedQuestion, frozen=True, kw_only=True, tag="pipelines"):
    """`Trail.pipelines`."""


class AskDefinitions(TimedQuestion, frozen=True, kw_only=True, tag="definitions"):
    """`Trail.definitions`."""

    pipeline: str


class AskPreview(Question, frozen=True, kw_only=True, tag="preview_redefinition"):
    """`Trail.preview_redefinition`, with the action that it rehearses."""

    action: RedefinePipeline


class AskFeed(Question, frozen=True, kw_only=True, tag="follow"):
    """`Trail.follow`: every event of the log behind a position. Asked once, when the feed is made."""

    after: int


class AskLastRecordedAt(Question, frozen=True, kw_only=True, tag="last_recorded_at"):
    """`Trail.last_recorded_at`."""


class AskStatus(Question, frozen=True, kw_only=True, tag="status"):
    """`Trail.status`."""


class AskHealth(Question, frozen=True, kw_only=True, tag="health"):
    """`Trail.health`."""


class AskHead(Question, frozen=True, kw_only=True, tag="head"):
    """`Trail.head`."""


class AskVerify(Question, frozen=True, kw_only=True, tag="verify"):
    """`Trail.verify`."""


class AskCheckReport(Question, frozen=True, kw_only=True, tag="check_report"):
    """`Trail.check_report`: the answer tells what the report's question says now. The report came from the caller."""

    report: Checked


class AskRebuild(Question, frozen=True, kw_only=True, tag="rebuild"):
    """`Trail.rebuild`."""


class AskBackup(Question, frozen=True, kw_only=True, tag="backup"):
    """`Trail.backup`: the path that is written, and the position that it goes on from, if any."""

    dest: str
    since: int | None


class AskForgetting(Question, frozen=True, kw_only=True, tag="forget"):
    """`Trail.forget`: the subject, who decided it, and why."""

    subject: str
    by: str
    reason: str
    partly: bool


class AskAdoptKeys(Question, frozen=True, kw_only=True, tag="adopt_keys"):
    """`Trail.adopt_keys`."""


# What a caller may give for an argument of many questions.
Moment = datetime | date | str | None
AsDefined = Literal["as_of", "current"] | int | Draft | Mapping[str, Any]
Where = Mapping[str, str | int | float | bool | None] | None


def moments(at: When) -> dict[str, Any]:
    """The moments of a question, by the names of their fields."""
    return {"as_of": moment(at.as_of), "known_at": moment(at.known_at)}
