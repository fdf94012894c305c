"""The deals behind a cell of a report."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from eventsourcing.sqlite import SQLiteCursor
from msgspec import UNSET, Meta, UnsetType

from dealtrail.domain.conditions import Scalar
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.reasons import REASONED
from dealtrail.domain.texts import plain, shaped
from dealtrail.domain.times import parse_time
from dealtrail.projections.closing_report import ClosingReport
from dealtrail.projections.conformance import ConformanceReport
from dealtrail.projections.deals import DealView, views
from dealtrail.projections.definitions import known_pipelines, lens_of, pipeline_among, stage_index
from dealtrail.projections.funnel_report import STAGE_FIELDS, TOTAL_FIELDS, AskedOfCohort, FunnelReport
from dealtrail.projections.journeys import Journey, journeys
from dealtrail.projections.pipeline_report import FIELDS, PipelineReport, standing
from dealtrail.projections.question import Asked, Facts, Lens, When, fits
from dealtrail.projections.readmodel import ReadModel
from dealtrail.projections.ways import behind, way_of
from dealtrail.store.log import Log

Report = PipelineReport | FunnelReport | ConformanceReport

# Each of them by the name that its question gives it.
KINDS: dict[str, Any] = {"pipeline": PipelineReport, "funnel": FunnelReport, "conformance": ConformanceReport}


def deals_behind(
    log: Log,
    model: ReadModel,
    report: Report | ClosingReport,
    stage: str | None,
    field: str | None,
    group: Mapping[str, Scalar | None] | None,
    currency: str | None,
    path: Sequence[str | None] | None,
    reason: str | UnsetType | None,
) -> list[DealView]:
    """The deals behind a cell; see `Trail.deals`."""
    question = _Question(report.question)
    at = _when(report)
    asked = Asked.parsed(question["definition"], question["group_by"], question["where"], question["tz"])
    names = asked.group_by
    if group is not None and not (isinstance(group, Mapping) and set(group) == set(names)):
        raise error("invalid_field", "group", why=f"give a value for each of: {', '.join(names) or 'none'}")
    if path is not None and not isinstance(report, ConformanceReport):
        raise error("invalid_field", "path", why="only a report about conformance has paths")
    if reason is not UNSET and not (isinstance(report, FunnelReport) and field in REASONED):
        raise error("invalid_field", "reason", why='it goes with a funnel and its field "lost" or "disqualified"')
    wanted = {} if group is None else {name: group[name] for name in names}

    def is_of(found: Facts) -> bool:
        return fits(wanted, found) and currency in (None, found.currency)

    with model.answering(at.position) as c:
        known = known_pipelines(c, at.position)
        lens = lens_of(pipeline_among(known, report.pipeline), asked.definition, at)
        index = None if stage is None else stage_index(lens, stage)
        numbers: set[int] = set()
        if isinstance(report, PipelineReport | ClosingReport):
            holds = _field(FIELDS, field or "deals")
            for tally in standing(c, lens, at, asked.where, names, deals=True):
                if index in (None, tally.stage) and is_of(tally.facts):
                    numbers.update(holds(tally, lens, at.as_of))
        elif isinstance(report, ConformanceReport):
            stands = behind(lens.under, field, index, path)
            for journey in _journeys(c, lens, at, asked, question):
                if is_of(journey.facts) and stands(way_of(journey, lens.under)):
                    numbers.update(journey.deals)
        else:
            for journey in _journeys(c, lens, at, asked, question):
                if is_of(journey.facts) and _counts(journey, index, field):
                    numbers.update(journey.deals if reason is UNSET else journey.deals_for(reason))
        return views(c, log, at, known, numbers)


class _Question(dict[str, Any]):
    """A report's question. A report may have been read back from a file, and that may have been changed."""

    def __missing__(self, name: str) -> Any:
        raise error("missing_field", f"report.question.{name}")


def _when(report: Report | ClosingReport) -> When:
    as_of, known_at = (parse_time(getattr(report, name), f"report.{name}") for name in ("as_of", "known_at"))
    return When(as_of, known_at, shaped(report.position, Annotated[int, Meta(ge=0, le=2**53)], "report.position"))


def _journeys(c: SQLiteCursor, lens: Lens, at: When, asked: Asked, question: Mapping[str, Any]) -> list[Journey]:
    of_cohort = AskedOfCohort.parsed(question["cohort"], question["within"], question["fiscal_year_start"], asked.tz)
    by = (*asked.group_by, "currency")
    return journeys(c, lens, at, of_cohort.period, of_cohort.span, asked.where, by)


def report_of(given: object) -> Report:
    """A report with deals behind its figures, also as its JSON says it. Errors: invalid_field, those of its shape."""
    return one_of(KINDS, given, "; any other names its deals itself")  # type: ignore[no-any-return]


def one_of(kinds: Mapping[str, Any], given: object, otherwise: str = "") -> Any:
    """A report of one of some kinds, also as its JSON says it; `otherwise` is what is said beside to one of another.

    Errors: invalid_field, those of its shape.
    """
    if isinstance(given, tuple(kinds.values())):
        return given
    given = plain(given, "report")
    try:
        msgspec.json.encode(given)  # what no file holds, such as half a character, no digest can be made of
    except (TypeError, ValueError) as trouble:
        raise error("invalid_field", "report", why=str(trouble)) from None
    question = given.get("question") if isinstance(given, Mapping) else getattr(given, "question", None)
    name = question.get("report", "pipeline") if isinstance(question, Mapping) else "pipeline"
    if not isinstance(name, str) or name not in kinds:
        why = f"give a report of {', '.join(kinds)}{otherwise}"
        raise error("invalid_field", "report", why=why)
    return shaped(given, kinds[name], "report")


def _counts(journey: Journey, index: int | None, field: str | None) -> bool:
    """Whether a field of a stage, or of the total, counts these deals."""
    if index is None:
        return bool(_field(TOTAL_FIELDS, field or "cohort")(journey))
    return bool(_field(STAGE_FIELDS, field or "reached")(journey, index))


def _field(known: Mapping[str, Any], field: str) -> Any:
    if not isinstance(field, str) or field not in known:
        raise error("invalid_field", "field", why=f"give one of {', '.join(known)}{nearest(field, known)}")
    return known[field]
