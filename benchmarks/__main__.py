"""`python -m benchmarks [SIZE] [PART …]`: measure, print the table, and write it as JSON.

SIZE is S, M or L; L means S, M and L, so that all can be seen beside one another. Parts that are not named keep
their figures of the run before.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import fresh, funnel, pipeline, rebuilding, recording, weighing
from benchmarks.harness import Figure, machine

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "pipeline": pipeline.run,
    "funnel": funnel.run,
    "fresh": fresh.run,
    "record": recording.run,
    "rebuild": rebuilding.run,
    "disk": weighing.run,
}


class Results(msgspec.Struct):
    """The figures of a size by part, each part with the day and the machine that it was measured on."""

    size: str
    parts: dict[str, tuple[str, str, list[Figure]]] = {}


def read(size: str) -> Results:
    """The figures of a size as they were last written."""
    path = RESULTS / f"{size}.json"
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results(size)


def main() -> None:
    """Run the parts that are named, of the size that is named."""
    size, *parts = sys.argv[1:] or ["M"]
    unknown = {size} - set("SML") | set(parts) - set(PARTS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; a size is S, M or L, a part one of {', '.join(PARTS)}")
    RESULTS.mkdir(exist_ok=True)
    for one in "SML" if size == "L" else size:
        for part in parts or PARTS:
            print(f"{one}: {part}", flush=True)
            measured = (datetime.now(UTC).date().isoformat(), machine(), PARTS[part](one))
            results = read(one)
            results.parts[part] = measured
            encoded = msgspec.json.format(msgspec.json.encode(results), indent=1)
            (RESULTS / f"{one}.json").write_bytes(encoded + b"\n")


if __name__ == "__main__":
    main()
