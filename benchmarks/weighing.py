"""What the log and the read model take on disk, beside the same events as JSON, and what takes the room."""

import sqlite3
from pathlib import Path

import msgspec

from benchmarks.harness import Figure, figure
from benchmarks.peers import model_file
from benchmarks.stores import opened, store


def run(size: str) -> list[Figure]:
    """Every line of the table about size on disk."""
    path = store(size)
    encode = msgspec.json.Encoder().encode
    with opened(path) as trail:
        as_json = sum(len(encode(event)) + 1 for event in trail.follow()) / 1e6
    found = []
    for row, what, file in (("disk-log", "the log", path), ("disk-model", "the read model", model_file(path))):
        parts = _parts(file)
        timed = "what takes the room: " + ", ".join(f"{name} {mb:,.0f} MB" for name, mb in parts[:6])
        against = "the JSON Lines of the same events"
        found.append(
            figure(row, f"{what} on disk", against, size, "", timed, [sum(mb for _, mb in parts)], [as_json], "MB")
        )
    return found


def _parts(file: Path) -> list[tuple[str, float]]:
    """Each table and index of a SQLite file with its megabytes, the largest first."""
    with sqlite3.connect(file) as c:
        sizes = "SELECT name, pgsize / 1e6 FROM dbstat WHERE aggregate = TRUE ORDER BY 2 DESC"
        parts: list[tuple[str, float]] = c.execute(sizes).fetchall()
    return parts
