"""The end of the log, checked by whoever opened it before anything is recorded behind it."""

from collections.abc import Sequence

from eventsourcing.sqlite import SQLiteCursor

from dealtrail.domain.errors import error
from dealtrail.store.recorder import COLUMNS, link

# As many as an import commits at once. What a crash or a failed sync can harm is what was written last; going over the
# whole log at each opening would cost what history weighs.
CHECKED_EVENTS = 1_000


def check_end(c: SQLiteCursor, log: str, path: str) -> None:
    """Check that each of the newest events follows from the one before, by its position and its chain.

    Errors: damaged, for the first that does not.
    """
    c.execute(f"SELECT {COLUMNS} FROM event ORDER BY position DESC LIMIT ?", (CHECKED_EVENTS + 1,))
    newest = c.fetchall()[::-1]
    position, chain = 0, bytes(32)
    if len(newest) > CHECKED_EVENTS:
        position, *_, chain = newest.pop(0)
    for found, *row, stored in newest:
        position += 1
        if found != position or not _follows(stored, chain, log, position, row):
            why = f"event {position} is missing, or is not as it was recorded"
            raise error("damaged", path=path, why=why)
        chain = stored


def _follows(stored: object, chain: object, log: str, position: int, row: Sequence[object]) -> bool:
    try:
        return isinstance(chain, bytes) and stored == link(chain, log, position, row)
    except TypeError:  # a value of a kind that is never stored
        return False
