"""The read model's tables, indexes and views, made and migrated by sqlite-utils."""

import sqlite3
from functools import cache
from hashlib import sha256
from importlib.resources import files

from dealtrail.projections.fold import Content, PersonalPoint, Point

_INTEGERS = {"definition", "visit_at", "visit_root", "opened_at", "closed_at", "at", "root"}

PERIOD = ("deal", "from_at", "to_at", "known_from", "end_known", "known_to", *Content._fields)
VISIT = ("deal", *Point._fields, "known_from", "known_to")
PERSONAL = ("deal", *PersonalPoint._fields, "known_from", "known_to")
DEFINITION = ("pipeline", "version", "position", "recorded_at", "occurred_at", "name", "stages", "moves")

_FIRST = {"deal", "from_at", "to_at", "known_from", "end_known", "known_to"}

# What tells whether a read model was made by the very code that reads it: the fold, and what it folds with.
_MADE_BY = (
    ("dealtrail.domain", ("deal.py", "events.py", "definitions.py", "money.py")),
    ("dealtrail.projections", ("fold.py", "schema.py")),
)


@cache
def fingerprint() -> str:
    """A digest of the code that makes the rows; where it differs, the read model is made again."""
    digest = sha256()
    for package, names in _MADE_BY:
        for name in names:
            digest.update(files(package).joinpath(name).read_bytes())
    return digest.hexdigest()


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a new or older read-model file to today's schema."""
    from sqlite_utils import Database, Migrations

    migrations = Migrations("dealtrail")

    @migrations()
    def first_tables(db: Database) -> None:
        db.table("checkpoint").create({"name": str, "value": str}, pk="name")
        db.table("deal").create({"number": int, "deal": str}, pk="number")
        db.table("deal").create_index(["deal"], unique=True)
        for table, columns in (("period", PERIOD), ("visit", VISIT), ("personal", PERSONAL)):
            db.table(table).create({name: int if name in _INTEGERS | _FIRST else str for name in columns})
            db.table(table).create_index(["deal"])
        db.table("period").create_index(["pipeline", "status", "from_at", "to_at"])
        db.table("visit").create_index(["begun", "pipeline", "at"])
        whole = {"version", "position", "recorded_at", "occurred_at"}
        db.table("definition").create(
            {name: int if name in whole else str for name in DEFINITION}, pk=("pipeline", "version")
        )

    @migrations()
    def views_for_people(db: Database) -> None:
        db.create_view("deals_now", _DEALS_NOW)
        db.create_view("stages_now", _STAGES_NOW)

    migrations.apply(Database(connection))


_DEALS_NOW = """
SELECT deal.deal, period.pipeline, period.status, period.stage, period.owner, period.source,
       period.amount, period.currency, period.expected_close, period.attributes,
       datetime(period.opened_at / 1000000, 'unixepoch') AS opened_at,
       datetime(period.visit_at / 1000000, 'unixepoch') AS in_stage_since,
       datetime(period.closed_at / 1000000, 'unixepoch') AS closed_at, period.reason
FROM period JOIN deal ON deal.number = period.deal
WHERE period.to_at = 4611686018427387904 AND period.known_to = 4611686018427387904
"""
_STAGES_NOW = """
SELECT pipeline, stage, count(*) AS deals FROM deals_now WHERE status = 'open' GROUP BY pipeline, stage
"""
