"""A question, understood: moments and log position, the lens that it sees stages through, filter and groups."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from dealtrail.domain.conditions import Attributes, Basis, Scalar, kind
from dealtrail.domain.definitions import Definition
from dealtrail.domain.errors import error, nearest
from dealtrail.domain.pipelines import Pipeline
from dealtrail.domain.texts import is_prose
from dealtrail.domain.times import Instant, parse_moment, zone
from dealtrail.store.log import Log

# What filters and groups may name, beside attributes.NAME.
FIELDS = ("owner", "source", "currency")


class When(msgspec.Struct, frozen=True):
    """The pair of moments that a question is asked at, and the last log position known at the second."""

    as_of: Instant
    known_at: Instant
    position: int

    @property
    def values(self) -> dict[str, int]:
        """The parameters that SQL knows them by."""
        return {"as_of": self.as_of, "position": self.position}


class Lens(msgspec.Struct, frozen=True):
    """A pipeline, and the version under which its stages are read; a draft stands last in `pipeline.definitions`."""

    pipeline: Pipeline
    under: Definition
    draft: bool

    @property
    def number(self) -> int:
        """The version that a report names: under a draft the one that it follows."""
        return self.under.version - self.draft

    def place(self, stage: str, recorded: int, basis: Basis) -> int:
        """The place of a recorded stage in the order of the version read under."""
        if recorded < self.under.version:
            stage = self.pipeline.read(stage, recorded, self.under.version, basis)
        return self.under.index(stage)

    def plain(self, recorded: int, stage: str) -> int | None:
        """The place of a recorded stage, if it is the same for every deal and no other stage is read as it.

        Then a deal's visit to it begins where it was recorded to begin, and none of the deal's past need be read.
        """
        read_as = {one.key: self._readings(recorded, one.key) for one in self.pipeline.version(recorded).stages}
        own = read_as.pop(stage)
        if len(own) > 1 or any(own & others for others in read_as.values()):
            return None
        return self.under.index(next(iter(own)))

    def _readings(self, recorded: int, stage: str) -> set[str]:
        """Every stage that a recorded one may be read as."""
        found = {stage}
        for definition in self.pipeline.definitions[recorded : self.under.version]:
            moves = [definition.moves.get(key, key) for key in found]
            found = {to for move in moves for to in ([move] if isinstance(move, str) else [rule.to for rule in move])}
        return found


def when(log: Log, as_of: object, known_at: object, tz: str) -> When:
    """The moments of a question: now where they are not given or later than now.

    While somebody records, a step that nobody sees yet may bear a time before now. It must not come to be known at a
    `known_at` that an answer has named already: then what is known is what was known at the last event.
    Errors: invalid_time, naive_time, invalid_tz.
    """
    if not isinstance(tz, str):
        raise error("invalid_tz", "tz", given=tz)
    place = zone(tz)
    moments = [
        None if given is None else parse_moment(given, field, place)
        for field, given in (("as_of", as_of), ("known_at", known_at))
    ]
    now, head, settled = log.present()
    as_of_used, known_at_used = (now if given is None else min(given, now) for given in moments)
    last = now if head.recorded_at is None else head.recorded_at
    if known_at_used >= last:
        return When(as_of_used, known_at_used if settled else last, head.position)
    with log.reading() as reading:
        return When(as_of_used, known_at_used, reading.position_at(known_at_used))


class Facts(msgspec.Struct, frozen=True):
    """What filters and groups look at."""

    currency: str | None
    owner: str | None
    source: str | None
    attributes: Attributes

    def get(self, field: str) -> Scalar | None:
        """The value of `owner`, `source`, `currency` or `attributes.NAME`; None where the deal has none."""
        if field.startswith("attributes."):
            return self.attributes.get(field.removeprefix("attributes."))
        found: str | None = getattr(self, field)
        return found


def columns_of(*fields: Iterable[str]) -> set[str]:
    """The columns that hold these fields: owner, source, currency, attributes."""
    return {field.partition(".")[0] for some in fields for field in some}


def parse_where(given: object) -> dict[str, Scalar | None]:
    """A filter: by field the value that a deal must have, null for none. Errors: invalid_where."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise error("invalid_where", "where", given=given)
    for field, value in given.items():
        if not _is_field(field) or not _is_value(value):
            raise error("invalid_where", "where", given={field: value}, nearest=_near(field))
    return {field: plain_number(given[field]) for field in sorted(given)}


