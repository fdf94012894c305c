"""The one tree of errors, and the table of every code with its sentence.

DealtrailError
├── InvalidInput      what came in is not of the right shape
├── Refused           a rule of the pipeline or of the deal does not allow it
│   └── Conflict      somebody else was quicker: read again, then retry
└── StoreError        the files are busy, damaged, foreign or newer than this code
"""

from reprlib import Repr
from typing import Any


class DealtrailError(Exception):
    """Every error of this package: `code` is stable, `message` says what to do, `field` is the one at fault."""

    def __init__(self, code: str, message: str, field: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (type(self), self.code, self.message, self.field, self.facts))


class InvalidInput(DealtrailError):
    """What came in is not of the right shape."""


class Refused(DealtrailError):
    """A rule of the pipeline or of the deal does not allow it; nothing was recorded."""


class Conflict(Refused):
    """The deal or pipeline is no longer at the version that the caller expected: read it again, then retry."""


class StoreError(DealtrailError):
    """The files of the store are busy, damaged, foreign or newer than this code."""


_INPUT: dict[str, str] = {
    "bare_date": "{field} is a bare date ({given}); give a time with its zone, such as 2026-03-01T09:00:00Z",
    "duplicate_key": "{field}: the key {given} stands twice; keys are unique",
    "invalid_amount": "{field}: {given} is no amount; give a string of at most 15 digits, then at most 6 after "
    'a point, such as "1200.50"',
    "invalid_assignment": "{field}: give one group (rule and owners), or groups and what to choose among them by: a "
    "group's key, or a list of rules of which all but the last have `when`",
    "invalid_condition": "{field}: {given} is no condition; give field, op and value, such as "
    '{{"field": "value", "op": "ge", "value": "10000"}}',
    "invalid_deal": "{field}: {given} is no deal id; give 1 to 255 characters, none of them a control character",
    "invalid_field": "{field}: {why}",
    "invalid_group_by": "group_by: {given} is no field to group by; take owner, source, currency or "
    "attributes.NAME{nearest}",
    "invalid_json": "this is no JSON object: {why}",
    "invalid_key": "{field}: {given} is no key; give at most 64 of a-z, 0-9, _ and -, beginning with a letter or digit",
    "invalid_moves": "moves: {field}: give a stage key, or a list of rules of which all but the last have `when`",
    "invalid_period": "{given} is no period; give 2026, 2026-Q1, 2026-03, 2026-W09, 2026-03-15 or "
    "2026-01-01..2026-04-01 (the end is excluded and comes after the beginning)",
    "invalid_time": "{field}: {given} is no time; give an ISO 8601 time with its zone and at most six digits after "
    "the second, such as 2026-03-01T09:00:00Z",
    "invalid_tz": "tz: {given} is no time zone; give a name such as Europe/Amsterdam",
    "invalid_where": "where: {given}; take owner, source, currency or attributes.NAME, and a text, number, boolean "
    "or null{nearest}",
    "missing_field": "{field} is missing; give it",
    "naive_time": "{field}: {given} has no time zone; add one, such as Z or +01:00",
    "no_stages": "stages is empty; a pipeline has at least one stage",
    "reserved_key": "{field}: {given} is an outcome of every pipeline, not a stage; choose another key",
    "unknown_action": "{given} is no action{nearest}",
    "unknown_currency": "{field}: {given} is no active ISO 4217 currency with a minor unit",
    "unknown_field": "{field} is not a field here{nearest}",
    "unknown_template": "there is no template {given}{nearest}; `dealtrail templates` lists them",
}

