"""The read model's tables, indexes and views, made and migrated by sqlite-utils."""

import sqlite3
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

# What a period says of a deal, apart from its cell: (pipeline, status, definition, stage, currency), interned.
# An amount is there twice: as it was written, and in millionths as `high` * 10**9 + `low`, two whole numbers that SQL
# sums exactly, however many there are.
STATE = (
    "cell",
    "visit_at",
    "high",
    "low",
    "visit_root",
    "amount",
    "owner",
    "source",
    "attributes",
    "expected_close",
    "completed",
    "opened_at",
    "closed_at",
    "reason",
    "merged_into",
    "subject",
)
PATH = ("opened_into", "opened_at", "path_from", "last_known", "shape", "ats", "knowns", "bases", "reasons")

COLUMNS: dict[str, tuple[str, ...]] = {
    "cell": ("id", "pipeline", "status", "definition", "stage", "currency"),
    "shape": ("id", "marks"),
    "deal": (
        *("number", "deal", "last_at", "last_root", "from_at", "known_from"),
        *STATE,
        *(name for name in PATH if name not in STATE),
    ),
    "period": (
        *("deal", "from_at", "to_at", "known_from", "end_known", "known_to", "length_class", "known_class"),
        *STATE,
    ),
    "past_path": ("deal", "path_to", *PATH),
    "personal": ("deal", "at", "root", "title", "personal", "known_from", "known_to"),
    "definition": (
        *("pipeline", "version", "position", "recorded_at", "occurred_at", "name", "stages", "moves", "terms"),
    ),
    "checkpoint": ("name", "value"),
}
_TEXTS = {
    *("pipeline", "status", "stage", "currency", "marks", "amount", "owner", "source", "attributes", "expected_close"),
    *("completed", "reason", "merged_into", "subject", "opened_into", "ats", "knowns", "bases", "title", "personal"),
    *("reasons", "name", "stages", "moves", "terms", "value"),
}
_KEYS: dict[str, str | tuple[str, ...]] = {
    "cell": "id",
    "shape": "id",
    "deal": "number",
    "definition": ("pipeline", "version"),
    "checkpoint": "name",
}

# What tells whether a read model was made by the very code that reads it: the fold, and what it folds with.
_MADE_BY = (
    ("dealtrail.domain", ("deal.py", "events.py", "money.py", "pipelines.py", "definitions.py", "conditions.py")),
    ("dealtrail.domain", ("terms.py", "allowed.py", "reasons.py", "assignment.py")),
    ("dealtrail.projections", ("fold.py", "rows.py", "schema.py", "writing.py")),
)


@cache
def fingerprint() -> str:
    """A digest of the code that makes the rows; where it differs, the read model is made again."""
    digest = sha256()
    for package, names in _MADE_BY:
        for name in names:
            digest.update(files(package).joinpath(name).read_bytes())
    return digest.hexdigest()


def insert(table: str) -> str:
    """The statement that inserts a row of a table, its columns in the order of `COLUMNS`."""
    names = COLUMNS[table]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def migrate(connection: sqlite3.Connection, *, indexes: bool = True) -> None:
    """Bring a new or older read-model file to today's schema; without its indexes where much is to be written first."""
    from sqlite_utils import Database, Migrations

    migrations = Migrations("dealtrail")

    @migrations()
    def tables(db: Database) -> None:
        for name, columns in COLUMNS.items():
            # Without a declared type SQLite would plan its way through the indexes far worse.
            types = {column: str if _is_text(name, column) else int for column in columns}
            db.table(name).create(types, pk=_KEYS.get(name))
        db.table("shape").create_index(["marks"], unique=True)

    @migrations()
    def indexes_and_views(db: Database) -> None:
        _add_indexes(db)
        db.create_view("deals_now", _DEALS_NOW)
        db.create_view("stages_now", _STAGES_NOW)

    migrations.apply(Database(connection), stop_before=None if indexes else "indexes_and_views")


def _is_text(table: str, column: str) -> bool:
    return column in _TEXTS or (table, column) == ("deal", "deal")


def _add_indexes(db: "Database") -> None:
    amounts = ["visit_at", "high", "low"]
    deal, period = db.table("deal"), db.table("period")
    deal.create_index(["deal"], index_name="deal_id", unique=True)
    deal.create_index(["opened_into", "opened_at"], index_name="deal_opened")
    # Each answers the pipeline report alone, without a look at the table.
    deal.create_index(["cell", "from_at", "known_from", *amounts], index_name="deal_stands")
    period.create_index(
        ["cell", "length_class", "from_at", "to_at", "known_from", "known_to", *amounts, "deal"],
        index_name="period_holds",
    )
    period.create_index(
        ["cell", "known_class", "known_from", "end_known", "known_to", "from_at", "to_at", *amounts, "deal"],
        index_name="period_known",
    )
    period.create_index(["deal"], index_name="period_deal")
    db.table("past_path").create_index(["deal"], index_name="past_path_deal")
    db.table("past_path").create_index(["opened_into", "opened_at"], index_name="past_path_opened")
    db.table("personal").create_index(["deal"], index_name="personal_deal")


_DEALS_NOW = """
SELECT deal.deal, cell.pipeline, cell.status, cell.stage, deal.owner, deal.source, deal.amount, cell.currency,
       deal.expected_close, deal.attributes,
       datetime(deal.opened_at / 1000000, 'unixepoch') AS opened_at,
       datetime(deal.visit_at / 1000000, 'unixepoch') AS in_stage_since,
       datetime(deal.closed_at / 1000000, 'unixepoch') AS closed_at, deal.reason
FROM deal JOIN cell ON cell.id = deal.cell
"""
_STAGES_NOW = """
SELECT pipeline, stage, count(*) AS deals FROM deals_now WHERE status = 'open' GROUP BY pipeline, stage
"""