def parse_group_by(given: object) -> tuple[str, ...]:
    """The fields to group by, one or several. Errors: invalid_group_by."""
    if given is None:
        return ()
    result: list[str] = []
    for field in given if isinstance(given, list | tuple) else (given,):
        if not _is_field(field) or field in result:
            raise error("invalid_group_by", "group_by", given=field, nearest=_near(field))
        result.append(str(field))
    return tuple(result)


def _near(field: object) -> str:
    return "" if _is_field(field) else nearest(field, FIELDS)


def _is_field(field: object) -> bool:
    if not isinstance(field, str) or len(field) > len("attributes.") + 255 or not is_prose(field):
        return False
    return field in FIELDS or len(field.removeprefix("attributes.")) not in (0, len(field))


def _is_value(value: object) -> bool:
    """Whether a deal may have a value, and JSON gives it back as it was."""
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or (math.isfinite(value) if isinstance(value, float) else is_prose(value))


def plain_number(value: Any) -> Any:
    """A value as a question repeats it: 90.0 is 90, so that questions of one meaning are equal."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def fits(where: Mapping[str, Scalar | None], found: Facts) -> bool:
    """Whether a deal has the values that a filter asks for."""
    return all(same(found.get(field), wanted) for field, wanted in where.items())


def same(one: Scalar | None, other: Scalar | None) -> bool:
    """Equality of values of one type; a missing value equals a missing one."""
    return kind(one) == kind(other) and one == other


class Grouped(Protocol):
    """Something about one deal that a report counts."""

    @property
    def facts(self) -> Facts:
        """What filters and groups look at."""
        ...


T = TypeVar("T", bound=Grouped)


def grouped(deals: list[T], group_by: tuple[str, ...]) -> list[tuple[dict[str, Scalar | None], list[T]]]:
    """The groups with a deal in them, each with its members: numbers, booleans, then texts, the missing one last."""
    groups: dict[Any, tuple[dict[str, Scalar | None], list[T]]] = {}
    for deal in deals if group_by else ():
        group = {field: plain_number(deal.facts.get(field)) for field in group_by}
        groups.setdefault(group_key(group), (group, []))[1].append(deal)
    return [groups[key] for key in sorted(groups)]


def group_key(group: Mapping[str, Scalar | None]) -> tuple[tuple[int, Any], ...]:
    """What makes two groups one, and puts them in order."""
    ranks = {"number": 0, "boolean": 1, "text": 2, None: 3}
    return tuple((ranks[kind(value)], 0 if value is None else value) for value in group.values())


class Asked(msgspec.Struct, frozen=True):
    """What both reports are asked: the arguments as they were understood."""

    definition: Any
    group_by: tuple[str, ...]
    where: dict[str, Scalar | None]
    tz: str

    @classmethod
    def parsed(cls, definition: object, group_by: object, where: object, tz: str) -> "Asked":
        """The arguments, checked. Errors: invalid_group_by, invalid_where."""
        return cls(definition, parse_group_by(group_by), parse_where(where), tz)

    def fields(self) -> dict[str, Any]:
        """By their names."""
        return msgspec.structs.asdict(self)

    def shown(self) -> dict[str, Any]:
        """As a question repeats them."""
        return {
            "definition": self.definition,
            "group_by": list(self.group_by),
            "where": self.where,
            "tz": self.tz,
        }
