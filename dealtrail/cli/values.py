"""What stands on a command line, as values: `name=value` pairs, numbers, and definitions from files."""

import os
import re
from collections.abc import Iterable
from typing import Any

import click

from dealtrail.domain.errors import DealtrailError

# As much as a definition or an action may reasonably have, so that no file fills the memory.
MAX_BYTES = 1_048_576
_AMOUNT = re.compile(r"(?P<amount>\S+)[ :](?P<currency>[A-Za-z]{3})")


class Number(click.ParamType[int | float]):
    """A number as it was written: 90 is whole, 1.5 is not. It comes back the same in a report's question."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """The number, or wrong usage."""
        if isinstance(value, int | float):
            return value
        number = scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class DefinitionFile(click.ParamType[dict[str, Any]]):
    """A JSON or TOML file of a definition: an object with `stages`, and what else `redefine_pipeline` takes."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """What the file holds, or wrong usage where it cannot be read as an object."""
        if isinstance(value, dict):
            return value
        try:
            with open(value, "rb") as file:
                read = file.read(MAX_BYTES + 1)
        except OSError as trouble:
            self.fail(f"{value}: {os.strerror(trouble.errno or 0)}", param, ctx)
        if len(read) > MAX_BYTES:
            self.fail(f"{value} is longer than {MAX_BYTES:,} bytes", param, ctx)
        try:
            text = read.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.fail(f"{value} is not UTF-8 text", param, ctx)
        held = _parsed(text, value, self, param, ctx)
        if not isinstance(held, dict):
            self.fail(f'{value} holds no object; give one such as {{"stages": [...], "moves": {{...}}}}', param, ctx)
        return held

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Leave it to the shell to complete file names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


def _parsed(
    text: str, path: str, kind: DefinitionFile, param: click.Parameter | None, ctx: click.Context | None
) -> Any:
    from dealtrail.domain.texts import parse_toml, strict_json

    if path.lower().endswith(".toml"):
        try:
            return parse_toml(text)
        except ValueError as trouble:
            kind.fail(f"{path} is not valid TOML: {trouble}", param, ctx)
    try:
        return strict_json(text)
    except DealtrailError as refusal:
        kind.fail(f"{path} is not valid JSON (a TOML file's name ends in .toml): {refusal.message}", param, ctx)


def scalar(text: str) -> Any:
    """A value as JSON reads it, if it is null, a boolean, a number or a text in quotes; else the text itself."""
    import msgspec

    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    return text if isinstance(value, dict | list) else value


def word(text: str) -> str | None:
    """A text, but null for none; `"null"` in quotes is the text, and so is a number."""
    value = scalar(text)
    return value if value is None or (isinstance(value, str) and text.startswith('"')) else text


def pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """`name=value` pairs. Wrong usage: one without `=`, or a name that stands twice."""
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option}: {pair!r} is no NAME=VALUE")
        if name in found:
            raise click.UsageError(f"{option}: {name} is given twice")
        found[name] = value
    return found


def facts(given: Iterable[str], option: str) -> dict[str, Any]:
    """Filters or a group: attributes as JSON scalars, while owners, sources and currencies are always texts."""
    return {
        name: scalar(value) if name.startswith("attributes.") else word(value)
        for name, value in pairs(given, option).items()
    }


def action(name: str, given: Iterable[str]) -> dict[str, Any]:
    """An action from its name and `field=value` pairs.

    `value=1200.50:EUR` is money, `attributes.seats=5` and `personal.contact=Ada` go into their maps, null is none.
    """
    built: dict[str, Any] = {"action": name}
    for field, text in pairs(given, "record").items():
        group, dot, inner = field.partition(".")
        if dot and group in ("attributes", "personal"):
            inside = built.setdefault(group, {})
            if not isinstance(inside, dict):
                raise click.UsageError(f"record: give {group} either whole or by its names")
            inside[inner] = scalar(text) if group == "attributes" else word(text)
        else:
            if field in built:
                raise click.UsageError(f"record: {field} is given twice")
            built[field] = _field(field, text)
    return built


def _field(field: str, text: str) -> Any:
    if field == "value" and (match := _AMOUNT.fullmatch(text)):
        return {"amount": match["amount"], "currency": match["currency"].upper()}
    if field in ("version", "expected_version"):
        return scalar(text)
    if field in ("value", "attributes", "personal", "stages", "moves", "reasons", "reason_moves", "assignment"):
        return json_value(text)
    return word(text)


def json_value(text: str) -> Any:
    """Whatever JSON says, or the text itself: the field's own rule then says what it should have been."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def one_line(text: str) -> str:
    """A text that a terminal may show: what is not printable, an escape sequence for one, is shown as a dot."""
    return "".join(c if c.isprintable() else "·" for c in text)
