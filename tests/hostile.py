"""Bad input by the handful: actions and questions that are nearly right, and values that are not right at all.

Everything is drawn from a `random.Random`, so that a seed tells a run, and hypothesis may draw instead and shrink.
"""

import inspect
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache

import msgspec
from msgspec import inspect as shapes

from dealtrail import Draft, Money, Trail
from dealtrail.domain.actions import KINDS

NOW = datetime(2026, 4, 10, tzinfo=UTC)
LONG = "x" * 100_000


def _nested(wrap, depth):
    found = "core"
    for _ in range(depth):
        found = wrap(found)
    return found


ODD = [
    *(None, True, False, 0, 1, -1, 2, 5, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**25, 10**5000),
    *(0.0, -0.0, 0.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", " ", "a", "null", "\0", "a\0b", "\ud800", "\udcff", "\x1b[2J", "a\nb", "\u202e", "é", "e\u0301", "🤝", LONG),
    *("'; DROP TABLE event; --", '" OR 1=1', "%s%n", "{0.__class__}", "${x}", "../../etc/passwd", "-1", "1e999"),
    *("١٢", "1_0", "0x10", "NaN", "Infinity", "9" * 400, "2026-02-30", "2026-13-01T00:00:00Z"),
    *("0001-01-01", "9999-12-31"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-01-05T10:00:00", "2026-W60"),
    "2026-01-01..2026-01-01",
    *(b"", b"a", b"\xff", Decimal("NaN"), Decimal("1E+999999"), Decimal("0.1"), date.min, date.max),
    datetime(1, 1, 1),  # noqa: DTZ001  the lack of a zone is the point
    *(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))),
    *([], {}, [[]], {"": None}, {1: 2}, {None: None}, {"\ud800": 1}, {("a",): 1}, [None] * 1_000, ("a", "b")),
    *({str(n): n for n in range(600)}, Money("x", None), Draft(None), Draft(5, 5), UTC),
    *(_nested(lambda inner: [inner], depth) for depth in (12, 300, 600, 900, 50_000)),
    *(_nested(lambda inner: {"a": inner}, depth) for depth in (12, 300, 600, 900, 50_000)),
]  # fmt: skip

_DEALS = [f"D{n}" for n in range(8)]
_STAGES = ["lead", "qualified", "proposal", "intake", "service", "extra"]
_TIMES = [f"2026-0{month}-1{day}T10:00:00Z" for month in (1, 2, 3) for day in (1, 5, 9)]
_MONEY = [{"amount": text, "currency": code} for text in ("1200.50", "-3", "0") for code in ("EUR", "JPY")]
_RULES = [
    {"when": {"field": "value", "op": "ge", "value": "40"}, "to": "lead"},
    {"when": {"field": "attributes.seats", "op": "in", "value": [5, "a"]}, "to": "qualified"},
    {"to": "lead"},
]
_WHERE = [None, {}, {"owner": "anna"}, {"attributes.seats": 5}, {"source": None}, {"currency": "EUR", "owner": "bo"}]
_MOMENTS = [None, "2026-02-01", "2026-03-31T12:00:00Z", date(2026, 1, 9), NOW, NOW - timedelta(days=50), "2027-01-01"]

_REASONS = [None, {"lost": ["price", "Timing"]}, {"lost": ["Timing"], "disqualified": ["Duplicate"]}]
_GROUP = {"rule": "round_robin", "owners": [{"owner": "anna", "weight": 2}, {"owner": "ben", "paused": True}]}
_ASSIGNMENTS = [
    *(None, _GROUP, _GROUP | {"rule": "least_open_deals"}),
    {
        "groups": {"a": _GROUP, "b": _GROUP},
        "choose": [{"when": {"field": "value", "op": "ge", "value": "9"}, "to": "a"}, {"to": "b"}],
    },
]

# What a field of an action, or an argument of a question, may sensibly be, by its name. One that is not named here is
# made from its type.
SENSIBLE = {
    "deal": _DEALS, "into": _DEALS, "subject": ["S1", "S2"], "id": [f"i{n}" for n in range(300)],
    "after": [None, *_DEALS],
    "pipeline": ["b2b", "care", "new"], "stage": _STAGES, "key": ["call", "demo", "sign"], "at": [*_TIMES, NOW],
    "version": [1, 2, 3, 4], "expected_version": [0, 1, 2], "value": _MONEY, "expected_close": ["2026-05-01", None],
    "attributes": [{"seats": 5}, {"seats": None, "city": "Ede"}, {"pilot": True, "rate": 0.5}],
    "personal": [{"contact": "Ada"}], "owner": ["anna", "bo", None], "source": ["web", "fair"], "reason": ["price"],
    "moves": [None, {}, {"proposal": "lead"}, {"proposal": _RULES}, {"qualified": "lead", "proposal": "lead"}],
    "entry": [None, ["lead"]], "back": [None, ["lead"]], "skip": [None, ["qualified"]],
    "as_of": _MOMENTS, "known_at": _MOMENTS, "tz": ["UTC", "Europe/Amsterdam", "Pacific/Apia"], "where": _WHERE,
    "definition": ["as_of", "current", 1, 2, {"stages": [], "moves": {}}],
    "group_by": [(), "owner", ["owner", "currency"], ("attributes.seats",)], "group": _WHERE,
    "cohort": ["2026", "2026-Q1", "2026-W05", "2026-01-10", "2026-01-01..2026-03-01"], "within": [None, 30, 0.5],
    "fiscal_year_start": [1, 4], "status": [None, "open", "won", "merged"], "limit": [1, 20, 100],
    "sort": ["deal", "-value", "stage_since", "-expected_close"], "currency": [None, "EUR"],
    "field": [None, "deals", "stalled", "reached", "cohort", "won", "value", "median_days_to_pass", "entry", "loops"],
    "reasons": _REASONS, "reason_moves": [None, {"lost": {"price": "Timing"}}], "assignment": _ASSIGNMENTS,
    "template": [None, "inbound-saas", "../x"],
    "kind": ["call", "mail"], "path": [None, ["lead", "qualified"], [None, "lead"]],
    "head": [None, f"3:{'0' * 64}", f"0:{'0' * 64}"], "by": ["anna", "bo"], "actor": ["anna"], "partly": [False, True],
    "least_free_bytes": [0, 10**8], "since": [None, 0, 3], "overwrite": [False, True],
     "atomic": [False, True], "dry_run": [False, True],
}  # fmt: skip
# A wait is a wait, however long; a file is written where it is said; and what the host's own code gives is no input.
HARMLESS = {
    "wait": [None, 0, 0.0, -1, "x", float("nan"), True, b""],
    "dest": ["out.db", "out.jsonl", "a\0b", "", ".", "x" * 5_000, "no/such/folder"],
    "progress": [None],
}
# What opens and closes, what founds a store (see hostile_bytes.py), and what is given an object of the host.
NO_QUESTIONS = {"open", "close", "restore", "adopt_keys"}


class Hostile:
    """Draws actions and questions; about one in three is as it should be."""

    def __init__(self, random):
        self.random = random
        self.reports = []

    def odd(self):
        """A value that does not fit, most of the time."""
        return self.random.choice(ODD)

    def stages(self):
        """The stages of a definition."""
        keys = self.random.sample(_STAGES, self.random.randint(1, 4))
        more = [{}, {"rots_after_days": 9}, {"actions": [{"key": "call", "name": "Call", "required": True}]}]
        shares = [0.5, "0.25", 0, 1, Decimal("0.1")]
        return [
            {"key": key, "name": key.title(), "probability": self.random.choice(shares)} | self.random.choice(more)
            for key in keys
        ]

    def sensible(self, name, shape=None):
        """A value that a field of this name, or else of this type, may have."""
        if name == "stages":
            return self.stages()
        if name == "definition" and self.random.random() < 0.3:
            more = ("moves", "entry", "back", "skip", "reasons", "reason_moves", "assignment")
            return {"stages": self.stages()} | {field: self.sensible(field) for field in self.random.sample(more, 2)}
        if name == "action":
            return self.action()
        if name == "actions":
            return [self.action() for _ in range(self.random.randint(0, 3))]
        if name == "report":
            return self.report()
        if name in SENSIBLE:
            return self.random.choice(SENSIBLE[name])
        return self._of(shape)

    def _of(self, shape):
        match shape:
            case shapes.StrType():
                return self.random.choice(["a", "call", "b2b", "D1", "lead"])
            case shapes.BoolType():
                return self.random.choice([True, False])
            case shapes.IntType():
                return self.random.randint(0, 9)
            case shapes.FloatType() | shapes.DecimalType():
                return self.random.choice([0.5, "0.5"])
            case shapes.DateType():
                return "2026-05-01"
            case shapes.DateTimeType():
                return self.random.choice(_TIMES)
            case shapes.UnionType(types=kinds):
                return self._of(self.random.choice(kinds))
            case shapes.ListType(item_type=kind):
                return [self._of(kind) for _ in range(self.random.randint(0, 2))]
            case shapes.DictType(key_type=key, value_type=value):
                return {self._of(key): self._of(value)}
            case shapes.NoneType():
                return None
        return self.odd()

    def action(self):
        """An action of any kind there is, spoilt or not."""
        verb = self.random.choice(list(KINDS))
        fields = _fields(verb)
        if verb == "amend":
            fields = fields | {
                name: shape for other in self.random.sample(list(KINDS), 2) for name, shape in _fields(other).items()
            }
        return self.spoilt({"action": verb} | self._some_of(fields))

    def _some_of(self, fields):
        chosen = {}
        for name, (shape, required) in fields.items():
            likely = 1 if required else 0 if name == "changes" else 0.03 if name == "expected_version" else 0.3
            if self.random.random() < likely:
                chosen[name] = self.sensible(name, shape)
        return chosen

    def spoilt(self, given):
        """The same with some of it taken away, exchanged or added, at any depth; mostly as it was."""
        for _ in range(self.random.choice([0, 0, 0, 0, 1, 1, 2, 4])):
            given = self._spoil(given)
        return given

    def _spoil(self, given, depth=0):
        if not isinstance(given, dict | list) or not given or depth > 6 or self.random.random() < 0.05:
            return self.odd()
        places = list(given) if isinstance(given, dict) else range(len(given))
        place = self.random.choice(places)
        changed = given.copy()
        match self.random.randint(0, 5):
            case 0:
                del changed[place]
            case 1 if isinstance(given, dict):
                changed[self.random.choice(["x", "deal", "stage", "", "\ud800", LONG, "at", "stages"])] = self.odd()
            case 2 | 3:
                changed[place] = self.odd()
            case _:
                changed[place] = self._spoil(given[place], depth + 1)
        return changed

    def report(self):
        """A report that was given, as it was or as JSON, spoilt or not."""
        if not self.reports:
            return self.odd()
        report = self.random.choice(self.reports)
        return report if self.random.random() < 0.3 else self.spoilt(msgspec.to_builtins(report))

    def question(self, name):
        """The arguments of a call: those by place, and those by name."""
        by_place, by_name = [], {}
        known = parameters(questions()[name])
        for argument, parameter in known.items():
            required = parameter.default is parameter.empty
            if parameter.kind is parameter.VAR_KEYWORD:
                by_name |= self._more(name, known)
            elif not required and self.random.random() < 0.6:
                continue
            elif parameter.kind is parameter.KEYWORD_ONLY or not required:
                by_name[argument] = self._argument(argument)
            else:
                by_place.append(self._argument(argument))
        return by_place, by_name

    def _argument(self, name):
        if name in HARMLESS:
            return self.random.choice(HARMLESS[name])
        return self.spoilt(self.sensible(name)) if self.random.random() < 0.8 else self.odd()

    def _more(self, name, known):
        fields = _fields(name if name in KINDS else "redefine_pipeline")
        more = self.spoilt(self._some_of(fields))
        return {key: value for key, value in more.items() if key not in known} if _is_named(more) else {}


def _is_named(given):
    return isinstance(given, dict) and all(isinstance(name, str) for name in given)


def questions():
    """Every public method of a trail, by its name."""
    return {
        name: getattr(Trail, name)
        for name in dir(Trail)
        if not name.startswith("_") and callable(getattr(Trail, name)) and name not in NO_QUESTIONS
    }


@cache
def parameters(method):
    """The parameters of a method, without the trail itself."""
    found = dict(inspect.signature(method).parameters)
    found.pop("self", None)
    return found


def unknown_parameters():
    """What no sensible value is known for: a new argument that the fuzzer must be taught."""
    known = {*SENSIBLE, *HARMLESS, "stages", "action", "actions", "report"}
    return {
        f"{name}({parameter})"
        for name, method in questions().items()
        for parameter, found in parameters(method).items()
        if parameter not in known and found.kind is not found.VAR_KEYWORD
    }


@cache
def _fields(verb):
    shape = shapes.type_info(KINDS[verb])
    return {field.encode_name: (_bare(field.type), field.required) for field in shape.fields}


def _bare(shape):
    return _bare(shape.type) if isinstance(shape, shapes.Metadata) else shape
