"""The `dealtrail` command itself: its subcommands, its exit codes, version and shell completion."""

import errno
from itertools import chain
from typing import Any

import click
from click.shell_completion import get_completion_class

from dealtrail.cli import (
    auditing,
    backing,
    demo,
    forgetting,
    importing,
    keeping,
    listing,
    options,
    recording,
    reports,
    templates,
)
from dealtrail.cli.values import one_line
from dealtrail.domain.errors import DealtrailError

_PROGRAM = "dealtrail"
# Longer than any first sentence of a command: it is folded, not cut off.
_WHOLE = 1_000


class _Refusal(click.ClickException):
    """A refusal on its way to stderr: its code and its sentence, exit code 1."""

    exit_code = 1

    def format_message(self) -> str:
        """The code and the sentence, without the control characters that an id or a path may hold."""
        return one_line(self.message)


class _App(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer meets them."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for, each with its whole first sentence."""
        for title, commands in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(str(one.name), one.get_short_help_str(_WHOLE)) for one in commands])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every error of the package is a refusal, and so is what the system refuses."""
        try:
            return super().invoke(ctx)
        except DealtrailError as refusal:
            raise _Refusal(str(refusal)) from refusal
        except OSError as trouble:
            # A reader of the answer that is gone wants nothing more, and click ends quietly then.
            if trouble.errno == errno.EPIPE:
                raise
            raise _Refusal(str(trouble)) from trouble


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@options.database(envvar="DEALTRAIL_DB", show_envvar=True)
@options.key_file(envvars=True)
@click.version_option(package_name="dealtrail", message="%(prog)s %(version)s")
def app() -> None:
    """Record what happens to deals, and report on pipelines and funnels as of any past moment.

    A store is one file; name it with --db or in DEALTRAIL_DB. `dealtrail demo` makes one to play with.

    A MOMENT is a time with its zone (2026-03-31T18:00:00Z) or a date, which means the end of that day in --tz.
    Answers go to stdout, everything else to stderr. Exit codes: 0, 1 for a refusal, 2 for wrong usage.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for completion in a shell.

    \b
    bash:  eval "$(dealtrail completion bash)"      in ~/.bashrc
    zsh:   eval "$(dealtrail completion zsh)"       in ~/.zshrc
    fish:  dealtrail completion fish | source       in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click knows all three
    click.echo(kind(app, {}, _PROGRAM, "_DEALTRAIL_COMPLETE").source())


_COMMANDS: dict[str, tuple[click.Command, ...]] = {
    "Begin": (demo.demo, templates.templates, recording.define, recording.redefine),
    "Record": (recording.record, importing.import_),
    "Report": (reports.pipeline, reports.funnel, reports.paths, reports.closing, reports.todo),
    "Look up": (listing.deals, listing.deal, listing.history, listing.pipelines, listing.definitions, keeping.follow),
    "Check": (auditing.head, auditing.verify, auditing.check_report),
    "Keep": (
        keeping.status,
        keeping.rebuild,
        backing.backup,
        backing.restore,
        forgetting.adopt_keys,
        forgetting.forget,
    ),
    "Shell": (completion,),
}
for _command in chain.from_iterable(_COMMANDS.values()):
    app.add_command(_command)


def main() -> None:
    """Run the command line, and exit with its code."""
    app(prog_name=_PROGRAM)
