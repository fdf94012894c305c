"""Moves that are allowed: the stages that a deal may begin in, leave backwards and skip, and what goes against them."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dealtrail.domain.errors import DealtrailError, error
from dealtrail.domain.texts import unique

Kind = Literal["entry", "back", "skip"]
KINDS: tuple[Kind, ...] = ("entry", "back", "skip")


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the stages that a deal may begin in (`entry`), leave backwards (`back`), skip (`skip`); None is any."""

    entry: tuple[str, ...] | None = None
    back: tuple[str, ...] | None = None
    skip: tuple[str, ...] | None = None

    def against(self, keys: Sequence[str], here: int | None, there: int) -> tuple[Kind, list[str]] | None:
        """Which list a way of a deal goes against, and the stages that it does not hold; None where it is allowed.

        `keys` are the stages in order. The way leads from one place among them to another: from None where the deal
        begins in the pipeline, to the place beyond the last one for a win.
        """
        kind: Kind
        if here is None:
            kind, concerned = "entry", [keys[there]]
        elif there < here:
            kind, concerned = "back", [keys[here]]
        else:
            kind, concerned = "skip", list(keys[here + 1 : there])
        allowed = getattr(self, kind)
        others = [] if allowed is None else [key for key in concerned if key not in allowed]
        return (kind, others) if others else None

    def refusal(self, against: tuple[Kind, list[str]], **facts: Any) -> DealtrailError:
        """The refusal of a way that goes against a list; it says what the list holds."""
        kind, keys = against
        allowed = ", ".join(getattr(self, kind) or ()) or "none"
        return error(f"{kind}_not_allowed", "stage", stage=", ".join(keys), allowed=allowed, **facts)


def parse_allowed(given: Any) -> dict[str, Any]:
    """The lists of a definition, each "any" or keys, checked for their shape; whether its stages have the keys is not.

    Errors: invalid_field, duplicate_key.
    """
    return {kind: _parse(getattr(given, kind), kind) for kind in KINDS}


def _parse(given: object, field: str) -> tuple[str, ...] | None:
    if given is None or given == "any":
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(key, str) for key in given):
        raise error("invalid_field", field, why='give "any", or a list of stage keys')
    unique(given, field)
    return tuple(given)
