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
