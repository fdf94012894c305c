"""Deals, their histories and definitions as tables."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from rich.console import RenderableType
from rich.table import Table

from dealtrail.cli.formats import json_text
from dealtrail.cli.tables import add, at, attributes, facts, shown, table, text

if TYPE_CHECKING:
    from dealtrail import DealView, DefinitionView, Happened


def deals_table(found: "list[DealView]", tz: str) -> Iterator[RenderableType]:
    """A line for each deal, or a sentence where there is none."""
    if not found:
        yield text("no such deal", "dim")
        return
    made = table(
        "Deal", "~Title", "Status", "Stage", "Since", ">Value", "", "Owner", "Source", "Opened", "Expected\nclose"
    )
    for view in found:
        value = (None, None) if view.value is None else (view.value.amount, view.value.currency)
        close = None if view.expected_close is None else view.expected_close.isoformat()
        since, opened = at(view.stage_since, tz)[:10], at(view.opened_at, tz)[:10]
        style = "" if view.status == "open" else "dim"
        cells = (view.deal, view.title, view.status, view.stage, since, *value, view.owner, view.source, opened, close)
        add(made, cells, style=style)
    yield made


def deal_facts(view: "DealView", tz: str) -> Table:
    """All that is known of a deal."""
    stage = view.stage
    if view.recorded_stage != view.stage:
        stage += f" (recorded as {view.recorded_stage} under definition {view.recorded_definition})"
    value = None if view.value is None else f"{view.value.amount:,} {view.value.currency}"
    pairs = (
        ("deal", view.deal),
        ("title", view.title),
        ("pipeline", f"{view.pipeline}, definition {view.definition}"),
        ("status", view.status),
        ("stage", stage),
        ("in stage since", at(view.stage_since, tz)),
        ("completed there", ", ".join(view.completed)),
        ("value", value),
        ("owner", view.owner),
        ("source", view.source),
        ("opened", at(view.opened_at, tz)),
        ("expected close", view.expected_close),
        ("closed", at(view.closed_at, tz)),
        ("reason", view.reason),
        ("merged into", view.merged_into),
        ("attributes", attributes(view.attributes)),
        ("subject", view.subject),
        ("personal", attributes(view.personal)),
        ("version", view.version),
    )
    return facts([(name, one) for name, one in pairs if one not in (None, "")])


def history_table(events: "list[Happened]", tz: str) -> Table:
    """A line for each event; what was taken back is dim."""
    made = table(">No.", "Occurred", "Recorded", "By", "Event", "~What", "")
    for event in events:
        told = {name: value for name, value in event.data.items() if value is not None}
        told |= {name: part for name in ("title", "note", "personal") if (part := getattr(event, name))}
        marks = [f"amends {event.amends}"] if event.amends is not None else []
        if event.amended_by is not None:
            marks.append(f"amended by {event.amended_by}")
        elif event.retracted_by is not None:
            marks.append(f"retracted by {event.retracted_by}")
        if event.clock_behind_us < 0:
            marks.append("recorded elsewhere")
        elif event.clock_behind_us:
            marks.append(f"clock behind by {timedelta(microseconds=event.clock_behind_us)}")
        cells = (
            event.version,
            at(event.occurred_at, tz),
            at(event.recorded_at, tz),
            event.by,
            event.event,
            ", ".join(f"{name}={_why(value) if name == 'assigned' else _brief(value)}" for name, value in told.items()),
            ", ".join(marks),
        )
        add(made, cells, style="dim" if event.retracted_by is not None else "")
    return made


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _why(assigned: Any) -> str:
    """By which rule a deal got its owner, and why that one."""
    when = "" if assigned.when is None else f" since {_condition(to_builtins(assigned.when))}"
    had = "" if assigned.open_deals is None else f", open deals before it {assigned.open_deals:,}"
    counted = f"the owner's lead {assigned.number:,} of {assigned.of:,} from version {assigned.since} on"
    return f"{assigned.rule} in {assigned.group}{when} ({counted}{had})"


def _condition(when: dict[str, Any]) -> str:
    return f"{when['field']} {when['op']} {json_text(when['value'])}"


def assignments_table(found: "list[DefinitionView]") -> Table:
    """Each group of each version: its rule, its owners, and the deals that fall to it."""
    made = table("Pipeline", ">Version", "Group", "Rule", "~Owners", "~Gets deals")
    for view in found:
        given: Any = view.assignment
        choose = given["choose"]
        rules = [{"to": choose, "when": None}] if isinstance(choose, str) else choose
        for place, (key, group) in enumerate(given["groups"].items()):
            owners = [
                one["owner"]
                + (f" ×{one['weight']}" if one["weight"] > 1 else "")
                + (" (paused)" if one["paused"] else "")
                for one in group["owners"]
            ]
            gets = [
                f"{number}. " + ("all others" if rule["when"] is None else _condition(rule["when"]))
                for number, rule in enumerate(rules, 1)
                if rule["to"] == key
            ]
            head = (view.pipeline, view.version) if place == 0 else ("", "")
            add(
                made,
                (*head, key, group["rule"], ", ".join(owners), "; ".join(gets) if len(rules) > 1 else ""),
                style="" if view.in_force else "dim",
                end_section=place == len(given["groups"]) - 1,
            )
    return made


def definitions_table(found: "list[DefinitionView]", tz: str) -> Table:
    """Each version with its stages, what may not be done with them, and the moves that led to it."""
    limited = any(limits != "any" for view in found for limits in (view.entry, view.back, view.skip))
    made = table(
        "Pipeline",
        ">Version",
        "In force from",
        "Recorded",
        "Stage",
        ">Proba-\nbility",
        ">Rots after\ndays",
        "~Required",
        "~From",
        *(["~Not\nallowed"] if limited else []),
    )
    for view in found:
        for place, stage in enumerate(view.stages):
            head = (view.pipeline, view.version, at(view.occurred_at, tz), at(view.recorded_at, tz))
            add(
                made,
                (
                    *(head if place == 0 else ("",) * len(head)),
                    stage["key"],
                    shown(stage["probability"]),
                    stage["rots_after_days"],
                    ", ".join(action["key"] for action in stage["actions"] if action["required"]),
                    ", ".join(_came_from(stage["key"], view.moves)),
                    *([", ".join(_not_allowed(stage["key"], view))] if limited else []),
                ),
                style="" if view.in_force else "dim",
                end_section=place == len(view.stages) - 1,
            )
    return made


def _not_allowed(stage: str, view: "DefinitionView") -> Iterator[str]:
    for kind in ("entry", "back", "skip"):
        allowed = getattr(view, kind)
        if allowed != "any" and stage not in allowed:
            yield kind


def reasons_told(found: "list[DefinitionView]") -> Iterator[RenderableType]:
    """A line for each list of reasons."""
    for view in found:
        for outcome, listed in view.reasons.items():
            line = f"{view.pipeline}, version {view.version:,}: {outcome} for {', '.join(listed)}"
            yield text(line, "" if view.in_force else "dim")


def _came_from(stage: str, moves: dict[str, Any]) -> Iterator[str]:
    for key, move in moves.items():
        if move == stage:
            yield key
        elif not isinstance(move, str) and any(rule["to"] == stage for rule in move):
            yield f"{key} (some)"
