"""The page about the command line, made of the help of every command: `make docs-cli` writes it."""

from pathlib import Path

import click

from dealtrail.cli.app import app

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

_HEAD = """\
# Command line

`make docs-cli` makes this page of what `dealtrail COMMAND --help` prints.

The store is named by `--db FILE`, before or behind the command, or by the environment variable `DEALTRAIL_DB`. Answers
go to stdout, everything else to stderr. The exit code is 0, or 1 for a refusal, or 2 for wrong usage. A refusal is
printed with its code, which stands in the [table of refusals](reference.md#refusals).
"""


def _help(command: click.Command, parent: click.Context | None, name: str) -> str:
    context = click.Context(command, parent=parent, info_name=name, terminal_width=100, **command.context_settings)
    return command.get_help(context)


def page() -> str:
    """The page as it should be."""
    root = click.Context(app, info_name="dealtrail", terminal_width=100, **app.context_settings)
    parts = [_HEAD, f"```text\n{app.get_help(root)}\n```\n"]
    for name, command in sorted(app.commands.items()):
        parts.append(f"## {name}\n\n```text\n{_help(command, root, name)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
