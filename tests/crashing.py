"""Writers that are killed at a uniform point of a measured step, and the search for anything that they left half done.

The writer is killed in the middle of a step, at a moment drawn evenly from the time that such a step was just measured
to take. Then the file is held against the witness of what was acknowledged, and its reports against the model's.
"""

import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import groupby
from statistics import median
from time import perf_counter

from comparing import figures
from doomed import ACTIONS, COMMITTED_AT_ONCE, DEFINITION, Child, action
from naive_model import Model

from dealtrail import Trail
from dealtrail.domain.times import instant, moment

MEASURED_STEPS = 7
ROUNDS_PER_STORE = 5
ENOUGH = 0.3  # of the rounds inside an open transaction; fewer, and the harness has shown little


def measured(kind, path, witness):
    """How long a step takes: the median of a few, which stay in the store."""
    child, took = Child(kind, path, witness), []
    for number in range(1, MEASURED_STEPS + 1):
        child.wait_for_step(number + 1)
        took.append(child.board.seconds)
    child.kill()
    return median(took)


@dataclass
class Figures:
    """What was done: rounds, those of them inside an open transaction, those that kept what was in flight, …"""

    rounds: int = 0
    hits: int = 0
    kept: int = 0
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def __add__(self, other):
        return Figures(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __str__(self):
        return (
            f"{self.rounds} rounds, {self.hits} hits inside an open transaction ({self.hits / self.rounds:.0%}), "
            f"{self.kept} with a step kept whole that was not acknowledged yet, {self.events} events, "
            f"{self.bytes} bytes, {self.seconds:.1f} s"
        )


class Store:
    """One store, its witness, and the model of what must be in it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = str(folder / "sales.db")
        self.witness = folder / "witness"
        self.witness.touch()
        self.model = Model()
        with Trail.open(self.path) as trail:
            trail.record(DEFINITION)

    def check(self, kind):
        """Find in the store every acknowledged step and nothing half; say whether one in flight is there too."""
        rows, acknowledged = self._rows(), self._acknowledged()
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        expected = [("pipeline:b2b", 1)] + [(f"deal:{action(n)['deal']}", n % 8 // 2 + 1) for n in range(len(rows) - 1)]
        assert [row[1:3] for row in rows] == expected
        assert acknowledged == list(range(2, len(acknowledged) + 2))
        more = len(rows) - 1 - len(acknowledged)
        # The steps of one commit of an import are acknowledged one by one after it.
        whole = COMMITTED_AT_ONCE if kind == "import" else ACTIONS[kind]
        assert (len(rows) - 1) % whole == 0, f"{len(rows) - 1} events are no whole number of commits of {whole}"
        assert 0 <= more <= whole, f"{more} events that were not acknowledged, but only {whole} were in flight"
        self._follow(rows, ACTIONS["batch"] if kind == "batch" else 1)
        self._compare()
        generations = [name for name in os.listdir(self.folder) if re.fullmatch(r"sales\.db\.read-\d+", name)]
        assert len(generations) <= 3, f"a killed rebuild left its file for good: {generations}"
        self.witness.write_text(f"{json.dumps([0, [row[0] for row in rows[1:]]])}\n")  # what is kept stays kept
        return more > 0

    def _rows(self):
        with closing(sqlite3.connect(self.path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return db.execute(
                "SELECT position, originator_id, originator_version, recorded_at FROM event ORDER BY position"
            ).fetchall()

    def _acknowledged(self):
        """The positions in the witness. A line of it that was cut off is of a step that was not acknowledged yet."""
        positions = []
        for line in self.witness.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                number, of_step = json.loads(line)
                assert number == len(positions)
                positions += of_step
        return positions

    def _follow(self, rows, size):
        """Let the model record what is new, each step at the moment that the store gave it."""
        known = len(self.model.events)
        for recorded_at, step in groupby(rows[known:], key=lambda row: row[3]):
            numbers = [row[0] - 2 for row in step]
            assert len(numbers) == (size if numbers[0] >= 0 else 1)
            actions = [action(number) if number >= 0 else DEFINITION for number in numbers]
            results = self.model.record_all(actions, moment(recorded_at))
            assert [result["position"] - 2 for result in results] == numbers
            assert instant(self.model.events[-1]["recorded_at"]) == recorded_at

    def _compare(self):
        """The reports of the reopened store, now and halfway, are the model's."""
        last, halfway = (self.model.events[n]["recorded_at"] for n in (-1, len(self.model.events) // 2))
        with Trail.open(self.path) as trail:
            for at in (last, halfway):
                moments = {"as_of": at, "known_at": at}
                found = trail.pipeline_report("b2b", group_by="owner", **moments)
                assert figures(found) == self.model.pipeline_report("b2b", clock=last, group_by=["owner"], **moments)
                year = str(at.year)
                found = trail.funnel_report("b2b", cohort=year, **moments)
                assert figures(found) == self.model.funnel_report("b2b", clock=last, cohort=year, **moments)

    def size(self):
        return sum(file.stat().st_size for file in self.folder.iterdir())


def crash(kind, rounds, folder, rnd):
    """Kill writers of a kind, each in the middle of a step, and check what is left."""
    began, done = perf_counter(), Figures()
    for first in range(0, rounds, ROUNDS_PER_STORE):
        place = folder / f"{kind}-{first}"
        place.mkdir()
        store = Store(place)
        seconds = measured(kind, store.path, store.witness)
        store.check(kind)
        for _ in range(min(ROUNDS_PER_STORE, rounds - first)):
            child = Child(kind, store.path, store.witness)
            child.wait_for_step(rnd.randint(2, 4))
            killed_at = child.board.began_at + rnd.uniform(0, seconds)
            while perf_counter() < killed_at:  # more exact than sleeping
                pass
            hit = child.kill()
            done += Figures(rounds=1, hits=hit, kept=store.check(kind))
        done += Figures(events=len(store.model.events), bytes=store.size())
    return done + Figures(seconds=perf_counter() - began)
