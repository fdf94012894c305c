"""Writing the log: actions are decided on all that was recorded before them, and what follows is appended."""

from collections.abc import Callable, Iterable
from itertools import islice
from uuid import uuid4

from dealtrail.domain.actions import Action
from dealtrail.domain.deal import Deal
from dealtrail.domain.decide import Turn, decide, redefined
from dealtrail.domain.definitions import Pipeline
from dealtrail.domain.errors import DealtrailError
from dealtrail.domain.events import Entry
from dealtrail.domain.times import Instant
from dealtrail.store import mapper
from dealtrail.store.reading import Reading
from dealtrail.store.recorder import LogEvent

# Deals kept decoded between writes, those asked for last; one of them costs nothing while nobody else wrote.
_CACHED_DEALS = 10_000


class Cache:
    """What a writer decoded, true as long as the log ends where the writer left it."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.position = -1
        self.deals: dict[str, Deal | None] = {}
        self.pipelines: dict[str, Pipeline] | None = None
        self.pipeline_entries: dict[str, list[Entry]] = {}


class Writing:
    """A write transaction: decides actions on all that was recorded before them, and appends what follows."""

    def __init__(self, reading: Reading, clock: Callable[[], Instant], cache: Cache) -> None:
        self._reading = reading
        self._clock = clock
        self._cache = cache
        self._head = reading.head()
        self._pending: list[LogEvent] = []
        self._position = self._head.position
        self._recorded_at = self._head.recorded_at
        self.discarded = False
        if cache.position != self._position:
            cache.clear()
        cache.position = self._position

    @property
    def position(self) -> int:
        """The position of the last event, recorded or decided."""
        return self._position

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """Every pipeline with its definitions, by key."""
        if self._cache.pipelines is None:
            self._cache.pipelines = {}
            for stream, entries in self._reading.all_streams("pipeline", self._head.position):
                self._cache.pipeline_entries[stream] = entries
                for entry in entries:
                    self._redefine(stream, entry)
        return self._cache.pipelines

    def _redefine(self, stream: str, entry: Entry) -> None:
        assert self._cache.pipelines is not None  # noqa: S101
        key = stream.removeprefix("pipeline:")
        self._cache.pipelines[key] = redefined(self._cache.pipelines.get(key), entry)

    def deal(self, deal: str) -> Deal | None:
        """A deal with all its entries, or None where no event of it was ever recorded."""
        deals = self._cache.deals
        if deal in deals:
            found = deals.pop(deal)
        else:
            entries = self._reading.entries(f"deal:{deal}", self._head.position)
            found = Deal.of(deal, entries) if entries else None
        deals[deal] = found  # the last of all: those asked for longest ago come first, and go first
        return found

    def recorded(self, stream: str, id: str) -> Entry | None:
        """The entry that an action of that idempotency key left in a stream."""
        kind, _, name = stream.partition(":")
        entries: Iterable[Entry]
        if kind == "deal":
            deal = self.deal(name)
            entries = deal.entries if deal else ()
        else:
            _ = self.pipelines
            entries = self._cache.pipeline_entries.get(stream, ())
        return next((entry for entry in entries if entry.id == id), None)

    def step(self, actions: Iterable[Action], elsewhere: Instant | None = None) -> list[Entry]:
        """Decide one atomic step: each action after the one before, all with one recorded_at, later than any other.

        `elsewhere`: when it was recorded elsewhere, later than any other and earlier than now.
        Returns for each action the entry that it left, or had left the first time. An error leaves the transaction
        in a state that must be rolled back, unless it came from the only action of the step.
        """
        reading = self._clock()
        recorded_at = reading if self._recorded_at is None else max(reading, self._recorded_at + 1)
        if elsewhere is not None:
            recorded_at = elsewhere
        left: list[Entry] = []
        for index, action in enumerate(actions):
            turn = Turn(recorded_at, self._position + 1, uuid4().hex, recorded_at - reading)
            try:
                entries = decide(action, self, turn)
            except DealtrailError as refusal:
                refusal.facts["index"] = index
                raise
            if entries[0].position == turn.position:
                self._append(entries)
            left.append(entries[-1])
        return left

    def _append(self, entries: list[Entry]) -> None:
        stream = entries[0].stream
        kind, _, name = stream.partition(":")
        if kind == "deal":
            deal = self.deal(name)
            self._cache.deals[name] = deal.followed_by(entries) if deal else Deal.of(name, entries)
        else:
            self._redefine(stream, entries[0])
            self._cache.pipeline_entries.setdefault(stream, []).append(entries[0])
        self._pending += [_stored(entry) for entry in entries]
        self._position = entries[-1].position
        self._recorded_at = entries[-1].recorded_at

    def flush(self) -> None:
        """Write what was decided, at the positions that it was decided for; it may be read back from then on."""
        if self._pending:
            self._head = self._reading.recorder.append(self._reading.cursor, self._head, self._pending)
        self._pending = []
        for deal in list(islice(self._cache.deals, max(0, len(self._cache.deals) - _CACHED_DEALS))):
            del self._cache.deals[deal]
        self._cache.position = self._position

    def discard(self) -> None:
        """Record nothing of it after all."""
        self.discarded = True


def _stored(entry: Entry) -> LogEvent:
    topic, state = mapper.encode(entry.event)
    return LogEvent(
        originator_id=entry.stream,
        originator_version=entry.version,
        topic=topic,
        state=state,
        occurred_at=entry.occurred_at,
        recorded_at=entry.recorded_at,
        clock_behind_us=entry.clock_behind_us,
        actor=entry.by,
        action_id=entry.id,
        request=entry.request,
        amends=entry.amends,
        personal=mapper.encode_personal(entry.personal),
    )
