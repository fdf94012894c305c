"""The demo: a year of a sales team, recorded day by day, and what can be asked about it."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dealtrail.cli.progress import Ticker

if TYPE_CHECKING:
    from dealtrail import Happened, PipelineReport, Trail

# With these the simulated year begins.
_PIPELINE, _FOUNDER = "new-business", "sales-ops"
_SEARCHED_DAYS = range(30, 300)


@click.command()
@click.argument("file", metavar="[FILE]", type=click.Path(dir_okay=False, path_type=Path), default="demo.db")
@click.option("--seed", type=int, default=7, help="Another number makes another year; default: 7.")
@click.option("--deals", type=click.IntRange(min=1), default=1200, help="How many deals; default: 1200.")
@click.option("--force", is_flag=True, help="Replace the demo in FILE.")
def demo(file: Path, seed: int, deals: int, force: bool) -> None:
    """Make a store with a year of a sales team, and report on it.

    Without FILE it is demo.db in the current folder. The same seed makes the same year.
    """
    if click.get_current_context().find_root().get_parameter_source("db") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"the demo makes a store of its own; name it behind the command: dealtrail demo {file}")
    _make_room(file, force)
    from dealtrail import Trail

    now = [datetime.min.replace(tzinfo=UTC)]
    with Trail.open(file, clock=lambda: now[-1]) as trail:
        try:
            steps, actions = _record_year(trail, now, seed, deals)
        except BaseException:
            trail.close()
            _remove(file)  # half a year would pass for a whole one
            raise
        _show(trail, now[-1].date(), f"{actions:,} actions, recorded in {steps:,} steps, are in {file}.")
    _say_what_next(file)


def _make_room(file: Path, force: bool) -> None:
    """Make sure that the file is not there: with `force` a store that a demo made goes, but nothing else does.

    Wrong usage: without `force`, and for any other store. Errors: not_a_store, no_store.
    """
    if not file.exists():
        return
    if not force:
        raise click.UsageError(f"{file} is there already; name another file, or replace it with --force")
    from dealtrail import Trail

    with Trail.open(file, create=False) as trail:
        begun = next(trail.follow(), None)
        if begun is not None and (begun.pipeline, begun.by) != (_PIPELINE, _FOUNDER):
            raise click.UsageError(f"{file} is a store, but no demo's; --force replaces nothing else")
    _remove(file)


def _remove(file: Path) -> None:
    for name in (str(file), f"{file}-wal", f"{file}-shm", *glob(f"{escape(str(file))}.read*")):
        Path(name).unlink(missing_ok=True)


def _record_year(trail: "Trail", now: list[datetime], seed: int, deals: int) -> tuple[int, int]:
    """Record the simulated year step by step, each at the moment at which it was recorded then."""
    from dealtrail.simulation import simulate

    days = list(simulate(seed=seed, deals=deals))
    with Ticker("recording a year, day by day") as progress:
        for done, day in enumerate(days, 1):
            now[-1] = day.recorded_at
            trail.record_all(day.actions)
            progress(done, len(days))
    return len(days), sum(len(day.actions) for day in days)


def _show(trail: "Trail", today: date, made: str) -> None:
    from dealtrail.cli.report_tables import funnel_tables, pipeline_tables
    from dealtrail.cli.tables import say, text

    def headed(title: str, sentence: str) -> None:
        say(text(f"\n{title}", "bold"), text(f"{sentence}\n"))

    say(text(made))
    headed("Today's pipeline", f"The team's day is {today}. This is what is open, stage by stage.")
    say(*pipeline_tables(trail.pipeline_report(_PIPELINE)))

    day, truth, known = _telling_day(trail, today)
    headed(f"The pipeline as of {day}", "The same question about a past day, answered with all that is known today.")
    say(*pipeline_tables(truth))
    headed(
        f"The pipeline as of {day}, as it was known on {day}",
        "The report that somebody saw on that day. What was recorded later is not in it, and mistakes still are.",
    )
    say(*pipeline_tables(known))
    say(text("\n".join(_differences(trail, day, truth, known))))

    redefined_at = trail.definitions(_PIPELINE)[-1].occurred_at
    eve = redefined_at.date() - timedelta(days=1)
    quarter = _quarter_before(eve)
    headed(
        f"The funnel of {quarter}, as of {eve}",
        f"On {redefined_at:%Y-%m-%d} the stages were redefined. This is the last full quarter before that.",
    )
    say(*funnel_tables(trail.funnel_report(_PIPELINE, cohort=quarter, as_of=eve)))
    headed(
        f"The funnel of {quarter}, restated under the new definition",
        "The same deals on the same day, read by the new stages. No deal and no event was rewritten.",
    )
    say(*funnel_tables(trail.funnel_report(_PIPELINE, cohort=quarter, as_of=eve, definition="current")))


def _telling_day(trail: "Trail", today: date) -> tuple[date, "PipelineReport", "PipelineReport"]:
    """The latest day, a month ago or more, on which something else was known than what is known today."""
    for day in (today - timedelta(days=back) for back in _SEARCHED_DAYS):
        if day.weekday() > 4:
            continue
        truth = trail.pipeline_report(_PIPELINE, as_of=day)
        known = trail.pipeline_report(_PIPELINE, as_of=day, known_at=day)
        if [row.deals for row in truth.stages] != [row.deals for row in known.stages]:
            break
    return day, truth, known


def _differences(trail: "Trail", day: date, truth: "PipelineReport", known: "PipelineReport") -> Iterator[str]:
    """Where the two reports differ, and one deal that shows why."""
    for now, then in zip(truth.stages, known.stages, strict=True):
        if now.deals != then.deals:
            yield f"The difference: {then.deals:,} deals were known in {now.name}, and {now.deals:,} is the truth."
    is_in, was_in = ({view.deal: view.stage for view in trail.deals(report)} for report in (truth, known))
    for deal in sorted({*is_in, *was_in}):
        if is_in.get(deal) != was_in.get(deal):
            was, is_ = (f"in {found[deal]}" if deal in found else "not open" for found in (was_in, is_in))
            yield f"For one, {deal} was thought to be {was}, and was {is_}:"
            yield from _learned_later(trail.history(deal), known.known_at)
            return


def _learned_later(history: "list[Happened]", moment: datetime) -> Iterator[str]:
    for event in history:
        if event.occurred_at <= moment < event.recorded_at:
            what = f" ({event.data['stage']})" if "stage" in event.data else ""
            when = f"occurred {event.occurred_at:%Y-%m-%d %H:%M}, was recorded {event.recorded_at:%Y-%m-%d %H:%M}"
            yield f"  its {event.event}{what} {when}"


def _quarter_before(day: date) -> str:
    """The last quarter that was over by a day."""
    quarters = day.year * 4 + (day.month - 1) // 3 - 1
    return f"{quarters // 4}-Q{quarters % 4 + 1}"


def _say_what_next(file: Path) -> None:
    name = shlex.quote(str(file))
    command = "dealtrail"
    if Path(sys.argv[0]).name == command and shutil.which(command) is None:
        command = shlex.quote(sys.argv[0])  # it was called by its path, in an environment that is not activated
    click.echo(
        f"""
Try next:
  export DEALTRAIL_DB={name}
  {command} pipeline {_PIPELINE} --as-of 2026-03-31 --group-by owner
  {command} funnel {_PIPELINE} --cohort 2026-Q1 --within 60 --group-by source
  {command} deals {_PIPELINE} --field stalled --as-of 2026-06-30
  {command} history D-0100
  {command} --help"""
    )
