"""Writing the log: actions are decided on all that was recorded before them, and what follows is appended."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from uuid import uuid4

from dealtrail.domain.actions import Action
from dealtrail.domain.deal import Deal
from dealtrail.domain.decide import decide
from dealtrail.domain.distribution import Had
from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.events import DealOpened, Entry, Personal, StoreEvent
from dealtrail.domain.pipelines import Pipeline, redefined
from dealtrail.domain.times import Instant
from dealtrail.domain.turns import Turn
from dealtrail.store import distribution, mapper
from dealtrail.store.reading import Reading
from dealtrail.store.recorder import LogEvent
from dealtrail.store.sealing import Opening, Vault, plain_texts

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

    def __init__(self, reading: Reading, clock: Callable[[], Instant], cache: Cache, vault: Vault | None) -> None:
        self._reading = reading
        self._clock = clock
        self._cache = cache
        self._head = reading.head()
        self._pending: list[LogEvent] = []
        self._vault = vault
        self._to_seal: list[tuple[int, str, Entry]] = []
        self._position = self._head.position
        self._recorded_at = self._head.recorded_at
        self.discarded = False
        if cache.position != self._position:
            cache.clear()
        cache.position = self._position

    @property
    def reading(self) -> Reading:
        """The log as the transaction sees it."""
        return self._reading

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

    def had(self, pipeline: str, group: str, since: int) -> Mapping[str, Had]:
        """What each owner had of a group before, in the log and in what was decided since."""
        self._caught_up()
        return distribution.had(self._reading, pipeline, group, since)

    def open_deals(self, pipeline: str, owners: Iterable[str]) -> Mapping[str, int]:
        """How many open deals each of these owners has in a pipeline, by the log and by what was decided since."""
        self._caught_up()
        return distribution.open_deals(self._reading, pipeline, owners)

    def _caught_up(self) -> None:
        self.flush()
        distribution.catch_up(self._reading, self._head)

    def readable(self, entry: Entry) -> Personal | None:
        """The personal part of an entry of a deal; texts whose subject is forgotten stay sealed.

        Errors: keys_missing, damaged.
        """
        if entry.personal is None:
            return None
        deal = entry.stream.removeprefix("deal:")
        return Opening(self._reading, self._vault).readable(deal, entry.personal, entry.version)

    def step(self, actions: Iterable[Action], elsewhere: Instant | None = None) -> list[Entry]:
        """Decide one atomic step: each action after the one before, all with one recorded_at, later than any other.

        `elsewhere`: when it was recorded elsewhere, later than any other and earlier than now.
        Returns for each action the entry that it left, or had left the first time. An error leaves the transaction
        in a state that must be rolled back, unless it came from the only action of the step.
        """
        recorded_at, clock_behind_us = self._now(elsewhere)
        left: list[Entry] = []
        for index, action in enumerate(actions):
            turn = Turn(recorded_at, self._position + 1, uuid4().hex, clock_behind_us)
            try:
                entries = decide(action, self, turn)
                is_new = entries[0].position == turn.position
                subject = self._admit(entries[-1]) if is_new and entries[-1].personal is not None else None
            except DealtrailError as refusal:
                refusal.facts["index"] = index
                raise
            if is_new:
                self._append(entries)
            if subject is not None:
                self._to_seal.append((len(self._pending) - 1, subject, entries[-1]))
            left.append(entries[-1])
        return left

    def note(self, stream: str, event: StoreEvent, by: str | None = None) -> Entry:
        """Append an event that concerns the store itself and follows from no action."""
        recorded_at, clock_behind_us = self._now()
        version = len(self._reading.entries(stream, self._position)) + 1
        at = recorded_at
        entry = Entry(stream, version, self._position + 1, at, at, event, by, clock_behind_us=clock_behind_us)
        self._pending.append(_stored(entry))
        self._position, self._recorded_at = entry.position, recorded_at
        self._cache.clear()  # what was decoded before a subject was forgotten is in clear
        return entry

    def _now(self, elsewhere: Instant | None = None) -> tuple[Instant, int]:
        """When the next step is recorded, and how far the clock is behind that."""
        reading = self._clock()
        recorded_at = elsewhere
        if recorded_at is None:
            recorded_at = reading if self._recorded_at is None else max(reading, self._recorded_at + 1)
        return recorded_at, recorded_at - reading

    def _admit(self, entry: Entry) -> str | None:
        """Whose key an entry's personal texts are to be sealed with; None where they are stored as they are.

        Errors: forgotten_subject, keys_missing.
        """
        assert entry.personal is not None  # noqa: S101
        if (self._vault is None and not self._reading.is_sealing) or not plain_texts(entry.personal):
            return None
        if self._vault is None:
            raise error("keys_missing", why="no keys were given")
        subject = self._subject(entry)
        if self._reading.is_forgotten(subject):
            raise error("forgotten_subject", "subject", subject=subject)
        return subject

    def _subject(self, entry: Entry) -> str:
        """Whom an entry is about."""
        if isinstance(entry.event, DealOpened):
            return entry.event.subject
        deal = self.deal(entry.stream.removeprefix("deal:"))
        assert deal is not None  # noqa: S101
        return deal.state.subject

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
            self._seal()
            self._head = self._reading.recorder.append(self._reading.cursor, self._head, self._pending)
        self._pending = []
        for deal in list(islice(self._cache.deals, max(0, len(self._cache.deals) - _CACHED_DEALS))):
            del self._cache.deals[deal]
        self._cache.position = self._position

    def _seal(self) -> None:
        """Seal the personal texts that wait to be written; whatever key is new to them is durable before they are."""
        if self._vault is None or not self._to_seal:
            return
        parts = self._vault.sealed([(subject, entry) for _, subject, entry in self._to_seal])
        for (place, *_), part in zip(self._to_seal, parts, strict=True):
            self._pending[place] = replace(self._pending[place], personal=mapper.encode_personal(part))
        self._to_seal = []

    def discard(self) -> None:
        """Record nothing of it after all, nor make a key for what is not recorded."""
        if self._vault is not None and not self.discarded:
            self._vault = self._vault.passing()
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
