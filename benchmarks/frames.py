"""The peer pandas: the events of the workload in a frame in memory, and the funnel worked out from them."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.duck import Step, days
from benchmarks.stores import cached
from benchmarks.timelines import timelines
from benchmarks.workload import PIPELINE, REDEFINED, STAGES, Shape

_STATUS = {
    "open_deal": "open",
    "reopen_deal": "open",
    "win_deal": "won",
    "lose_deal": "lost",
    "disqualify_deal": "disqualified",
}


def events(name: str, shape: Shape) -> pd.DataFrame:
    """The events that count, in log order, one row each: deal, at, place, kind, pipeline, stage (both else missing)."""
    path = cached(f"{name}-events", shape, ".pickle")
    if not path.exists():
        _build(path, shape)
    frame: pd.DataFrame = pd.read_pickle(path)  # noqa: S301  this program wrote it
    return frame


def _build(path: Path, shape: Shape) -> None:
    columns: dict[str, list[object]] = {name: [] for name in ("deal", "at", "place", "kind", "pipeline", "stage")}
    for deal, timeline in timelines(shape):
        for at, place, kind, fact in timeline:
            pipeline, stage = None, None
            if kind == "open_deal":
                pipeline = fact[0]
                stage = STAGES[pipeline, 1][0]["key"]
            elif kind in ("move_deal", "reopen_deal"):
                stage = fact
            for name, value in zip(columns, (deal, at, place, kind, pipeline, stage), strict=True):
                columns[name].append(value)
    frame = pd.DataFrame(columns)
    for name in ("kind", "pipeline", "stage"):
        frame[name] = frame[name].astype("category")
    frame.sort_values("place", ignore_index=True).to_pickle(path)


def funnel(frame: pd.DataFrame, begins: int, ends: int, as_of: int) -> tuple[list[Step], int, int]:
    """The stages, the size of the cohort and the deals won, of a cohort before the redefinition."""
    assert as_of < REDEFINED, "stages are taken as they were recorded"
    stages = [stage["key"] for stage in STAGES[PIPELINE, 1]]
    opened = frame[(frame["kind"] == "open_deal") & (frame["pipeline"] == PIPELINE)]
    cohort = opened.loc[(opened["at"] >= begins) & (opened["at"] < ends) & (opened["at"] <= as_of), "deal"]
    seen = frame[frame["deal"].isin(cohort) & (frame["at"] <= as_of)].sort_values(["deal", "at", "place"])
    status = seen["kind"].astype(object).map(_STATUS).dropna()
    last = pd.Series(status.to_numpy(), index=seen.loc[status.index, "deal"]).groupby(level=0).last()
    path = seen[seen["stage"].notna() | (seen["kind"] == "win_deal")].copy()
    places = path["stage"].astype(object).map({key: place for place, key in enumerate(stages)})
    path["index"] = places.fillna(len(stages)).astype("int64")
    path["row"] = np.arange(len(path))
    inside = path[path["index"] < len(stages)]
    furthest = inside.groupby("deal")["index"].max()
    won = last.reindex(furthest.index) == "won"
    steps = []
    for index in range(len(stages)):
        first = inside[inside["index"] == index].groupby("deal")[["at", "row"]].first()
        later = path[path["index"] > index].join(first, on="deal", rsuffix="_first", how="inner")
        beyond = later[later["row"] > later["row_first"]].groupby("deal")[["at", "at_first"]].first()
        spans = beyond["at"] - beyond["at_first"]
        there = last.reindex(furthest.index)[furthest == index]
        steps.append(
            Step(
                entered=len(first),
                reached=int(((furthest >= index) | won).sum()),
                passed=int(((furthest > index) | won).sum()),
                open=int((there == "open").sum()),
                lost=int((there == "lost").sum()),
                disqualified=int((there == "disqualified").sum()),
                median_days_to_pass=days(spans.quantile(0.5)) if len(spans) else None,
                p90_days_to_pass=days(spans.quantile(0.9)) if len(spans) else None,
            )
        )
    return steps, len(furthest), int(won.sum())
