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
        _write_csv([_flat(row) for row in rows()], fields)
    else:
        from dealtrail.cli.tables import say

        say(*table())


def json_text(value: Any) -> str:
    """A value as one line of JSON."""
    import msgspec

    return msgspec.json.encode(value).decode()


def _flat(row: Any) -> dict[str, Any]:
    """A row with its maps taken apart: `value.amount`, `attributes.seats`. Lists become JSON."""
    import msgspec

    flat: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(row).items():
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
    """The rows under one header: columns in the order of the fields, those that only some rows have with their kind."""
    found = list(dict.fromkeys(name for row in rows for name in row)) or list(fields)
    # Sorting is stable: within a map the names stay as they came.
    order = {name: place for place, name in enumerate(dict.fromkeys(name.split(".")[0] for name in found))}
    columns = sorted(found, key=lambda name: order[name.split(".")[0]])
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
