"""Reasons: which ones a definition lists for losing and disqualifying, and what becomes of those of the one before."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dealtrail.domain.errors import DealtrailError, error, nearest
from dealtrail.domain.texts import Word, shaped, unique

# The outcomes that may have a reason; each has a list, and moves, of its own.
REASONED = ("lost", "disqualified")

Reasons = Mapping[str, tuple[str, ...]]
ReasonMoves = Mapping[str, Mapping[str, str]]


class Listing(Protocol):
    """What this module asks of a definition."""

    @property
    def version(self) -> int:
        """Its number."""
        ...

    def listed(self, outcome: str) -> tuple[str, ...] | None:
        """The reasons that it lists for an outcome; None where it may have any."""
        ...

    def renamed(self, outcome: str) -> Mapping[str, str]:
        """What became of reasons of the versions before, for an outcome."""
        ...


def parse_reasons(given: object) -> Reasons:
    """The reasons of a definition: by outcome a list of short texts, checked.

    Errors: duplicate_key, and those of their shape.
    """
    found: dict[str, tuple[str, ...]] = {}
    for outcome, listed in _by_outcome(given, "reasons").items():
        where = f"reasons.{outcome}"
        if not isinstance(listed, list | tuple) or not 1 <= len(listed) <= 100:
            raise error("invalid_field", where, why="give a list of 1 to 100 reasons, or leave it out to allow any")
        found[outcome] = shaped(listed, tuple[Word, ...], where)
        unique(found[outcome], where)
    return found


def parse_reason_moves(given: object) -> ReasonMoves:
    """What becomes of old reasons: by outcome a map of old texts to new ones, checked for its shape."""
    found: dict[str, dict[str, str]] = {}
    for outcome, moves in _by_outcome(given, "reason_moves").items():
        where = f"reason_moves.{outcome}"
        if not isinstance(moves, Mapping) or len(moves) > 1000:
            raise error("invalid_field", where, why="give a map of at most 1,000 old reasons to new ones")
        found[outcome] = {old: shaped(new, Word, f"{where}.{old}"[:100]) for old, new in moves.items()}
    return found


def _by_outcome(given: object, field: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise error("invalid_field", field, why='give an object with "lost", "disqualified" or both')
    for outcome in given:
        if outcome not in REASONED:
            raise error("unknown_field", f"{field}.{outcome}"[:100], nearest=nearest(outcome, REASONED))
    return {outcome: given[outcome] for outcome in REASONED if given.get(outcome) is not None}


def check_reason(outcome: str, reason: str | None, pipeline: str, definition: Listing) -> None:
    """Refuse a reason that a definition does not list, where it lists any. Errors: unknown_reason."""
    listed = definition.listed(outcome)
    if reason is not None and listed is not None and reason not in listed:
        raise _unknown(reason, listed, outcome, pipeline, definition, "reason")


def check_reason_moves(pipeline: str, earlier: Sequence[Listing], after: Listing) -> None:
    """Check what a new version makes of old reasons. Errors: missing_reason_move, unknown_reason.

    Where every version so far lists its reasons, none but those of the last can have been recorded, or read as such.
    """
    before = earlier[-1]
    for outcome in REASONED:
        old, new = before.listed(outcome), after.listed(outcome)
        moves, where = after.renamed(outcome), f"reason_moves.{outcome}"
        for reason in old or () if new is not None else ():
            if reason not in new and reason not in moves:  # type: ignore[operator]
                raise error("missing_reason_move", where, reason=reason, outcome=outcome)
        for reason, to in moves.items():
            if old is not None and reason not in old and all(one.listed(outcome) for one in earlier):
                raise _unknown(reason, old, outcome, pipeline, before, f"{where}.{reason}"[:100])
            if new is not None and to not in new:
                raise _unknown(to, new, outcome, pipeline, after, f"{where}.{reason}"[:100])


def read_reason(definitions: Sequence[Listing], outcome: str, reason: str, recorded: int, under: int) -> str:
    """A reason recorded under one version, read under a later one: by the moves of each version between."""
    for definition in definitions[recorded:under]:
        reason = definition.renamed(outcome).get(reason, reason)
    return reason


def _unknown(
    given: str, listed: tuple[str, ...], outcome: str, pipeline: str, definition: Listing, field: str
) -> DealtrailError:
    return error(
        "unknown_reason",
        field,
        given=given,
        outcome=outcome,
        version=definition.version,
        pipeline=pipeline,
        known=", ".join(listed),
        nearest=nearest(given, listed),
    )
