"""What is to be done, as a command."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer
from dealtrail.cli.progress import waiting

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dealtrail import NextActions

_LISTS = ("actions", "stalled", "unowned", "overdue")


@click.command()
@click.argument("name", metavar="PIPELINE")
@click.option("--owner", metavar="NAME", help="Only deals of that owner.")
@options.moments
@options.output("json", "csv")
@options.database()
def todo(name: str, kind: str, **asked: Any) -> None:
    """Tell what is to be done for the open deals, and which of them are neglected.

    \b
    dealtrail todo b2b --owner anna
    dealtrail todo b2b --as-of 2026-03-31 --known-at 2026-03-31        what was to be done on that day

    First come the actions of each deal's stage that are not done, the required and the longest waiting first; then
    deals that are stalled, without owner, or past their expected close. CSV has a row for each, its list in front.
    """
    with options.open_trail() as trail, waiting("looking for what is to be done"):
        found = trail.next_actions(name, **asked)
    answer(kind, found, lambda: _tables(found), lambda: _rows(found), _fields())


def _rows(found: "NextActions") -> Iterator[dict[str, Any]]:
    """A row for each entry of each list, with all columns that any of them has."""
    from msgspec import to_builtins

    for name in _LISTS:
        for one in getattr(found, name):
            yield dict.fromkeys(_fields()) | {"list": name} | to_builtins(one)


def _fields() -> tuple[str, ...]:
    from dealtrail.projections.todo import NextAction, OverdueDeal

    return tuple(dict.fromkeys(("list", *NextAction.__struct_fields__, *OverdueDeal.__struct_fields__)))


def _tables(found: "NextActions") -> "Iterator[RenderableType]":
    from dealtrail.cli.report_tables import asked_of, provenance
    from dealtrail.cli.tables import add, table, text

    yield text(asked_of(found))
    own = ("Deal", "Owner", "Stage", ">Days\nin stage")
    more: dict[str, tuple[tuple[str, ...], Any]] = {
        "actions": (("~Action", "Required"), lambda one: (one.name, "required" if one.required else "")),
        "stalled": ((">Days\nover",), lambda one: (one.days_over,)),
        "unowned": ((), lambda one: ()),
        "overdue": (("Expected\nclose", ">Days\nover"), lambda one: (one.expected_close, one.days_over)),
    }
    titles = {"actions": "To do", "stalled": "Stalled", "unowned": "Without owner", "overdue": "Past expected close"}
    for name, (columns, cells) in more.items():
        rows = getattr(found, name)
        if not rows:
            yield text(f"{titles[name]}: none")
            continue
        made = table(*own, *columns, title=f"{titles[name]}: {len(rows):,}")
        for one in rows:
            add(made, (one.deal, one.owner, one.stage, one.days_in_stage, *cells(one)))
        yield made
    yield text(provenance(found), "dim")
