"""Answers for programs: JSON as msgspec writes it, and CSV with a column for each field, nested ones with dots."""

import csv
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


def answer(
    kind: str,
    value: Any,
    table: Callable[[], Iterable["RenderableType"]],
    rows: Callable[[], Iterable[Any]],
    fields: Iterable[str] = (),
) -> None:
    """Print an answer to stdout: a table, `value` as JSON, or `rows` as CSV, whose `fields` stand also above no row."""
    if kind == "json":
        click.echo(json_text(value))
    elif kind == "csv":
        import msgspec

        _write_csv([msgspec.to_builtins(row) for row in rows()], fields)
    else:
        from dealtrail.cli.tables import say

        say(*table())


def json_text(value: Any) -> str:
    """A value as one line of JSON."""
    import msgspec

    return msgspec.json.encode(value).decode()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its maps taken apart: `value.amount`, `attributes.seats`. Lists become JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": _cell(part) for inner, part in value.items()}
        else:
            flat[name] = _cell(value)
    return flat


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_text(value) if isinstance(value, list | dict) else value


def _write_csv(rows: list[dict[str, Any]], fields: Iterable[str]) -> None:
    """The rows under one header, in the order of their fields; a map's columns are those that any row has in it."""
    flat = [_flat(row) for row in rows]
    places = {name: place for place, name in enumerate(dict.fromkeys(name for row in rows for name in row))}
    columns = sorted(dict.fromkeys(name for row in flat for name in row), key=lambda name: places[name.split(".")[0]])
    writer = csv.DictWriter(sys.stdout, columns or list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
