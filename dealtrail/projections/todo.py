"""To do: of the open deals of a pipeline, what is to be done for each, and which of them are neglected."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from fractions import Fraction
from typing import Any

import msgspec

from dealtrail.domain.texts import Word, shaped
from dealtrail.domain.times import Instant, day_of, days, moment
from dealtrail.projections.deals import ids_of
from dealtrail.projections.definitions import known_pipeline, lens_of
from dealtrail.projections.holding import One, cells, each
from dealtrail.projections.provenance import heading
from dealtrail.projections.question import Lens, When
from dealtrail.projections.readmodel import ReadModel
from dealtrail.store.log import Log

_fields = msgspec.structs.asdict
_COMPLETED = msgspec.json.Decoder(list[str])


class Waiting(msgspec.Struct, frozen=True):
    """An open deal, and for how many days its current visit has lasted."""

    deal: str
    owner: str | None
    stage: str
    stage_since: datetime
    days_in_stage: float


class NextAction(Waiting, frozen=True):
    """An action of its stage that was not completed since the deal was last put into a stage."""

    action: str
    name: str
    required: bool


class StalledDeal(Waiting, frozen=True):
    """A deal that is in its stage for longer than that allows."""

    days_over: float


class OverdueDeal(Waiting, frozen=True):
    """A deal that should have closed on an earlier day than that of T."""

    expected_close: date
    days_over: int


class Figures(msgspec.Struct, frozen=True):
    """What the report says, apart from where it came from."""

    actions: list[NextAction]
    stalled: list[StalledDeal]
    unowned: list[Waiting]
    overdue: list[OverdueDeal]


class NextActions(msgspec.Struct, frozen=True):
    """What is to be done at a moment, as known at another, with where it came from."""

    question: dict[str, Any]
    pipeline: str
    as_of: datetime
    known_at: datetime
    position: int
    definition: int
    draft: bool
    content_digest: str
    digest: str
    actions: list[NextAction]
    stalled: list[StalledDeal]
    unowned: list[Waiting]
    overdue: list[OverdueDeal]


def next_actions(log: Log, model: ReadModel, key: str, at: When, owner: str | None, tz: str) -> NextActions:
    """The report; see `Process.next_actions`."""
    owner = shaped(owner, Word | None, "owner")
    with model.answering(at.position) as c:
        lens = lens_of(known_pipeline(c, key, at.position), "as_of", at)
        found = [one for one in each(c, at, lens, cells(c, lens, "open")) if owner in (None, one.facts.owner)]
        ids = ids_of(c, [one.number for one in found])
    # Who has waited longest comes first; every list keeps this order where nothing else comes before it.
    ordered = sorted(((one.stay.since, ids[one.number], one) for one in found), key=lambda row: row[:2])
    made = figures([(deal, one) for _, deal, one in ordered], lens, at.as_of, day_of(at.as_of, tz))
    asked = {"definition": "as_of", "owner": owner, "tz": tz}
    return NextActions(**heading(log, "next_actions", at, lens, asked, made))


def figures(found: list[tuple[str, One]], lens: Lens, at: Instant, today: date) -> Figures:
    """The lists over the open deals, which come with their ids, the longest waiting first."""
    rows = [(one, _waiting(deal, one, lens, at)) for deal, one in found]
    overdue = [row for one, waiting in rows for row in _overdue(one, waiting, today)]
    stalled = [row for one, waiting in rows for row in _stalled(one, waiting, lens, at)]
    return Figures(
        actions=sorted(_actions(rows, lens), key=lambda row: not row.required),
        stalled=[row for _, row in sorted(stalled, key=lambda pair: -pair[0])],
        unowned=[waiting for one, waiting in rows if one.facts.owner is None],
        overdue=sorted(overdue, key=lambda row: row.expected_close),
    )


def _waiting(deal: str, one: One, lens: Lens, at: Instant) -> Waiting:
    since, stage = one.stay.since, lens.under.stages[one.stay.stage].key
    return Waiting(deal, one.facts.owner, stage, moment(since), days(Fraction(at - since)))


def _actions(rows: Iterable[tuple[One, Waiting]], lens: Lens) -> Iterator[NextAction]:
    for one, waiting in rows:
        actions = lens.under.stages[one.stay.stage].actions
        done = _COMPLETED.decode(one.completed) if actions else []
        for action in actions:
            if action.key not in done:
                yield NextAction(**_fields(waiting), action=action.key, name=action.name, required=action.required)


def _stalled(one: One, waiting: Waiting, lens: Lens, at: Instant) -> Iterator[tuple[Instant, StalledDeal]]:
    limit = lens.under.stages[one.stay.stage].rots_after
    if limit is not None and at - one.stay.since > limit:
        over = at - one.stay.since - limit
        yield over, StalledDeal(**_fields(waiting), days_over=days(Fraction(over)))


def _overdue(one: One, waiting: Waiting, today: date) -> Iterator[OverdueDeal]:
    expected = None if one.expected_close is None else date.fromisoformat(one.expected_close)
    if expected is not None and expected < today:
        yield OverdueDeal(**_fields(waiting), expected_close=expected, days_over=(today - expected).days)
