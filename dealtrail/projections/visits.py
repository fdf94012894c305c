"""Visits as the read model holds them, and the stage in which a deal is when they are read under a definition."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.times import Instant
from dealtrail.projections.question import VISIT_KNOWN, Lens, When, facts


class Seen(NamedTuple):
    """A visit that began (or a win), with the deal just after it."""

    deal: int
    at: Instant
    begun: str
    pipeline: str
    definition: int
    stage: str
    basis: tuple[Any, ...]

    def place(self, lens: Lens) -> int:
        """The stage of the visit in the order of the version read under; beyond the last one for a win."""
        if self.begun == "won":
            return len(lens.under.stages)
        if self.definition == lens.under.version:
            return lens.under.index(self.stage)
        return lens.index(self.stage, self.definition, facts(*self.basis))


class Stay(NamedTuple):
    """The visit that a deal is in: its stage by index, and since when."""

    stage: int
    since: Instant


def visits(c: SQLiteCursor, at: When, chosen: str, values: Mapping[str, Any]) -> Iterator[Seen]:
    """The visits begun, and wins, by a moment as known at another, of the deals that an SQL query chooses by number.

    Deal by deal, each in the order of its timeline.
    """
    c.execute(
        "SELECT visit.deal, visit.at, begun, pipeline, definition, stage, amount, currency, owner, source, attributes"
        f" FROM ({chosen}) AS chosen JOIN visit ON visit.deal = chosen.number"
        f" WHERE visit.at <= :as_of AND {VISIT_KNOWN} ORDER BY visit.deal, visit.at, visit.root",
        {**at.values, **values},
    )
    for row in c.fetchall():
        deal, began, begun, pipeline, definition, stage, *basis = row
        yield Seen(deal, began, begun, pipeline, definition, stage, tuple(basis))


def stays(seen: Iterator[Seen], lenses: Mapping[str, Lens]) -> dict[int, Stay]:
    """The visit that each deal is in after all that was seen, read under the version of its pipeline.

    Visits that follow one another and read as one stage are one; a reopening and a transfer begin a new one.
    A pipeline without a lens is passed over: a deal comes back from it by a transfer.
    """
    current: dict[int, Stay] = {}
    for visit in seen:
        if visit.begun == "won" or visit.pipeline not in lenses:
            continue
        index = visit.place(lenses[visit.pipeline])
        stay = current.get(visit.deal)
        if stay is None or visit.begun != "moved" or stay.stage != index:
            current[visit.deal] = Stay(index, visit.at)
    return current
