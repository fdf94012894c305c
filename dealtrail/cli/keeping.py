"""Keeping a store: following its log, seeing how it is, making the read model anew."""

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer, json_text
from dealtrail.cli.progress import Ticker

if TYPE_CHECKING:
    from dealtrail import Status


@click.command()
@click.option(
    "--after", metavar="POSITION", type=click.IntRange(min=0), default=0, help="Events behind it; default: 0."
)
@click.option("--limit", metavar="COUNT", type=click.IntRange(min=1), help="At most so many; default: all.")
@options.database()
def follow(after: int, limit: int | None) -> None:
    """Print the events of the log as JSON Lines.

    They come in its order, up to its present end. Whoever keeps up with the log remembers the last `position`,
    and comes back with --after.
    """
    with options.open_trail() as trail:
        for event in islice(trail.follow(after), limit):
            click.echo(json_text(event))


@click.command()
@options.output("json")
@options.database()
def status(kind: str) -> None:
    """Show positions, versions and file sizes of a store."""
    with options.open_trail() as trail:
        found = trail.status()
    answer(kind, found, lambda: _status(found), list)


def _status(found: "Status") -> Any:
    from dealtrail.cli.tables import add, facts, table, text

    last = "" if found.recorded_at is None else f", recorded at {found.recorded_at:%Y-%m-%d %H:%M:%S} UTC"
    oldest = f"the oldest of them for {found.behind_seconds:,.0f} s"
    behind = f"{found.behind:,} events behind, {oldest}; the next question catches up" if found.behind else "up to date"
    yield facts(
        [
            ("store", found.path),
            ("log", f"{found.log}, format {found.format}"),
            ("position", f"{found.position:,}{last}"),
            ("chain", found.chain),
            *([("brought", f"recorded_at from elsewhere up to position {found.brought:,}")] if found.brought else []),
            ("read model", f"position {found.read_position:,}, {behind}"),
            ("generation", f"{found.generation}; with files: {', '.join(map(str, found.generations)) or 'none'}"),
            ("last rebuild", _rebuilt(found)),
            ("last verify", _verified(found)),
            ("bytes", ", ".join(f"{name} {size:,}" for name, size in _sizes(found).items())),
            ("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
        ]
    )
    files = table("File", ">Bytes")
    for name, size in found.files.items():
        add(files, (name, size))
    yield files
    for advice in found.advice:
        yield text(advice, "yellow")


def _rebuilt(found: "Status") -> str:
    last = found.last_rebuild
    return (
        "none" if last is None else f"{last.at:%Y-%m-%d %H:%M:%S} UTC, {last.position:,} events in {last.seconds:g} s"
    )


def _verified(found: "Status") -> str:
    last = found.last_verify
    if last is None:
        return "none"
    outcome = f"{last.findings:,} findings" if last.findings else "sound"
    return f"{last.at:%Y-%m-%d %H:%M:%S} UTC, position {last.position:,}: {outcome}"


def _sizes(found: "Status") -> dict[str, int]:
    return {"log": found.sizes.log, "wal": found.sizes.wal, "read model": found.sizes.read_model}


@click.command()
@options.database()
def rebuild() -> None:
    """Make the read model anew from the log. The log itself is not touched."""
    with options.open_trail() as trail, Ticker("folding events") as progress:
        trail.rebuild(progress)
        position = trail.status().position
    click.echo(f"The read model was made anew from {position:,} events.")
