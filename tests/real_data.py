"""Where the real data lies that some tests read, and the shares and days that they work out from its rows."""

import os
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DEALTRAIL_DATA", Path(__file__).parents[1] / "../shared/data"))


def needs(name):
    """Skip every test of a module, saying so, where a folder of the data is missing."""
    return pytest.mark.skipif(
        not (DATA / name).is_dir(), reason=f"the data set {name} is not there; set DEALTRAIL_DATA to its folder"
    )


def decimals(exact, places):
    """An exact fraction rounded half to even to some decimals, as a float."""
    quotient = Decimal(exact.numerator) / Decimal(exact.denominator)
    return float(quotient.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN))


def share(part, whole):
    """part ÷ whole to four decimals."""
    return decimals(Fraction(part, whole), 4) if whole else None


def days_at(spans, q):
    """The q-quantile of some timedeltas by linear interpolation, in days to two decimals."""
    if not spans:
        return None
    ordered = sorted(Fraction(span.days * 86_400 * 10**6 + span.seconds * 10**6 + span.microseconds) for span in spans)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    exact = ordered[low] + (place - low) * (ordered[high] - ordered[low])
    return decimals(exact / (86_400 * 10**6), 2)
