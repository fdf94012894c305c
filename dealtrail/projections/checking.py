"""Checking a report that was kept: made again from the log, compared figure by figure, explained by what came later."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from dealtrail.domain.errors import InvalidInput, Refused
from dealtrail.domain.events import ActionCompleted, ActivityLogged, Entry, EventRetracted, ExpectedCloseChanged
from dealtrail.domain.texts import shaped
from dealtrail.domain.times import Instant, instant, moment, parse_moment, zone
from dealtrail.projections.behind import KINDS, Report, deals_behind, one_of
from dealtrail.projections.closing_report import ClosingReport, closing_report
from dealtrail.projections.conformance import ConformanceReport, conformance
from dealtrail.projections.funnel_report import AskedOfCohort, funnel_report
from dealtrail.projections.pipeline_report import PipelineReport, pipeline_report
from dealtrail.projections.provenance import content_digest, digest
from dealtrail.projections.question import Asked, When
from dealtrail.projections.readmodel import ReadModel
from dealtrail.projections.todo import NextActions, next_actions
from dealtrail.store.log import Log
from dealtrail.store.mapper import name_of
from dealtrail.store.verifying import Finding

Checked = Report | ClosingReport | NextActions

# What a report says of itself, apart from its figures.
_HEADING = (
    *("question", "pipeline", "cohort", "as_of", "known_at", "position", "definition", "draft", "within", "limit"),
    *("content_digest", "digest"),
)
# What the rows of a list of figures are called, and by which of their fields.
_ROWS = {
    "stages": ("stage", ("stage",)),
    "kinds": ("kind", ("kind",)),
    "deviations": ("deviation", ("kind", "from", "to")),
    "variants": ("path", ("stages",)),
    "loops": ("loop", ("stage",)),
    "months": ("month", ("month",)),
    "deals": ("deal", ("deal",)),
    "actions": ("action", ("deal", "action")),
    "stalled": ("stalled", ("deal",)),
    "unowned": ("unowned", ("deal",)),
    "overdue": ("overdue", ("deal",)),
}
# What no figure of a report is made of, but for those of the kinds beside it.
_UNREAD: dict[type[Any], tuple[type[Any], ...]] = {
    ActivityLogged: (),
    ActionCompleted: (NextActions,),
    ExpectedCloseChanged: (NextActions, ClosingReport),
}
_BATCH = 1_000

_encode = msgspec.json.Encoder(order="sorted").encode


class Difference(msgspec.Struct, frozen=True):
    """A field of which a report says one thing and the log another; None where one of them has no such field.

    `where` is `report`, `question`, `total`, `stage KEY` or another row of figures, or one of these of a group.
    """

    where: str
    field: str
    report: Any
    log: Any


class LaterEvent(msgspec.Struct, frozen=True):
    """An event recorded after a report was made that bears on its figures."""

    position: int
    deal: str | None
    pipeline: str | None
    event: str
    occurred_at: datetime
    recorded_at: datetime
    by: str | None


class ReportCheck(msgspec.Struct, frozen=True):
    """What came of making a report again: `ok` where the log gives the very same, down to its digest.

    `findings` say what is wrong otherwise, by kind. `content_digest`: the figures or the question are not those that
    it was made of, the report was edited. `digest`: it does not belong to this log, which is another or was changed.
    `report`: the log answers the question otherwise, in the fields of `differences`. `refused`: the question cannot be
    asked of this log. `since` is what the same question says otherwise as known now, and `events` are the later ones
    that explain it; that is no fault.
    """

    ok: bool
    position: int
    findings: list[Finding]
    differences: list[Difference]
    since: list[Difference]
    events: list[LaterEvent]


class _Question(msgspec.Struct, frozen=True):
    """The arguments that a report repeats."""

    pipeline: str
    as_of: str
    known_at: str
    definition: Any
    tz: str
    group_by: list[str] = []
    where: dict[str, Any] = {}
    cohort: str | None = None
    within: int | float | None = None
    fiscal_year_start: int = 1
    limit: int = 20
    owner: str | None = None


def kept_report(given: object) -> Checked:
    """A report that can be checked, also as its JSON says it. Errors: invalid_field, those of its shape."""
    return one_of({**KINDS, "closing": ClosingReport, "next_actions": NextActions}, given)  # type: ignore[no-any-return]


def check_report(log: Log, model: ReadModel, report: Checked) -> ReportCheck:
    """Check a report; see `Trail.check_report`."""
    question: _Question = shaped(report.question, _Question, "report.question")
    as_of, known_at = (parse_moment(at, "report.question", zone("UTC")) for at in (question.as_of, question.known_at))
    with log.reading() as reading:
        at = When(as_of, known_at, reading.position_at(known_at))
        last, chain = reading.head().position, reading.chain_at(report.position)
    findings = _bindings(report, last, chain)
    try:
        again = _made(log, model, report, question, at)
    except (Refused, InvalidInput) as refusal:
        findings.append(Finding("refused", f"the question cannot be asked of this log: {refusal}", report.position))
        return ReportCheck(False, report.position, findings, [], [], [])
    differences = list(_differences(report, again))
    if differences:
        count = len(differences)
        why = f"the log answers the question otherwise in {count} figure{'s' if count != 1 else ''}"
        findings.append(Finding("report", why, report.position))
    since, events = _since(log, model, again, question, as_of)
    return ReportCheck(not findings, report.position, findings, differences, since, events)


def _since(
    log: Log, model: ReadModel, again: Checked, question: _Question, as_of: Instant
) -> tuple[list[Difference], list[LaterEvent]]:
    """What a question says otherwise as known now, and the later events that explain it."""
    now, head, _ = log.present()
    reports = [again]
    try:
        today = _made(log, model, again, question, When(as_of, now, head.position))
        since = [one for one in _differences(again, today) if _is_figure(one)]
        reports.append(today)
    except Refused as refusal:  # a version that came later may be in force at T: history is restated forward only
        since = [Difference("question", "definition", again.question["definition"], str(refusal))]
    return since, list(_explaining(log, model, reports, head.position)) if since else []


def _bindings(report: Checked, last: int, chain: bytes | None) -> list[Finding]:
    """What a report's own digests say of it."""
    found = []
    if (
        content_digest(report.question, {name: getattr(report, name) for name in _figures(report)})
        != report.content_digest
    ):
        why = "the report was edited: its content_digest is not that of its question and figures"
        found.append(Finding("content_digest", why, report.position))
    if chain is None:
        why = (
            f"the log ends at {last}, before the report's position {report.position}: it is another log, its end was "
            "cut off, or an older copy was put in its place"
        )
        found.append(Finding("digest", why, report.position))
    elif digest(report.content_digest, chain) != report.digest:
        why = (
            f"its digest does not bind it to this log at position {report.position}: it is of another log, the log was "
            "changed, or the report was edited"
        )
        found.append(Finding("digest", why, report.position))
    return found


