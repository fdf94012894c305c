"""The texts and shapes that come in, with their limits, and the one place where msgspec's verdict becomes ours."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeGuard

import msgspec
from msgspec import Meta

from dealtrail.domain.errors import DealtrailError, error, nearest

# Patterns end with \Z: `$` would let a line feed through. \ud800-\udfff are halves of characters, which no file holds.
Key = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\Z")]
DealId = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}\Z")]
Word = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}\Z")]
Prose = Annotated[str, Meta(max_length=20_000, pattern=r"^[^\x00\ud800-\udfff]*\Z")]
Reason = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,1000}\Z")]

# The conditions of a move lie seven levels deep, and nothing lies deeper.
_NESTING = 10

_CODE_OF_FIELD = {
    "deal": "invalid_deal",
    "into": "invalid_deal",
    "pipeline": "invalid_key",
    "stage": "invalid_key",
    "key": "invalid_key",
    "to": "invalid_key",
}
# Reading a key takes time that grows with the square of its parts and more: one of some thousands hangs. No key of ours
# has more than three.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){16}""", re.ASCII)
_QUOTED = re.compile(r"`(.*)`", re.DOTALL)


def parse_json(given: bytes | str) -> dict[str, Any]:
    """The object that a JSON text holds, as `Trail.record` takes it: the one door for actions that come as text.

    Bytes are UTF-8. Errors: invalid_json (other text, no object, NaN, a number too long to be read), duplicate_key.
    """
    found = strict_json(given)
    if not isinstance(found, dict):
        raise error("invalid_json", why='give an object such as {"action": "open_deal", ...}')
    return found


def strict_json(given: bytes | str) -> Any:
    """Whatever a JSON text holds. Errors: those of `parse_json`."""
    try:
        text = given.decode() if isinstance(given, bytes | bytearray) else given
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError as trouble:
        raise error("invalid_json", why=f"byte {trouble.start} is no UTF-8") from None
    except json.JSONDecodeError as trouble:
        raise error("invalid_json", why=str(trouble)) from None
    except ValueError:
        raise error("invalid_json", why="a number in it is too long to be read") from None
    except RecursionError:
        raise error("invalid_json", why="it is nested too deeply") from None
    except TypeError:
        raise error("invalid_json", why="give it as bytes or text") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise error("duplicate_key", given=name)
        found[name] = value
    return found


def _no_number(name: str) -> NoReturn:
    raise error("invalid_json", why=f"{name} is no number")


def parse_toml(text: str, number: Callable[[str], Any] = float) -> dict[str, Any]:
    """What a TOML text holds; `number` makes its numbers with a point. Raises ValueError where it is none."""
    if _LONG_KEY.search(text):
        raise ValueError("a key in it has more than 16 parts")
    try:
        return tomllib.loads(text, parse_float=number)
    except ArithmeticError:
        raise ValueError("a number in it is no decimal") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain(given: Any, field: str, depth: int = 0) -> Any:
    """A value of plain types alone: an enum or another kind of text, number, map or list is taken for what it holds.

    So what is decided is what the log will hold. Errors: invalid_field (nested too deeply, a name that is no text, a
    number that a file would not give back).
    """
    kind = type(given)
    if kind is str or kind is bool or given is None:
        return given
    if isinstance(given, str):
        return str.__str__(given)
    if isinstance(given, int):
        if not -(2**63) < given < 2**63:
            raise error("invalid_field", field, why="a whole number has at most 18 digits")
        return int(given)
    if isinstance(given, float):
        return float(given)
    if isinstance(given, Mapping | list | tuple) and depth > _NESTING:
        raise error("invalid_field", field, why="it is nested too deeply")
    if isinstance(given, Mapping):
        return {plain_name(name, field): plain(value, field, depth + 1) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return [plain(value, field, depth + 1) for value in given]
    return given


def is_text(given: object) -> TypeGuard[str]:
    """Whether this is a text that a file can hold: one without halves of characters."""
    return isinstance(given, str) and (given.isascii() or not any("\ud800" <= c <= "\udfff" for c in given))


def is_prose(given: object) -> TypeGuard[str]:
    """Whether this is a text as `Prose` is, of any length: one without NUL and halves of characters."""
    return is_text(given) and "\0" not in given


def plain_name(given: object, field: str | None) -> str:
    """A name in an object, as a text that a file can hold. Errors: invalid_field."""
    if type(given) is str and given.isascii():
        return given
    if not isinstance(given, str):
        raise error("invalid_field", field, why="the name of a field is a text")
    if not is_text(given):
        raise error("invalid_field", field, why="the name of a field holds no half characters")
    return str.__str__(given)


def shaped(given: object, kind: Any, field: str = "") -> Any:
    """What came in, as the given type; refused with our codes where it does not fit.

    Errors: missing_field, unknown_field, invalid_key, invalid_deal, invalid_field.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as refusal:
        raise _refusal(str(refusal), given, kind, field) from None
    except (RecursionError, OverflowError, TypeError, UnicodeEncodeError) as refusal:
        raise error("invalid_field", field or None, why=str(refusal)) from None


def _refusal(message: str, given: object, kind: Any, field: str) -> DealtrailError:
    what, at, where = message.rpartition(" - at `")
    what, where = (what, where.removesuffix("`")) if at else (message, "")
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


def without_nulls(given: object, levels: int = 6) -> object:
    """Stages, their actions and the like without fields that are null: an optional one is absent then.

    Nothing of a definition lies as deep as `levels`, such as lists in maps; what does is left as it is, to be refused.
    """
    if levels and isinstance(given, Mapping):
        return {name: without_nulls(value, levels - 1) for name, value in given.items() if value is not None}
    if levels and isinstance(given, list | tuple):
        return [without_nulls(one, levels - 1) for one in given]
    return given


def unique(keys: Sequence[str], where: str) -> None:
    """Refuse a key that stands twice. Errors: duplicate_key."""
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise error("duplicate_key", where, given=key)
