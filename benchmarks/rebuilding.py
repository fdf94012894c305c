"""The rebuild of the read model: against writing its very rows, the library's way, other workloads, and in memory."""

import os
import sqlite3
from pathlib import Path

from benchmarks.child import PROJECTED, Measured, measured
from benchmarks.harness import Figure, figure
from benchmarks.peers import PRAGMAS
from benchmarks.stores import store

_ROUNDS = 5
_OURS = "ours: Trail.rebuild() whole, in a process of its own"


def events_in(path: Path) -> int:
    """How many events a log holds."""
    with sqlite3.connect(path) as c:
        count: int = c.execute("SELECT max(position) FROM event").fetchone()[0]
    return count


def run(size: str) -> list[Figure]:
    """Every line of the table about rebuilding."""
    path, smaller = store(size), store("M" if size != "S" else "S")
    events = events_in(path)
    cores = len(os.sched_getaffinity(0))
    sides: dict[str, tuple[int, str, Path]] = {"one core": (1, "rebuild", path), "rewrite": (1, "rewrite", path)}
    if size == "S":  # what is about one event, whatever the size, and what more cores give
        sides["project"] = (1, "project", path)
        sides["project relaxed"] = (1, "project-relaxed", path)
        sides["all cores"] = (cores, "rebuild", path)
    if size == "M":
        sides["backdated"] = (1, "rebuild", store("H"))
    if smaller != path:
        sides["smaller"] = (1, "rebuild", smaller)
    found: dict[str, list[Measured]] = {name: [] for name in sides}
    for number in range(_ROUNDS):
        for name in sides if number % 2 == 0 else reversed(sides):
            found[name].append(measured(*sides[name]))
    seconds = {name: [one.seconds for one in runs] for name, runs in found.items()}
    pragmas = ", ".join(PRAGMAS)
    setting = (
        f"{_OURS}; theirs: scan and decode of the log, executemany of ready lists in one transaction, indexes after"
        f" the rows, checkpoint; {pragmas} on both sides"
    )
    what, peer = "rebuild", "scan + decode + executemany of the very rows and indexes"
    per_event = [s / events * 1e6 for s in seconds["one core"]]
    figures = [
        figure("rebuild", what, f"{peer}, both on one core", size, "≤ 2×", setting, seconds["one core"],
               seconds["rewrite"], "s")
    ]  # fmt: skip
    if size == "S":
        projected = {side: [s / PROJECTED * 1e6 for s in seconds[side]] for side in ("project", "project relaxed")}
        library = (
            f"{_OURS}, one core; theirs: {PROJECTED:,} events, select_notifications into a Projection with a SQLite"
        )
        figures += [
            figure("rebuild-library", "rebuild, per event", "the library's way, as it comes: one transaction per event",
                   size, "≥ 25× faster", f"{library} tracking recorder, journal_mode=WAL, synchronous=FULL", per_event,
                   projected["project"], "µs"),
            figure("rebuild-library-relaxed", "rebuild, per event", "the library's way, its commits not synced", size,
                   "", f"{library} tracking recorder, {pragmas}", per_event, projected["project relaxed"], "µs"),
            figure("rebuild-cores", f"rebuild on {cores} cores", f"{peer}, on one core", size, "", setting,
                   seconds["all cores"], seconds["rewrite"], "s"),
        ]  # fmt: skip
    if "backdated" in sides:
        others = events_in(sides["backdated"][2])
        figures.append(
            figure("rebuild-backdated", "rebuild, 30 % backdated by months, per event", "itself at M", "H", "≤ 1.5×",
                   f"{_OURS}, one core", [s / others * 1e6 for s in seconds["backdated"]],
                   per_event, "µs")
        )  # fmt: skip
    peaks = {name: [one.peak_bytes / 1e6 for one in runs] for name, runs in found.items()}
    timed = "peak resident memory of the process, imports and all, on one core"
    figures.append(figure("rebuild-memory", "peak memory of a rebuild", "", size, "< 400 MB", timed,
                          peaks["one core"], None, "MB"))  # fmt: skip
    if "smaller" in sides:
        figures.append(figure("rebuild-memory-growth", "peak memory of a rebuild", "itself at M", size, "≤ 1.5×", timed,
                              peaks["one core"], peaks["smaller"], "MB"))  # fmt: skip
    return figures