def _made(log: Log, model: ReadModel, report: Checked, question: _Question, at: When) -> Checked:
    """The answer of the log to a report's question, at moments of its own."""
    if isinstance(report, NextActions):
        return next_actions(log, model, question.pipeline, at, question.owner, question.tz)
    asked = Asked.parsed(question.definition, tuple(question.group_by), question.where, question.tz)
    if isinstance(report, PipelineReport):
        return pipeline_report(log, model, question.pipeline, at, asked)
    if isinstance(report, ClosingReport):
        return closing_report(log, model, question.pipeline, at, asked)
    of_cohort = AskedOfCohort.parsed(question.cohort, question.within, question.fiscal_year_start, question.tz)
    if isinstance(report, ConformanceReport):
        return conformance(log, model, question.pipeline, at, asked, of_cohort, question.limit)
    return funnel_report(log, model, question.pipeline, at, asked, of_cohort)


def _differences(report: Checked, again: Checked) -> Iterator[Difference]:
    one, other = _flat(report), _flat(again)
    for where, field in dict.fromkeys((*one, *other)):
        said, found = one.get((where, field)), other.get((where, field))
        if _encode(said) != _encode(found):
            yield Difference(where, field, said, found)


def _flat(report: Checked) -> dict[tuple[str, str], Any]:
    """Every field of a report, by where it stands and its name."""
    plain = msgspec.to_builtins(report)
    figures = {name: plain.pop(name) for name in _figures(report)}
    flat = {("question", name): value for name, value in plain.pop("question").items()}
    flat |= {("report", name): value for name, value in plain.items()}
    groups = figures.pop("groups", None)
    flat |= _flat_figures("", figures)
    for group in groups or ():
        named = ", ".join(f"{name}={_encode(value).decode()}" for name, value in group.pop("group").items())
        flat |= _flat_figures(f"group {named}: ", group)
    return flat


