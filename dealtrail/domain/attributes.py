"""The attributes that a host gives its deals, at the door: which names and values they may have."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta

from dealtrail.domain.conditions import Scalar
from dealtrail.domain.errors import error
from dealtrail.domain.texts import Word, is_prose, plain

AttributeMap = Annotated[
    dict[Word, Annotated[str, Meta(max_length=10_000)] | int | float | bool | None], Meta(max_length=500)
]


def parse_attributes(given: object, field: str) -> Any:
    """Attributes of plain types alone; their shape is checked with that of their action. Errors: invalid_field."""
    if isinstance(given, Mapping) and any(isinstance(value, Decimal) for value in given.values()):
        raise error("invalid_field", field, why="give a decimal as text, or as a number that may lose digits")
    return plain(given, field)


def check_attributes(attributes: Mapping[str, Scalar | None] | None) -> None:
    """Refuse the values that a file or another program would not give back as they were. Errors: invalid_field."""
    for name, value in (attributes or {}).items():
        where = f"attributes.{name}"
        if isinstance(value, float) and not math.isfinite(value):
            raise error("invalid_field", where, why="a number is finite")
        if isinstance(value, str) and not is_prose(value):
            raise error("invalid_field", where, why="a text holds no NUL and no half characters")
