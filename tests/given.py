"""The shorthand of these tests over dealtrail.testing: days of 2026, actions on deal D, pipelines that they share."""

from datetime import UTC, datetime, timedelta

import pytest

from dealtrail import DealtrailError, testing
from dealtrail.testing import Clock as Clock

MICROSECOND = timedelta(microseconds=1)


def on(day, hour=0, minute=0):
    """Day 1 is the first of January 2026; day 32 the first of February."""
    return datetime(2026, 1, 1, hour, minute, tzinfo=UTC) + timedelta(days=day - 1)


NOW = on(100)


class Given(testing.Given):
    """A trail with a past. Everything is recorded on day 100, unless an action says `recorded=` some other moment."""

    def _record(self, batch):
        told = [action["recorded"] for action in batch if isinstance(action, dict) and "recorded" in action]
        self.clock.now = told[0] if told else NOW
        try:
            return super()._record([_without(action, "recorded") for action in batch])
        finally:
            self.clock.now = NOW

    def deal(self, deal="D", **question):
        """A deal at (T, K)."""
        return self.trail.deal(deal, **question)

    def row(self, stage, pipeline="b2b", **question):
        """One stage of the pipeline report."""
        report = self.trail.pipeline_report(pipeline, **question)
        return next(row for row in report.stages if row.stage == stage)

    def counts(self, pipeline="b2b", **question):
        """How many deals stand in each stage, in the order of the report."""
        return {row.stage: row.deals for row in self.trail.pipeline_report(pipeline, **question).stages}


def given(*past):
    """A past, as actions; a list among them is an atomic batch."""
    return Given(past, NOW)


def _without(action, field):
    return {k: v for k, v in action.items() if k != field} if isinstance(action, dict) else action


def code_of(call, *args, **named):
    """The code with which something is refused."""
    with pytest.raises(DealtrailError) as caught:
        call(*args, **named)
    return caught.value.code


# Actions, each on a day (None: now) and on deal D unless told otherwise


def act(action, day, **fields):
    """An action on a day, or at a moment."""
    at = on(day) if isinstance(day, int) else day
    return {"action": action, **({} if at is None else {"at": at}), **fields}


def on_deal(action, day, **fields):
    """An action on a deal."""
    return act(action, day, **{"deal": "D", **fields})


def stage(key, required=(), optional=(), probability=0.5, **more):
    """A stage with the keys of its required and its optional actions."""
    actions = [{"key": name, "name": name.title(), "required": True} for name in required]
    actions += [{"key": name, "name": name.title()} for name in optional]
    return {"key": key, "name": key.title(), "probability": probability, "actions": actions, **more}


def stages(*given):
    """Stages by their keys, or written out."""
    return [stage(one) if isinstance(one, str) else one for one in given]


def define(*given, pipeline="b2b", day=1, **more):
    """Define a pipeline by its stages."""
    return act("define_pipeline", day, pipeline=pipeline, stages=stages(*given), **more)


def redefine(day, *given, moves=None, pipeline="b2b", **more):
    """Record the next definition of a pipeline."""
    more = more if moves is None else {"moves": moves, **more}
    return act("redefine_pipeline", day, pipeline=pipeline, stages=stages(*given), **more)


def euro(amount):
    """Money."""
    return {"amount": str(amount), "currency": "EUR"}


def opening(day, pipeline="b2b", **more):
    """Open a deal."""
    return on_deal("open_deal", day, pipeline=pipeline, **more)


def move(day, stage, **more):
    """Move a deal."""
    return on_deal("move_deal", day, stage=stage, **more)


def revalue(day, value, **more):
    """Change the value to an amount in euros, or to none."""
    return on_deal("change_value", day, value=None if value is None else euro(value), **more)


def assign(day, owner, **more):
    """Assign a deal."""
    return on_deal("assign_deal", day, owner=owner, **more)


def expect(day, expected_close, **more):
    """Change the expected close."""
    return on_deal("change_expected_close", day, expected_close=expected_close, **more)


def attributes(day, **given):
    """Set attributes."""
    return on_deal("set_attributes", day, attributes=given)


def complete(day, key, **more):
    """Complete a sales-process action."""
    return on_deal("complete_action", day, key=key, **more)


def log(day, kind="call", **more):
    """Log an activity."""
    return on_deal("log_activity", day, kind=kind, **more)


def win(day, **more):
    """Win a deal."""
    return on_deal("win_deal", day, **more)


def lose(day, **more):
    """Lose a deal."""
    return on_deal("lose_deal", day, **more)


def disqualify(day, **more):
    """Disqualify a deal."""
    return on_deal("disqualify_deal", day, **more)


def reopen(day, **more):
    """Reopen a deal."""
    return on_deal("reopen_deal", day, **more)


def transfer(day, pipeline="care", **more):
    """Transfer a deal."""
    return on_deal("transfer_deal", day, pipeline=pipeline, **more)


def merge(day, into="E", **more):
    """Merge a deal into another."""
    return on_deal("merge_deal", day, into=into, **more)


def retract(version, day=None, reason="by mistake", **more):
    """Retract an event."""
    return on_deal("retract", day, version=version, reason=reason, **more)


def amend(version, day=None, **changes):
    """Amend an event; a day moves it there."""
    return on_deal("amend", day, version=version, **changes)


# Pipelines that the tests share

B2B = define("lead", "qualified", "proposal")
CARE = define("intake", "service", pipeline="care")
STRICT = define(stage("lead", required=["call"], optional=["mail"]), stage("qualified", required=["demo"]), "proposal")
