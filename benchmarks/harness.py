"""How a figure is made: two things timed in turn in one run, medians over rounds, their ratio beside its bar."""

import gc
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from statistics import median
from time import perf_counter, process_time
from typing import Any

import msgspec

ROUNDS = 7
# Where others use the machine too, the processor time of this process says more than the time that went by; it leaves
# out what a disk takes, and adds up what the threads of a peer take.
BY_CPU = os.environ.get("DEALTRAIL_BENCH_CLOCK") == "cpu"
timer = process_time if BY_CPU else perf_counter


class Figure(msgspec.Struct, frozen=True):
    """One line of the table: `ratio` (or `ours`, where there is no peer) is what the bar is about.

    `ours` and `theirs` are medians in `unit`, over `rounds`; `bar` such as `≤ 1.5×`, `met` None where there is none;
    `timed` says what lies within the timed region and how either side is set.
    """

    row: str
    what: str
    against: str
    size: str
    bar: str
    met: bool | None
    ratio: float | None
    ours: float
    theirs: float | None
    unit: str
    rounds: int
    timed: str


def machine() -> str:
    """By what clock, beside what load and on what all was run."""
    cores = len(os.sched_getaffinity(0))
    names = ("eventsourcing", "msgspec", "sqlite-utils")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    python = f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}"
    clock = "processor time" if BY_CPU else "wall time"
    load = os.getloadavg()[0]
    return f"{clock}, load {load:.1f}; {platform.system()} {platform.machine()}, {cores} cores; {python}; {packages}"


def alternate(rounds: int, *sides: Callable[[int], Any]) -> list[list[float]]:
    """The milliseconds of each side in each round: the sides take turns, and who comes first changes."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        order = list(enumerate(sides))
        for index, side in order if number % 2 == 0 else reversed(order):
            gc.collect()
            begun = timer()
            side(number)
            times[index].append((timer() - begun) * 1_000)
    return times


def figure(
    row: str,
    what: str,
    against: str,
    size: str,
    bar: str,
    timed: str,
    ours: Iterable[float],
    theirs: Iterable[float] | None = None,
    unit: str = "ms",
) -> Figure:
    """A line of the table from the samples of both sides. A bar that begins with ≥ is about theirs ÷ ours."""
    own, other = list(ours), list(theirs or ())
    mine, peer = median(own), median(other) if other else None
    ratio = None
    if peer is not None:
        ratio = peer / mine if bar.startswith("≥") and bar.endswith("faster") else mine / peer
    met = _met(bar, mine if ratio is None else ratio)
    line = Figure(row, what, against, size, bar, met, ratio, mine, peer, unit, len(own), timed)
    print("  " + shown(line), flush=True)
    return line


def _met(bar: str, value: float) -> bool | None:
    if not bar or bar[0] not in "≤≥<":
        return None
    limit = float(bar[1:].split()[0].replace("×", "").replace(",", ""))
    return value <= limit if bar[0] == "≤" else value < limit if bar[0] == "<" else value >= limit


def shown(line: Figure) -> str:
    """A line of the table as text for a terminal."""
    verdict = {True: "met", False: "MISSED", None: ""}[line.met]
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}×"
    peer = "" if line.theirs is None else f" against {number(line.theirs)} {line.unit}"
    return (
        f"{line.size:>2} {line.what} | {line.against}: {ratio} ({number(line.ours)} {line.unit}{peer})"
        f" {line.bar} {verdict}"
    )


def number(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
