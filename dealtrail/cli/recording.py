"""Recording one action, and defining pipelines from files."""

import sys
from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer, json_text
from dealtrail.cli.progress import waiting
from dealtrail.cli.values import MAX_BYTES, DefinitionFile, action
from dealtrail.domain.errors import error

if TYPE_CHECKING:
    from dealtrail import Moving, Recorded

_at = click.option("--at", metavar="TIME", help="When it came into force; default: now.")


@click.command()
@click.argument("words", metavar="[ACTION [FIELD=VALUE]...]", nargs=-1)
@options.actor
@options.output("json")
@options.database()
def record(words: tuple[str, ...], actor: str | None, kind: str) -> None:
    """Record one action: as JSON, as words, or as JSON from stdin.

    \b
    dealtrail record open_deal deal=D-1 pipeline=b2b value=1200.50:EUR owner=anna attributes.seats=5
    dealtrail record move_deal deal=D-1 stage=demo at=2026-03-01T09:00:00Z
    dealtrail record amend deal=D-1 version=2 stage=proposal
    dealtrail record '{"action": "win_deal", "deal": "D-1"}'

    null is none; a text in quotes is always a text: owner='"null"'.
    """
    given = with_actor(_action(words), actor)
    # A store begins with a pipeline: any other action for a file that is not there is meant for another file.
    with options.open_trail(create=given.get("action") == "define_pipeline") as trail:
        _tell(trail.record(given), kind)


def _action(words: tuple[str, ...]) -> dict[str, Any]:
    from dealtrail.domain.texts import parse_json

    if words in ((), ("-",)):
        if not words and sys.stdin.isatty():
            raise click.UsageError("give an action, such as: win_deal deal=D-1")
        given = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(given) > MAX_BYTES:
            raise error("invalid_json", why=f"it is longer than {MAX_BYTES} bytes")
        return parse_json(given)
    if words[0].lstrip().startswith(("{", "[")):
        if len(words) > 1:
            raise click.UsageError("give one action as JSON, in quotes and nothing behind it")
        return parse_json(words[0])
    if "=" in words[0]:
        raise click.UsageError("begin with the name of the action, such as: win_deal deal=D-1")
    return action(words[0], words[1:])


def with_actor(given: dict[str, Any], actor: str | None) -> dict[str, Any]:
    """An action with `by` filled in where it says nobody."""
    return given if actor is None or given.get("by") is not None else given | {"by": actor}


def _tell(recorded: "Recorded", kind: str) -> None:
    def table() -> Any:
        from dealtrail.cli.tables import text

        name = recorded.deal if recorded.pipeline is None else recorded.pipeline
        return [text(f"{name}: version {recorded.version:,}, position {recorded.position:,}")]

    answer(kind, recorded, table, list)


@click.command()
@click.argument("name", metavar="PIPELINE")
@click.argument("definition", metavar="[FILE]", type=DefinitionFile(), required=False)
@click.option("--template", metavar="NAME", help="As that template says; `dealtrail templates` lists them.")
@_at
@options.actor
@options.output("json")
@options.database()
def define(
    name: str, definition: dict[str, Any] | None, template: str | None, at: str | None, actor: str | None, kind: str
) -> None:
    """Define a new pipeline from a JSON or TOML file, or from a template.

    A store that is not there yet is founded.

    \b
    name = "New business"
    [[stages]]
    key = "lead"
    name = "Lead"
    probability = 0.1
    rots_after_days = 14
    actions = [{key = "first-call", name = "First call", required = true}]
    [reasons]
    lost = ["Price", "Timing"]
    [assignment]
    rule = "round_robin"
    owners = [{owner = "anna", weight = 2}, {owner = "ben"}, {owner = "carl", paused = true}]
    """
    if (definition is None) == (template is None):
        raise click.UsageError("give the FILE of a definition, or --template NAME")
    if template is not None:
        from dealtrail.templates import find_template

        definition = find_template(template).definition()
    assert definition is not None  # noqa: S101
    given = with_actor(_of_file("define_pipeline", name, definition, at), actor)
    with options.open_trail(create=True) as trail:
        _tell(trail.record(given), kind)


@click.command()
@click.argument("name", metavar="PIPELINE")
@click.argument("definition", metavar="FILE", type=DefinitionFile())
@click.option("--dry-run", is_flag=True, help="Record nothing: tell which open deals would change their stage.")
@_at
@options.actor
@options.output("json", "csv")
@options.database()
def redefine(
    name: str, definition: dict[str, Any], dry_run: bool, at: str | None, actor: str | None, kind: str
) -> None:
    """Redefine a pipeline from a JSON or TOML file.

    The file holds the stages, moves and assignment of the next version. Every stage that goes needs a move, to a
    stage or by rules that are tried in order:

    \b
    [moves]
    negotiation = "closing"
    proposal = [{when = {field = "value", op = "ge", value = "40000"}, to = "tender"}, {to = "quote"}]
    [reason_moves.lost]
    Price = "Too expensive"
    """
    if kind == "csv" and not dry_run:
        raise click.UsageError("--format csv needs --dry-run")
    given = with_actor(_of_file("redefine_pipeline", name, definition, at), actor)
    with options.open_trail() as trail:
        if not dry_run:
            _tell(trail.record(given), kind)
            return
        given.setdefault("stages", None)
        with waiting("trying the definition"):
            moving = trail.preview_redefinition(**{field: given[field] for field in given if field != "action"})
    answer(kind, moving, lambda: _moving(moving), lambda: moving, ("deal", "from", "to"))


def _of_file(name: str, pipeline: str, definition: dict[str, Any], at: str | None) -> dict[str, Any]:
    """The action of a definition file. Errors: invalid_field, where the file says something else than the command."""
    given = {"action": name, "pipeline": pipeline} | ({} if at is None else {"at": at})
    for field, value in given.items():
        if definition.get(field, value) != value:
            raise error(
                "invalid_field", field, why=f"the file says {json_text(definition[field])}, the command {value}"
            )
    return definition | given


def _moving(moving: "list[Moving]") -> Any:
    from dealtrail.cli.tables import add, table, text

    if not moving:
        yield text("It would be recorded, and no open deal would change its stage. Nothing was recorded.")
        return
    by_move: dict[tuple[str, str], list[str]] = {}
    for one in moving:
        by_move.setdefault((one.from_, one.to), []).append(one.deal)
    made = table("From", "To", ">Deals", "~Which")
    for (before, after), deals in sorted(by_move.items()):
        more = f" and {len(deals) - 5:,} more" if len(deals) > 5 else ""
        add(made, (before, after, len(deals), ", ".join(deals[:5]) + more))
    yield made
    yield text(
        f"It would be recorded. Open deals that would change their stage: {len(moving):,}. Nothing was recorded."
    )
