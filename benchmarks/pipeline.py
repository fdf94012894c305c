"""The pipeline report against DuckDB, and against itself at other moments, sizes and known_at."""

from random import Random
from typing import Any

from benchmarks import duck
from benchmarks.harness import ROUNDS, Figure, alternate, figure
from benchmarks.stores import opened, store
from benchmarks.workload import BEGIN, DAY, END, PIPELINE, REDEFINED, SIZES, moment
from dealtrail import PipelineReport, Trail

_SMALLER = {"M": "S", "L": "M"}
_OURS = "ours: pipeline_report() whole, digests too; read model on disk, in the page cache, one thread"


def moments(count: int) -> list[int]:
    """Random past moments, seeded, from half a year after the beginning on."""
    rng = Random(7)
    return [BEGIN + 182 * DAY + int(rng.random() * (END - BEGIN - 212 * DAY)) for _ in range(count)]


def lines(report: PipelineReport) -> dict[str | None, duck.Line]:
    """The figures of a report as those of the peer."""
    found: dict[str | None, Any] = {stage.stage: stage for stage in report.stages} | {None: report.total}
    fields = duck.Line._fields
    return {key: duck.Line(*(getattr(line, field) for field in fields)) for key, line in found.items()}


def definition_at(at: int) -> int:
    """The version in force at a moment."""
    return 2 if at >= REDEFINED else 1


def run(size: str) -> list[Figure]:
    """Every line of the table about the pipeline report."""
    at = moments(ROUNDS)
    figures = []
    with opened(store(size)) as trail:
        figures += _against_duckdb(size, trail, at)
        figures += _against_itself(size, trail, at)
        figures.append(_known_at(size, trail, at))
    if size in ("M", "L"):
        figures += _out_of_order(at)
    return figures


def _against_duckdb(size: str, trail: Trail, at: list[int]) -> list[Figure]:
    path = duck.tables(size, SIZES[size])
    figures = []
    for order, row, against, bar in (
        ("place", "pipeline-duckdb", "DuckDB, native table in memory, rows in log order", "≤ 1×"),
        ("from_at, place", "pipeline-duckdb-sorted", "DuckDB, the same sorted by from_at", "≤ 10×"),
    ):
        with duck.in_memory(path, order) as c:

            def theirs(n: int, c: Any = c) -> list[Any]:
                found: list[Any] = c.execute(duck.pipeline_sql(definition_at(at[n])), [at[n]] * 3).fetchall()
                return found

            for n, moment_at in enumerate(at):
                peer = duck.pipeline_figures(theirs(n), definition_at(moment_at))
                assert peer == lines(trail.pipeline_report(PIPELINE, as_of=moment(moment_at))), moment(moment_at)
            ours, peers = alternate(ROUNDS, lambda n: trail.pipeline_report(PIPELINE, as_of=moment(at[n])), theirs)
            setting = f"{_OURS}; theirs: one statement, executed and fetched; {duck.versions(c)}"
        figures.append(figure(row, "pipeline report at a random past T", against, size, bar, setting, ours, peers))
    return figures


def _against_itself(size: str, trail: Trail, at: list[int]) -> list[Figure]:
    ours, latest = alternate(
        ROUNDS,
        lambda n: trail.pipeline_report(PIPELINE, as_of=moment(at[n])),
        lambda n: trail.pipeline_report(PIPELINE, as_of=moment(END - n)),
    )
    what = "pipeline report at a random past T"
    found = [figure("pipeline-latest", what, "itself at the latest moment", size, "≤ 1.3×", _OURS, ours, latest)]
    if size in _SMALLER:
        small = SIZES[_SMALLER[size]]
        open_here = [trail.pipeline_report(PIPELINE, as_of=moment(one)).total.deals for one in at]
        mean = sum(open_here) // len(at)
        padded = small._replace(padding=mean * (SIZES[size].deals - small.deals) // SIZES[size].deals)
        with opened(store(f"{_SMALLER[size]}-padded", padded)) as other:
            open_there = [other.pipeline_report(PIPELINE, as_of=moment(one)).total.deals for one in at]
            assert abs(sum(open_there) / sum(open_here) - 1) < 0.05, (open_here, open_there)
            ours, theirs = alternate(
                ROUNDS,
                lambda n: trail.pipeline_report(PIPELINE, as_of=moment(at[n])),
                lambda n: other.pipeline_report(PIPELINE, as_of=moment(at[n])),
            )
        against = f"itself at {_SMALLER[size]} padded to as many open deals"
        setting = f"{_OURS}; open deals: {mean:,} here, {sum(open_there) // len(at):,} there"
        found.append(figure("pipeline-padded", what, against, size, "≤ 1.3×", setting, ours, theirs))
    return found


def _known_at(size: str, trail: Trail, at: list[int]) -> Figure:
    early = at[0]
    with duck.in_memory(duck.tables(size, SIZES[size], early)) as c:
        sql = duck.pipeline_sql(definition_at(early))
        peer = duck.pipeline_figures(c.execute(sql, [early] * 3).fetchall(), definition_at(early))
    report = trail.pipeline_report(PIPELINE, as_of=moment(early), known_at=moment(early))
    assert peer == lines(report), "the figures as known at T"
    ours, theirs = alternate(
        ROUNDS,
        lambda n: trail.pipeline_report(PIPELINE, as_of=moment(at[n]), known_at=moment(at[n])),
        lambda n: trail.pipeline_report(PIPELINE, as_of=moment(at[n])),
    )
    what = "pipeline report at T with known_at = T"
    return figure("pipeline-known", what, "itself without", size, "≤ 2×", _OURS, ours, theirs)


def _out_of_order(at: list[int]) -> list[Figure]:
    """The same on H, where much is backdated by months: against M, and with known_at against without."""
    with opened(store("H")) as backdated, opened(store("M")) as trail:
        with duck.in_memory(duck.tables("H", SIZES["H"])) as c:
            sql = duck.pipeline_sql(definition_at(at[0]))
            peer = duck.pipeline_figures(c.execute(sql, [at[0]] * 3).fetchall(), definition_at(at[0]))
            assert peer == lines(backdated.pipeline_report(PIPELINE, as_of=moment(at[0]))), "the figures of H"
        ours, theirs = alternate(
            ROUNDS,
            lambda n: backdated.pipeline_report(PIPELINE, as_of=moment(at[n])),
            lambda n: trail.pipeline_report(PIPELINE, as_of=moment(at[n])),
        )
        what = "pipeline report at T, 30 % backdated by months"
        figures = [figure("pipeline-backdated", what, "itself at M", "H", "≤ 2×", _OURS, ours, theirs)]
        figures.append(_known_at("H", backdated, at))
    return figures
