"""What the distribution of leads asks of the log: who had which turn, and how many open deals each owner has.

The answers come out of an index in the log's own file: for each deal that stands open its pipeline and owner, and for
each owner of a group the position of their last lead. It says nothing that the log does not say. It is caught up with
the log under the write lock, in the transaction that needs it, and made anew where it does not continue the log.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from dealtrail.domain.deal import fold, timeline
from dealtrail.domain.distribution import Had
from dealtrail.domain.errors import error
from dealtrail.domain.events import DealOpened, Entry
from dealtrail.store import mapper
from dealtrail.store.reading import Reading
from dealtrail.store.recorder import Head

# A number of its own for what is folded and how; where it differs, the index is made anew.
_MADE_BY = 1

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS distribution (position INTEGER NOT NULL, chain BLOB NOT NULL,"
    " made_by INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS distribution_open (deal TEXT NOT NULL PRIMARY KEY, pipeline TEXT NOT NULL,"
    " owner TEXT NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS distribution_owner ON distribution_open (pipeline, owner)",
    "CREATE TABLE IF NOT EXISTS distribution_lead (pipeline TEXT NOT NULL, team TEXT NOT NULL, owner TEXT NOT NULL,"
    " since INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (pipeline, team, owner, since)) WITHOUT ROWID",
)
_TABLES = ("distribution", "distribution_open", "distribution_lead")

# An index that is further behind than this, and than it is long, is faster made anew than caught up.
_ANEW_BEHIND = 10_000


def had(reading: Reading, pipeline: str, group: str, since: int) -> dict[str, Had]:
    """What each owner had of a group before: how many leads since a version, and the position of the last of all.

    How many is what the event of the last one says of itself.
    """
    c = reading.cursor
    c.execute(
        "SELECT owner, max(position) FROM distribution_lead WHERE pipeline = ? AND team = ? GROUP BY owner",
        (pipeline, group),
    )
    last: dict[str, int] = dict(c.fetchall())
    c.execute(
        "SELECT owner, topic, state FROM distribution_lead JOIN event USING (position)"
        " WHERE pipeline = ? AND team = ? AND since = ?",
        (pipeline, group, since),
    )
    leads: dict[str, int] = {}
    for owner, tag, state in c.fetchall():
        event = mapper.decode(tag, state)
        if not isinstance(event, DealOpened) or event.assigned is None:
            why = "the index by which leads are distributed is not what the log says; rebuild makes it anew"
            raise error("damaged", path=reading.path, why=why)
        leads[owner] = event.assigned.number
    return {owner: Had(leads.get(owner, 0), position) for owner, position in last.items()}


def open_deals(reading: Reading, pipeline: str, owners: Iterable[str]) -> Mapping[str, int]:
    """How many open deals each of these owners has in a pipeline."""
    reading.cursor.execute(
        "SELECT value, (SELECT count(*) FROM distribution_open WHERE pipeline = ? AND owner = value) FROM json_each(?)",
        (pipeline, msgspec.json.encode(list(owners)).decode()),
    )
    return dict(reading.cursor.fetchall())


def catch_up(reading: Reading, head: Head) -> None:
    """Fold what the log, which ends at `head`, got since the last time; all of it where the index is of another log."""
    c = reading.cursor
    for statement in _SCHEMA:
        c.execute(statement)
    c.execute("SELECT position, chain, made_by FROM distribution")
    position, chain, made_by = c.fetchone() or (0, b"", 0)
    if position == head.position and chain == head.chain and made_by == _MADE_BY:
        return
    continues = made_by == _MADE_BY and reading.chain_at(position) == chain
    if not continues or head.position - position > max(_ANEW_BEHIND, position):
        position = 0
        for table in _TABLES:
            c.execute(f"DELETE FROM {table}")
    _fold(reading, position, head.position)
    c.execute("DELETE FROM distribution")
    c.execute("INSERT INTO distribution VALUES (?, ?, ?)", (head.position, head.chain, _MADE_BY))


def forget(reading: Reading) -> None:
    """Have the next lead make the index anew."""
    reading.cursor.execute("DELETE FROM distribution")


def is_there(reading: Reading) -> bool:
    """Whether the log has an index."""
    return "distribution" in _there(reading)


def unlike(reading: Reading) -> Iterator[tuple[str, str]]:
    """The table and the row of whatever is missing, too many, or not what the log says, as far as the index goes.

    An index that does not continue the log is not compared, since the next lead makes it anew. Beside one deal at a
    time, this holds a row for each owner of a group in memory.
    """
    there = _there(reading)
    c, beside = reading.cursor, reading.cursor.sqlite_cursor.connection.cursor()
    c.execute("SELECT position, chain, made_by FROM distribution")
    position, chain, made_by = c.fetchone() or (0, b"", 0)
    if made_by != _MADE_BY or reading.chain_at(position) != chain:
        return
    missing = [name for name in _TABLES if name not in there]
    if missing:
        yield missing[0], "all"
        return
    leads: dict[tuple[str, str, str, int], int] = {}
    standing = 0
    for stream, entries in reading.all_streams("deal", position):
        wanted = _standing(stream, entries)
        standing += len(wanted)
        if beside.execute("SELECT * FROM distribution_open WHERE deal = ?", (stream,)).fetchall() != wanted:
            yield "distribution_open", f"deal={stream.removeprefix('deal:')!r}"
        for pipeline, team, owner, since, last in _lead(entries[0]):
            key = (pipeline, team, owner, since)
            leads[key] = max(last, leads.get(key, 0))
    c.execute("SELECT count(*) FROM distribution_open")
    if c.fetchone()[0] > standing:
        yield "distribution_open", "more than there are open deals with an owner"
    c.execute("SELECT pipeline, team, owner, since, position FROM distribution_lead")
    found = {row[:-1]: row[-1] for row in c.fetchall()}
    for key in sorted((one for one in leads.keys() | found.keys() if leads.get(one) != found.get(one)), key=repr):
        yield "distribution_lead", "pipeline={!r}, team={!r}, owner={!r}, since={!r}".format(*key)


def _there(reading: Reading) -> set[str]:
    reading.cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in reading.cursor.fetchall()}.intersection(_TABLES)


def _fold(reading: Reading, after: int, upto: int) -> None:
    """Write what the index says of each deal of which anything was recorded after a position."""
    changed = reading.deals_after(after) if after else []
    each = ((stream, reading.entries(stream, upto)) for stream in changed)
    stands, leads = [], []
    for stream, entries in each if after else reading.all_streams("deal", upto):
        stands += _standing(stream, entries)
        leads += _lead(entries[0])
    c = reading.cursor
    c.executemany("DELETE FROM distribution_open WHERE deal = ?", [(stream,) for stream in changed])
    c.executemany("INSERT INTO distribution_open VALUES (?, ?, ?)", stands)
    c.executemany(
        "INSERT INTO distribution_lead VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
        leads,
    )


def _standing(stream: str, entries: list[Entry]) -> list[tuple[str, str, str]]:
    """The row of a deal that stands open and has an owner."""
    state = fold(timeline(entries))
    assert state is not None  # noqa: S101  an opening is never retracted, only amended
    if state.status != "open" or state.owner is None:
        return []
    return [(stream, state.pipeline, state.owner)]


def _lead(opening: Entry) -> list[tuple[str, str, str, int, int]]:
    """The row of a lead that was distributed when it was opened, whatever an amendment says of it since."""
    event = opening.event
    if not isinstance(event, DealOpened) or event.assigned is None or event.owner is None:
        return []
    return [(event.pipeline, event.assigned.group, event.owner, event.assigned.since, opening.position)]
