"""Money, moments, periods, shares and days: what they may look like, and how they are rounded."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from given import B2B, MICROSECOND, NOW, Clock, code_of, define, euro, given, log, move, on, opening, stage, win

from dealtrail import Trail
from dealtrail.domain.money import CURRENCIES, Money, money, rounded, times, total
from dealtrail.domain.periods import parse_period
from dealtrail.domain.times import (
    DAY,
    days,
    instant,
    moment,
    parse_date,
    parse_moment,
    parse_time,
    quantile,
    share,
    zone,
)

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
HAVANA = ZoneInfo("America/Havana")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


# Money


@pytest.mark.parametrize(
    "amount",
    ["0", "1200.50", "-1200.50", "-0", "0.000001", "000", "999999999999999.999999", "-999999999999999", "1200.500000"],
)
def test_an_amount_is_a_decimal_text(amount):
    assert money({"amount": amount, "currency": "EUR"}) == Money(Decimal(amount), "EUR")


@pytest.mark.parametrize(
    "amount",
    [
        1200.5,
        1200,
        True,
        None,
        "",
        "-",
        "+1",
        "1.",
        ".5",
        "1,5",
        "1 200",
        " 1",
        "1\n",
        "1e3",
        "1E3",
        "0x1",
        "--1",
        "NaN",
        "Infinity",
        "1_000",
        "１２",
        "1000000000000000",
        "0.0000001",
        "1.2.3",
        ["1"],
    ],
    ids=repr,
)
def test_what_is_no_decimal_text_is_no_amount(amount):
    given(B2B).when(opening(1, value={"amount": amount, "currency": "EUR"})).refused("invalid_amount")


@pytest.mark.parametrize(
    ("currency", "digits"),
    [
        ("EUR", 2),
        ("USD", 2),
        ("JPY", 0),
        ("KRW", 0),
        ("ISK", 0),
        ("KWD", 3),
        ("BHD", 3),
        ("TND", 3),
        ("CLF", 4),
        ("UYW", 4),
    ],
)
def test_a_currency_has_the_minor_unit_of_iso_4217(currency, digits):
    assert CURRENCIES[currency] == digits


@pytest.mark.parametrize("currency", ["SLE", "VED", "MRU", "STN", "ZWG", "XCG", "BYN"])
def test_a_currency_that_took_the_place_of_another_is_a_currency(currency):
    assert money({"amount": "1", "currency": currency}).currency == currency


@pytest.mark.parametrize(
    "currency",
    [
        *["DEM", "NLG", "HRK", "BGN", "SLL", "VEF", "MRO", "STD", "ZWL", "ANG", "CUC", "BYR"],
        *["XAU", "XAG", "XDR", "XTS", "XXX", "XUA", "XSU", "BTC", "eur", "EURO", "€"],
        *("", None, 7),
    ],
)
def test_what_is_withdrawn_or_without_a_minor_unit_or_unheard_of_is_no_currency(currency):
    given(B2B).when(opening(1, value={"amount": "1", "currency": currency})).refused("unknown_currency")


@pytest.mark.parametrize("value", [{"amount": "1"}, {"currency": "EUR"}, {}])
def test_money_is_an_amount_and_a_currency(value):
    given(B2B).when(opening(1, value=value)).refused("missing_field")


def test_money_is_nothing_more():
    given(B2B).when(opening(1, value={**euro(1), "tax": "0.21"})).refused("unknown_field")


def test_a_value_that_is_no_object_is_refused():
    given(B2B).when(opening(1, value="1 EUR")).refused("invalid_field")


def test_money_may_be_given_as_money():
    past = given(B2B, opening(1, value=Money(Decimal("1E+3"), "EUR")))
    assert past.deal().value == Money(Decimal(1000), "EUR")


def test_an_amount_is_kept_as_it_was_written():
    past = given(B2B, opening(1, value=euro("1200.500")))
    assert str(past.deal().value.amount) == "1200.500"


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("2.345", "EUR", "2.34"),
        ("2.355", "EUR", "2.36"),
        ("2.3450001", "EUR", "2.35"),
        ("-2.345", "EUR", "-2.34"),
        ("-2.355", "EUR", "-2.36"),
        ("0.005", "EUR", "0.00"),
        ("0.015", "EUR", "0.02"),
        ("2", "EUR", "2.00"),
        ("0.5", "JPY", "0"),
        ("1.5", "JPY", "2"),
        ("2.5", "JPY", "2"),
        ("1.0005", "KWD", "1.000"),
        ("1.0015", "KWD", "1.002"),
        ("1.00005", "CLF", "1.0000"),
        ("1.00015", "CLF", "1.0002"),
        ("999999999999999.995", "EUR", "1000000000000000.00"),
    ],
)
def test_a_sum_is_rounded_half_to_even_to_the_minor_unit(amount, currency, expected):
    assert str(rounded(Decimal(amount), currency)) == expected


@pytest.mark.parametrize(
    ("amount", "currency", "expected"), [("-0.004", "EUR", "0.00"), ("-0.5", "JPY", "0"), ("-0", "EUR", "0.00")]
)
def test_zero_has_no_sign(amount, currency, expected):
    assert str(rounded(Decimal(amount), currency)) == expected


def test_a_currency_that_was_withdrawn_since_is_shown_with_two_digits():
    assert str(rounded(Decimal("7.125"), "DEM")) == "7.12"


def test_a_sum_is_exact_however_long_it_is():
    amounts = [Decimal("999999999999999.999999")] * 1_000
    assert total([*amounts, Decimal("0.000001")]) == Decimal("999999999999999999.999001")
    assert total([]) == 0


def test_a_product_is_exact():
    amount, probability = Decimal("999999999999999.999999"), Decimal("0.333333333333333333333333333331")
    assert Fraction(times(amount, probability)) == Fraction(amount) * Fraction(probability)


def test_a_sum_is_rounded_once_and_at_the_end():
    past = given(B2B, *(opening(1, deal=f"D{n}", value=euro("0.004")) for n in range(3)))
    row = past.row("lead")
    # 0.012 is 0.01; each rounded by itself would be 0.00. Half of it is 0.006, which is 0.01 too.
    assert (row.value, row.weighted_value) == ({"EUR": Decimal("0.01")}, {"EUR": Decimal("0.01")})


def test_a_currency_appears_where_a_deal_has_it_even_if_the_sum_is_zero():
    past = given(B2B, opening(1, value=euro("-5")), opening(1, deal="E", value=euro("5")), opening(1, deal="F"))
    assert past.row("lead").value == {"EUR": Decimal("0.00")}
    assert str(past.row("lead").value["EUR"]) == "0.00"
    assert past.row("qualified").value == {}


def test_amounts_of_different_currencies_are_not_added():
    yen, dinar = {"amount": "100.5", "currency": "JPY"}, {"amount": "0.0005", "currency": "KWD"}
    past = given(B2B, opening(1, value=yen), opening(1, deal="E", value=dinar), opening(1, deal="F", value=euro(2)))
    sums = past.row("lead").value
    assert [(currency, str(amount)) for currency, amount in sums.items()] == [
        ("EUR", "2.00"),
        ("JPY", "100"),
        ("KWD", "0.000"),
    ]


# When something happened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T09:00:00Z", utc(2026, 3, 1, 9)),
        ("2026-03-01 09:00:00Z", utc(2026, 3, 1, 9)),
        ("2026-03-01T09:00Z", utc(2026, 3, 1, 9)),
        ("2026-03-01T09:00:00+01:00", utc(2026, 3, 1, 8)),
        ("2026-03-01T00:30:00+05:30", utc(2026, 2, 28, 19)),
        ("2026-03-01T09:00:00-11:00", utc(2026, 3, 1, 20)),
        ("2026-03-01T09:00:00.5Z", utc(2026, 3, 1, 9, 0, 0, 500_000)),
        ("2026-03-01T09:00:00.123456Z", utc(2026, 3, 1, 9, 0, 0, 123_456)),
        ("2024-02-29T23:59:59.999999Z", utc(2024, 2, 29, 23, 59, 59, 999_999)),
        ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
        ("9999-12-31T23:59:59.999999Z", utc(9999, 12, 31, 23, 59, 59, 999_999)),
    ],
)
def test_a_time_is_iso_8601_with_its_zone(text, expected):
    assert moment(parse_time(text, "at")) == expected


def test_a_time_is_an_aware_datetime_of_any_zone():
    assert moment(parse_time(datetime(2026, 7, 1, 9, tzinfo=AMSTERDAM), "at")) == utc(2026, 7, 1, 7)
    east = timezone(timedelta(hours=9, minutes=30))
    assert moment(parse_time(datetime(2026, 7, 1, 9, tzinfo=east), "at")) == utc(2026, 6, 30, 23, 30)


def test_of_an_hour_that_comes_twice_the_datetime_says_which():
    times = [datetime(2026, 10, 25, 2, 30, tzinfo=AMSTERDAM, fold=fold) for fold in (0, 1)]
    assert [moment(parse_time(one, "at")) for one in times] == [utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)]


def test_a_moment_before_1970_goes_to_an_instant_and_back():
    early = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert (instant(early), moment(-1)) == (-1, early)


@pytest.mark.parametrize(
    ("at", "code"),
    [
        ("2026-03-01", "bare_date"),
        (date(2026, 3, 1), "bare_date"),
        ("2026-03-01T09:00:00", "naive_time"),
        ("2026-03-01T09:00", "naive_time"),
        (datetime(2026, 3, 1, 9), "naive_time"),  # noqa: DTZ001
        ("2026-03-01T09:00:00.123456789Z", "invalid_time"),
        ("2026-03-01T09:00:00.1234567Z", "invalid_time"),
        ("2026-03-01T09:00:00.Z", "invalid_time"),
        ("2026-03-01T09:00:00,5Z", "invalid_time"),
        ("2026-02-30T09:00:00Z", "invalid_time"),
        ("2026-03-01T25:00:00Z", "invalid_time"),
        ("2026-03-01T09:60:00Z", "invalid_time"),
        ("2026-03-01T23:59:60Z", "invalid_time"),
        ("2026-03-01T09:00:00+24:00", "invalid_time"),
        ("2026-03-01T09:00:00 Europe/Amsterdam", "invalid_time"),
        ("2026-03-01T09Z", "invalid_time"),
        ("20260301T090000Z", "invalid_time"),
        ("2026-03-01T09:00:00Z\n", "invalid_time"),
        ("2026-W09-7T09:00:00Z", "invalid_time"),
        ("0001-01-01T00:00:00+01:00", "invalid_time"),
        ("9999-12-31T23:59:59-01:00", "invalid_time"),
        ("yesterday", "invalid_time"),
        ("", "invalid_time"),
        (1_772_355_600, "invalid_time"),
        (True, "invalid_time"),
        (["2026-03-01T09:00:00Z"], "invalid_time"),
    ],
    ids=repr,
)
def test_what_has_no_zone_or_is_no_time_is_refused(at, code):
    past = given(B2B).when({"action": "open_deal", "deal": "D", "pipeline": "b2b", "at": at}).refused(code)
    assert past.refusal.field == "at"


def test_a_time_is_kept_to_the_microsecond_and_given_back_in_utc():
    past = given(B2B).when(opening("2026-01-05T01:00:00.000001+02:00")).then("deal_opened")
    assert past.new[0].occurred_at == utc(2026, 1, 4, 23, 0, 0, 1)
    assert past.new[0].occurred_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("given_date", ["2026-05-01", date(2026, 5, 1)])
def test_an_expected_close_is_a_date(given_date):
    assert parse_date(given_date, "expected_close") == date(2026, 5, 1)


@pytest.mark.parametrize(
    "wrong",
    ["2026-02-29", "2026-5-1", "20260501", "2026-05-01T00:00:00Z", "2026-W18-5", "soon", 20260501, utc(2026, 5, 1)],
)
def test_what_is_no_date_is_no_expected_close(wrong):
    given(B2B).when(opening(1, expected_close=wrong)).refused("invalid_time")


# The moments of a question


def test_a_bare_date_as_a_moment_is_the_end_of_that_day_in_the_zone():
    summer = parse_moment("2026-07-01", "as_of", AMSTERDAM)
    assert moment(summer) == utc(2026, 7, 1, 21, 59, 59, 999_999)
    assert parse_moment(date(2026, 7, 1), "as_of", AMSTERDAM) == summer
    assert moment(parse_moment("2026-07-01", "as_of", zone("UTC"))) == utc(2026, 7, 1, 23, 59, 59, 999_999)


@pytest.mark.parametrize(
    ("day", "place", "expected"),
    [
        ("2026-03-29", AMSTERDAM, utc(2026, 3, 29, 21, 59, 59, 999_999)),  # the clocks go forward: a day of 23 hours
        ("2026-10-25", AMSTERDAM, utc(2026, 10, 25, 22, 59, 59, 999_999)),  # and back: 25 hours
        ("2018-02-17", SAO_PAULO, utc(2018, 2, 18, 2, 59, 59, 999_999)),  # its last hour comes twice
        ("2018-11-03", SAO_PAULO, utc(2018, 11, 4, 2, 59, 59, 999_999)),  # the midnight after it is left out
    ],
)
def test_a_day_ends_where_the_next_begins_also_when_the_clocks_change(day, place, expected):
    assert moment(parse_moment(day, "as_of", place)) == expected


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("2026-07-01T09:00:00", "naive_time"),
        (datetime(2026, 7, 1, 9), "naive_time"),  # noqa: DTZ001
        ("2026-02-29", "invalid_time"),
        ("2026-07", "invalid_time"),
        ("now", "invalid_time"),
        (7, "invalid_time"),
    ],
    ids=repr,
)
def test_what_is_no_moment_is_refused(wrong, code):
    past = given(B2B, opening(1))
    for field in ("as_of", "known_at"):
        assert code_of(past.trail.pipeline_report, "b2b", **{field: wrong}) == code


@pytest.mark.parametrize("tz", ["Europe/Nowhere", "", "+01:00", "../etc/passwd", "Amsterdam"])
def test_a_zone_is_a_name_of_the_time_zone_database(tz):
    past = given(B2B)
    assert code_of(past.trail.pipeline_report, "b2b", tz=tz) == "invalid_tz"


def test_a_moment_may_be_asked_in_every_form():
    past = given(B2B, opening(1))
    end = datetime(2026, 2, 1, 22, 59, 59, 999_999, tzinfo=UTC)
    forms = ("2026-02-01", date(2026, 2, 1), end, "2026-02-01T23:59:59.999999+01:00", end.astimezone(HAVANA))
    found = {past.trail.pipeline_report("b2b", as_of=form, tz="Europe/Amsterdam").as_of for form in forms}
    assert found == {end}


def test_a_moment_later_than_now_is_taken_as_now_and_the_report_says_so():
    past = given(B2B, opening(1))
    report = past.trail.pipeline_report("b2b", as_of="2027-01-01", known_at=on(500))
    # The second step was recorded a microsecond after the first, on a clock that stands.
    assert (report.as_of, report.known_at) == (NOW + MICROSECOND, NOW + MICROSECOND)
    assert report.question["as_of"] == "2026-04-10T00:00:00.000001Z"
    past.clock.now = on(200)
    assert past.trail.pipeline_report("b2b").as_of == on(200)


def test_what_was_last_recorded_is_a_moment_that_stands_for_the_log_as_it_is(tmp_path):
    with Trail.open(tmp_path / "sales.db", clock=Clock(NOW)) as trail:
        assert trail.last_recorded_at() is None
        trail.record(B2B)
        assert trail.last_recorded_at() == NOW
        seen = []

        def meanwhile(done, of):
            """Asked between the moment at which a step is recorded and its commit."""
            seen.append(trail.last_recorded_at())
            seen.append(trail.pipeline_report("b2b", as_of=seen[0], known_at=seen[0]))

        trail.record_all([opening(1)], progress=meanwhile)
        assert trail.last_recorded_at() == NOW + MICROSECOND
        assert seen == [NOW, trail.pipeline_report("b2b", as_of=NOW, known_at=NOW)]


def test_an_event_at_exactly_the_moment_counts():
    past = given(B2B, opening(5), move(9, "qualified", recorded=on(150)))
    assert [past.deal(as_of=at) and past.deal(as_of=at).stage for at in (on(5) - MICROSECOND, on(5))] == [None, "lead"]
    assert [past.deal(as_of=on(9), known_at=at).stage for at in (on(150) - MICROSECOND, on(150))] == [
        "lead",
        "qualified",
    ]


# Periods


def test_the_last_day_of_all_is_later_than_now_in_the_west_too():
    past = given(B2B)
    assert past.trail.pipeline_report("b2b", as_of="9999-12-31", tz="America/New_York").as_of == NOW


def test_a_limit_of_many_decimals_is_not_rounded_to_a_whole_day():
    past = given(define(stage("lead", rots_after_days="0." + "9" * 30)), opening(99))
    assert past.row("lead", as_of=on(100) - MICROSECOND).stalled == 0
    assert past.row("lead", as_of=on(100)).stalled == 1


def period(text, tz="UTC", fiscal_year_start=1):
    return tuple(moment(end) for end in parse_period(text, ZoneInfo(tz), fiscal_year_start))


@pytest.mark.parametrize(
    ("text", "first", "until"),
    [
        ("2026", (2026, 1, 1), (2027, 1, 1)),
        ("2026-Q1", (2026, 1, 1), (2026, 4, 1)),
        ("2026-Q2", (2026, 4, 1), (2026, 7, 1)),
        ("2026-Q3", (2026, 7, 1), (2026, 10, 1)),
        ("2026-Q4", (2026, 10, 1), (2027, 1, 1)),
        ("2026-03", (2026, 3, 1), (2026, 4, 1)),
        ("2026-12", (2026, 12, 1), (2027, 1, 1)),
        ("2024-02", (2024, 2, 1), (2024, 3, 1)),
        ("2026-03-15", (2026, 3, 15), (2026, 3, 16)),
        ("2026-12-31", (2026, 12, 31), (2027, 1, 1)),
        ("2024-02-29", (2024, 2, 29), (2024, 3, 1)),
        ("2026-01-10..2026-02-03", (2026, 1, 10), (2026, 2, 3)),
        ("2026-01-10..2026-01-11", (2026, 1, 10), (2026, 1, 11)),
    ],
)
def test_a_period_is_a_year_a_quarter_a_month_a_day_or_two_dates(text, first, until):
    assert period(text) == (utc(*first), utc(*until))


@pytest.mark.parametrize(
    ("text", "first", "until"),
    [
        ("2026-W01", (2025, 12, 29), (2026, 1, 5)),  # the first of January 2026 is a Thursday
        ("2026-W09", (2026, 2, 23), (2026, 3, 2)),
        ("2026-W53", (2026, 12, 28), (2027, 1, 4)),
        ("2027-W01", (2027, 1, 4), (2027, 1, 11)),
        ("2020-W53", (2020, 12, 28), (2021, 1, 4)),
        ("2021-W01", (2021, 1, 4), (2021, 1, 11)),
    ],
)
def test_a_week_is_that_of_iso_8601(text, first, until):
    assert period(text) == (utc(*first), utc(*until))


@pytest.mark.parametrize(
    ("text", "start", "first", "until"),
    [
        ("2026", 4, (2025, 4, 1), (2026, 4, 1)),
        ("2026-Q1", 4, (2025, 4, 1), (2025, 7, 1)),
        ("2026-Q3", 4, (2025, 10, 1), (2026, 1, 1)),
        ("2026-Q4", 4, (2026, 1, 1), (2026, 4, 1)),
        ("2026", 12, (2025, 12, 1), (2026, 12, 1)),
        ("2026-Q1", 12, (2025, 12, 1), (2026, 3, 1)),
        ("2026", 2, (2025, 2, 1), (2026, 2, 1)),
        ("2026", 1, (2026, 1, 1), (2027, 1, 1)),
    ],
)
def test_a_fiscal_year_bears_the_number_of_the_year_in_which_it_ends(text, start, first, until):
    assert period(text, fiscal_year_start=start) == (utc(*first), utc(*until))


@pytest.mark.parametrize("text", ["2026-03", "2026-W09", "2026-03-15", "2026-01-10..2026-02-03"])
def test_a_fiscal_year_moves_years_and_quarters_only(text):
    assert period(text, fiscal_year_start=4) == period(text)


@pytest.mark.parametrize(
    ("text", "tz", "first", "until"),
    [
        ("2026-03", "Europe/Amsterdam", (2026, 2, 28, 23), (2026, 3, 31, 22)),
        ("2026-03-29", "Europe/Amsterdam", (2026, 3, 28, 23), (2026, 3, 29, 22)),
        ("2026-10-25", "Europe/Amsterdam", (2026, 10, 24, 22), (2026, 10, 25, 23)),
        ("2026-W13", "Europe/Amsterdam", (2026, 3, 22, 23), (2026, 3, 29, 22)),
        ("2026", "Asia/Kolkata", (2025, 12, 31, 18, 30), (2026, 12, 31, 18, 30)),
        ("2026-01-10..2026-07-01", "America/New_York", (2026, 1, 10, 5), (2026, 7, 1, 4)),
        ("2018-11-04", "America/Sao_Paulo", (2018, 11, 4, 3), (2018, 11, 5, 2)),  # its midnight is left out
        ("2018-02-17", "America/Sao_Paulo", (2018, 2, 17, 2), (2018, 2, 18, 3)),  # its last hour comes twice
        ("2025-11-02", "America/Havana", (2025, 11, 2, 4), (2025, 11, 3, 5)),  # its first hour comes twice
    ],
)
def test_a_period_begins_and_ends_at_the_midnights_of_the_zone(text, tz, first, until):
    assert period(text, tz) == (utc(*first), utc(*until))


@pytest.mark.parametrize(
    "text",
    [
        "2026-Q5",
        "2026-Q0",
        "2026-Q",
        "2026-q1",
        "2026-W60",
        "2026-W54",
        "2026-W00",
        "2025-W53",
        "2026-W9",
        "2026-13",
        "2026-00",
        "2026-3",
        "2026-02-29",
        "2026-02-30",
        "2026-03-00",
        "26",
        "02026",
        "",
        " 2026",
        "2026\n",
        "last year",
        "2026-01-10..2026-01-10",
        "2026-01-11..2026-01-10",
        "2026-01-10..",
        "..2026-01-10",
        "2026-01..2026-02",
        "2026-01-10..2026-02-03..2026-03-01",
        "2026-01-10T00:00:00Z..2026-02-03T00:00:00Z",
        "2026-Q1..2026-Q2",
        "0000",
        "9999",
        2026,
        None,
        date(2026, 1, 1),
    ],
    ids=repr,
)
def test_what_is_no_period_is_refused(text):
    past = given(B2B)
    assert code_of(past.trail.funnel_report, "b2b", cohort=text) == "invalid_period"


@pytest.mark.parametrize("start", [0, 13, "4", 4.0, True, None])
def test_a_fiscal_year_begins_with_a_month(start):
    past = given(B2B)
    assert code_of(past.trail.funnel_report, "b2b", cohort="2026", fiscal_year_start=start) == "invalid_field"


def test_a_period_holds_its_first_moment_and_not_its_last():
    past = given(B2B)
    for number, at in enumerate((on(1) - MICROSECOND, on(1), on(32) - MICROSECOND, on(32))):
        past.when(opening(at, deal=f"D{number}"))
    assert past.trail.funnel_report("b2b", cohort="2026-01").total.cohort == 2
    report = past.trail.funnel_report("b2b", cohort="2026-01")
    assert [view.deal for view in past.trail.deals(report, field="cohort")] == ["D1", "D2"]


def test_a_report_says_from_when_until_when_its_cohort_was_opened():
    past = given(B2B)
    cohort = past.trail.funnel_report("b2b", cohort="2026-Q4", tz="Europe/Amsterdam", fiscal_year_start=4).cohort
    assert (cohort.from_, cohort.until) == (utc(2025, 12, 31, 23), utc(2026, 3, 31, 22))


# Shares, days, medians


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 7, 0.0),
        (7, 7, 1.0),
        (1, 3, 0.3333),
        (2, 3, 0.6667),
        (1, 32, 0.0312),  # 0.03125
        (3, 32, 0.0938),  # 0.09375
        (1, 16, 0.0625),
        (1, 20_000, 0.0),  # 0.00005
        (3, 20_000, 0.0002),  # 0.00015
        (1, 19_999, 0.0001),
        (19_999, 20_000, 1.0),  # 0.99995
    ],
)
def test_a_share_is_rounded_half_to_even_to_four_decimals(part, whole, expected):
    assert share(part, whole) == expected


def test_a_share_of_nothing_is_null():
    assert share(0, 0) is None


@pytest.mark.parametrize(
    ("exact", "expected"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("0.125", 0.12),
        ("0.375", 0.38),
        ("1.005", 1.0),  # as a binary number 1.005 is less than that, 1.015 more
        ("1.015", 1.02),
        ("2.675", 2.68),
        ("0.005", 0.0),
        ("0.0050000001", 0.01),
        ("10000.125", 10000.12),
    ],
)
def test_days_are_rounded_half_to_even_to_two_decimals(exact, expected):
    assert days(Fraction(exact) * DAY) == expected


def test_a_microsecond_more_than_half_a_hundredth_of_a_day_rounds_up():
    half = DAY // 200
    assert [days(Fraction(half + more)) for more in (-1, 0, 1)] == [0.0, 0.0, 0.01]


def test_a_day_is_86400_seconds_also_where_the_clocks_change():
    assert (
        instant(datetime(2026, 3, 30, tzinfo=AMSTERDAM)) - instant(datetime(2026, 3, 29, tzinfo=AMSTERDAM))
        == DAY * 23 // 24
    )


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([7], "1/2", "7"),
        ([7], "9/10", "7"),
        ([1, 2], "1/2", "3/2"),
        ([1, 2, 4, 9], "1/2", "3"),
        ([1, 2, 9], "1/2", "2"),
        ([1, 2, 3, 4], "9/10", "37/10"),  # place 0.9 × 3 = 2.7
        ([1, 5], "9/10", "23/5"),  # 1 + 0.9 × 4
        (list(range(11)), "9/10", "9"),
        ([0, 0, 0, 10], "9/10", "7"),  # 0 + 0.7 × 10
    ],
)
def test_a_quantile_is_interpolated_between_the_nearest_two(values, q, expected):
    assert quantile(values, Fraction(q)) == Fraction(expected)


def test_a_quantile_of_nothing_is_nothing():
    assert quantile([], Fraction(1, 2)) is None


def test_days_to_pass_are_medians_and_ninetieth_percentiles_of_exact_spans():
    past = given(B2B)
    for number, passed in enumerate((on(2), on(3), on(4), on(5, 12))):
        past.when(opening(1, deal=f"D{number}"), move(passed, "qualified", deal=f"D{number}"))
    first, second, _ = past.trail.funnel_report("b2b", cohort="2026-01").stages
    # 1, 2, 3 and 4.5 days: the median is 2.5, the 90th percentile 3 + 0.7 × 1.5 = 4.05.
    assert (first.median_days_to_pass, first.p90_days_to_pass) == (2.5, 4.05)
    assert (second.median_days_to_pass, second.p90_days_to_pass) == (None, None)


def test_shares_that_would_divide_by_zero_are_null():
    past = given(B2B)
    report = past.trail.funnel_report("b2b", cohort="2026-01")
    assert [(row.conversion_from_start, row.conversion_to_next) for row in report.stages] == [(None, None)] * 3
    assert (report.total.cohort, report.total.win_rate, report.total.close_rate) == (0, None, None)


def test_a_median_over_no_deals_is_null():
    past = given(B2B, opening(1), win(5))
    assert past.row("lead").median_days_in_stage is None


def test_a_deal_is_stalled_when_its_days_exceed_those_of_the_stage():
    past = given(define(stage("lead", rots_after_days=2.5), "next"), opening(1), opening(1, deal="E", stage="next"))
    assert [past.row("lead", as_of=at).stalled for at in (on(3, 12), on(3, 12) + MICROSECOND)] == [0, 1]
    assert past.row("next").stalled == 0


# Filters and groups


@pytest.mark.parametrize(
    "where",
    [
        {"title": "Roof"},
        {"stage": "lead"},
        {"value": "5"},
        {"attributes.": 1},
        {"attributes": 1},
        {"owner": ["anna"]},
        {"owner": {"eq": "anna"}},
        {7: "anna"},
        "owner",
        [("owner", "anna")],
    ],
    ids=repr,
)
def test_a_filter_is_a_map_of_known_fields_to_values(where):
    past = given(B2B)
    assert code_of(past.trail.pipeline_report, "b2b", where=where) == "invalid_where"
    assert code_of(past.trail.funnel_report, "b2b", cohort="2026", where=where) == "invalid_where"


@pytest.mark.parametrize(
    "group_by", ["title", "stage", "value", "attributes.", ("owner", "owner"), (7,), ("owner", "by")]
)
def test_groups_are_made_by_known_fields_each_once(group_by):
    past = given(B2B)
    assert code_of(past.trail.pipeline_report, "b2b", group_by=group_by) == "invalid_group_by"
    assert code_of(past.trail.funnel_report, "b2b", cohort="2026", group_by=group_by) == "invalid_group_by"


def test_a_deal_that_was_never_opened_or_not_yet_known_cannot_be_asked_for():
    past = given(B2B, opening(1), log(2))
    for ask in (past.trail.deal, past.trail.history):
        assert code_of(ask, "E") == "unknown_deal"
        assert code_of(ask, "D", known_at=NOW) == "unknown_deal"
