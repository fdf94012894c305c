"""Tables for people: aligned, thousands separated, what is nothing dim."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from shutil import get_terminal_size
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dealtrail.cli.values import one_line

# Where nobody looks at it, a line is as long as it must be.
_UNBOUNDED = 10_000
_PROSE_WIDTH = 16
# A line that is shorter leaves out the bars, and what can be left out of the space between columns.
_ROOMY = 100


def width() -> int:
    """How many characters a line of stdout has room for."""
    return get_terminal_size().columns if sys.stdout.isatty() else _UNBOUNDED


def is_roomy() -> bool:
    """Whether a line has room for bars."""
    return width() >= _ROOMY


def _gap() -> int:
    return 2 if is_roomy() else 1


def say(*parts: RenderableType) -> None:
    """Print texts and tables to stdout; no text is ever read as markup, and no figure is cut off to fit a line."""
    for part in parts:
        grid = isinstance(part, Table) and part.show_header
        room = max(width(), _narrowest(part)) if isinstance(part, Table) else width()
        console = Console(width=room, markup=False, highlight=False, emoji=False)
        with console.capture() as printed:
            console.print(part)
        lines = [line.rstrip() for line in printed.get().splitlines()]
        click.echo("\n".join(["", *lines, ""] if grid else lines))


def _narrowest(grid: Table) -> int:
    """The least width of a table: columns of figures, dates and keys whole, prose folded."""
    console = Console(width=_UNBOUNDED)
    needed = len(grid.columns) * _gap()
    for column in grid.columns:
        widest = max(console.measure(cell).maximum for cell in (column.header, *column.cells))
        needed += widest if column.no_wrap else min(widest, _PROSE_WIDTH)
    return needed


def table(*columns: str, title: str | None = None) -> Table:
    """A table: columns of numbers (>, to the right), of prose that folds (~), and of what stays whole."""
    made = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        title=text(title, "bold") if title else None,
        title_justify="left",
        pad_edge=False,
        padding=(0, _gap() - 1, 0, 0),  # the box itself puts a blank between columns
    )
    for column in columns:
        right, prose = column.startswith(">"), column.startswith("~")
        name = column.lstrip(">~")
        made.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=not prose)
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
    return "" if share is None else "100%" if share == 1 else f"{share:.2%}"


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
