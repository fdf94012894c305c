"""Forgetting a subject, and beginning to encrypt personal texts."""

from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer

if TYPE_CHECKING:
    from dealtrail import Forgotten


@click.command()
@click.argument("subject")
@click.option("--by", metavar="NAME", required=True, help="Who decided it; recorded for ever.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; recorded for ever.")
@click.option("--partly", is_flag=True, help="Also where events recorded in clear will stay readable.")
@options.key_file()
@options.output("json")
@options.database()
def forget(subject: str, by: str, reason: str, partly: bool, kind: str) -> None:
    """Make the personal texts about a subject unreadable, for ever.

    Its key is destroyed. Every title, note and personal map about it reads [erased] from then on, also in old
    copies of the log; no figure of any report changes. Copies of the file of keys must go too.
    """
    keys = options.named_keys()
    from dealtrail import Trail

    with Trail.open(options.named_store(), create=False, keys=keys) as trail:
        forgotten = trail.forget(subject, by, reason, partly=partly)
    answer(kind, forgotten, lambda: _told(forgotten), list)


def _told(forgotten: "Forgotten") -> Any:
    from dealtrail.cli.tables import text

    yield text(
        f"{forgotten.subject}: forgotten at position {forgotten.position:,}. The personal texts of "
        f"{forgotten.erased:,} events read [erased]."
    )
    if forgotten.in_clear:
        yield text(f"{forgotten.in_clear:,} events were recorded in clear and can still be read.", "yellow")
    if forgotten.others:
        others = ", ".join(forgotten.others)
        yield text(f"Texts of the same deals stand under other subjects, which are not forgotten: {others}.", "yellow")


@click.command("adopt-keys")
@options.key_file()
@options.database()
def adopt_keys() -> None:
    """Encrypt personal texts from here on, in a store that has none in clear.

    The file of keys is founded where there is none. A store that holds personal texts in clear is refused: an event
    is never changed, so nothing can encrypt them any more.
    """
    store = options.named_store()
    from dealtrail import Trail

    with Trail.open(store, create=False) as trail:
        trail.adopt_keys(options.named_keys(create=True))
    click.echo("Personal texts of this store are encrypted. Keep its keys and their master key apart from it.")
