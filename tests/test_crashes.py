"""Writers killed in the middle of a step: what was acknowledged is there, whole, and nothing is half there."""

from random import Random

import crashing
import pytest

KINDS = tuple(crashing.ACTIONS)


def crashed(rounds, folder, seed):
    """Kill writers of every kind, and give the figures of each and of all."""
    found = {kind: crashing.crash(kind, rounds // len(KINDS), folder, Random(f"{seed} {kind}")) for kind in KINDS}
    return found, sum(found.values(), crashing.Figures())


def test_a_store_whose_writer_was_killed_has_every_acknowledged_step_and_nothing_half(tmp_path, report_line):
    _, all_of_them = crashed(20, tmp_path, "twenty")
    report_line(f"killed writers: {all_of_them}")
    assert all_of_them.rounds == 20
    assert all_of_them.hits >= crashing.ENOUGH * all_of_them.rounds


@pytest.mark.slow
def test_five_hundred_killed_writers_lose_nothing_that_was_acknowledged(tmp_path, report_line):
    found, all_of_them = crashed(500, tmp_path, "five hundred")
    for kind, figures in found.items():
        report_line(f"killed in a {kind}: {figures}")
    report_line(f"killed writers: {all_of_them}")
    assert all_of_them.rounds == 500
    assert all_of_them.hits >= crashing.ENOUGH * all_of_them.rounds
