"""Events as they are shown: one by one in log order, or all of a deal with what became of each."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from dealtrail.domain.errors import error
from dealtrail.domain.events import Entry, EventRetracted, Personal, fields
from dealtrail.domain.times import moment
from dealtrail.store.log import Log
from dealtrail.store.mapper import name_of
from dealtrail.store.sealing import all_shown


class Happened(msgspec.Struct, frozen=True):
    """An event with all its coordinates.

    `event` is its name, such as `stage_entered`, and `data` its fields. One that concerns the store itself, such as
    `subject_forgotten`, has neither a deal nor a pipeline. In a history, `retracted_by` is the version of
    the retraction that took it back, and `amended_by` that of the event which took its place; `amends` is the version
    whose place it took itself. `clock_behind_us` is by how many microseconds the clock was behind `recorded_at`, or 0;
    below zero where the event was recorded elsewhere, so long before its log was founded.
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
    clock_behind_us: int = 0


def history(log: Log, deal: str, position: int) -> list[Happened]:
    """Every event of a deal up to a position, version 1 first. Errors: unknown_deal."""
    with log.reading() as reading:
        entries = all_shown(log, reading, reading.entries(f"deal:{deal}", position))
    if not entries:
        raise error("unknown_deal", "deal", deal=deal)
    retracted = {e.event.version: e.version for e in entries if isinstance(e.event, EventRetracted)}
    amended = {entry.amends: entry.version for entry in entries if entry.amends is not None}
    return [happened(entry, retracted.get(entry.version), amended.get(entry.version)) for entry in entries]


def happened(entry: Entry, retracted_by: int | None = None, amended_by: int | None = None) -> Happened:
    """An event as it is shown."""
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
        clock_behind_us=entry.clock_behind_us,
    )
