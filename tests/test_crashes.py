"""Writers killed in the middle of a step: what was acknowledged is there, whole, and nothing is half there."""

from random import Random

import crashing
import doomed
import pytest

from dealtrail import Trail

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


def test_what_a_killed_rebuild_left_goes_with_the_next(tmp_path):
    path = tmp_path / "sales.db"
    with Trail.open(path) as trail:
        trail.record(doomed.DEFINITION)
        for _ in range(4):
            trail.rebuild()
        for left in ("sales.db.read-1", "sales.db.read-2-wal", "sales.db.read-5"):  # as after the switch, or before it
            (tmp_path / left).write_bytes(b"half")
        trail.rebuild()
        assert trail.pipeline_report("b2b").position == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "sales.db", "sales.db.read", "sales.db.read-4", "sales.db.read-5",
    ]  # fmt: skip


@pytest.mark.slow
def test_five_hundred_killed_writers_lose_nothing_that_was_acknowledged(tmp_path, report_line):
    found, all_of_them = crashed(500, tmp_path, "five hundred")
    for kind, figures in found.items():
        report_line(f"killed in a {kind}: {figures}")
    report_line(f"killed writers: {all_of_them}")
    assert all_of_them.rounds == 500
    assert all_of_them.hits >= crashing.ENOUGH * all_of_them.rounds