_RULES: dict[str, str] = {
    "action_not_in_stage": "{key} is no sales-process action of stage {stage}; complete one of: {known}",
    "already_in_stage": "deal {deal} is in stage {stage} already{when}; move it to another stage",
    "already_retracted": "event {version} of deal {deal} is retracted already; see its history",
    "back_not_allowed": "deal {deal} may not go back from stage {stage}{when}; go on, or close it (stages that may be "
    "left backwards: {allowed})",
    "before_opening": "nothing of deal {deal} may occur before its opening at {opened}{when}; give a later `at`",
    "cannot_restate": "version {given} is older than version {in_force}, which was in force; history is restated "
    "forward only: take {in_force} or later",
    "deal_exists": "deal {deal} was opened already; choose another id, or record another action for it",
    "deal_merged": "deal {deal} is merged into {into}{when}; act on that deal, or retract the merge",
    "deal_not_closed": "deal {deal} is open{when}; only a closed deal can be reopened",
    "deal_not_open": "deal {deal} is {status}{when}; reopen it first",
    "definition_before_previous": "`at` is earlier than that of version {previous}; a new version may not come into "
    "force before the one that it follows",
    "entry_not_allowed": "a deal may not begin in stage {stage} of pipeline {pipeline}; open or transfer it into one "
    "of: {allowed}",
    "forbidden": "{actor} may not do this: {why}",
    "forgotten_subject": "subject {subject} is forgotten; leave personal texts out, or open a deal under a new subject",
    "future_time": "`at` is later than now ({now}); record what has happened",
    "id_reused": "the id {id} was used for another action (version {version}); take a new id for new content",
    "is_opening": "event {version} is the opening of deal {deal}, which cannot be retracted; amend it instead",
    "is_retraction": "event {version} of deal {deal} is a retraction itself; record the action anew instead",
    "merge_into_itself": "deal {deal} cannot be merged into itself; name the deal that stays",
    "merge_into_merged": "deal {into} is itself merged into another; name the deal that stays",
    "merge_into_unknown": "there is no deal {into} to merge into; name the deal that stays",
    "missing_move": "stage {key} is not in the new definition; say in `moves` what becomes of it",
    "missing_reason_move": "reason {reason} is not in the new list for {outcome} deals; say in `reason_moves` what "
    "becomes of it",
    "nobody_to_assign": "{field}: every owner of group {group} is paused; leave one to whom leads can go",
    "other_pipeline": "deal {deal} would be in pipeline {pipeline}{when}, not in {stored}",
    "pipeline_exists": "pipeline {pipeline} is defined already; redefine it instead",
    "pipeline_not_amendable": "the pipeline of an event cannot be amended; transfer the deal instead",
    "recorded_in_clear": "{count} events with personal texts were recorded in clear before keys were configured, and "
    "an event is never changed; record into a new store that has keys, or forget `partly` what is encrypted",
    "required_action_missing": "stage {stage} of deal {deal} still requires: {missing}{when}; complete it first",
    "same_pipeline": "deal {deal} is in pipeline {pipeline} already{when}; move it to a stage instead",
    "skip_not_allowed": "deal {deal} may not skip {stage}{when}; move it there first (stages that may be skipped: "
    "{allowed})",
    "unknown_deal": "there is no deal {deal}{nearest}; open it first",
    "unknown_definition": "pipeline {pipeline} has no version {given}; the latest is {latest}",
    "unknown_group": "{field}: {given} is no group of this assignment{nearest}",
    "unknown_pipeline": "there is no pipeline {pipeline}{nearest}; define it first",
    "unknown_reason": "{given} is no reason of version {version} of pipeline {pipeline} for {outcome} deals{nearest}; "
    "take one of: {known}",
    "unknown_subject": "no deal is about subject {subject}; give the `subject` of a deal, by default its id",
    "unknown_stage": "{given} is no stage of version {version} of pipeline {pipeline}{nearest}",
    "unknown_version": "deal {deal} has no event {version}; see its history",
}

_IMPORT: dict[str, str] = {
    "duplicate_case": "{path}, line {line}: case {case} stands twice; a case has one row",
    "duplicate_header": '{path}: the column "{column}" stands twice in the header; rename one',
    "empty_file": "{path} is empty; give a CSV file whose first line names its columns",
    "field_count": "this row has {given} fields, but the header has {columns}; quote a field that holds the delimiter",
    "gzip_bomb": "{path} unpacks to more than {most} times its size; unpack it yourself if you trust it",
    "invalid_csv": "{path}, line {line} is no CSV: {why}; put quotes around a field and double those inside it",
    "invalid_mapping": "the mapping is no TOML: {why}",
    "late_row": "a row of the same case and time that comes after this one was imported before; the log would turn "
    "them round: amend the deal instead",
    "line_too_long": "{path}, line {line} is longer than {most} bytes; give a file with one row or action a line",
    "missing_column": "{path} has no column {column}{nearest}; see `columns` in the mapping",
    "row_changed": "this row was imported before, as event {version}, with other content or by another mapping; "
    "amend that event, or give the row as it was",
    "too_many_columns": "{path} has {given} columns; at most {most} are read",
    "unknown_activity": "the mapping does not name the activity {activity}{nearest}; name it, or put other = "
    '"ignore" among the activities',
    "unknown_case": "{path} has no row of case {case}; add it",
    "unreadable_file": "{path} cannot be read: {why}",
    "wrong_encoding": "{path}, line {line} is not in {encoding}; say in the mapping which `encoding` it is in",
}

