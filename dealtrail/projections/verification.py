"""The verification of a whole store: its log, a head that was kept elsewhere, the read model, and whose turn it is."""

from contextlib import suppress
from datetime import datetime
from itertools import islice

import msgspec

from dealtrail.domain.errors import DealtrailError
from dealtrail.domain.times import moment
from dealtrail.projections.comparing import folded
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store import distribution
from dealtrail.store.heads import Head
from dealtrail.store.log import Log
from dealtrail.store.recording import Progress
from dealtrail.store.verifying import MOST, Finding, end_of, verify_log

_NOTE = "verified"


class Verification(msgspec.Struct, frozen=True):
    """What a verification found: nothing where it is `ok`.

    `position` and `chain` are the end of the log that was verified, and `head` the two as the text to be kept
    elsewhere. `read_position` is up to where the read model was compared row by row: None where there is none, where
    other code made it, or where the log itself is not sound. All four are None for a store that cannot be opened.
    """

    ok: bool
    position: int | None
    chain: str | None
    head: str | None
    read_position: int | None
    findings: list[Finding]


class Verified(msgspec.Struct, frozen=True):
    """The last verification of a store: when it was, up to which position, and how many findings it had."""

    at: datetime
    position: int
    findings: int


def verify(log: Log, model: ReadModel, kept: Head | None, progress: Progress | None) -> Verification:
    """Verify a store; see `Trail.verify`. What comes in while it goes on is left to the next."""

    def told(done: int) -> None:
        if progress is not None:
            progress(done, 2 * end.position)

    try:
        end = end_of(log)
    except DealtrailError as trouble:
        if trouble.code != "damaged":
            raise
        return unopened(trouble)
    found = verify_log(log, end, kept, lambda done, of: told(done))
    read_position = None
    if all(finding.kind == "head" for finding in found):
        try:
            with model.as_it_stands() as c:
                read_position, wrong = folded(log, end.position, c, lambda done, of: told(of + done))
            found += wrong
        except DealtrailError as trouble:
            if trouble.code not in ("damaged", "not_a_store"):
                raise
            found.append(Finding("read_model", f"its files cannot be read: {trouble.facts['why']}"))
        if all(finding.kind != "event" for finding in found):
            found += _turns(log)
    told(2 * end.position)
    _note(log, model, end, found)
    return Verification(not found, end.position, end.chain, str(end), read_position, found)


def _turns(log: Log) -> list[Finding]:
    """What is wrong with the index by which leads are distributed, if the log has one."""
    why = "not what the log says; rebuild makes the index anew by which leads are distributed"
    try:
        with log.reading() as reading:
            unlike = list(islice(distribution.unlike(reading), MOST)) if distribution.is_there(reading) else []
    except DealtrailError as trouble:
        if trouble.code != "damaged":
            raise
        return [
            Finding("distribution", f"the index by which leads are distributed cannot be read: {trouble.facts['why']}")
        ]
    return [Finding("distribution", f"{table} ({row}): {why}", table=table, row=row) for table, row in unlike]


def unopened(refusal: DealtrailError) -> Verification:
    """The verification of a store that cannot be opened: why that is."""
    return Verification(False, None, None, None, None, [Finding(refusal.code, refusal.message)])


def _note(log: Log, model: ReadModel, end: Head, found: list[Finding]) -> None:
    """Keep that it was verified, unless the files can only be read, or are what is damaged."""
    with suppress(DealtrailError):
        note = Verified(moment(log.clock()), end.position, len(found))
        model.note(_NOTE, msgspec.json.encode(note).decode())


def last_verified(model: ReadModel) -> Verified | None:
    """The last verification, as far as the files beside the log remember it."""
    note = model.noted(_NOTE)
    return None if note is None else msgspec.json.decode(note, type=Verified)
