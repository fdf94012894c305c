"""The texts and shapes that come in, with their limits, and the one place where msgspec's verdict becomes ours."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dealtrail.domain.errors import DealtrailError, error, nearest

# Patterns end with \Z: `$` would let a line feed through. \ud800-\udfff are halves of characters, which no file holds.
Key = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\Z")]
DealId = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}\Z")]
Word = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}\Z")]
Prose = Annotated[str, Meta(max_length=20_000, pattern=r"^[^\x00\ud800-\udfff]*\Z")]
Reason = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,1000}\Z")]

_CODE_OF_FIELD = {
    "deal": "invalid_deal",
    "into": "invalid_deal",
    "pipeline": "invalid_key",
    "stage": "invalid_key",
    "key": "invalid_key",
    "to": "invalid_key",
}
_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `(?P<where>.*)`)?", re.DOTALL)
_QUOTED = re.compile(r"`(.*)`", re.DOTALL)


def shaped(given: object, kind: Any, field: str = "") -> Any:
    """What came in, as the given type; refused with our codes where it does not fit.

    Errors: missing_field, unknown_field, invalid_key, invalid_deal, invalid_field.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as refusal:
        raise _refusal(str(refusal), given, kind, field) from None
    except (RecursionError, OverflowError, TypeError) as refusal:
        raise error("invalid_field", field or None, why=str(refusal)) from None


def _refusal(message: str, given: object, kind: Any, field: str) -> DealtrailError:
    match = _MESSAGE.fullmatch(message)
    what, where = (match["what"], match["where"] or "") if match else (message, "")
    # msgspec writes `$.stages[0].key`; dict keys and values come as `[...]`, and `key` where a key is at fault.
    path = ".".join(part for part in (field, where.removeprefix("$").lstrip(".")) if part).replace(".[", "[")
    quoted = _QUOTED.search(what)
    if "missing required field" in what and quoted:
        return error("missing_field", ".".join(p for p in (path, quoted[1]) if p))
    if what.endswith("got `null`") and path:
        return error("missing_field", path)  # null is absence, and this field may not be absent
    if "unknown field" in what and quoted:
        known = getattr(kind, "__struct_encode_fields__", ()) if not where else ()
        name = quoted[1]
        return error("unknown_field", ".".join(p for p in (path, name[:100]) if p), nearest=nearest(name, known))
    code = _CODE_OF_FIELD.get(path.rsplit(".", 1)[-1].rsplit("]", 1)[-1], "invalid_field")
    if code != "invalid_field":
        return error(code, path, given=_found(given, path.removeprefix(field).lstrip(".")))
    return error("invalid_field", path or None, why=_plain(what))


def _plain(what: str) -> str:
    """msgspec's verdict without its regular expressions."""
    if "matching regex" in what:
        return "give 1 to 255 characters (a reason: 1,000; prose: 20,000), none of them a control character"
    return what[:1].lower() + what[1:]


def _found(given: object, path: str) -> object:
    """The value at a path such as `stages[0].key`, to be shown."""
    for part in re.findall(r"[^.\[\]]+", path):
        try:
            given = given[int(part)] if isinstance(given, list | tuple) else given[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError, ValueError):
            return given
    return given
