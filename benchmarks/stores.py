"""Stores of a size, each built once into a cache folder outside the project, and copied where a benchmark writes."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from time import perf_counter

import msgspec

from benchmarks.workload import END, SIZES, Shape, moment, workload
from dealtrail import Trail
from dealtrail.domain.actions import parse_action


def cache_folder() -> Path:
    """Where what is made once is kept: `DEALTRAIL_BENCH_CACHE`, or a folder in the user's cache."""
    given = os.environ.get("DEALTRAIL_BENCH_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else home / "dealtrail-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached(name: str, shape: Shape, suffix: str) -> Path:
    """The path of something made from a workload; another as soon as the workload is another."""
    return cache_folder() / f"{name}-{_identity(shape)}{suffix}"


@cache
def _identity(shape: Shape) -> str:
    """What tells one workload from another: its shape, and what a small one of the kind says."""
    small = list(workload(shape._replace(deals=200, padding=min(shape.padding, 10))))
    return sha256(msgspec.json.encode([shape, small])).hexdigest()[:12]


class Clock:
    """A clock that reads what it is set to."""

    def __init__(self, now: int = END) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The present."""
        return moment(self.now)


def store(name: str, shape: Shape | None = None) -> Path:
    """The log of a size, recorded action by action under a clock that goes with them; its read model is caught up."""
    shape = shape or SIZES[name]
    path = cached(name, shape, ".db")
    if not path.exists():
        begun = perf_counter()
        building = path.with_suffix(".building")
        _remove(building)
        load(building, shape)
        os.replace(building, path)
        _remove(building)
        print(f"  recorded the store {name} in {perf_counter() - begun:.0f} s", flush=True)
    with opened(path) as trail:
        trail.pipelines()
    return path


def load(path: Path, shape: Shape) -> int:
    """Record a workload; how many actions it was."""
    clock = Clock()
    count = 0
    gc.disable()  # it would look through all that the writer keeps decoded, again and again, and find nothing
    try:
        with Trail.open(path, clock=clock) as trail:
            steps = iter(workload(shape))
            while lot := list(islice(steps, 1_000)):
                # By itself `record_each` fetches a lot before it begins to record: the clock would stand meanwhile.
                with trail._log.writing() as writing:
                    for step in lot:
                        clock.now = step.recorded_at
                        writing.step([parse_action(step.action)])
                count += len(lot)
    finally:
        gc.enable()
    return count


def opened(path: Path) -> Trail:
    """A store under a clock that stands at the end of the workload."""
    return Trail.open(path, clock=Clock())


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of a store, with its read model, to write into."""
    with tempfile.TemporaryDirectory(prefix="dealtrail-bench-") as folder:
        for file in path.parent.glob(path.name + "*"):
            shutil.copy(file, Path(folder) / file.name)
        yield Path(folder) / path.name


def _remove(path: Path) -> None:
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
