"""The peer DuckDB: native tables in memory, made from the workload's timelines, and the same figures as our reports."""

import os
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pandas as pd

from benchmarks.stores import cached
from benchmarks.timelines import FOREVER, Period, Visit, rows, timelines
from benchmarks.workload import CURRENCIES, DAY, MOVES, PIPELINE, STAGES, TENDER_FROM, Shape

_CHUNK = 500_000
_COLUMNS = {
    "period": "deal INTEGER, place INTEGER, pipeline VARCHAR, status VARCHAR, stage VARCHAR, definition UTINYINT,"
    " visit_at BIGINT, visit_cents BIGINT, visit_segment VARCHAR, cents BIGINT, currency VARCHAR, owner VARCHAR,"
    " source VARCHAR, from_at BIGINT, to_at BIGINT",
    "visit": "deal INTEGER, begun_at BIGINT, place INTEGER, begun VARCHAR, pipeline VARCHAR, definition UTINYINT,"
    " stage VARCHAR, cents BIGINT, segment VARCHAR",
}


def tables(name: str, shape: Shape, known_at: int = FOREVER) -> Path:
    """A DuckDB file with the periods and visits of a workload, as known at a moment."""
    path = cached(name if known_at == FOREVER else f"{name}-{known_at}", shape, ".duckdb")
    if path.exists():
        return path
    building = path.with_suffix(".building")
    building.unlink(missing_ok=True)
    with duckdb.connect(str(building)) as c:
        for table, columns in _COLUMNS.items():
            c.execute(f"CREATE TABLE {table} ({columns})")
        found: dict[str, list[Any]] = {"period": [], "visit": []}
        for deal, timeline in timelines(shape, known_at):
            for of_deal, all_rows in zip(rows(deal, timeline), found.values(), strict=True):
                all_rows += of_deal
            if len(found["period"]) >= _CHUNK:
                _write(c, found)
        _write(c, found)
    os.replace(building, path)
    return path


def _write(c: duckdb.DuckDBPyConnection, found: dict[str, list[Any]]) -> None:
    for table, kind in (("period", Period), ("visit", Visit)):
        frame = pd.DataFrame.from_records(found[table], columns=kind._fields)
        for column in frame.columns:
            if column.endswith("cents"):
                frame[column] = frame[column].astype("Int64")
        c.register("frame", frame)
        c.execute(f"INSERT INTO {table} SELECT * FROM frame")
        c.unregister("frame")
        found[table].clear()


def in_memory(path: Path, period_order: str = "place") -> duckdb.DuckDBPyConnection:
    """The tables of a file as native tables in memory, in log order (or another), amounts as exact decimals."""
    c = duckdb.connect()
    c.execute(f"ATTACH '{path}' AS file (READ_ONLY)")
    for table, order in (("period", period_order), ("visit", "place")):
        amounts = "cents::DECIMAL(18,0) * 0.01::DECIMAL(2,2) AS cents"
        if table == "period":
            amounts += ", visit_cents::DECIMAL(18,0) * 0.01::DECIMAL(2,2) AS visit_cents"
        c.execute(f"CREATE TABLE {table} AS SELECT * REPLACE ({amounts}) FROM file.{table} ORDER BY {order}")
        for column in ("cents", "visit_cents") if table == "period" else ("cents",):
            c.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {column.replace('cents', 'amount')}")
    c.execute("DETACH file")
    return c


def versions(c: duckdb.DuckDBPyConnection) -> str:
    """What the peer is and how many threads it uses."""
    threads = c.execute("SELECT current_setting('threads')").fetchone()
    assert threads is not None
    return f"DuckDB {duckdb.__version__}, {threads[0]} threads"


def _place(definition: int, amount: str, segment: str) -> str:
    """SQL for the place of a visit's stage in the order of a definition, read under it by the moves."""
    places = {stage["key"]: place for place, stage in enumerate(STAGES[PIPELINE, definition])}
    own = "CASE stage " + " ".join(f"WHEN '{key}' THEN {place}" for key, place in places.items()) + " END"
    if definition == 1:
        return own
    split = f"CASE WHEN {amount} >= {TENDER_FROM} OR {segment} = 'public' THEN '{{}}' ELSE '{{}}' END"
    moved = " ".join(
        f"WHEN '{key}' THEN " + (f"'{move}'" if isinstance(move, str) else split.format(move[0]["to"], move[-1]["to"]))
        for key, move in MOVES.items()
    )
    read = own.replace("CASE stage", f"CASE CASE stage {moved} ELSE stage END")
    return f"CASE WHEN definition = 2 THEN {own} ELSE {read} END"


def _case(column: str, definition: int, field: str) -> str:
    stages = STAGES[PIPELINE, definition]
    return f"CASE {column} " + " ".join(f"WHEN {n} THEN {_sql(s.get(field))}" for n, s in enumerate(stages)) + " END"