def _figures(report: Checked) -> list[str]:
    """The fields of a report that its content_digest covers beside the question."""
    return [name for name in report.__struct_fields__ if name not in _HEADING]


def _flat_figures(of: str, figures: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    flat: dict[tuple[str, str], Any] = {}
    for name, value in figures.items():
        if name in _ROWS and isinstance(value, list):
            called, keys = _ROWS[name]
            for row in value:
                where = " ".join([called, *(_called(row[key]) for key in keys)])
                flat |= {(f"{of}{where}", field): part for field, part in row.items()}
        elif name in ("total", "other_variants"):
            flat |= {(f"{of}{name.replace('_', ' ')}", field): part for field, part in value.items()}
        else:
            flat[f"{of}total", name] = value
    return flat


def _called(key: Any) -> str:
    return " > ".join(key) if isinstance(key, list) else "none" if key is None else str(key)


def _is_figure(one: Difference) -> bool:
    """Whether a field is more than another name for another moment of knowledge."""
    return one.where not in ("question", "report") or one.field == "definition"


def _explaining(log: Log, model: ReadModel, reports: list[Checked], upto: int) -> Iterator[LaterEvent]:
    """The events recorded after the first report that bear on one: of the deals behind it, and of its definitions."""
    streams = {f"deal:{deal}" for report in reports for deal in _deals(log, model, report)}
    first = reports[0]
    pipeline, as_of = f"pipeline:{first.pipeline}", instant(first.as_of)
    by_latest = first.draft or first.question["definition"] == "current"
    after = first.position
    while after < upto:
        with log.reading() as reading:
            entries = [entry for entry in reading.following(after, _BATCH) if entry.position <= upto]
        for entry in entries:
            restates = entry.stream == pipeline and (by_latest or entry.occurred_at <= as_of)
            if restates or (entry.stream in streams and _bears(log, entry, as_of, type(first))):
                yield _later(entry)
        after = entries[-1].position


def _deals(log: Log, model: ReadModel, report: Checked) -> Iterator[str]:
    """The deals that a report counts, or that its lists name."""
    if isinstance(report, NextActions):
        for rows in (report.actions, report.stalled, report.unowned, report.overdue):
            yield from (row.deal for row in rows)
    else:
        for deal in deals_behind(log, model, report, None, None, None, None, None, UNSET):
            yield deal.deal


def _bears(log: Log, entry: Entry, as_of: Instant, kind: type[Any]) -> bool:
    """Whether an event of a deal can change a figure of a moment: a retraction does as what it takes back did."""
    if isinstance(entry.event, EventRetracted):
        with log.reading() as reading:
            entry = reading.entries(entry.stream, entry.position)[entry.event.version - 1]
    return entry.occurred_at <= as_of and kind in _UNREAD.get(type(entry.event), (kind,))


def _later(entry: Entry) -> LaterEvent:
    kind, _, name = entry.stream.partition(":")
    return LaterEvent(
        position=entry.position,
        deal=name if kind == "deal" else None,
        pipeline=name if kind == "pipeline" else None,
        event=name_of(entry.event),
        occurred_at=moment(entry.occurred_at),
        recorded_at=moment(entry.recorded_at),
        by=entry.by,
    )
