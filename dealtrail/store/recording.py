"""Recording: actions as they came in become one atomic step, or many steps that share their commits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from dealtrail.domain.actions import Action, parse_action
from dealtrail.domain.errors import DealtrailError, InvalidInput, Refused, error
from dealtrail.domain.events import Entry
from dealtrail.store import distribution
from dealtrail.store.log import Log
from dealtrail.store.writing import Writing

Given = Mapping[str, Any] | Action
Progress = Callable[[int, int], None]

_STEPS_PER_COMMIT = 1_000


class Recorded(msgspec.Struct, frozen=True):
    """What an action left in the log: the deal or pipeline, its version, and the position."""

    deal: str | None
    pipeline: str | None
    version: int
    position: int


class Imported(msgspec.Struct, frozen=True):
    """What became of one action of many that are steps of their own: `recorded`, or `refused` and why.

    `repeated` where the same `id` had been recorded with the same content already.
    """

    line: int
    recorded: Recorded | None
    refused: DealtrailError | None
    repeated: bool = False


def record_all(log: Log, actions: Iterable[Given], progress: Progress | None) -> list[Recorded]:
    """One atomic step; see `Trail.record_all`."""
    parsed: list[Action] = []
    for action in _listed(actions):
        try:
            parsed.append(parse_action(action))
        except DealtrailError as refusal:
            refusal.facts["index"] = len(parsed)
            raise
    done: list[Recorded] = []
    with log.writing() as writing:
        for entry in writing.step(parsed):
            done.append(_recorded(entry))
            if progress is not None and (len(done) % 1_000 == 0 or len(done) == len(parsed)):
                progress(len(done), len(parsed))
    return done


def record_each(
    log: Log, actions: Iterable[Given | DealtrailError], *, atomic: bool, dry_run: bool
) -> Iterator[Imported]:
    """Many steps; see `Trail.record_each`."""
    numbered = enumerate(_listed(actions), 1)
    if atomic or dry_run:
        yield from _at_once(log, numbered, dry_run)
        return
    # Each commit's actions are fetched before its transaction begins: what their source does, or how long it takes,
    # touches no lock of the store.
    while batch := list(islice(numbered, _STEPS_PER_COMMIT)):
        with log.writing() as writing:
            outcomes = [_outcome(writing, line, action) for line, action in batch]
        yield from outcomes


def _at_once(log: Log, numbered: Iterable[tuple[int, Any]], dry_run: bool) -> Iterator[Imported]:
    with log.writing() as writing:
        for line, action in numbered:
            outcome = _outcome(writing, line, action)
            if dry_run or outcome.refused is not None:
                writing.discard()
            if line % _STEPS_PER_COMMIT == 0:
                writing.flush()
            yield outcome


def _listed(actions: Any) -> Iterable[Any]:
    if not isinstance(actions, Iterable):
        raise error("invalid_field", "actions", why="give a list of actions")
    return actions


def rehearse(log: Log, action: Given) -> None:
    """Decide an action and record nothing. Errors: those with which it would be refused."""
    with log.writing() as writing:
        writing.step([parse_action(action)])
        writing.discard()


def redistribute(log: Log) -> None:
    """Have the next lead make anew the index by which leads are distributed, where there is one."""
    with log.reading() as reading:
        if not distribution.is_there(reading):
            return
    with log.writing() as writing:
        distribution.forget(writing.reading)


def _outcome(writing: Writing, line: int, action: Any) -> Imported:
    """Record one action as a step of its own, or say why it is refused."""
    before = writing.position
    try:
        if isinstance(action, DealtrailError):
            raise action
        recorded = _recorded(writing.step([parse_action(action)])[0])
    except (InvalidInput, Refused) as refusal:
        # Without its traceback, whose frames would keep the whole writing alive for as long as the refusal is.
        return Imported(line, None, refusal.with_traceback(None))
    return Imported(line, recorded, None, repeated=recorded.position <= before)


def _recorded(entry: Entry) -> Recorded:
    kind, _, name = entry.stream.partition(":")
    return Recorded(
        name if kind == "deal" else None, name if kind == "pipeline" else None, entry.version, entry.position
    )
