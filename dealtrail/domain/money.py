"""Money: a decimal amount with its currency, and the exact arithmetic of sums."""

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from dealtrail.domain.errors import error
from dealtrail.domain.texts import plain_name

# ISO 4217: the active currencies that have a minor unit, by the number of its digits.
_MINOR_UNITS: dict[int, str] = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
    "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL "
    "HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU "
    "MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR "
    "SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED "
    "VES WST XAD XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
CURRENCIES: dict[str, int] = {code: digits for digits, codes in _MINOR_UNITS.items() for code in codes.split()}

_AMOUNT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", re.ASCII)
# Wide enough for any sum of amounts times a probability: nothing is rounded before the end.
_EXACT = Context(prec=200)


class Money(msgspec.Struct, frozen=True, gc=False):
    """An amount in a currency, such as `Money(Decimal("1200.50"), "EUR")`."""

    amount: Decimal
    currency: str


def money(given: object, field: str = "value") -> Money:
    """Money as it came in, `{"amount": "1200.50", "currency": "EUR"}`, checked.

    Errors: missing_field, unknown_field, invalid_amount (a number, an exponent, too many digits), unknown_currency.
    """
    if isinstance(given, Money):
        if not isinstance(given.amount, Decimal):
            raise error("invalid_amount", f"{field}.amount", given=given.amount)
        given = {"amount": given.amount, "currency": given.currency}
    if not isinstance(given, Mapping):
        raise error("invalid_field", field, why='give {"amount": "1200.50", "currency": "EUR"}')
    for name in ("amount", "currency"):
        if name not in given:
            raise error("missing_field", f"{field}.{name}")
    for name in given:
        if name not in ("amount", "currency"):
            raise error("unknown_field", f"{field}.{plain_name(name, field)}"[:100])
    amount, currency = given["amount"], given["currency"]
    if isinstance(amount, Decimal) and amount.is_finite() and abs(amount.adjusted()) < 100:
        amount = format(amount, "f")
    if not (isinstance(amount, str) and _AMOUNT.fullmatch(amount)):
        raise error("invalid_amount", f"{field}.amount", given=amount)
    if not (isinstance(currency, str) and currency in CURRENCIES):
        raise error("unknown_currency", f"{field}.currency", given=currency)
    return Money(Decimal(amount), str.__str__(currency))


def rounded(amount: Decimal, currency: str) -> Decimal:
    """A sum rounded half to even to the currency's minor unit; zero has no sign.

    A currency that was withdrawn since its events were recorded is shown with two digits.

    >>> rounded(Decimal("2.345"), "EUR"), rounded(Decimal("-0.4"), "JPY")
    (Decimal('2.34'), Decimal('0'))
    """
    unit = Decimal(1).scaleb(-CURRENCIES.get(currency, 2))
    result = amount.quantize(unit, rounding=ROUND_HALF_EVEN, context=_EXACT)
    return result if result else abs(result)


def millionths(amount: Decimal) -> int:
    """An amount in millionths of its unit: whole, since an amount has at most six decimals."""
    return int(amount.scaleb(6, _EXACT))


def of_millionths(count: int) -> Decimal:
    """An amount from its millionths, exact."""
    return Decimal(count).scaleb(-6, _EXACT)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = _EXACT.add(result, amount)
    return result


def times(amount: Decimal, factor: Decimal) -> Decimal:
    """The exact product."""
    return _EXACT.multiply(amount, factor)
