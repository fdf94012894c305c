"""An outbox: forwards every event of a log to another system, and goes on where it stopped, however it stopped.

    python examples/outbox.py sales.db crm.db --wait 60

`mirror` is for a receiver with transactions, here a SQLite file. The event's effect and the position reached are one
transaction of the receiver: each event takes effect exactly once. `deliver` is for a receiver without, such as a web
hook. The position is kept after the receiver took the event: a crash between the two sends that event once more, so
each arrives at least once, and a receiver that knows its `position` again lets it take effect once.
"""

import argparse
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from dealtrail import Happened, Trail

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS reached (feed TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS activity (position INTEGER PRIMARY KEY, deal TEXT, event TEXT NOT NULL,"
    " occurred_at TEXT NOT NULL, data TEXT NOT NULL) STRICT",
)


class TwoAtOnce(Exception):
    """Another process forwards the same feed: positions have no gaps, so one that does not follow is not ours."""


def opened(path: str) -> sqlite3.Connection:
    """The receiver's file, whose transactions begin and end where the code says so."""
    db = sqlite3.connect(path, isolation_level=None, timeout=60)
    for statement in SCHEMA:
        db.execute(statement)
    return db


@contextmanager
def step(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction: all of it, or after an error or a crash nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def reached(db: sqlite3.Connection, feed: str) -> int:
    """The position up to which everything was forwarded; 0 at first."""
    db.execute("INSERT INTO reached VALUES (?, 0) ON CONFLICT DO NOTHING", (feed,))
    return int(db.execute("SELECT position FROM reached WHERE feed = ?", (feed,)).fetchone()[0])


def move_on(db: sqlite3.Connection, feed: str, position: int) -> None:
    """Keep the next position, if it is the next."""
    moved = db.execute(
        "UPDATE reached SET position = ? WHERE feed = ? AND position = ?", (position, feed, position - 1)
    )
    if moved.rowcount != 1:
        raise TwoAtOnce(f"{feed} is not at position {position - 1} any more; run one forwarder for a feed")


def mirror(trail: Trail, db: sqlite3.Connection, *, wait: float | None = None) -> None:
    """Put every event into the receiver's table: exactly once."""
    for event in trail.follow(reached(db, "mirror"), wait=wait):
        with step(db):
            data = msgspec.json.encode(event.data).decode()
            row = (event.position, event.deal, event.event, event.occurred_at.isoformat(), data)
            db.execute("INSERT INTO activity VALUES (?, ?, ?, ?, ?)", row)
            move_on(db, "mirror", event.position)


def deliver(
    trail: Trail, db: sqlite3.Connection, send: Callable[[Happened], Any], *, wait: float | None = None
) -> None:
    """Hand every event to `send`: at least once, in order; an error of `send` stops it at that event."""
    for event in trail.follow(reached(db, "deliver"), wait=wait):
        send(event)
        move_on(db, "deliver", event.position)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Mirror the events of a Dealtrail store in a SQLite file.")
    parser.add_argument("store")
    parser.add_argument("receiver")
    parser.add_argument("--wait", type=float, default=None, help="seconds to wait for more at the end of the log")
    asked = parser.parse_args()
    with Trail.open(asked.store) as store:
        receiver = opened(asked.receiver)
        mirror(store, receiver, wait=asked.wait)
        receiver.close()