def _sql(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"{value}::DECIMAL(6,4)" if isinstance(value, str) else str(value * DAY)


def pipeline_sql(definition: int) -> str:
    """One statement for every column of the pipeline report; parameter: the moment, twice."""
    sums = ", ".join(
        f"count(amount) FILTER (currency = '{one}'), sum(amount) FILTER (currency = '{one}'),"
        f" sum(amount * probability) FILTER (currency = '{one}')"
        for one in CURRENCIES
    )
    return f"""
        WITH standing AS (
            SELECT {_place(definition, "visit_amount", "visit_segment")} AS place, ? - visit_at AS age, amount, currency
            FROM period WHERE from_at <= ? AND to_at > ? AND status = 'open' AND pipeline = '{PIPELINE}'
        ), weighed AS (
            SELECT *, {_case("place", definition, "probability")} AS probability,
                   {_case("place", definition, "rots_after_days")} AS rots_after FROM standing
        )
        SELECT place, count(*), quantile_cont(age, 0.5), count(*) FILTER (age > rots_after), {sums}
        FROM weighed GROUP BY GROUPING SETS ((place), ())"""


class Line(NamedTuple):
    """The figures of a stage of a pipeline report, or of its total."""

    deals: int
    value: dict[str, Decimal]
    weighted_value: dict[str, Decimal]
    median_days_in_stage: float | None
    stalled: int


def pipeline_figures(answer: list[Any], definition: int) -> dict[str | None, Line]:
    """What a statement answered, by stage; the total under None."""
    keys = [stage["key"] for stage in STAGES[PIPELINE, definition]]
    found: dict[str | None, Line] = {key: Line(0, {}, {}, None, 0) for key in [*keys, None]}
    for place, deals, median, stalled, *sums in answer:
        by_currency = {one: sums[3 * n : 3 * n + 3] for n, one in enumerate(CURRENCIES) if sums[3 * n]}
        value = {one: _cents(by_currency[one][1]) for one in sorted(by_currency)}
        weighted = {one: _cents(by_currency[one][2]) for one in sorted(by_currency)}
        key = None if place is None else keys[place]
        found[key] = Line(deals, value, weighted, days(median), stalled)
    return found


def _cents(exact: Decimal) -> Decimal:
    return exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def days(span: float | None) -> float | None:
    """A span in microseconds as days, rounded half to even to 2 decimals."""
    return None if span is None else round(Fraction(span) / DAY * 100) / 100


def funnel_sql(definition: int) -> str:
    """One statement for every count and quantile of the funnel report; parameters: from, until and as_of by name."""
    stages = len(STAGES[PIPELINE, definition])
    return f"""
        WITH cohort AS (
            SELECT visit.deal, period.status FROM visit
            JOIN period ON period.deal = visit.deal AND period.from_at <= $as_of AND period.to_at > $as_of
            WHERE visit.begun = 'opened' AND visit.pipeline = '{PIPELINE}'
              AND visit.begun_at >= $from AND visit.begun_at < $until AND visit.begun_at <= $as_of
        ), seen AS (
            SELECT deal, status, begun_at, visit.place AS root,
                   CASE WHEN begun = 'won' THEN {stages} ELSE {_place(definition, "amount", "segment")} END AS place
            FROM visit JOIN cohort USING (deal) WHERE begun_at <= $as_of AND pipeline = '{PIPELINE}'
        ), reach AS (
            SELECT deal, status, max(place) FILTER (place < {stages}) AS furthest FROM seen GROUP BY deal, status
        ), firsts AS (
            SELECT deal, place, min(begun_at) AS begun_at, arg_min(root, begun_at) AS root FROM seen
            WHERE place < {stages} GROUP BY deal, place
        ), spans AS (
            SELECT firsts.deal, firsts.place, min(seen.begun_at) - firsts.begun_at AS span
            FROM firsts JOIN seen ON seen.deal = firsts.deal AND seen.place > firsts.place
              AND (seen.begun_at > firsts.begun_at OR (seen.begun_at = firsts.begun_at AND seen.root > firsts.root))
            GROUP BY firsts.deal, firsts.place, firsts.begun_at
        )
        SELECT stage.place, (SELECT count(*) FROM firsts WHERE firsts.place = stage.place),
               (SELECT quantile_cont(span, 0.5) FROM spans WHERE spans.place = stage.place),
               (SELECT quantile_cont(span, 0.9) FROM spans WHERE spans.place = stage.place),
               count(*) FILTER (furthest >= stage.place OR status = 'won'),
               count(*) FILTER (furthest > stage.place OR status = 'won'),
               count(*) FILTER (furthest = stage.place AND status = 'open'),
               count(*) FILTER (furthest = stage.place AND status = 'lost'),
               count(*) FILTER (furthest = stage.place AND status = 'disqualified'),
               count(*), count(*) FILTER (status = 'won')
        FROM range({stages}) AS stage(place), reach GROUP BY stage.place ORDER BY stage.place"""


class Step(NamedTuple):
    """The figures of a stage of a funnel report."""

    entered: int
    reached: int
    passed: int
    open: int
    lost: int
    disqualified: int
    median_days_to_pass: float | None
    p90_days_to_pass: float | None


def funnel_figures(answer: list[Any]) -> tuple[list[Step], int, int]:
    """What a statement answered: the stages, the size of the cohort, and how many were won."""
    steps = [Step(entered, *counts, days(median), days(p90)) for _, entered, median, p90, *counts, _, _ in answer]
    return steps, answer[0][-2], answer[0][-1]
