"""A believable year of a B2B sales team, as actions to record: pure and seeded, so a demo can be made again.

Each deal lives its life in the order in which things occur. What happens is recorded at the next noon or
evening of a working day, or some days late; so the order of the log is not the order in which it was lived.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import NamedTuple


class Day(NamedTuple):
    """One atomic step: when it is recorded, and its actions, none of which happened later than that."""

    recorded_at: datetime
    actions: list[dict[str, object]]


class _Stage(NamedTuple):
    """A stage as it is defined, then how deals fare in it: for how long, and which share of them goes on."""

    key: str
    probability: float
    rots_after_days: int
    required: tuple[str, ...]
    optional: tuple[str, ...]
    typical_days: float
    goes_on: float

    def definition(self) -> dict[str, object]:
        """The stage in the shape of `define_pipeline`."""
        actions = [
            {"key": key, "name": _name(key), "required": key in self.required} for key in self.required + self.optional
        ]
        shown = {"key": self.key, "name": _name(self.key), "probability": self.probability}
        return shown | {"rots_after_days": self.rots_after_days, "actions": actions}


_LEAD = _Stage("lead", 0.15, 10, (), ("research",), 5, 0.63)
_QUALIFIED = _Stage("qualified", 0.25, 14, ("discovery-call",), ("budget-check",), 7, 0.68)
_DEMO = _Stage("demo", 0.35, 14, ("demo-held",), ("security-review",), 8, 0.76)
_PIPELINES: dict[str, tuple[tuple[_Stage, ...], ...]] = {
    "new-business": (
        (
            _LEAD,
            _QUALIFIED,
            _DEMO,
            _Stage("proposal", 0.45, 21, ("proposal-sent",), ("reference-call",), 9, 0.68),
            _Stage("negotiation", 0.6, 14, ("terms-agreed",), ("legal-review",), 7, 0.8),
            _Stage("contract", 0.8, 10, ("contract-sent",), (), 5, 0.88),
        ),
        (
            _LEAD,
            _QUALIFIED,
            _DEMO,
            _Stage("quote", 0.5, 14, ("quote-sent",), ("reference-call",), 7, 0.72),
            _Stage("tender", 0.45, 30, ("tender-submitted",), ("legal-review", "reference-call"), 14, 0.65),
            _Stage("closing", 0.7, 14, ("contract-sent",), ("legal-review",), 9, 0.77),
        ),
    ),
    "renewals": (
        (
            _Stage("upcoming", 0.55, 45, (), ("usage-report",), 12, 0.86),
            _Stage("review", 0.65, 21, ("review-held",), ("health-check",), 10, 0.86),
            _Stage("offer", 0.8, 14, ("offer-sent",), (), 8, 0.87),
            _Stage("signature", 0.9, 10, ("contract-sent",), (), 5, 0.94),
        ),
    ),
}
_TENDER_FROM = 4_000_000  # cents, of whatever currency
_MOVES: dict[str, object] = {
    "proposal": [
        {"when": {"field": "value", "op": "ge", "value": str(_TENDER_FROM // 100)}, "to": "tender"},
        {"to": "quote"},
    ],
    "negotiation": "closing",
    "contract": "closing",
}

_OWNERS = ("anna", "bram", "chloe", "daan", "eva", "finn", "greta", "hugo", "ines", "jonas")
# By its source a deal has more or less luck at each stage.
_SOURCES = {"website": 1.0, "referral": 1.12, "partner": 1.05, "outbound": 0.9, "event": 0.95}
_CURRENCIES = ("EUR",) * 8 + ("USD", "GBP")
_SEGMENTS = {"smb": (2_000, 12_000, 5), "mid": (10_000, 45_000, 30), "enterprise": (35_000, 180_000, 150)}
_LOST = ("price", "competitor", "no-budget", "timing", "no-decision")
_DISQUALIFIED = ("not-a-fit", "no-authority", "student-project", "spam")
_COMPANIES = ("Halvorsen", "Brightwater", "Castellan", "Oakline", "Mirador", "Nordvik", "Tessera", "Alderney")
_TRADES = ("Logistics", "Foods", "Labs", "Textiles", "Energy", "Instruments", "Travel", "Packaging")
_FIRST_NAMES = ("Ada", "Bruno", "Carmen", "Dirk", "Elif", "Femke", "Goran", "Hana", "Ilse", "Joris")
_LAST_NAMES = ("Akkerman", "Bellini", "Castro", "Dorfmann", "Eriksen", "Fontaine", "Ganz", "Hartog")
_NOTES = {
    "call": ("Budget is there, timing is not", "Asked to call again in a month", "Their CFO wants to join"),
    "mail": ("Sent the price list", "Sent two references in their trade", "Answered the security questions"),
    "meeting": ("Walked through the roadmap", "Met the whole buying team", "Agreed on the next steps"),
}

_LEAD_IN_DAYS = 60  # so that the year itself begins with a pipeline that is not empty
_STEPS = (time(12), time(18))
# Nothing else of a deal rests on these (for values see `_Deal.revalue`): they may be recorded out of order.
_FREE = ("change_value", "assign_deal", "set_attributes", "log_activity")


def simulate(seed: int = 7, until: date = date(2026, 6, 30), deals: int = 1200) -> Iterator[Day]:
    """The steps of the year that ends with the day `until`, in order; the same for the same arguments.

    `recorded_at` is aware, in UTC, and later in each step than in the one before; the last is 18:00 at most.
    """
    rng = Random(seed)  # noqa: S311 - the same for the same seed is the point; nothing secret hangs on it
    begins = until - timedelta(days=365 + _LEAD_IN_DAYS)
    changes = begins + (until - begins) * 2 / 3
    changes += timedelta(days=7 - changes.weekday())
    # Both come before the working day, so no event of their day is older than they are.
    defined_at, redefined_at = (datetime.combine(day, time(7), UTC) for day in (begins, changes))
    steps = {
        defined_at: [_definition(key, 1, defined_at) for key in _PIPELINES],
        redefined_at: [_definition("new-business", 2, redefined_at)],
    }
    lives: list[_Deal] = []
    for number, day in enumerate(_opening_days(rng, begins, until, deals), 1):
        recent = [deal for deal in lives[-40:] if deal.twin is None]
        twin = rng.choice(recent) if recent and rng.random() < 0.03 else None
        deal = _Deal(rng, number, datetime.combine(day, time(8), UTC), redefined_at, twin)
        deal.live(datetime.combine(until, time.max, UTC))
        lives.append(deal)
        for recorded_at, action in deal.recorded():
            steps.setdefault(recorded_at, []).append(action)
    for recorded_at in sorted(steps):
        if recorded_at.date() <= until:
            yield Day(recorded_at, steps[recorded_at])


def _definition(pipeline: str, version: int, at: datetime) -> dict[str, object]:
    stages = [stage.definition() for stage in _PIPELINES[pipeline][version - 1]]
    action: dict[str, object] = {"action": "define_pipeline", "name": _name(pipeline)}
    if version > 1:
        action = {"action": "redefine_pipeline", "moves": _MOVES}
    return action | {"pipeline": pipeline, "stages": stages, "at": at, "by": "sales-ops"}


def _name(key: str) -> str:
    return key.replace("-", " ").capitalize()


def _opening_days(rng: Random, begins: date, until: date, deals: int) -> list[date]:
    """On which working day each deal is opened: the team grows, and August and December are slow."""
    days = [begins + timedelta(days=n) for n in range(1, (until - begins).days + 1)]
    days = [day for day in days if day.weekday() < 5]
    weights = [(1 + n / len(days)) * (0.6 if day.month in (8, 12) else 1) for n, day in enumerate(days)]
    return sorted(rng.choices(days, weights, k=deals))


def _step(moment: datetime) -> datetime:
    """The first step of a working day in which what happened at that moment can be recorded."""
    day = moment.date()
    while True:
        for step in (datetime.combine(day, hour, UTC) for hour in _STEPS):
            if step >= moment and day.weekday() < 5:
                return step
        day += timedelta(days=1)


@dataclass
class _Entry:
    """Something that happened to a deal; its `version` is known once the life is in the order of the log."""

    recorded_at: datetime
    at: datetime
    action: dict[str, object]
    corrects: "_Entry | None" = None
    version: int = 0


class _Deal:
    """A deal that lives: `now` only ever goes on, and the state is that just after its last entry."""

    def __init__(self, rng: Random, number: int, now: datetime, redefined_at: datetime, twin: "_Deal | None") -> None:
        self.rng = rng
        self.id = f"D-{number:04}"
        self.now = now + timedelta(minutes=rng.randrange(540))
        self.redefined_at = redefined_at
        self.twin = twin
        self.pipeline = "renewals" if rng.random() < 0.25 else "new-business"
        self.subject = f"A-{number:04}"
        self.company = f"{rng.choice(_COMPANIES)} {rng.choice(_TRADES)}"
        if twin is not None:
            self.pipeline, self.subject, self.company = twin.pipeline, twin.subject, twin.company
        self.contact = f"{rng.choice(_FIRST_NAMES)} {rng.choice(_LAST_NAMES)}"
        self.owner = rng.choice(_OWNERS)
        self.source = rng.choice(tuple(_SOURCES))
        self.currency = rng.choice(_CURRENCIES)
        self.segment = rng.choice(("smb", "smb", "mid", "mid", "enterprise"))
        low, high, self.seats = _SEGMENTS[self.segment]
        self.price = rng.randrange(low, high, 50) * 100
        self.amount: int | None = None if rng.random() < 0.12 else self.price
        self.expected_close = self.now.date() + timedelta(days=rng.randint(30, 75))
        self.status = "open"
        self.entries: list[_Entry] = []
        self.settled = self.known_since = self.now

    def live(self, end: datetime) -> None:
        """Live from the opening to the last closing, or until nobody is there any more to see it."""
        self.open()
        if self.twin is not None:
            self.merge(self.twin)
        while self.status == "open" and self.now < end:
            self.work()
            self.decide()

    def recorded(self) -> Iterator[tuple[datetime, dict[str, object]]]:
        """The actions in the order in which they are recorded, and when. Only here versions are known."""
        version = 0
        for entry in sorted(self.entries, key=lambda entry: entry.recorded_at):
            # An amendment is two events: a retraction, and what stands in its place.
            version += 2 if entry.action["action"] == "amend" else 1
            entry.version = version
            if entry.corrects is not None:
                entry.action["version"] = entry.corrects.version
            yield entry.recorded_at, entry.action

    # What time does, and how an entry comes into the log.

    def chance(self, share: float) -> bool:
        """Whether something happens that happens to this share of the deals."""
        return self.rng.random() < share

    def wait(self, days: float) -> None:
        """Let time pass, up to some minute of a working day."""
        later = self.now + timedelta(days=days)
        later += timedelta(days=max(0, 7 - later.weekday()) if later.weekday() > 4 else 0)
        if not 8 <= later.hour < 18:
            later = later.replace(hour=self.rng.randrange(8, 18))
        self.now = max(self.now, later)

    def add(self, action: str, late_days: float = 0, /, **fields: object) -> _Entry:
        """Let something happen. What others rest on is never recorded after what comes later in the life."""
        self.now += timedelta(minutes=self.rng.randint(2, 40))
        recorded_at = _step(self.now + timedelta(days=late_days))
        if action in _FREE:
            recorded_at = max(recorded_at, self.known_since)
        else:
            recorded_at = self.settled = max(recorded_at, self.settled)
        start: dict[str, object] = {"action": action, "deal": self.id, "at": self.now, "by": self.owner}
        entry = _Entry(recorded_at, self.now, start | fields)
        self.entries.append(entry)
        return entry

    def correct(self, action: str, entry: _Entry, /, **fields: object) -> _Entry:
        """Retract or amend an entry. An amendment says `at` only if it moves the event in time."""
        self.settled = max(self.settled, entry.recorded_at)
        correction = self.add(action, **{"by": "sales-ops", "version": 0} | fields)
        correction.corrects = entry
        if action == "amend" and "at" not in fields:
            del correction.action["at"]
        return correction

    def antedate(self, entry: _Entry) -> None:
        """Correct when the last entry happened: earlier, but still after the one before it."""
        before = self.entries[-2].at
        if self.version_at(before) == self.version_at(entry.at):
            self.wait(self.rng.uniform(0.5, 3))
            self.correct("amend", entry, at=before + (entry.at - before) / 2)

    def late(self, share: float, most_days: int) -> float:
        """By how many days the next entry is recorded late; mostly none."""
        return self.rng.randint(1, most_days) if self.chance(share) else 0

    # Where the deal stands.

    def version_at(self, moment: datetime) -> int:
        """The number of the definition in force at a moment."""
        return 2 if self.pipeline == "new-business" and moment >= self.redefined_at else 1

    def enter(self, stage: str, at: datetime) -> None:
        """Note that a visit began, and what it will be read by after a redefinition."""
        self.stage, self.entered_under, self.basis = stage, self.version_at(at), self.amount or 0
        self.completed: set[str] = set()

    def order(self) -> dict[str, _Stage]:
        """The stages of the definition in force, by their keys, in order."""
        return {stage.key: stage for stage in _PIPELINES[self.pipeline][self.version_at(self.now) - 1]}

    def here(self) -> _Stage:
        """The current stage, read under the definition in force."""
        if self.entered_under == self.version_at(self.now):
            return self.order()[self.stage]
        move = _MOVES.get(self.stage, self.stage)
        by_size = "tender" if self.basis >= _TENDER_FROM else "quote"
        return self.order()[move if isinstance(move, str) else by_size]

    def others(self) -> tuple[list[str], list[str]]:
        """The stages behind and ahead, without that kind of offer which is for deals of another size."""
        keys = list(self.order())
        index = keys.index(self.here().key)
        fit = [key for key in keys if key != ("tender" if self.is_small() else "quote")]
        return [key for key in fit if key in keys[:index]], [key for key in fit if key in keys[index + 1 :]]

    def is_small(self) -> bool:
        """Whether the deal is one for a quote, not for a tender."""
        return (self.amount or 0) < _TENDER_FROM

    def money(self, amount: int) -> dict[str, str]:
        """An amount in cents as a value."""
        return {"amount": f"{amount // 100}.{amount % 100:02}", "currency": self.currency}

    # What happens in a stage.

    def open(self) -> None:
        """Open the deal: some know no value yet, some skip the first stage, some are typed in wrongly."""
        attributes: dict[str, object] = {"segment": self.segment}
        attributes |= {"seats": self.seats} if self.chance(0.8) else {}
        attributes |= {"pilot": self.chance(0.3)} if self.chance(0.5) else {}
        title = "renewal" if self.pipeline == "renewals" else f"{self.seats} seats"
        fields: dict[str, object] = {"pipeline": self.pipeline, "subject": self.subject, "owner": self.owner}
        fields |= {"title": f"{self.company}: {title}", "source": self.source, "attributes": attributes}
        stages = list(self.order())
        stage = stages[1] if self.chance(0.1) else stages[0]
        if stage != stages[0]:
            fields["stage"] = stage
        if self.amount is not None:
            fields["value"] = self.money(self.amount)
        if self.chance(0.85):
            fields["expected_close"] = self.expected_close
        if self.chance(0.6):
            fields["personal"] = {"company": self.company, "contact": self.contact}
        if self.source == "website":
            fields |= {"id": f"form-{self.id}", "by": "website"}
        slip = self.rng.choice(("at", "value", "source")) if self.chance(0.007) else None
        if slip == "value":
            fields["value"] = self.money(self.price * 10)
        entry = self.add("open_deal", self.late(0.04, 4), **fields)
        self.enter(stage, entry.at)
        self.known_since = entry.recorded_at
        if slip is not None:
            self.wait(self.rng.uniform(0.5, 3))
            earlier = entry.at - timedelta(hours=self.rng.randint(1, 48))
            self.amount = self.price if slip == "value" else self.amount
            right = {"at": earlier, "value": self.money(self.price), "source": "partner"}
            if slip != "at" or self.version_at(earlier) == self.version_at(entry.at):
                self.correct("amend", entry, **{slip: right[slip]})

    def merge(self, twin: "_Deal") -> None:
        """Merge a duplicate into the deal that was there first; some turn out to be no duplicate."""
        self.wait(self.rng.uniform(1, 12))
        self.now = max(self.now, twin.entries[0].recorded_at)
        entry = self.add("merge_deal", into=twin.id)
        self.status = "merged"
        if self.chance(0.3):
            self.wait(self.rng.uniform(1, 6))
            correction = self.correct("retract", entry, reason="another department of the same company")
            self.status = "open"
            self.known_since = correction.recorded_at

    def work(self) -> None:
        """Spend some time in the stage, with one thing or another happening."""
        days = self.rng.gammavariate(2, self.here().typical_days / 2)
        times = self.rng.randint(1, 2)
        for _ in range(times):
            self.wait(days / times)
            if self.now.date() > self.expected_close and self.chance(0.6):
                self.push_close()
            if self.chance(0.75):
                doing = (self.complete, self.log, self.revalue, self.push_close, self.learn, self.assign)
                self.rng.choices(doing, (38, 35, 13, 4, 6, 4))[0]()

    def complete(self) -> None:
        """Complete the next action of the stage."""
        stage = self.here()
        for key in stage.required + stage.optional:
            if key not in self.completed:
                self.completed.add(key)
                self.add("complete_action", key=key)
                return

    def log(self) -> None:
        """Log an activity; some are logged twice, or at the wrong time."""
        kind = self.rng.choice(tuple(_NOTES))
        fields: dict[str, object] = {"kind": kind}
        if self.chance(0.7):
            fields["note"] = self.rng.choice(_NOTES[kind])
        if self.chance(0.1):
            fields["personal"] = {"attendee": self.contact}
        if kind == "mail":
            fields["id"] = f"mail-{self.id}-{len(self.entries)}"
        entry = self.add("log_activity", self.late(0.12, 8), **fields)
        if self.chance(0.004):
            self.antedate(entry)
        elif self.chance(0.009):
            self.wait(1)
            self.correct("retract", entry, reason="logged twice")

    def revalue(self) -> None:
        """Change the value; some by a slip of the keyboard, which is amended before anything rests on it.

        One that is recorded late stays on its side of the line between quotes and tenders. Otherwise it could
        change how visits are read that are already recorded.
        """
        late_days = self.late(0.15, 9) if self.amount is not None else 0
        was_small, right = self.is_small(), round((self.amount or self.price) * self.rng.uniform(0.7, 1.5))
        self.amount = right
        if self.is_small() != was_small:
            late_days = 0
        slips = not late_days and self.chance(0.018)
        entry = self.add("change_value", late_days, value=self.money(right * 10 if slips else right))
        if slips:
            self.wait(self.rng.uniform(0.2, 3))
            self.correct("amend", entry, value=self.money(right))

    def push_close(self) -> None:
        """Expect the closing later, as sellers do."""
        self.expected_close = max(self.expected_close, self.now.date())
        self.expected_close += timedelta(days=self.rng.randint(7, 30))
        self.add("change_expected_close", expected_close=self.expected_close)

    def learn(self) -> None:
        """Learn something new about the customer."""
        self.seats += self.rng.randint(1, 20)
        attributes = self.rng.choice(({"seats": self.seats}, {"pilot": True}, {"pilot": None}))
        self.add("set_attributes", self.late(0.12, 8), attributes=attributes)

    def assign(self) -> None:
        """Hand the deal over to a colleague."""
        by, self.owner = self.owner, self.rng.choice([name for name in _OWNERS if name != self.owner])
        self.add("assign_deal", self.late(0.12, 5), owner=self.owner, by=by)

    # How a stay in a stage ends.

    def decide(self) -> None:
        """End the stay: forward mostly, or out, or back, or to the other pipeline; some go quiet instead."""
        behind, _ = self.others()
        luck = 1 if self.pipeline == "renewals" else _SOURCES[self.source]
        if self.chance(0.06):
            self.wait(self.rng.uniform(30, 120))
        elif self.chance(0.012):
            self.transfer()
        elif behind and self.chance(0.05):
            self.move(behind[-1])
        elif self.chance(self.here().goes_on * luck):
            self.go_on()
        elif self.pipeline == "new-business" and self.chance(0.1 if behind else 0.4):
            self.close("disqualify_deal", "disqualified", reason=self.rng.choice(_DISQUALIFIED))
        else:
            self.close("lose_deal", "lost", reason=self.rng.choice(_LOST))

    def go_on(self) -> None:
        """Do what is required, then go to the next stage, or skip it; from the last one the deal is won."""
        self.complete_required()
        if self.chance(0.007):
            self.blunder()
        _, ahead = self.others()
        if len(ahead) > 1 and self.chance(0.12):
            del ahead[0]
        if not ahead:
            discount = self.amount is not None and self.chance(0.3)
            self.amount = round((self.amount or 0) * self.rng.uniform(0.85, 1)) if discount else self.amount
            self.close("win_deal", "won", **({"value": self.money(self.amount or 0)} if discount else {}))
        elif len(ahead) > 1 and self.chance(0.008):
            entry = self.add("move_deal", stage=ahead[1])
            self.enter(ahead[0], entry.at)
            self.wait(self.rng.uniform(0.2, 2))
            self.correct("amend", entry, stage=ahead[0])
        else:
            self.move(ahead[0])

    def complete_required(self) -> None:
        """Complete what the stage requires and was not completed since the deal came into it."""
        while not self.completed.issuperset(self.here().required):
            self.complete()

    def blunder(self) -> None:
        """Close or move the wrong deal, and take it back before anything else happens to this one."""
        _, ahead = self.others()
        if ahead and self.chance(0.5):
            entry = self.add("move_deal", stage=ahead[-1])
        else:
            entry = self.add(self.rng.choice(("win_deal", "lose_deal")))
        self.wait(self.rng.uniform(0.1, 2))
        self.correct("retract", entry, reason="meant for another deal")
        self.complete_required()

    def move(self, stage: str) -> None:
        """Move to a stage."""
        entry = self.add("move_deal", self.late(0.06, 4), stage=stage)
        self.enter(stage, entry.at)
        if self.chance(0.003):
            self.antedate(entry)

    def transfer(self) -> None:
        """Put the deal into the other pipeline: an old customer after all, or more than a renewal."""
        self.pipeline = "renewals" if self.pipeline == "new-business" else "new-business"
        stages = list(self.order())
        stage = self.rng.choice(stages[:2])
        fields = {"stage": stage} if stage != stages[0] else {}
        entry = self.add("transfer_deal", pipeline=self.pipeline, **fields)
        self.enter(stage, entry.at)

    def close(self, action: str, status: str, **fields: object) -> None:
        """Close the deal; a few come back later."""
        self.add(action, self.late(0.06, 4), **fields)
        self.status = status
        if self.chance(0.02 if status == "won" else 0.05):
            self.wait(self.rng.uniform(10, 60))
            behind, _ = self.others()
            stage = behind[-1] if behind and self.chance(0.3) else None
            # Without a stage it comes back into the one that it left from, as it is read by then.
            entry = self.add("reopen_deal", **({"stage": stage} if stage else {}))
            self.enter(stage or self.here().key, entry.at)
            self.status = "open"
