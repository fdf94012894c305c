"""The first answer after something new: the read model is caught up with the log within it."""

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Figure, figure, timer
from benchmarks.stores import copied, opened, store
from benchmarks.workload import DAY, END, PIPELINE, moment
from dealtrail import Trail

_ROUNDS = 7
_NEW_EVENTS = 1_000
_TIMED = "pipeline_report() of the present, the first after the recording; the recording is not timed"


def run(size: str) -> list[Figure]:
    """Every line of the table about the first answer."""
    after_many: list[float] = []
    after_backdated: list[float] = []
    with copied(store(size)) as path, opened(path) as trail:
        _answer(trail)
        plain = sorted(_answer(trail) for _ in range(_ROUNDS))[_ROUNDS // 2]
        for number in range(_ROUNDS):
            trail.record_all(_news(number))
            after_many.append(_answer(trail))
            trail.record(_late(number))
            after_backdated.append(_answer(trail))
    timed = f"{_TIMED}; with nothing new it takes {plain:.1f} ms"
    return [
        figure("fresh-1000", "first answer after 1,000 new events", "", size, "< 50 ms", timed, after_many),
        figure("fresh-backdated", "first answer after one event backdated by a year", "", size, "< 50 ms", timed,
               after_backdated),
    ]  # fmt: skip


def _answer(trail: Trail) -> float:
    begun = timer()
    trail.pipeline_report(PIPELINE)
    return (timer() - begun) * 1_000


def _news(number: int) -> Iterator[dict[str, Any]]:
    """A thousand events of half as many new deals."""
    for deal in range(_NEW_EVENTS // 2):
        name = {"deal": f"N-{number}-{deal}", "at": moment(END - DAY)}
        yield {"action": "open_deal", "pipeline": PIPELINE, "value": {"amount": "1200.50", "currency": "EUR"}, **name}
        yield {"action": "move_deal", "stage": "demo", **name, "at": moment(END - DAY // 2)}


def _late(number: int) -> dict[str, Any]:
    """Another value, a year ago, of a deal that was opened before that."""
    value = {"amount": f"{number + 1}000", "currency": "EUR"}
    return {"action": "change_value", "deal": f"D-{number:07}", "value": value, "at": moment(END - 365 * DAY)}
