"""Tables for people: aligned, thousands separated, what is nothing dim."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dealtrail.cli.values import one_line

# Where nobody looks at it, a line is as long as it must be: a figure is never cut off.
_UNBOUNDED = 10_000


def say(*parts: RenderableType) -> None:
    """Print texts and tables to stdout; no text is ever read as markup."""
    if sys.stdout.isatty():
        console = Console(markup=False, highlight=False, emoji=False)
        for part in parts:
            console.print(part)
        return
    console = Console(file=StringIO(), width=_UNBOUNDED, markup=False, highlight=False, emoji=False)
    for part in parts:
        with console.capture() as printed:
            console.print(part)
        for line in printed.get().splitlines():
            click.echo(line.rstrip())


def table(*columns: str, title: str | None = None) -> Table:
    """A table; a column whose name begins with > is of numbers, and aligned to the right."""
    made = Table(
        box=SIMPLE_HEAD,
        title=text(title) if title else None,
        title_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return made


def add(made: Table, cells: Iterable[object], *, style: str = "", end_section: bool = False) -> None:
    """Add a row of whatever is to be shown."""
    made.add_row(
        *(cell if isinstance(cell, Text) else text(shown(cell)) for cell in cells), style=style, end_section=end_section
    )


def text(given: str, style: str = "") -> Text:
    """A text that a terminal may show, line by line."""
    return Text("\n".join(one_line(line) for line in given.split("\n")), style=style)


def facts(pairs: Sequence[tuple[str, object]]) -> Table:
    """Names and values, one pair a line."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in pairs:
        made.add_row(Text(name, style="bold"), value if isinstance(value, Text) else text(shown(value)))
    return made


def shown(value: object) -> str:
    """A value as people read it: thousands separated, nothing for none."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | Decimal():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case _:
            return str(value)


def percent(share: float | None) -> str:
    """A share as a percentage; shares have 4 decimals, so this is all of it."""
    return "" if share is None else f"{share:.2%}"


def amounts(of_currency: dict[str, Decimal]) -> str:
    """Amounts by currency, one a line."""
    return "\n".join(f"{amount:,} {currency}" for currency, amount in of_currency.items())


def bar(part: float, whole: float, width: int = 16) -> Text:
    """A bar as long as its part of the whole."""
    eighths = round(8 * width * part / whole) if whole else 0
    full, rest = divmod(eighths, 8)
    return Text("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else ""), style="cyan")


def at(moment: datetime | None, tz: str = "UTC") -> str:
    """A moment to the minute in a time zone."""
    return "" if moment is None else f"{moment.astimezone(ZoneInfo(tz)):%Y-%m-%d %H:%M}"


def scalar(value: Any) -> str:
    """The value of a group or attribute."""
    return "(none)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def attributes(held: dict[str, Any]) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name}={scalar(value)}" for name, value in held.items())
