"""The options that commands share, and the store that they name."""

import os
from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dealtrail.cli.values import DefinitionFile, Number, facts, scalar

if TYPE_CHECKING:
    from dealtrail import KeyFile, Trail

F = TypeVar("F", bound=Callable[..., Any])
_DB = "dealtrail.db"
_KEYS = "dealtrail.keys"
_MASTER = "dealtrail.master"
_MASTER_KEY = "DEALTRAIL_MASTER_KEY"


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _remembered(name: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def remember(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
        if path is not None:
            ctx.meta[name] = path

    return remember


def database(**more: Any) -> Callable[[F], F]:
    """--db, which stands before or behind the name of a command."""
    return click.option(
        "--db",
        metavar="FILE",
        type=click.Path(),
        expose_value=False,
        callback=_remembered(_DB),
        help="The file of the store.",
        **more,
    )


def key_file(*, envvars: bool = False) -> Callable[[F], F]:
    """--keys and --master-key-file, which stand before the name of any command or behind one that is about keys."""

    def option(name: str, remembered: str, variable: str, text: str) -> Callable[[F], F]:
        return click.option(
            name,
            metavar="FILE",
            type=click.Path(),
            expose_value=False,
            callback=_remembered(remembered),
            help=text,
            envvar=variable if envvars else None,
            show_envvar=envvars,
        )

    return together(
        option("--keys", _KEYS, "DEALTRAIL_KEYS", "The file of the keys of personal texts."),
        option(
            "--master-key-file",
            _MASTER,
            "DEALTRAIL_MASTER_KEY_FILE",
            f"Holds the key of that file, 32 bytes in base64; or {_MASTER_KEY} does.",
        ),
    )


def named_store() -> str:
    """The path of the store that the command line or the environment names. Wrong usage: none is named."""
    path = click.get_current_context().meta.get(_DB)
    if not path:
        raise click.UsageError("no store is named; give --db FILE, or set DEALTRAIL_DB")
    return str(path)


def open_trail(*, create: bool = False) -> "Trail":
    """The store that the command line names, with its keys where it names them; founded only where `create` says so.

    Where the store is founded, so is the file of its keys. Errors: no_store and others.
    """
    from dealtrail import Trail

    path = named_store()
    founds = create and not os.path.exists(path)
    return Trail.open(path, create=create, keys=keys_if_named(create=founds))


def keys_if_named(*, create: bool) -> "KeyFile | None":
    """The keys that the command line or the environment names, if it names any."""
    return named_keys(create=create) if _KEYS in click.get_current_context().meta else None


def named_keys(*, create: bool = False) -> "KeyFile":
    """The keys that the command line or the environment names. Wrong usage: none, or no master key, is named."""
    from dealtrail import KeyFile

    path = click.get_current_context().meta.get(_KEYS)
    if not path:
        raise click.UsageError("no file of keys is named; give --keys FILE, or set DEALTRAIL_KEYS")
    return KeyFile(str(path), _master_key(), create=create)


def _master_key() -> bytes:
    """The master key, which stands on no command line: others can see those."""
    path = click.get_current_context().meta.get(_MASTER)
    if path:
        with open(path, "rb") as file:
            text = file.read(1_000)
    else:
        text = os.environ.get(_MASTER_KEY, "").encode()
    if not text.strip():
        raise click.UsageError(f"no master key is given; give --master-key-file FILE, or set {_MASTER_KEY}")
    try:
        key = b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise click.UsageError("the master key is no base64 of 32 bytes; make one with: openssl rand -base64 32")
    return key


def output(*kinds: str) -> Callable[[F], F]:
    """--format: a table for people, and what programs read."""
    return click.option(
        "--format", "kind", type=click.Choice(["table", *kinds]), default="table", help="How to answer; default: table."
    )


actor = click.option(
    "--actor", metavar="NAME", envvar="DEALTRAIL_ACTOR", help="Who did it, where the action has no `by`."
)

as_known = together(
    click.option("--known-at", metavar="MOMENT", help="What had been recorded by then; default: now."),
    click.option("--tz", default="UTC", metavar="ZONE", help="The time zone of bare dates; default: UTC."),
)
moments = together(
    click.option("--as-of", metavar="MOMENT", help="The moment that the answer describes; default: now."), as_known
)
where = click.option(
    "--where",
    metavar="NAME=VALUE",
    multiple=True,
    callback=lambda ctx, param, given: facts(given, "--where"),
    help="Only deals with that owner, source, currency or attributes.NAME; repeatable. null means none. "
    "An attribute is a number or boolean where it looks like one; quote it to mean a text: attributes.zip='\"1011\"'.",
)
definition = together(
    click.option(
        "--definition",
        metavar="VERSION",
        help="The definition to read stages by: as_of (default), current, or a version such as 2.",
    ),
    click.option(
        "--draft",
        metavar="FILE",
        type=DefinitionFile(),
        help="A what-if definition, with stages and moves: JSON or TOML.",
    ),
)
group_by = click.option(
    "--group-by",
    metavar="NAME",
    multiple=True,
    help="Also by owner, source, currency or attributes.NAME; repeatable.",
)
report = together(moments, definition, where)


def cohort(required: bool) -> Callable[[F], F]:
    """The options of a funnel."""
    return together(
        click.option(
            "--cohort",
            metavar="PERIOD",
            required=required,
            help="Deals opened in 2026, 2026-Q1, 2026-03, 2026-W09, 2026-03-15 or A..B (B excluded).",
        ),
        click.option("--within", metavar="DAYS", type=Number(), help="Count only that many days from each opening."),
        click.option(
            "--fiscal-year-start", metavar="MONTH", type=int, help="The month in which a year begins; default: 1."
        ),
    )


def chosen_definition(given: str | None, draft: dict[str, Any] | None) -> Any:
    """The `definition` argument of a report. Wrong usage: both options."""
    if draft is not None:
        if given is not None:
            raise click.UsageError("give --definition or --draft, not both")
        return draft
    number = None if given is None else scalar(given)
    return number if isinstance(number, int) else given or "as_of"
