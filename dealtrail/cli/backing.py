"""Backing a store up, and founding one from what was backed up or comes from elsewhere."""

import click

from dealtrail.cli import options
from dealtrail.cli.formats import json_text
from dealtrail.cli.progress import Ticker
from dealtrail.cli.values import one_line


@click.command()
@click.argument("dest", metavar="DEST", type=click.Path())
@click.option(
    "--since",
    metavar="POSITION",
    type=click.IntRange(min=0),
    help="Write the events after it as JSON Lines, 0 for all; default: copy the store.",
)
@click.option("--overwrite", is_flag=True, help="Replace what stands at DEST.")
@options.output("json")
@options.database()
def backup(dest: str, since: int | None, overwrite: bool, kind: str) -> None:
    """Back a store up into the new file DEST, while others write to it.

    DEST is a store of its own, which was verified before it got its name. With --since it is JSON Lines of the
    events after that position: --since 0 once, then --since the position that the backup before ended at.
    """
    with options.open_trail() as trail, Ticker("copying") as progress:
        found = trail.backup(dest, since=since, overwrite=overwrite, progress=progress)

    if kind == "json":
        click.echo(json_text(found))
        return
    click.echo(one_line(f"{found.path}: {_events(found.position - found.since)}, {found.bytes:,} bytes, verified"))
    click.echo(f"head {found.position}:{found.chain}")


@click.command()
@click.argument("store", metavar="STORE", type=click.Path())
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@options.output("json")
def restore(store: str, files: tuple[str, ...], kind: str) -> None:
    """Found the new store STORE from JSON Lines.

    FILE... is what `backup --since 0` wrote, then its increments in order: the store gets the same positions, times
    and chain. Or it is one history of actions that were recorded elsewhere, each with its `recorded_at`: the
    store gets a chain of its own, and `status` says that its times come from elsewhere; where --keys is named, its
    personal texts are encrypted. If anything is wrong with a line, nothing is left at STORE.
    """
    from dealtrail import Trail

    with Ticker("restoring") as progress:
        found = Trail.restore(store, files, progress=progress, keys=options.keys_if_named(create=True))
    if kind == "json":
        click.echo(json_text(found))
        return
    brought = f", recorded elsewhere up to position {found.brought:,}" if found.brought else ""
    click.echo(one_line(f"{found.path}: {_events(found.position)}{brought}, verified"))
    click.echo(f"head {found.position}:{found.chain}")


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"
