"""The funnel report of one quarter, under its own definition and a later one, against DuckDB and pandas."""

from typing import Any

from benchmarks import duck, frames
from benchmarks.harness import ROUNDS, Figure, alternate, figure
from benchmarks.stores import opened, store
from benchmarks.workload import DAY, PIPELINE, SIZES, instant, moment
from dealtrail import FunnelReport, Trail

_OURS = "ours: funnel_report() whole, digests too; read model on disk, in the page cache, one thread"
_PANDAS_ROUNDS = 5
# Quarters before the redefinition, each asked for 60 days after its end and so under version 1.
_QUARTERS = {
    "2022-Q2": ("2022-04-01", "2022-07-01"),
    "2022-Q3": ("2022-07-01", "2022-10-01"),
    "2022-Q4": ("2022-10-01", "2023-01-01"),
    "2023-Q1": ("2023-01-01", "2023-04-01"),
}


def figures_of(report: FunnelReport) -> tuple[list[duck.Step], int, int]:
    """The figures of a report as those of the peers."""
    steps = [duck.Step(*(getattr(stage, field) for field in duck.Step._fields)) for stage in report.stages]
    return steps, report.total.cohort, report.total.won


def _asked(number: int) -> tuple[str, int, int, int]:
    """A cohort by its name, its bounds, and the moment of the report; other ones in each round."""
    name, bounds = list(_QUARTERS.items())[number % len(_QUARTERS)]
    begins, ends = (instant(_midnight(day)) for day in bounds)
    return name, begins, ends, ends + 60 * DAY + number


def _midnight(day: str) -> Any:
    from datetime import UTC, datetime

    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _ours(trail: Trail, number: int, definition: int) -> FunnelReport:
    cohort, _, _, as_of = _asked(number)
    return trail.funnel_report(PIPELINE, cohort=cohort, as_of=moment(as_of), definition=definition)


def run(size: str) -> list[Figure]:
    """Every line of the table about the funnel report."""
    with opened(store(size)) as trail:
        return [*_against_duckdb(size, trail), _against_pandas(size, trail)]


def _against_duckdb(size: str, trail: Trail) -> list[Figure]:
    found = []
    with duck.in_memory(duck.tables(size, SIZES[size])) as c:
        for definition, row, what in (
            (1, "funnel-duckdb", "funnel of one quarter, its own definition"),
            (2, "funnel-restated", "funnel of one quarter under a later definition with conditions"),
        ):

            def theirs(number: int, definition: int = definition) -> list[Any]:
                _, begins, ends, as_of = _asked(number)
                values = {"from": begins, "until": ends, "as_of": as_of}
                answer: list[Any] = c.execute(duck.funnel_sql(definition), values).fetchall()
                return answer

            for number in range(len(_QUARTERS)):
                peer = duck.funnel_figures(theirs(number))
                assert peer == figures_of(_ours(trail, number, definition)), (number, definition)
            ours, peers = alternate(ROUNDS, lambda n, d=definition: _ours(trail, n, d), theirs)  # type: ignore[misc]
            setting = f"{_OURS}; theirs: one statement, rows in log order; {duck.versions(c)}"
            against = "DuckDB, native tables in memory"
            found.append(figure(row, what, against, size, "≤ 8×", setting, ours, peers))
    return found


def _against_pandas(size: str, trail: Trail) -> Figure:
    import pandas

    frame = frames.events(size, SIZES[size])

    def theirs(number: int) -> Any:
        _, begins, ends, as_of = _asked(number)
        return frames.funnel(frame, begins, ends, as_of)

    assert theirs(0) == figures_of(_ours(trail, 0, 1))
    ours, peers = alternate(_PANDAS_ROUNDS, lambda n: _ours(trail, n, 1), theirs)
    setting = f"{_OURS}; theirs: pandas {pandas.__version__}, events in log order in memory, texts as categories"
    what, against = "funnel of one quarter, its own definition", "pandas over the same events in memory"
    return figure("funnel-pandas", what, against, size, "≥ 20× faster", setting, ours, peers)
