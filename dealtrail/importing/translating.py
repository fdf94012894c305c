"""Translating: a row of an event log becomes an action on its deal."""

from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from dealtrail.domain.errors import DealtrailError, error, nearest
from dealtrail.domain.times import Instant, moment, parse_time, zone
from dealtrail.importing.mapping import Mapping

_ACTIONS = {
    "opens": "open_deal",
    "enters": "move_deal",
    "reopens": "reopen_deal",
    "wins": "win_deal",
    "loses": "lose_deal",
    "disqualifies": "disqualify_deal",
}
_OF_OPENING = ("owner", "source", "subject", "title", "expected_close")


class Translator:
    """A mapping, made ready to translate rows by it."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._columns = mapping.columns
        self._effects = {activity: (effect, stage) for activity, effect, stage in mapping.activities.effects()}

    def ignores(self, cells: dict[str, str]) -> bool:
        """Whether the mapping wants nothing of a row. Errors: missing_field, unknown_activity."""
        activity = self._needed(cells, self._columns.activity)
        if activity in self._effects:
            return self._effects[activity][0] == "ignored"
        if self._mapping.activities.other == "ignore":
            return True
        raise error("unknown_activity", activity=activity, nearest=nearest(activity, self._effects))

    def case(self, cells: dict[str, str]) -> str:
        """The case of a row. Errors: missing_field."""
        return self._needed(cells, self._columns.case)

    def at(self, cells: dict[str, str]) -> Instant:
        """When a row happened; a time without a zone is one of the mapping's.

        Of a local time that the clocks show twice it is the first; one that they leave out is refused.
        Errors: missing_field, invalid_time, naive_time, bare_date, invalid_field.
        """
        column = self._columns.time
        given = self._needed(cells, column)
        if not self._mapping.time_formats:
            try:
                return parse_time(given, column)
            except DealtrailError as refusal:
                if refusal.code != "naive_time" or self._mapping.tz is None:
                    raise
        time = self._written(given)
        if time.tzinfo is not None or self._mapping.tz is None:
            return parse_time(time, column)
        there = time.replace(tzinfo=zone(self._mapping.tz))
        found_at = parse_time(there, column)
        if moment(found_at).astimezone(there.tzinfo).replace(tzinfo=None) != time:
            why = f"{given} was left out in {self._mapping.tz}, where the clocks were put forward; correct it"
            raise error("invalid_field", column, why=why)
        return found_at

    def _written(self, given: str) -> datetime:
        """A time as it is written: by the mapping's formats, or ISO where there are none."""
        for format_ in self._mapping.time_formats:
            with suppress(ValueError):
                return datetime.strptime(given, format_)  # noqa: DTZ007  the zone is added where it is missing
        if self._mapping.time_formats:
            raise error("invalid_field", self._columns.time, why=f"{given} is a time in none of `time_formats`")
        try:
            return datetime.fromisoformat(given)
        except ValueError:
            raise error("invalid_time", self._columns.time, given=given) from None

    def action(self, case: str, at: Instant, ordinal: int, cells: dict[str, str], own: set[str]) -> dict[str, Any]:
        """The action of a row; `ordinal` tells rows of one case, activity and time apart, from 1.

        `own` are the columns of the event log itself: a value in one of them is that of its own row, and a win takes
        it; a value of the case is taken by the opening alone.
        """
        activity = cells[self._columns.activity]
        effect, stage = self._effects[activity]
        action: dict[str, Any] = {
            "action": _ACTIONS[effect],
            "deal": case,
            "at": moment(at),
            "by": self._cell(cells, "by"),
            "id": row_id(case, activity, at, ordinal),
        }
        if stage is not None:
            action["stage"] = stage
        if effect == "opens":
            action |= {field: self._cell(cells, field) for field in _OF_OPENING}
            action |= {"pipeline": self._mapping.pipeline.key, "value": self._value(cells)}
            found = {name: cells.get(column) for name, column in self._columns.attributes.items()}
            action["attributes"] = {name: text for name, text in found.items() if text}
        elif effect == "wins" and self._columns.value in own:
            action["value"] = self._value(cells)
        elif effect in ("loses", "disqualifies"):
            action["reason"] = self._cell(cells, "reason")
        return action

    def _value(self, cells: dict[str, str]) -> dict[str, str] | None:
        amount = self._cell(cells, "value")
        if amount is None:
            return None
        return {"amount": amount, "currency": self._cell(cells, "currency") or self._mapping.currency or ""}

    def _cell(self, cells: dict[str, str], field: str) -> str | None:
        column: str | None = getattr(self._columns, field)
        return (cells.get(column) or None) if column else None

    def _needed(self, cells: dict[str, str], column: str) -> str:
        if not cells.get(column):
            raise error("missing_field", column)
        return cells[column]


def row_id(case: str, activity: str, at: Instant, ordinal: int) -> str:
    """The idempotency key of a row: made of what the row is, never of where it stands in a file."""
    return f"row-{sha256(msgspec.json.encode([case, activity, at, ordinal])).hexdigest()[:32]}"
