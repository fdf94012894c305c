"""Moments, dates and periods. Inside, a moment is an `Instant`: whole microseconds since 1970 in UTC.

Outside it is an aware datetime. Integers are exact, order and subtract as they should, and are what the files hold.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

from dealtrail.domain.errors import error

Instant: TypeAlias = int  # microseconds since 1970-01-01T00:00:00Z

DAY: Instant = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = datetime.max.replace(tzinfo=UTC)  # in the west the last day of all ends after it
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(?P<zone>[Zz]|[+-]\d{2}:\d{2})?", re.ASCII)


def instant(moment: datetime) -> Instant:
    """An aware datetime as an instant.

    >>> instant(datetime(1970, 1, 2, tzinfo=UTC)) == DAY
    True
    """
    return (moment - _EPOCH) // _MICROSECOND


def moment(at: Instant) -> datetime:
    """An instant as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at)


def parse_time(given: object, field: str) -> Instant:
    """When something happened: an aware datetime, or one as an ISO 8601 string.

    Errors: bare_date, naive_time, invalid_time.
    """
    if isinstance(given, str) and _DATE.fullmatch(given):
        raise error("bare_date", field, given=given)
    if isinstance(given, date) and not isinstance(given, datetime):
        raise error("bare_date", field, given=given.isoformat())
    if isinstance(given, str):
        match = _TIME.fullmatch(given)
        if match is None:
            raise error("invalid_time", field, given=given)
        if match["zone"] is None:
            raise error("naive_time", field, given=given)
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            raise error("invalid_time", field, given=given) from None
    if not isinstance(given, datetime) or getattr(given, "nanosecond", None):
        raise error("invalid_time", field, given=given)  # some kinds of datetime count nanoseconds
    if given.utcoffset() is None:
        raise error("naive_time", field, given=given.isoformat())
    try:
        # The same moment in UTC must exist too: the year 1 in the east has none.
        return instant(given.astimezone(UTC))
    except OverflowError:
        raise error("invalid_time", field, given=given.isoformat()) from None


def parse_moment(given: object, field: str, tz: ZoneInfo) -> Instant:
    """The moment of a question: as `parse_time`, or a date, meaning the end of that day in `tz`.

    Errors: naive_time, invalid_time.
    """
    if isinstance(given, str) and _DATE.fullmatch(given):
        given = parse_date(given, field)
    if isinstance(given, date) and not isinstance(given, datetime):
        # Where the clocks go back at midnight the last microsecond comes twice: the day ends at the second.
        end = datetime.combine(given, time(23, 59, 59, 999_999), tzinfo=tz).replace(fold=1)
        return parse_time(_LATEST if given == date.max else end, field)
    return parse_time(given, field)


def parse_date(given: object, field: str) -> date:
    """A date, or one as `YYYY-MM-DD`. Errors: invalid_time."""
    if isinstance(given, date) and not isinstance(given, datetime):
        return given
    if isinstance(given, str) and _DATE.fullmatch(given):
        try:
            return date.fromisoformat(given)
        except ValueError:
            pass
    raise error("invalid_time", field, given=given)


def day_of(at: Instant, tz: str) -> date:
    """The day of a moment in a time zone. Errors: invalid_tz."""
    try:
        return moment(at).astimezone(zone(tz)).date()
    except OverflowError:
        return date.min  # in the west the first day of all has not begun


def zone(name: str) -> ZoneInfo:
    """The time zone of a name. Errors: invalid_tz."""
    if not isinstance(name, str) or len(name) > 255:
        raise error("invalid_tz", "tz", given=name)
    return _zone(name)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except Exception:  # ZoneInfo raises KeyError, ValueError, TypeError or OSError, as the name happens to be wrong
        raise error("invalid_tz", "tz", given=name) from None


def iso(at: Instant) -> str:
    """A moment as text: ISO 8601, UTC as `Z`.

    >>> iso(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    return moment(at).isoformat().replace("+00:00", "Z")


def days(span: Fraction) -> float:
    """A span in microseconds as days of 86,400 s, rounded half to even to 2 decimals on the exact value.

    >>> days(Fraction(DAY * 3, 2))
    1.5
    """
    return _rounded(span / DAY, 2)


def share(part: int, whole: int) -> float | None:
    """part ÷ whole, rounded half to even to 4 decimals on the exact value; None where it would divide by zero.

    >>> share(1, 3), share(1, 0)
    (0.3333, None)
    """
    return _rounded(Fraction(part, whole), 4) if whole else None


def quantile(ordered: list[int], q: Fraction) -> Fraction | None:
    """The q-quantile of ascending values, by linear interpolation between the nearest two; None of none.

    >>> quantile([1, 2, 4, 9], Fraction(1, 2))
    Fraction(3, 1)
    """
    if not ordered:
        return None
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def quantile_days(ordered: list[Instant], q: Fraction) -> float | None:
    """The q-quantile of ascending spans in microseconds, as `days` gives it; None of none."""
    found = quantile(ordered, q)
    return None if found is None else days(found)


def _rounded(exact: Fraction, decimals: int) -> float:
    scaled = round(exact * 10**decimals)  # of a Fraction: half to even, exactly
    return float(Decimal(scaled).scaleb(-decimals, _PLENTY)) if scaled else 0.0


_PLENTY = Context(prec=60, rounding=ROUND_HALF_EVEN)