_COPY: dict[str, str] = {
    "cut_file": "{path} breaks off after line {line}: {why}; copy it whole, or write it again",
    "file_exists": "{path} is there already; {why}",
    "invalid_line": "{path}, line {line}: {why}",
    "log_gap": "{path} goes on from position {since}, but what came before it ends at {position}; give the export from "
    "0 and then its increments, in order",
    "not_after_previous": "recorded_at is not later than that of the line before; put the lines in the order in which "
    "they were recorded, each later than the one before",
    "other_log": "{path} is of the log {given}, what came before it of {log}; give files of one log",
    "unwritable_file": "{path} cannot be written: {why}",
    "wrong_chain": "{path}, line {line}: position {position} does not continue the chain; it was changed, or is of "
    "another past of this log: take the file from where it is sound",
}

_CONFLICT: dict[str, str] = {
    "conflict": "expected version {expected}, but it is {version}; read it again, then retry",
}

_STORE: dict[str, str] = {
    "all_in_use": "all of the {most} stores that may be open at once are in use; retry, or let more be open",
    "busy": "the store is locked by another writer; retry",
    "damaged": "{path}: {why}; restore it from a backup",
    "newer_store": "{path} was written by a newer dealtrail ({sign}); upgrade",
    "no_store": "there is no store at {path}; give the path of one, or found one with a definition or an import",
    "not_a_store": "{path} is not a dealtrail store: {why}",
    "closed": "this trail is closed; open it again",
    "disk_error": "{path}: the disk refused ({why}); nothing of this step is acknowledged: mend it, then open again",
    "forked": "{why}",
    "full": "{path}: there is no room left on the disk; nothing of this step was recorded: make room, then retry",
    "gone": "{path} is no longer the file that was opened: it was deleted, moved or replaced; nothing of this step is "
    "acknowledged: put the file back, or open again",
    "must_reopen": "{path}: the disk failed to keep what it was given, and nothing is recorded here any more: mend it, "
    "then open the store again, which checks the end of the log before it records",
    "keys_missing": "personal texts of this store are encrypted, and {why}; open it with its keys",
    "not_installed": "{package} is not installed; pip install 'dealtrail[{extra}]'",
    "wrong_keys": "{path}: {why}; give the keys with which the store was first opened, and their master key",
    "read_only": "{path} cannot be written to; give this process the right to write the file and its folder, or copy "
    "the closed file to where it has that right",
}

SENTENCES = _INPUT | _IMPORT | _COPY | _RULES | _CONFLICT | _STORE


def error(code: str, field: str | None = None, **facts: Any) -> DealtrailError:
    """The error of a code, its sentence filled in. Every error of the package is made here."""
    if code in _RULES:
        kind: type[DealtrailError] = Refused
    elif code in _INPUT or code in _IMPORT or code in _COPY:
        kind = InvalidInput
    else:
        kind = Conflict if code in _CONFLICT else StoreError
    shown = {name: _short(value) for name, value in facts.items()}
    message = SENTENCES[code].format_map(_Facts(shown, field=_short(field or "the input")))
    return kind(code, message, field, **facts)


def nearest(word: object, known: Any) -> str:
    """`; did you mean X?` for the known word nearest to a mistyped one, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(_short(word)[:100], [str(k) for k in known], n=1)
    return f"; did you mean {found[0]}?" if found else ""


class _Facts(dict[str, str]):
    """Facts by name; those that tell when or what is near may be left out."""

    def __init__(self, shown: dict[str, str], field: str) -> None:
        super().__init__(shown)
        self.setdefault("field", field)

    def __missing__(self, name: str) -> str:
        if name in ("when", "nearest"):
            return ""
        raise KeyError(name)


def _short(value: object) -> str:
    """A value as a message may show it: never longer than a line, whatever came in."""
    if isinstance(value, str):
        text = str.__str__(value)[:121]
    else:
        text = _SHORT.repr(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 120 else text[:117] + "..."


class _Beginning(Repr):
    """Looks only at the beginning of long and deep things."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**100 else "a number of more than 100 digits"


_SHORT = _Beginning()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 20
_SHORT.maxlong = _SHORT.maxstring = _SHORT.maxother = 121


def _restored(
    kind: type[DealtrailError], code: str, message: str, field: str | None, facts: dict[str, Any]
) -> DealtrailError:
    return kind(code, message, field, **facts)
