"""Reports of the engine in the shape of the naive model's, to be compared."""

from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """A report as dicts and lists, amounts and moments as they are."""
    if isinstance(value, msgspec.Struct):
        names = type(value).__struct_encode_fields__
        return {
            name: plain(getattr(value, field)) for name, field in zip(names, type(value).__struct_fields__, strict=True)
        }
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def figures(report: Any) -> dict[str, Any]:
    """What the model can know of a report: all but the question and the digests."""
    left_out = ("question", "content_digest", "digest")
    return {key: value for key, value in plain(report).items() if key not in left_out}
