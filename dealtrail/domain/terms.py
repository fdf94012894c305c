"""The terms of a definition: what it says beside its stages and moves, in one shape wherever it is said."""

from collections.abc import Mapping
from typing import Any

from dealtrail.domain.allowed import Allowed, parse_allowed
from dealtrail.domain.assignment import Assignment, parse_assignment
from dealtrail.domain.reasons import ReasonMoves, Reasons, parse_reason_moves, parse_reasons


class Terms(Allowed, frozen=True, kw_only=True):
    """Which moves a definition allows, which reasons it lists, what became of old ones, and who gets new leads."""

    reasons: Reasons | None = None
    reason_moves: ReasonMoves | None = None
    assignment: Assignment | None = None

    def listed(self, outcome: str) -> tuple[str, ...] | None:
        """The reasons that it lists for an outcome; None where it may have any."""
        return None if self.reasons is None else self.reasons.get(outcome)

    def renamed(self, outcome: str) -> Mapping[str, str]:
        """What became of reasons of the versions before, for an outcome."""
        return {} if self.reason_moves is None else self.reason_moves.get(outcome, {})

    @property
    def said(self) -> dict[str, Any]:
        """The terms by their names, without those of which nothing is said."""
        terms = {name: getattr(self, name) for name in Terms.__struct_fields__}
        return {name: term for name, term in terms.items() if term is not None}


def parse_terms(given: Any) -> Terms:
    """The terms of an action or a draft, checked for their shape; whether they fit the definition is not.

    Errors: invalid_field, duplicate_key, and those of the shape of each.
    """
    return Terms(
        **parse_allowed(given),
        reasons=parse_reasons(given.reasons) or None,
        reason_moves=parse_reason_moves(getattr(given, "reason_moves", None)) or None,
        assignment=parse_assignment(given.assignment),
    )
