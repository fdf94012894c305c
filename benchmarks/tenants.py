"""`python -m benchmarks.tenants [STORES] [OPEN]`: what a pool of stores costs; 1,000 stores of which 50 are open.

Each store gets a pipeline, 100 deals and a report. Then stores are asked for in random order, a deal recorded and a
report made in each. Seconds are of a wall clock; descriptors and resident memory are read from /proc.
"""

import os
import random
import sys
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from dealtrail import Tenants

STAGES = [{"key": key, "name": key.title(), "probability": "0.5"} for key in ("lead", "qualified", "proposal")]
DEALS = 100
VISITS = 500


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))


def resident_mb() -> float:
    """How much memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def found(tenants: Tenants, name: str) -> None:
    """Found a store and fill it."""
    with tenants.trail(name) as trail:
        opening = {"action": "open_deal", "pipeline": "b2b", "owner": "anna"}
        trail.record_all([{"action": "define_pipeline", "pipeline": "b2b", "stages": STAGES}, *([opening] * DEALS)])
        trail.pipeline_report("b2b")


def visit(tenants: Tenants, name: str) -> tuple[float, float]:
    """The seconds until a trail is there, and those that a record and a report then take."""
    began = perf_counter()
    with tenants.trail(name) as trail:
        there = perf_counter()
        trail.record({"action": "open_deal", "pipeline": "b2b"})
        trail.pipeline_report("b2b")
        return there - began, perf_counter() - there


def main(stores: int, most: int) -> None:
    """Measure and print."""
    rnd = random.Random(7)
    names = [f"tenant-{number}" for number in range(stores)]
    with TemporaryDirectory() as folder, Tenants(folder, most) as tenants:
        found(tenants, "first")  # what is loaded once is not the cost of a store
        files, memory = descriptors(), resident_mb()
        began = perf_counter()
        for name in names:
            found(tenants, name)
        each = (perf_counter() - began) / stores
        print(f"{stores} stores, {most} open at most")
        print(f"found, record {DEALS} deals, report: {each * 1e3:.1f} ms a store")
        print(f"descriptors: {(descriptors() - files) / (most - 1):.1f} an open store, {descriptors()} in all")
        print(f"memory: {(resident_mb() - memory) / (most - 1):.2f} MB an open store, {resident_mb():.0f} MB in all")
        for title, chosen in (("closed", names[:-most]), ("open", names[-most:])):
            if title == "open":
                for name in chosen:
                    visit(tenants, name)
            seen = [visit(tenants, rnd.choice(chosen)) for _ in range(VISITS)]
            there, then = (median(times) * 1e3 for times in zip(*seen, strict=True))
            print(f"mostly {title}: {there:.3f} ms until a store is there, then {then:.1f} ms to record and report")
        print(f"after {2 * VISITS} visits: {descriptors()} descriptors, {resident_mb():.0f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3] or (1_000, 50)))
