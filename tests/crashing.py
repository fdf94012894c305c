"""Writers that are killed at a uniform point of a measured step, and the search for anything that they left half done.

A child process takes one step after the other: a record, a batch, an import or a rebuild. What a step acknowledged it
appends to a witness file before it takes the next. Its parent kills it in the middle of a step, at a moment drawn
evenly from the time that such a step was measured to take, and then holds the file against the witness and the model.
"""

import json
import os
import signal
import sqlite3
import struct
import sys
import traceback
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import groupby
from mmap import mmap
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, sleep

from comparing import figures
from naive_model import Model

from dealtrail import Trail
from dealtrail.domain.times import instant, moment
from dealtrail.store import connections, recording

ACTIONS = {"record": 1, "batch": 40, "import": 150, "rebuild": 1}  # of one step of each kind
COMMITTED_AT_ONCE = 50  # by an import here, so that one is of several commits
MEASURED_STEPS = 7
ROUNDS_PER_STORE = 5
ENOUGH = 0.3  # of the rounds inside an open transaction; fewer, and the harness has shown little
PATIENCE_SECONDS = 60

STAGES = [
    {"key": key, "name": key.title(), "probability": chance}
    for key, chance in (("lead", "0.1"), ("qualified", "0.3"), ("proposal", "0.5"))
]
DEFINITION = {"action": "define_pipeline", "pipeline": "b2b", "stages": STAGES}


def action(number):
    """The action of that number, from 0: four for each deal, spread over those that are opened meanwhile."""
    turn, place = divmod(number, 8)
    deal = f"D{2 * turn + place % 2}"
    value = {"amount": f"{number}.25", "currency": "EUR"}
    return (
        {"action": "open_deal", "deal": deal, "pipeline": "b2b", "owner": ("anna", "bob")[turn % 2], "value": value},
        {"action": "move_deal", "deal": deal, "stage": ("qualified", "proposal")[turn % 2]},
        {"action": "change_value", "deal": deal, "value": value},
        {"action": ("win_deal", "lose_deal", "log_activity")[turn % 3], "deal": deal}
        | ({"kind": "call", "note": "x" * 200} if turn % 3 == 2 else {}),
    )[place // 2]


class Board:
    """What a child shows of itself, in memory that outlives it.

    How many steps it began and when the last of them began, how many transactions to write it has open, and how many
    seconds its last step took.
    """

    _FORM = struct.Struct("QdQd")

    def __init__(self):
        self._memory = mmap(-1, self._FORM.size)

    @property
    def begun(self):
        return self._FORM.unpack(self._memory)[0]

    @property
    def began_at(self):
        return self._FORM.unpack(self._memory)[1]

    @property
    def open(self):
        return self._FORM.unpack(self._memory)[2]

    @property
    def seconds(self):
        return self._FORM.unpack(self._memory)[3]

    def show(self, *, begun=None, began_at=None, open=None, seconds=None):
        given = zip((begun, began_at, open, seconds), self._FORM.unpack(self._memory), strict=True)
        self._memory[:] = self._FORM.pack(*(old if new is None else new for new, old in given))


# The child


def work(kind, path, witness, board):
    """Take steps until killed."""
    show_transactions(board)
    recording._STEPS_PER_COMMIT = COMMITTED_AT_ONCE
    trail = Trail.open(path)
    number = trail.status().position - 1  # one event for each action, after the definition
    out = os.open(witness, os.O_WRONLY | os.O_APPEND)

    def acknowledge(number, positions):
        os.write(out, f"{json.dumps([number, positions])}\n".encode())

    for begun in range(1, sys.maxsize):
        actions = [action(number + n) for n in range(ACTIONS[kind])]
        if kind == "rebuild":  # with something new to fold
            acknowledge(number, [trail.record(actions[0]).position])
        began_at = perf_counter()
        board.show(begun=begun, began_at=began_at)
        if kind == "record":
            positions = [trail.record(actions[0]).position]
        elif kind == "batch":
            positions = [done.position for done in trail.record_all(actions)]
        elif kind == "import":
            for place, line in enumerate(trail.record_each(actions)):
                acknowledge(number + place, [line.recorded.position])
        else:
            trail.rebuild()
        board.show(seconds=perf_counter() - began_at)
        if kind in ("record", "batch"):
            acknowledge(number, positions)
        os.fsync(out)
        number += len(actions)


def show_transactions(board):
    """Show on the board how many transactions are open: from when the write lock is held until the commit is through."""

    class Shown(connections._Transaction):
        def __enter__(self):
            cursor = super().__enter__()
            board.show(open=board.open + bool(self.commit))
            return cursor

        def __exit__(self, *raised):
            try:
                super().__exit__(*raised)
            finally:
                board.show(open=board.open - bool(self.commit))

    connections._Transaction = Shown


class Child:
    """A forked process that works, and its board."""

    def __init__(self, kind, path, witness):
        self.board = Board()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                work(kind, path, witness, self.board)
            except BaseException:
                traceback.print_exc()
            os._exit(1)

    def wait_for_step(self, number):
        """Wait until a step has begun."""
        deadline = perf_counter() + PATIENCE_SECONDS
        while self.board.begun < number:
            assert perf_counter() < deadline and os.waitpid(self._pid, os.WNOHANG) == (0, 0), "the writer has stopped"
            sleep(0.00005)

    def kill(self):
        """Kill it, and say whether it was inside an open transaction."""
        os.kill(self._pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]) == -signal.SIGKILL, "the writer ended by itself"
        return self.board.open > 0


def measured(kind, path, witness):
    """How long a step takes: the median of a few, which stay in the store."""
    child, took = Child(kind, path, witness), []
    for number in range(1, MEASURED_STEPS + 1):
        child.wait_for_step(number + 1)
        took.append(child.board.seconds)
    child.kill()
    return median(took)


# The parent


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
            f"{self.kept} with a step kept whole that was not acknowledged yet, {self.events} events, {self.bytes} bytes, "
            f"{self.seconds:.1f} s"
        )


class Store:
    """One store, its witness, and the model of what must be in it."""

    def __init__(self, folder):
        self.path = str(folder / "sales.db")
        self.witness = folder / "witness"
        self.witness.touch()
        self.model = Model()
        with Trail.open(self.path) as trail:
            trail.record(DEFINITION)

    def check(self, kind):
        """Reopen the store and find in it every acknowledged step and nothing half; say whether one in flight is there too."""
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
        with open(self.witness, "a") as witness:  # what was kept is kept from here on
            for position in range(len(acknowledged) + 2, len(rows) + 1):
                witness.write(f"{json.dumps([position - 2, [position]])}\n")
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
        return sum(file.stat().st_size for file in Path(self.path).parent.iterdir())


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
