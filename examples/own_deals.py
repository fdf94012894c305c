"""Owners see and change their own deals, and nothing of anybody else's: a hook for `Trail.open(authorize=…)`.

    everything = Trail.open("sales.db")
    trail = Trail.open("sales.db", authorize=OwnDeals(everything))
    trail.acting("anna").pipeline_report("b2b", where={"owner": "anna"})

A deal is an owner's at (T, K) if its owner then, as known then, is that person. The rules:

- Whoever asks about the past asks what was known then: `known_at` is no later than `as_of`. So an owner may see again
  what she could have seen at the time, but not how a deal of hers went on in other hands, or was corrected there.
- A pipeline report, a listing and what is to be done name the owner: `where={"owner": …}`, or `owner=`. By what they
  group does not matter.
- A funnel looks at its deals as they opened, but tells what became of them. It names the owner too, and is answered
  while every deal of the cohort is still that owner's.
- The deals behind a figure are those of a report that may be asked, and that is made again: one that a client sends may
  say of itself what it likes.
- A deal, a history and an action are about a deal that is the owner's. Another's and one that does not exist are
  refused alike. A merge and what tells of one name two deals, and both must be the owner's.
- The id of a new deal is made, or a UUID: an owner who chose `D-7` would learn from a refusal that there is one.
- What is not named here is refused: the feed, conformance, pipelines defined anew, whatever a later release adds.

Definitions of pipelines are for all. Two figures still tell of others: `position`, on reports and on what recording
returns, counts everything that was recorded. A host that minds leaves it out of its answers.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from dealtrail import DealtrailError, DealView, FunnelReport, PipelineReport, Trail
from dealtrail.asking import (
    Action,
    AskDeal,
    AskDeals,
    AskDefinitions,
    AskFunnelReport,
    AskHistory,
    AskListing,
    AskNextActions,
    AskPipelineReport,
    AskPipelines,
    DealAction,
    Question,
)
from dealtrail.domain.actions import Amend, MergeDeal, OpenDeal


class NotYours(Exception):
    """One sentence for whatever is refused, so that it tells nothing."""

    def __init__(self) -> None:
        super().__init__("owners ask about their own deals, and change those alone; see the rules for owners")


class OwnDeals:
    """The hook. It looks at deals through a trail without one."""

    def __init__(self, everything: Trail) -> None:
        self._everything = everything

    def __call__(self, actor: str, request: Action | Question) -> None:
        """Raise NotYours, unless every deal that the answer could tell of, or the action changes, is the actor's."""
        if not self._may(actor, request):
            raise NotYours

    def _may(self, actor: str, request: Action | Question) -> bool:
        match request:
            case AskPipelines() | AskDefinitions():
                return True
            case AskFunnelReport():
                question = {**_moments(request), **_filter(request), "within": request.within}
                question |= {"cohort": request.cohort, "fiscal_year_start": request.fiscal_year_start}
                return self._may_funnel(actor, request.pipeline, question)
            case AskPipelineReport():
                return _then(request) and request.where.get("owner") == actor
            case AskNextActions():
                return _then(request) and request.owner == actor
            case AskDeals(report=PipelineReport() | FunnelReport() as report):
                return _then(request) and self._may_report(actor, report)
            case AskListing():
                # A deal that was merged names the one that it was merged into.
                named = actor in (request.owner, request.where.get("owner"))
                return _then(request) and named and request.status != "merged"
            case AskDeal():
                return _then(request) and self._owns(actor, request.deal, request.as_of, request.known_at)
            case AskHistory():
                return self._may_history(actor, request.deal, request.known_at)
            case OpenDeal():
                return request.owner == actor and all(_is_uuid(name) for name in (request.deal, request.id) if name)
            case MergeDeal():
                return self._owns(actor, request.deal) and self._owns(actor, request.into)
            case Amend():
                into = request.changes.get("into")
                return self._owns(actor, request.deal) and (into is None or self._owns(actor, into))
            case DealAction():
                return self._owns(actor, request.deal)
        return False

    def _may_funnel(self, actor: str, pipeline: str, question: dict[str, Any]) -> bool:
        if not question["known_at"] <= question["as_of"] or question["where"].get("owner") != actor:
            return False
        report = self._everything.funnel_report(pipeline, **question)
        return all(deal.owner == actor for deal in self._everything.deals(report))

    def _may_report(self, actor: str, report: PipelineReport | FunnelReport) -> bool:
        question = {name: value for name, value in report.question.items() if name not in ("report", "pipeline")}
        question |= {"as_of": report.as_of, "known_at": report.known_at}
        if isinstance(report, FunnelReport):
            made: Any = self._everything.funnel_report(report.pipeline, **question)
            allowed = self._may_funnel(actor, report.pipeline, question)
        else:
            made = self._everything.pipeline_report(report.pipeline, **question)
            allowed = question["where"].get("owner") == actor
        return allowed and bool(made == report)

    def _may_history(self, actor: str, deal: str, known_at: datetime) -> bool:
        if not self._owns(actor, deal, known_at, known_at):
            return False
        # A merge that was taken back still stands in the history.
        events = self._everything.history(deal, known_at=known_at)
        named = {event.data["into"] for event in events if "into" in event.data}
        return all(self._owns(actor, other, known_at, known_at) for other in named)

    def _owns(self, actor: str, deal: Any, as_of: datetime | None = None, known_at: datetime | None = None) -> bool:
        found = self._found(deal, as_of, known_at)
        if found is None or found.owner != actor:
            return False
        return found.merged_into is None or self._owns(actor, found.merged_into, as_of, known_at)

    def _found(self, deal: Any, as_of: datetime | None, known_at: datetime | None) -> DealView | None:
        try:
            return self._everything.deal(deal, as_of=as_of, known_at=known_at)
        except DealtrailError as refusal:
            if refusal.code in ("unknown_deal", "invalid_deal"):
                return None
            raise


def _then(question: Any) -> bool:
    """Whether it asks what was known at the time, and not later."""
    return bool(question.known_at <= question.as_of)


def _moments(question: Any) -> dict[str, Any]:
    return {"as_of": question.as_of, "known_at": question.known_at}


def _filter(question: AskFunnelReport) -> dict[str, Any]:
    return {name: getattr(question, name) for name in ("definition", "group_by", "where", "tz")}


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name.lower()
    except ValueError:
        return False
