"""For a host's own tests: a trail in memory, a clock to set, and rules as sentences.

>>> b2b = {"action": "define_pipeline", "pipeline": "b2b", "at": "2026-01-01T00:00Z", "stages": [
...     {"key": "lead", "name": "Lead", "probability": "0.1"},
...     {"key": "proposal", "name": "Proposal", "probability": "0.5"}]}
>>> opened = {"action": "open_deal", "deal": "D-1", "pipeline": "b2b", "at": "2026-01-02T09:00Z"}
>>> to_proposal = {"action": "move_deal", "deal": "D-1", "stage": "proposal", "by": "anna"}
>>> past = given(b2b, opened)
>>> past.when(to_proposal).then("stage_entered", stage="proposal", by="anna").trail.deal("D-1").stage
'proposal'
>>> past.when(to_proposal).refused("already_in_stage").refusal.field
'stage'

`dealtrail.testing.plugin` has the same as pytest fixtures; nothing here needs pytest.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeAlias

from dealtrail.domain.actions import Action
from dealtrail.domain.errors import DealtrailError
from dealtrail.domain.times import moment, parse_time
from dealtrail.projections.history import Happened
from dealtrail.store.recording import Recorded
from dealtrail.trail import Trail

__all__ = ["NOW", "Clock", "Given", "given", "trail_in_memory"]

OneAction: TypeAlias = Mapping[str, Any] | Action

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that stands where it is put: `Trail.open(path, clock=Clock("2026-03-01T09:00Z"))`.

    >>> clock = Clock("2026-03-01T09:00Z")
    >>> clock.advance(days=1, minutes=30)
    >>> clock().isoformat()
    '2026-03-02T09:30:00+00:00'
    """

    def __init__(self, now: datetime | str = NOW) -> None:
        self.set(now)

    def __call__(self) -> datetime:
        """What it reads."""
        return self.now

    def set(self, now: datetime | str) -> None:
        """Put it to an aware datetime, or one as an ISO string. Errors: bare_date, naive_time, invalid_time."""
        self.now = moment(parse_time(now, "now"))

    def advance(self, *, days: int = 0, hours: int = 0, minutes: int = 0, seconds: int = 0) -> None:
        """Put it forward."""
        self.now += timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def trail_in_memory(clock: Callable[[], datetime] | None = None) -> Trail:
    """A new trail in memory, closed when nobody holds it any more; its clock stands at `NOW` unless one is given.

    >>> trail_in_memory().pipelines()
    []
    """
    trail = Trail.open(":memory:", clock=Clock() if clock is None else clock)
    # Of the rooms behind it: a finalizer that held the trail itself would keep it for ever.
    weakref.finalize(trail, trail._log.close)
    weakref.finalize(trail, trail._model.close)
    return trail


class Given:
    """A trail with a past; made by `given`. `trail` and `clock` are there for whatever else a test wants of them.

    After `when`, `new` holds the events that it recorded, `results` what `record_all` returned, and `refusal` the
    error or None.
    """

    def __init__(self, past: Sequence[OneAction | list[OneAction]], now: datetime | str = NOW) -> None:
        self.clock = Clock(now)
        self.trail = trail_in_memory(self.clock)
        self.new: list[Happened] = []
        self.results: list[Recorded] = []
        self.refusal: DealtrailError | None = None
        for step in past:
            self._record(step if isinstance(step, list) else [step])

    def _record(self, batch: Sequence[OneAction]) -> list[Recorded]:
        return self.trail.record_all(batch)

    def when(self, *batch: OneAction) -> Self:
        """Record one action, or several as one atomic batch. It may be said again, after what was recorded before."""
        before = self.log()
        self.refusal, self.results = None, []
        try:
            self.results = self._record(batch)
        except DealtrailError as refusal:
            self.refusal = refusal.with_traceback(None)  # its frames would keep the trail open
        self.new = list(self.trail.follow(len(before)))
        _check(self.log()[: len(before)] == before, "the log no longer begins with what was recorded before")
        return self

    def then(self, *events: str, **fields: Any) -> Self:
        """These events were recorded and no other, and the last has these fields.

        A field is one of the event's `data`, such as `stage`, or else of `Happened`, such as `by` or `occurred_at`.
        """
        if self.refusal is not None:
            raise AssertionError(f"refused: {self.refusal}") from self.refusal
        names = [event.event for event in self.new]
        _check(names == list(events), f"recorded {names}, not {list(events)}")
        _check(bool(events) or not fields, f"no event was expected that could have {fields}")
        found = {name: _field(self.new[-1], name) for name in fields}
        _check(found == fields, f"recorded {found}, not {fields}")
        return self

    def refused(self, code: str, *, field: str | None = None) -> Self:
        """It was refused with that code (and at that field, if one is named), and left nothing behind."""
        if self.refusal is None:
            raise AssertionError(f"not refused: recorded {[event.event for event in self.new]}")
        if self.refusal.code != code or field not in (None, self.refusal.field):
            expected = code if field is None else f"{code} at {field}"
            raise AssertionError(f"refused at {self.refusal.field}, not as {expected}: {self.refusal}")
        _check(not self.new, f"refused, but recorded {[event.event for event in self.new]}")
        return self

    def log(self) -> list[Happened]:
        """Every event of the log."""
        return list(self.trail.follow())


def given(*past: OneAction | list[OneAction], now: datetime | str = NOW) -> Given:
    """A past, as actions; a list among them is an atomic batch. The clock stands at `now` when they are recorded.

    An action without `at` happens then too. Errors: those of `Trail.record`, where the past itself is refused.
    """
    return Given(past, now)


def _field(event: Happened, name: str) -> Any:
    if name not in event.data and not hasattr(event, name):
        raise AssertionError(f"{event.event} has no field {name}; it has {', '.join(event.data)}")
    return event.data[name] if name in event.data else getattr(event, name)


def _check(holds: bool, otherwise: str) -> None:
    """Raised by hand: an assert would be gone under -O, and pytest does not explain those of other packages."""
    if not holds:
        raise AssertionError(otherwise)
