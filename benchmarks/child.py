"""One measurement in a process of its own: on so many cores, with its peak memory; the answer is JSON on stdout.

`python -m benchmarks.child CORES rebuild|rewrite|project|project-relaxed STORE`
"""

import os
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE, Popen
from time import sleep
from typing import NamedTuple

import msgspec

from benchmarks.harness import timer

PROJECTED = 20_000


class Measured(NamedTuple):
    """The seconds of the timed region, and the peak resident memory of the process and its children in bytes."""

    seconds: float
    peak_bytes: int


def measured(cores: int, what: str, store: Path) -> Measured:
    """Run a measurement in a process of its own and watch its memory."""
    command = [sys.executable, "-m", "benchmarks.child", str(cores), what, str(store)]
    peak = 0
    with Popen(command, stdout=PIPE) as child:
        while child.poll() is None:
            peak = max(peak, _resident(child.pid))
            sleep(0.02)
        assert child.stdout is not None
        assert child.returncode == 0, command
        seconds, own_peak = msgspec.json.decode(child.stdout.read(), type=tuple[float, int])
    return Measured(seconds, max(peak, own_peak))


def _resident(pid: int) -> int:
    """The resident memory of a process and of all that it started, pages shared between them counted for each."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in children)


def _own_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _rebuild(store: Path) -> float:
    from benchmarks.stores import opened

    with opened(store) as trail:
        begun = timer()
        trail.rebuild()
        return timer() - begun


def _beside(store: Path, what: str) -> float:
    from benchmarks import peers

    with tempfile.TemporaryDirectory(dir=store.parent) as folder:
        target = Path(folder) / "peer.db"
        if what == "rewrite":
            return peers.rewrite(store, target)
        return peers.project(store, target, PROJECTED, relaxed=what == "project-relaxed")


def main() -> None:
    """Measure what the command line names."""
    cores, what, path = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    seconds = _rebuild(Path(path)) if what == "rebuild" else _beside(Path(path), what)
    sys.stdout.buffer.write(msgspec.json.encode((seconds, _own_peak())))


if __name__ == "__main__":
    main()
