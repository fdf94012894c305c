"""Cohort periods: years, quarters, months, ISO weeks, days and ranges, in a time zone and a fiscal year."""

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.times import Instant, parse_date, parse_time

_FORMS = re.compile(
    r"(?P<year>\d{4})(-Q(?P<quarter>[1-4])|-W(?P<week>\d{2})|-(?P<month>\d{2})(-(?P<day>\d{2}))?)?", re.ASCII
)


def parse_period(given: object, tz: ZoneInfo, fiscal_year_start: int = 1) -> tuple[Instant, Instant]:
    """The half-open period [from, until) of `2026`, `2026-Q1`, `2026-03`, `2026-W09`, `2026-03-15` or `A..B`.

    Days begin at midnight in `tz`. `fiscal_year_start` (a month) moves years and quarters; a fiscal year bears the
    number of the calendar year in which it ends. Errors: invalid_period.
    """
    if not isinstance(given, str):
        raise error("invalid_period", "cohort", given=given)
    try:
        first, until = _range(given) if ".." in given else _named(given, fiscal_year_start)
        if not first < until:
            raise ValueError
        return _midnight(first, tz), _midnight(until, tz)
    except (ValueError, OverflowError, DealtrailError):
        raise error("invalid_period", "cohort", given=given) from None


def _range(given: str) -> tuple[date, date]:
    first, _, until = given.partition("..")
    return parse_date(first, "cohort"), parse_date(until, "cohort")


def _named(given: str, fiscal_year_start: int) -> tuple[date, date]:
    match = _FORMS.fullmatch(given)
    if match is None:
        raise ValueError
    year = int(match["year"])
    if match["day"]:
        first = date.fromisoformat(given)
        return first, first + timedelta(days=1)
    if match["week"]:
        first = date.fromisocalendar(year, int(match["week"]), 1)
        return first, first + timedelta(days=7)
    if match["month"]:
        month = int(match["month"])
        return date(year, month, 1), _month(year, month, 1)
    begins = year if fiscal_year_start == 1 else year - 1
    if match["quarter"]:
        offset = 3 * (int(match["quarter"]) - 1)
        return _month(begins, fiscal_year_start, offset), _month(begins, fiscal_year_start, offset + 3)
    return _month(begins, fiscal_year_start, 0), _month(begins, fiscal_year_start, 12)


def _month(year: int, month: int, later: int) -> date:
    """The first day of the month that comes `later` months after."""
    count = year * 12 + (month - 1) + later
    return date(count // 12, count % 12 + 1, 1)


def _midnight(day: date, tz: ZoneInfo) -> Instant:
    return parse_time(datetime.combine(day, time(), tzinfo=tz), "cohort")
