"""What a redefinition would do to the open deals: which of them it would put into another stage."""

import msgspec
from eventsourcing.sqlite import SQLiteCursor

from dealtrail.projections.holding import cells, each
from dealtrail.projections.question import Lens, When


class Moving(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """An open deal that stands in one stage before a redefinition and in another after it."""

    deal: str
    from_: str
    to: str


def moving(c: SQLiteCursor, before: Lens, after: Lens, at: When) -> list[Moving]:
    """The open deals whose stage has another key under the one version than under the other, in order of their ids."""
    now, then = (
        {one.number: lens.under.stages[one.stay.stage].key for one in each(c, at, lens, cells(c, lens, "open"))}
        for lens in (before, after)
    )
    changed = [number for number, stage in now.items() if then[number] != stage]
    c.execute(
        "SELECT number, deal.deal FROM json_each(?) JOIN deal ON number = value ORDER BY deal.deal",
        (msgspec.json.encode(changed).decode(),),
    )
    return [Moving(deal, now[number], then[number]) for number, deal in c.fetchall()]
