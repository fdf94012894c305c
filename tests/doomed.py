"""A writer that is to be killed: it takes one step after the other, and says on a board what it is about.

A step is a record, a batch, an import or a rebuild. What it acknowledged is appended to a witness file before the next.
"""

import json
import os
import signal
import struct
import sys
import traceback
from mmap import mmap
from time import perf_counter, sleep

from dealtrail import Trail
from dealtrail.store import connections, recording

ACTIONS = {"record": 1, "batch": 40, "import": 90, "rebuild": 1}  # of one step of each kind
COMMITTED_AT_ONCE = 30  # by an import here, so that one is of several commits
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
    """Show how many transactions are open: from when the write lock is held until the commit is through."""

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
            assert perf_counter() < deadline, "the writer has stopped"
            assert os.waitpid(self._pid, os.WNOHANG) == (0, 0), "the writer ended by itself"
            sleep(0.00005)

    def kill(self):
        """Kill it, and say whether it was inside an open transaction."""
        os.kill(self._pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]) == -signal.SIGKILL, "the writer ended by itself"
        return self.board.open > 0
