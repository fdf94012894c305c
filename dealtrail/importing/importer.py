"""The import: an event log's rows, staged, translated and recorded in a trail; the bad ones reported."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from dealtrail.domain.errors import DealtrailError, error, nearest
from dealtrail.importing.mapping import Mapping
from dealtrail.importing.rows import CsvFile, Source
from dealtrail.importing.staging import Staged, Staging
from dealtrail.importing.translating import Translator, row_id
from dealtrail.store.recording import Imported, Progress
from dealtrail.trail import Trail


class BadRow(msgspec.Struct, frozen=True):
    """A row that was not imported: where it stands, what it says, and why it was refused."""

    file: str
    line: int
    row: dict[str, str]
    refused: DealtrailError


class Tally(msgspec.Struct, frozen=True):
    """What became of the rows of an event log. `repeated` had been recorded before; `defined`: the pipeline is new.

    `bad` counts those of the file of cases too. After a dry run it is what would become of them.
    """

    recorded: int
    repeated: int
    ignored: int
    bad: int
    defined: bool


def import_rows(
    trail: Trail,
    mapping: Mapping,
    events: Source,
    cases: Source | None = None,
    *,
    dry_run: bool = False,
    report: Callable[[BadRow], None] | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Record the history of deals that a CSV file tells, one row per event; the second file has one row per case.

    Each is a path or a binary stream, plain or gzipped. `report` is called with each bad row, the others are kept;
    `dry_run` says the same and records nothing. `progress` is called with how many of how many rows are decided.
    Rows that an earlier import recorded are only counted, so an import that was interrupted is simply run again.

    Errors, with nothing recorded: those of the files (unreadable_file, wrong_encoding, missing_column, …),
    unknown_pipeline, and invalid_field where the mapping names a stage that the pipeline lacks.
    """
    definition = _definition(trail, mapping)
    with Staging() as staging:
        run = _Import(mapping, staging, definition, report)
        run.stage(events, cases)
        if definition is None:
            run.mark_late(trail)
        for done, outcome in enumerate(trail.record_each(run.actions(), dry_run=dry_run), 1):
            run.settle(outcome)
            if progress is not None and done % 1_000 == 0:
                progress(done, staging.count)
        if progress is not None:
            progress(staging.count, staging.count)
        return Tally(run.recorded, run.repeated, run.ignored, run.bad, definition is not None)


def _definition(trail: Trail, mapping: Mapping) -> dict[str, Any] | None:
    """The action that defines the mapping's pipeline; None where it exists, then with every stage of the mapping."""
    pipeline = mapping.pipeline
    known = [view.pipeline for view in trail.pipelines()]
    if pipeline.key in known:
        mapping.check_stages({stage["key"] for view in trail.definitions(pipeline.key) for stage in view.stages})
        return None
    if pipeline.stages is None:
        raise error("unknown_pipeline", "pipeline", pipeline=pipeline.key, nearest=nearest(pipeline.key, known))
    given = msgspec.structs.asdict(pipeline)
    return {"action": "define_pipeline", "pipeline": given.pop("key"), **given}


