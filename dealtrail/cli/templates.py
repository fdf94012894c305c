"""The templates, for whoever looks for a sales process to begin from."""

from typing import TYPE_CHECKING, Any

import click

from dealtrail.cli import options
from dealtrail.cli.formats import answer

if TYPE_CHECKING:
    from dealtrail.templates import Template


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@options.output("json", "toml")
def templates(name: str | None, kind: str) -> None:
    """List the sales-process templates, or show one.

    \b
    dealtrail templates
    dealtrail templates inbound-saas
    dealtrail define b2b --template inbound-saas
    dealtrail templates inbound-saas --format toml > b2b.toml      to change it first

    TOML is a definition file, as `dealtrail define` reads it.
    """
    from dealtrail.templates import all_templates, find_template

    if name is None:
        if kind == "toml":
            raise click.UsageError("--format toml needs the NAME of a template")
        found = all_templates()
        answer(kind, found, lambda: [_listed(found)], list)
        return
    template = find_template(name)
    if kind == "toml":
        click.echo(template.as_toml(), nl=False)
    else:
        answer(kind, template, lambda: _shown(template), list)


def _listed(found: "list[Template]") -> Any:
    from dealtrail.cli.tables import add, table

    made = table("Template", "~Name", ">Usual\ndays", ">Stages", "~For whom")
    for template in found:
        first = template.for_whom.partition(". ")[0].rstrip(".") + "."
        add(made, (template.key, template.name, _cycle(template), len(template.stages), first))
    return made


def _shown(template: "Template") -> Any:
    from dealtrail.cli.tables import add, table, text

    yield text(template.name, "bold")
    yield text(f"{template.for_whom}\nUsually {_cycle(template)} days.")
    made = table("Stage", "~Name", ">Proba-\nbility", ">Rots after\ndays", "~Required", "~Also")
    for stage in template.stages:
        actions = [
            "\n".join(f"{action.key}: {action.name}" for action in stage.actions if action.required == required)
            for required in (True, False)
        ]
        add(made, (stage.key, stage.name, stage.probability, stage.rots_after_days, *actions))
    yield made
    for outcome, reasons in template.reasons.items():
        yield text(f"{outcome.capitalize()} for: {', '.join(reasons)}")


def _cycle(template: "Template") -> str:
    return "{}–{}".format(*template.cycle_days)
