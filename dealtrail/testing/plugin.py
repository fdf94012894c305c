"""Fixtures for pytest: a clock to set, and a trail in memory that stands by it.

Name it in the conftest.py at the root of your tests; a project that does not, pays and sees nothing:

    pytest_plugins = ["dealtrail.testing.plugin"]
"""

from collections.abc import Iterator

import pytest

from dealtrail.testing import Clock
from dealtrail.trail import Trail


@pytest.fixture
def trail_clock() -> Clock:
    """The clock of `trail`; it stands at `dealtrail.testing.NOW` until it is set."""
    return Clock()


@pytest.fixture
def trail(trail_clock: Clock) -> Iterator[Trail]:
    """An empty trail in memory, closed after the test. To begin with a past, override it and record one."""
    with Trail.open(":memory:", clock=trail_clock) as opened:
        yield opened