class _Import:
    """One run: the rows on their way, and the count of what became of them."""

    def __init__(
        self,
        mapping: Mapping,
        staging: Staging,
        definition: dict[str, Any] | None,
        report: Callable[[BadRow], None] | None,
    ) -> None:
        self._mapping = mapping
        self._translator = Translator(mapping)
        self._staging = staging
        self._definition = definition
        self._report = report
        self._events_name = ""
        self._cases_name: str | None = None
        self._own: set[str] = set()
        # The rows whose actions were handed over and not yet settled, oldest first; None is the definition.
        self._handed: deque[Staged | None] = deque()
        self.recorded = self.repeated = self.ignored = self.bad = 0

    def stage(self, events: Source, cases: Source | None) -> None:
        """Read both files and keep what the mapping wants of them, so that a file which breaks off records nothing."""
        form = (self._mapping.encoding, self._mapping.delimiter)
        with CsvFile(events, *form) as event_file:
            self._events_name = event_file.name
            self._own = set(event_file.columns)
            if cases is not None:
                with CsvFile(cases, *form) as case_file:
                    self._require(event_file, case_file)
                    self._stage_cases(case_file)
            else:
                self._require(event_file, None)
            self._stage_events(event_file)

    def _require(self, event_file: CsvFile, case_file: CsvFile | None) -> None:
        """Refuse files that lack a column of the mapping. Errors: missing_column."""
        columns = self._mapping.columns
        if case_file is not None:
            case_file.require(columns.case, "columns.case")
        for field, column in columns.used():
            needed_here = field in ("columns.case", "columns.activity", "columns.time")
            if needed_here or case_file is None or column not in case_file.columns:
                event_file.require(column, field)

    def _stage_cases(self, file: CsvFile) -> None:
        self._cases_name = file.name
        for row in file.rows():
            try:
                if row.bad is not None:
                    raise row.bad
                case = self._translator.case(row.cells)
            except DealtrailError as refusal:
                self._refuse(file.name, row.line, row.cells, refusal)
                continue
            self._staging.add_facts(case, row, file.name)

    def _stage_events(self, file: CsvFile) -> None:
        for row in file.rows():
            try:
                if row.bad is not None:
                    raise row.bad
                if self._translator.ignores(row.cells):
                    self.ignored += 1
                    continue
                case, at = self._translator.case(row.cells), self._translator.at(row.cells)
            except DealtrailError as refusal:
                self._refuse(file.name, row.line, row.cells, refusal)
                continue
            self._staging.add_event(case, at, row.cells[self._mapping.columns.activity], row)

    def mark_late(self, trail: Trail) -> None:
        """Mark the new rows of whose case and time a later row was recorded before: the log would turn them round."""
        deal, known = None, set[str | None]()
        for group in self._staging.groups():
            if len(group) == 1:
                continue
            if group[0].deal != deal:
                deal = group[0].deal
                known = _ids(trail, deal)
            later_is_known = False
            for row in reversed(group):
                if row_id(row.deal, row.activity, row.at, row.ordinal) in known:
                    later_is_known = True
                elif later_is_known:
                    self._staging.mark_late(row.line)

    def actions(self) -> Iterator[dict[str, Any] | DealtrailError]:
        """The actions of the rows, case by case, or what is wrong with a row in its place."""
        if self._definition is not None:
            self._handed.append(None)
            yield self._definition
        for group in self._staging.groups():
            for row in group:
                self._handed.append(row)
                yield self._action(row)

    def _action(self, row: Staged) -> dict[str, Any] | DealtrailError:
        if row.late:
            return error("late_row")
        if row.facts is None and self._cases_name is not None:
            return error("unknown_case", path=self._cases_name, case=row.deal)
        cells = {**(row.facts or {}), **row.cells}
        return self._translator.action(row.deal, row.at, row.ordinal, cells, self._own)

    def settle(self, outcome: Imported) -> None:
        """Count what became of the oldest row on its way."""
        row, refusal = self._handed.popleft(), outcome.refused
        if row is None:
            # Somebody may have defined it meanwhile; without a pipeline no row can be judged.
            if refusal is not None and refusal.code != "pipeline_exists":
                raise refusal
        elif refusal is None:
            self.repeated += outcome.repeated
            self.recorded += not outcome.repeated
        else:
            if refusal.code == "id_reused":
                refusal = error("row_changed", version=refusal.facts["version"])
            self._refuse(self._events_name, row.line, row.cells, refusal)

    def _refuse(self, file: str, line: int, row: dict[str, str], refusal: DealtrailError) -> None:
        self.bad += 1
        if self._report is not None:
            self._report(BadRow(file, line, row, refusal))


def _ids(trail: Trail, deal: str) -> set[str | None]:
    """The ids of everything that was recorded of a deal."""
    try:
        return {event.id for event in trail.history(deal)}
    except DealtrailError as refusal:
        if refusal.code != "unknown_deal":
            raise
        return set()
