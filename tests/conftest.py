"""Stores on disk for the tests of the command line."""

import pytest
from shop import PAST, Shop

from dealtrail import Trail


@pytest.fixture
def shop(tmp_path):
    """A store with a past."""
    made = Shop(tmp_path)
    with Trail.open(made.path) as trail:
        trail.record_all(PAST)
    return made


@pytest.fixture
def empty(tmp_path):
    """A folder without a store."""
    return Shop(tmp_path)


_LINES = pytest.StashKey[list]()


@pytest.fixture
def report_line(request):
    """Say something at the end of the run: figures that a reader of the tests should see."""
    return request.config.stash.setdefault(_LINES, []).append


def pytest_terminal_summary(terminalreporter, config):
    """Print what tests had to say."""
    for line in config.stash.get(_LINES, []):
        terminalreporter.write_line(line)
