"""The naive model: the whole specification, written slowly and plainly, as an oracle for the engine.

It shares no code with the package. One list holds every event ever recorded; every question folds that
list again from the start. Nothing is cached, so nothing can be stale.
"""

import copy
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

FOREVER = datetime.max.replace(tzinfo=UTC)  # as a known_at: everything recorded so far
MINOR_UNITS = {"EUR": 2, "USD": 2, "GBP": 2, "JPY": 0, "KWD": 3, "CLF": 4}

# The fields of each deal action; those that an amendment may not take away are listed below.
FIELDS = {
    "open_deal": (
        "pipeline",
        "stage",
        "subject",
        "title",
        "value",
        "owner",
        "source",
        "expected_close",
        "attributes",
    ),
    "move_deal": ("stage",),
    "change_value": ("value",),
    "assign_deal": ("owner",),
    "change_expected_close": ("expected_close",),
    "set_attributes": ("attributes",),
    "complete_action": ("key",),
    "log_activity": ("kind", "note"),
    "win_deal": ("value",),
    "lose_deal": ("reason",),
    "disqualify_deal": ("reason",),
    "reopen_deal": ("stage",),
    "transfer_deal": ("pipeline", "stage"),
    "merge_deal": ("into",),
}
REQUIRED = {
    "move_deal": "stage",
    "set_attributes": "attributes",
    "complete_action": "key",
    "log_activity": "kind",
    "merge_deal": "into",
}
ENVELOPE = ("action", "deal", "version", "at", "by", "id", "expected_version")  # of an amendment

NEEDS_OPEN = (
    "move_deal",
    "change_expected_close",
    "complete_action",
    "win_deal",
    "lose_deal",
    "disqualify_deal",
    "transfer_deal",
)
LIMITS = ("entry", "back", "skip")
PUTS_INTO_STAGE = ("open_deal", "move_deal", "reopen_deal", "transfer_deal")
STORES_DEFINITION = (*PUTS_INTO_STAGE, "complete_action", "win_deal")
REASONED = ("lost", "disqualified")  # the outcomes that may have a reason
OUTCOMES = {"win_deal": "won", "lose_deal": "lost", "disqualify_deal": "disqualified", "merge_deal": "merged"}


class Refused(Exception):
    """An action or a question that the rules do not allow; `code` says which rule."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Report(dict):
    """A report as a plain dict; `behind` keeps, beside it, the deals behind each of its counts."""

    def __init__(self, *args):
        super().__init__(*args)
        self.behind = []


def refuse_if(broken, code):
    """Refuse with this code if the rule is broken."""
    if broken:
        raise Refused(code)


# --- Times ---------------------------------------------------------------------------------------


def parsed(value):
    """A date or datetime from its ISO text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    except ValueError:
        raise Refused("invalid_time") from None


def in_utc(moment):
    """An aware datetime in UTC; a naive one is refused."""
    refuse_if(moment.utcoffset() is None, "naive_time")
    return moment.astimezone(UTC)


def instant(value):
    """The `at` of an action in UTC, or None when it was left out."""
    value = parsed(value)
    if value is None:
        return None
    refuse_if(not isinstance(value, datetime), "bare_date")
    return in_utc(value)


def zone(tz):
    """The time zone of that name."""
    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise Refused("invalid_tz") from None


def moment_asked(value, tz, now):
    """An as_of or known_at: a bare date is the end of its day, and nothing is later than now."""
    value = parsed(value)
    if value is None:
        return now
    if not isinstance(value, datetime):
        # fold=1: where the clock passes that minute twice, the day ends with the second time.
        value = datetime.combine(value, time(23, 59, 59, 999999, tzinfo=zone(tz), fold=1))
    return min(in_utc(value), now)


def period(text, tz, fiscal_year_start):
    """The half-open period (from, until) in UTC that a cohort names."""
    try:
        first, after = period_dates(text, fiscal_year_start)
        refuse_if(not first < after, "invalid_period")
        midnight = time(0, tzinfo=zone(tz))
        return tuple(datetime.combine(day, midnight).astimezone(UTC) for day in (first, after))
    except (ValueError, OverflowError):
        raise Refused("invalid_period") from None


def period_dates(text, start):
    """The first day of a period and the first day after it."""
    if match := re.fullmatch(r"(\d{4}-\d\d-\d\d)\.\.(\d{4}-\d\d-\d\d)", text):
        return date.fromisoformat(match[1]), date.fromisoformat(match[2])
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        day = date.fromisoformat(text)
        return day, day + timedelta(days=1)
    if match := re.fullmatch(r"(\d{4})-W(\d\d)", text):
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1)
        return monday, monday + timedelta(days=7)
    if match := re.fullmatch(r"(\d{4})-(\d\d)", text):
        month = date(int(match[1]), int(match[2]), 1)
        return month, months_later(month, 1)
    if match := re.fullmatch(r"(\d{4})(?:-Q([1-4]))?", text):
        # A fiscal year that starts after January ends in the next calendar year, whose number it bears.
        year = date(int(match[1]) - (1 if start > 1 else 0), start, 1)
        if match[2] is None:
            return year, months_later(year, 12)
        quarter = months_later(year, 3 * (int(match[2]) - 1))
        return quarter, months_later(quarter, 3)
    raise Refused("invalid_period")


def months_later(first_of_month, months):
    """The first day of the month that many months later."""
    count = first_of_month.year * 12 + first_of_month.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


# --- Numbers -------------------------------------------------------------------------------------


def rounded(exact, places):
    """The float nearest to the exact value rounded half to even; None stays None."""
    # round() of a Fraction is exact and goes half to even.
    return None if exact is None else float(Decimal(f"{round(exact * 10**places)}E-{places}"))


def days_between(earlier, later):
    """The exact number of days of 86,400 seconds between two moments."""
    return Fraction((later - earlier) // timedelta(microseconds=1), 86_400 * 10**6)


def percentile(values, share):
    """The percentile by linear interpolation between the sorted values; None without values."""
    if not values:
        return None
    values = sorted(values)
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def ratio(part, whole):
    """part ÷ whole to 4 decimals, None where that would divide by zero."""
    return None if whole == 0 else rounded(Fraction(part, whole), 4)


def sums(deals, weight):
    """The sum of value × weight per currency: exact, and rounded once, at the end."""
    totals = {}
    for deal in deals:
        value = deal["facts"]["value"]
        if value is not None:
            amount = Fraction(value["amount"]) * weight(deal)
            totals[value["currency"]] = totals.get(value["currency"], 0) + amount
    result = {}
    for currency in sorted(totals):
        places = MINOR_UNITS.get(currency, 2)
        result[currency] = Decimal(f"{round(totals[currency] * 10**places)}E-{places}")
    return result


# --- Fields of a deal, filters, groups and conditions -----------------------------------------------


def fact(facts, field):
    """What a deal has in a field that filters, groups and conditions may name; None if missing."""
    if field.startswith("attributes."):
        return facts["attributes"].get(field.removeprefix("attributes."))
    if field == "currency":
        return facts["value"] and facts["value"]["currency"]
    return facts[field]


def rank(value):
    """A key that orders values of any type, and is equal for equal values only (true is not 1)."""
    if value is None:
        return (3, 0)
    if isinstance(value, bool):
        return (1, value)
    return (2, value) if isinstance(value, str) else (0, value)


def matches(facts, where):
    """Whether the deal passes every equality of the filter; null means missing."""
    return all(rank(fact(facts, field)) == rank(wanted) for field, wanted in (where or {}).items())


def group_of(deal, group_by):
    """The group that a deal belongs to."""
    return {field: fact(deal["facts"], field) for field in group_by}


def group_rank(group):
    """The place of a group among the others; two groups of equal rank are one."""
    return [rank(value) for value in group.values()]


def decimal_or_none(value):
    """A decimal given as text or as a number; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def holds(condition, facts):
    """Whether a deal satisfies the condition of a move."""
    op, wanted = condition["op"], condition["value"]
    if op == "in":
        return any(holds({**condition, "op": "eq", "value": one}, facts) for one in wanted)
    found = fact(facts, condition["field"])
    if condition["field"] == "value":
        # Only the amount counts, whatever the currency.
        found = found and Decimal(found["amount"])
        wanted = decimal_or_none(wanted)
    (found_type, found), (wanted_type, wanted) = rank(found), rank(wanted)
    if found_type != wanted_type or found_type == rank(None)[0]:
        return op == "ne"
    return {
        "eq": found == wanted,
        "ne": found != wanted,
        "lt": found < wanted,
        "le": found <= wanted,
        "gt": found > wanted,
        "ge": found >= wanted,
    }[op]


# --- Definitions and what moves make of a stage -------------------------------------------------------


def keys_of(definition):
    """The stage keys of a definition, in order."""
    return [stage["key"] for stage in definition["stages"]]


def stage_of(definition, key):
    """The stage with that key."""
    return definition["stages"][keys_of(definition).index(key)]


def check_stages(stages):
    """The shape of the stages of one definition."""
    refuse_if(not stages, "no_stages")
    for keys in [[stage["key"] for stage in stages]] + [
        [action["key"] for action in stage.get("actions") or []] for stage in stages
    ]:
        for key in keys:
            check_key(key)
        refuse_if(len(set(keys)) != len(keys), "duplicate_key")
    refuse_if({"won", "lost", "disqualified"} & {stage["key"] for stage in stages}, "reserved_key")


def check_key(key):
    """The shape of a slug."""
    refuse_if(not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", key), "invalid_key")


def check_moves_shape(moves):
    """The shape of moves: a list of rules ends with the only one without a condition."""
    for move in moves.values():
        if not isinstance(move, str):
            unconditional = [rule.get("when") is None for rule in move]
            refuse_if(unconditional != [False] * (len(move) - 1) + [True], "invalid_moves")
            for rule in move[:-1]:
                check_condition(rule["when"])


def check_condition(condition):
    """The shape of the condition of a move."""
    field, op = condition["field"], condition["op"]
    known = field in ("value", "owner", "source") or field.startswith("attributes.")
    refuse_if(not known, "invalid_condition")
    refuse_if(op not in ("eq", "ne", "lt", "le", "gt", "ge", "in"), "invalid_condition")
    refuse_if((op == "in") != isinstance(condition["value"], list), "invalid_condition")


def definition_of(action):
    """The parts of a definition that an action or a draft gives; what it leaves out is empty or None."""
    more = {name: action.get(name) or {} for name in ("moves", "reasons", "reason_moves")}
    return {"stages": action["stages"], **more, **{name: action.get(name) for name in (*LIMITS, "assignment")}}


def check_limits_shape(definition):
    """The shape of the lists of what is allowed: "any" (also when left out), or keys, each once."""
    for name in LIMITS:
        keys = definition.get(name)
        if keys is not None and keys != "any":
            refuse_if(not isinstance(keys, list), "invalid_field")
            refuse_if(len(set(keys)) != len(keys), "duplicate_key")


def check_limits(definition):
    """The lists of what is allowed name stages of their own definition."""
    for name in LIMITS:
        refuse_if(allowed(definition, name) - set(keys_of(definition)), "unknown_stage")


def allowed(definition, name):
    """The keys of the stages that one of the lists allows."""
    keys = definition.get(name)
    return set(keys_of(definition)) if keys in (None, "any") else set(keys)


def step_against(definition, here, there):
    """Which list a step goes against, or None: from a stage (None: into the pipeline) to a stage or to `won`."""
    order = [*keys_of(definition), "won"]
    if here is None:
        return None if there in allowed(definition, "entry") else "entry"
    if order.index(there) < order.index(here):
        return None if here in allowed(definition, "back") else "back"
    between = order[order.index(here) + 1 : order.index(there)]
    return None if set(between) <= allowed(definition, "skip") else "skip"


def check_moves(before, after):
    """The rules for moves: every key that goes needs one, and no move leads from or to nowhere."""
    moves = after["moves"]
    refuse_if(set(keys_of(before)) - set(keys_of(after)) - set(moves), "missing_move")
    refuse_if(set(moves) - set(keys_of(before)), "unknown_stage")
    for move in moves.values():
        targets = [move] if isinstance(move, str) else [rule["to"] for rule in move]
        refuse_if(set(targets) - set(keys_of(after)), "unknown_stage")


def groups_of(assignment):
    """The groups of an assignment by key; one that is itself a group has that one, called `all`."""
    return assignment.get("groups", {"all": assignment})


def check_assignment(assignment):
    """The shape of an assignment: groups with owners who are not all paused, and rules that choose among them."""
    if assignment is None:
        return
    groups = groups_of(assignment)
    refuse_if(("groups" in assignment) != ("choose" in assignment), "invalid_assignment")
    refuse_if("groups" in assignment and ("rule" in assignment or "owners" in assignment), "invalid_assignment")
    for key, group in groups.items():
        check_key(key)
        refuse_if(group["rule"] not in ("round_robin", "least_open_deals"), "invalid_field")
        names = [member["owner"] for member in group["owners"]]
        refuse_if(len(set(names)) != len(names), "duplicate_key")
        refuse_if(all(member.get("paused") for member in group["owners"]), "nobody_to_assign")
    if "groups" in assignment:
        choose = assignment["choose"]
        rules = [{"to": choose}] if isinstance(choose, str) else choose
        unconditional = [rule.get("when") is None for rule in rules]
        refuse_if(unconditional != [False] * (len(rules) - 1) + [True], "invalid_assignment")
        for rule in rules[:-1]:
            check_condition(rule["when"])
        refuse_if(any(rule["to"] not in groups for rule in rules), "unknown_group")


def settled(group):
    """A group with its defaults filled in, so that two of one meaning are equal; None stays None."""
    if group is None:
        return None
    members = [(one["owner"], one.get("weight") or 1, bool(one.get("paused"))) for one in group["owners"]]
    return group["rule"], members


def read_stage(definitions, stage, recorded_under, version, facts):
    """A stage recorded under one version, read under a later one by the moves of all versions between."""
    for definition in definitions[recorded_under:version]:  # definitions[n] is version n + 1
        move = definition["moves"].get(stage, stage)
        stage = move if isinstance(move, str) else chosen(move, facts)
    return stage


def chosen(rules, facts):
    """Where the first rule that holds leads."""
    return next(rule["to"] for rule in rules if rule.get("when") is None or holds(rule["when"], facts))


# --- Reasons --------------------------------------------------------------------------------------------


def check_reasons_shape(reasons, reason_moves):
    """The shape of the lists of reasons, and of what becomes of old ones."""
    for given in (reasons, reason_moves):
        refuse_if(set(given) - set(REASONED), "unknown_field")
    for listed in reasons.values():
        refuse_if(not listed, "invalid_field")
        refuse_if(len(set(listed)) != len(listed), "duplicate_key")


def check_reason_moves(earlier, after):
    """The rules for what becomes of reasons: every one that goes needs a move, and none leads from or to nowhere."""
    for outcome in REASONED:
        listed, moves = after["reasons"].get(outcome), after["reason_moves"].get(outcome, {})
        before = earlier[-1]["reasons"].get(outcome)
        if before is not None and listed is not None:
            refuse_if(set(before) - set(listed) - set(moves), "missing_reason_move")
        if all(outcome in definition["reasons"] for definition in earlier):
            # Where every definition so far listed its reasons, no other can have been recorded.
            refuse_if(set(moves) - set(before), "unknown_reason")
        refuse_if(listed is not None and set(moves.values()) - set(listed), "unknown_reason")


def read_reason(definitions, outcome, reason, recorded_under, version):
    """A reason recorded under one version, read under a later one."""
    for definition in definitions[recorded_under:version] if reason is not None else []:
        reason = definition["reason_moves"].get(outcome, {}).get(reason, reason)
    return reason


def reason_counts(deals):
    """For each outcome the deals by reason: the most first, equal ones in the order of their text, null last."""
    counts = {}
    for outcome in REASONED:
        by_reason = {}
        for deal in deals:
            if deal["status"] == outcome:
                by_reason.setdefault(deal["reason"], []).append(deal["id"])
        order = sorted(by_reason, key=lambda reason: (-len(by_reason[reason]), reason is None, reason or ""))
        counts[outcome] = [{"reason": reason, "deals": by_reason[reason]} for reason in order]
    return counts


def stores_definition(event):
    """Whether an event names something of a definition; a loss or disqualification does so by its reason."""
    if event["kind"] in ("lose_deal", "disqualify_deal"):
        return "reason" in event["fields"]
    return event["kind"] in STORES_DEFINITION


# --- The fold -----------------------------------------------------------------------------------------


def place(event):
    """Where an event stands in its timeline; an amendment stands at the position of the event it replaces."""
    return (event["occurred_at"], event["root"])


def fold(timeline):
    """The state of a deal after these events; None before its opening."""
    state = None
    for event in timeline:
        state = after(state, event)
    return state


def after(state, event):
    """The state just after one more event. The state before it is used up."""
    kind, fields = event["kind"], event["fields"]
    if kind == "open_deal":
        given = {name: value for name, value in fields.get("attributes", {}).items() if value is not None}
        state = {
            "opened_at": event["occurred_at"],
            "visits": [],
            "wins": [],
            "expected_close": fields.get("expected_close"),
            "facts": {
                "value": fields.get("value"),
                "owner": fields.get("owner"),
                "source": fields.get("source"),
                "attributes": given,
            },
        }
        state["opened_as"] = copy.deepcopy(state["facts"])
    facts = state["facts"]
    if kind == "change_value" or (kind == "win_deal" and "value" in fields):
        facts["value"] = fields.get("value")
    if kind == "assign_deal":
        facts["owner"] = fields.get("owner")
    if kind == "change_expected_close":
        state["expected_close"] = fields.get("expected_close")
    if kind == "set_attributes":
        merged = {**facts["attributes"], **fields["attributes"]}
        facts["attributes"] = {name: value for name, value in merged.items() if value is not None}
    if kind == "complete_action":
        state["completed"].append(fields["key"])
    if kind == "win_deal":
        state["wins"].append({"pipeline": event["pipeline"], "place": place(event)})
    if kind in OUTCOMES:
        state.update(status=OUTCOMES[kind], closed_at=event["occurred_at"])
    if kind in ("lose_deal", "disqualify_deal"):
        state["reason"], state["reason_under"] = fields.get("reason"), event["definition"]
    if kind in PUTS_INTO_STAGE:
        state.update(status="open", pipeline=event["pipeline"], completed=[])
        state["visits"].append(
            {
                "begun_by": kind,
                "pipeline": event["pipeline"],
                "stage": fields["stage"],
                "definition": event["definition"],
                "place": place(event),
                "facts": copy.deepcopy(facts),
            }
        )
    return state


def visits_under(state, pipeline, definitions, version):
    """The visits in a pipeline as read under a version, each by itself, then joined where they repeat."""
    visits = []
    for visit in state["visits"]:
        if visit["pipeline"] != pipeline:
            continue
        stage = read_stage(definitions, visit["stage"], visit["definition"], version, visit["facts"])
        # Only a move can continue a visit. Between two visits with another pipeline between them
        # there is always a transfer, so neighbours in this list do follow one another.
        if visits and visits[-1]["stage"] == stage and visit["begun_by"] == "move_deal":
            continue
        visits.append({"stage": stage, "place": visit["place"], "begun_by": visit["begun_by"]})
    return visits


# --- The tables of the reports --------------------------------------------------------------------------
# A count is first the list of the deals behind it; only `publish` turns it into a number.


def pipeline_table(deals, definition):
    """The rows of a pipeline report over these deals, and the total."""

    def probability(deal):
        return Fraction(str(stage_of(definition, deal["stage"])["probability"]))

    def figures(some):
        days = [deal["days"] for deal in some]
        return {
            "deals": [deal["id"] for deal in some],
            "value": sums(some, lambda deal: 1),
            "weighted_value": sums(some, probability),
            "median_days_in_stage": rounded(percentile(days, Fraction(1, 2)), 2),
            "stalled": [deal["id"] for deal in some if is_stalled(deal, definition)],
        }

    rows = [
        {
            "stage": stage["key"],
            "name": stage["name"],
            **figures([deal for deal in deals if deal["stage"] == stage["key"]]),
        }
        for stage in definition["stages"]
    ]
    return rows, figures(deals)


def is_stalled(deal, definition):
    """Whether a deal has been in its stage for longer than the stage allows."""
    limit = stage_of(definition, deal["stage"]).get("rots_after_days")
    return limit is not None and deal["days"] > Fraction(str(limit))


def funnel_table(deals, definition):
    """The rows of a funnel report over these deals, and the total."""
    rows = [
        {"stage": stage["key"], "name": stage["name"], **funnel_row(deals, index)}
        for index, stage in enumerate(definition["stages"])
    ]
    total = {"cohort": [deal["id"] for deal in deals]}
    for status in ("won", "lost", "disqualified", "open", "transferred"):
        total[status] = [deal["id"] for deal in deals if deal["status"] == status]
    won = len(total["won"])
    total["win_rate"] = ratio(won, len(deals))
    total["close_rate"] = ratio(won, won + len(total["lost"]) + len(total["disqualified"]))
    total["reasons"] = reason_counts(deals)
    return rows, total


def funnel_row(deals, index):
    """The figures of the stage with that index."""

    def ids(condition):
        return [deal["id"] for deal in deals if condition(deal)]

    def stuck(status):
        return ids(lambda deal: deal["furthest"] == index and deal["status"] == status)

    row = {
        "entered": ids(lambda deal: any(step == index for step, _ in deal["path"])),
        "reached": ids(lambda deal: deal["furthest"] >= index or deal["status"] == "won"),
        "passed": ids(lambda deal: deal["furthest"] > index or deal["status"] == "won"),
    }
    row.update({status: stuck(status) for status in ("open", "lost", "disqualified", "transferred")})
    days = [spent for spent in (days_to_pass(deal["path"], index) for deal in deals) if spent is not None]
    row["conversion_from_start"] = ratio(len(row["reached"]), len(deals))
    row["conversion_to_next"] = ratio(len(row["passed"]), len(row["reached"]))
    row["median_days_to_pass"] = rounded(percentile(days, Fraction(1, 2)), 2)
    row["p90_days_to_pass"] = rounded(percentile(days, Fraction(9, 10)), 2)
    row["reasons"] = reason_counts([deal for deal in deals if deal["furthest"] == index])
    return row


def closing_tables(deals, definition):
    """The months, stages and total of a closing report over these deals."""

    def worth(some):
        return {
            "value": sums(some, lambda deal: 1),
            "weighted_value": sums(
                some, lambda deal: Fraction(str(stage_of(definition, deal["stage"])["probability"]))
            ),
        }

    def month_of(deal):
        return deal["expected_close"] and deal["expected_close"].isoformat()[:7]

    months = [
        {
            "month": month,
            "deals": len(some := [deal for deal in deals if month_of(deal) == month]),
            **worth(some),
            "overdue": sum(deal["days_over"] > 0 for deal in some),
        }
        for month in sorted({month_of(deal) for deal in deals}, key=rank)
    ]
    stages = [
        {**slippage([deal for deal in deals if deal["stage"] == one["key"]]), "stage": one["key"], "name": one["name"]}
        for one in definition["stages"]
    ]
    return {"months": months, "stages": stages, "total": {**slippage(deals), **worth(deals)}}


def slippage(deals):
    """How often and by how many days the dates of deals were moved to later or to earlier ones."""
    moves = [move for deal in deals for move in deal["moves"]]
    slips = [Fraction((deal["dates"][-1] - deal["dates"][0]).days) for deal in deals if deal["dates"]]
    return {
        "deals": len(deals),
        "dated": len(slips),
        "overdue": sum(deal["days_over"] > 0 for deal in deals),
        "pushed": sum(any(move > 0 for move in deal["moves"]) for deal in deals),
        "pushes": sum(move > 0 for move in moves),
        "days_pushed": sum(move for move in moves if move > 0),
        "pulled": sum(any(move < 0 for move in deal["moves"]) for deal in deals),
        "pulls": sum(move < 0 for move in moves),
        "days_pulled": -sum(move for move in moves if move < 0),
        "median_days_slipped": rounded(percentile(slips, Fraction(1, 2)), 2),
    }


def closing_deal(deal):
    """A deal as a closing report lists it."""
    moved = slippage([deal])
    return {
        "deal": deal["id"],
        "owner": deal["facts"]["owner"],
        "stage": deal["stage"],
        "expected_close": deal["expected_close"],
        "days_over": deal["days_over"],
        "first_expected_close": deal["dates"][0],
        **{name: moved[name] for name in ("pushes", "days_pushed", "pulls", "days_pulled")},
    }


def days_to_pass(path, index):
    """Days from first entering the stage to first being beyond it afterwards; None if either is wanting."""
    entered_at = None
    for step, at in path:
        if entered_at is None and step == index:
            entered_at = at
        elif entered_at is not None and step > index:
            return days_between(entered_at, at)
    return None


def conformance_table(deals, definition, limit):
    """The figures of a conformance report over these deals; see `conformance_deal` for what it knows of each."""
    order = keys_of(definition)

    def steps_against(kind):
        return [(deal["id"], step) for deal in deals for step in deal["against"] if step[0] == kind]

    def counted(found):
        return {"count": len(found), "deals": len({deal for deal, _ in found})}

    kinds = [{"kind": kind, **counted(steps_against(kind))} for kind in LIMITS]
    deviations = []
    for kind in LIMITS:
        for here in [None, *order]:
            for there in [*order, "won"]:
                found = [one for one in steps_against(kind) if one[1] == (kind, here, there)]
                if found:
                    deviations.append({"kind": kind, "from": here, "to": there, **counted(found)})
    # Sorting is stable: what is equally common stays in the order of kinds, then of stages.
    deviations.sort(key=lambda row: -row["count"])
    paths = []
    for deal in deals:
        if deal["stages"] not in paths:
            paths.append(deal["stages"])
    variants = [variant([deal for deal in deals if deal["stages"] == path], path, len(deals)) for path in paths]
    variants.sort(key=lambda row: [order.index(stage) for stage in row["stages"]])
    variants.sort(key=lambda row: -row["deals"])
    rest = sum(row["deals"] for row in variants[limit:])
    again = {key: [deal["stages"].count(key) - 1 for deal in deals if deal["stages"].count(key) > 1] for key in order}
    conforming = [deal for deal in deals if not deal["against"]]
    return {
        "deals": len(deals),
        "conforming": len(conforming),
        "conforming_share": ratio(len(conforming), len(deals)),
        "kinds": kinds,
        "deviations": deviations,
        "variants": variants[:limit],
        "other_variants": {
            "variants": len(variants[limit:]),
            "deals": rest,
            "share": ratio(rest, len(deals)),
        },
        "loops": [{"stage": key, "deals": len(again[key]), "times": sum(again[key])} for key in order if again[key]],
    }


def variant(members, path, all_deals):
    """The row of a variant: of the deals that went this path."""
    row = {"stages": path, "deals": len(members), "share": ratio(len(members), all_deals)}
    row["conforming"] = sum(not deal["against"] for deal in members)
    for status in ("won", "lost", "disqualified", "open", "transferred"):
        row[status] = sum(deal["status"] == status for deal in members)
    row["win_rate"] = ratio(row["won"], len(members))
    days = [deal["days"] for deal in members if deal["status"] in ("won", "lost", "disqualified")]
    row["median_days_to_close"] = rounded(percentile(days, Fraction(1, 2)), 2)
    return row


def publish(report, group, rows, total):
    """Turn the lists of deals in a table into counts, and remember them for `deals_behind`."""
    for row in [*rows, total]:
        for field, found in row.items():
            if isinstance(found, list):
                cell = {"group": group, "stage": row.get("stage"), "field": field, "deals": found}
                report.behind.append(cell)
                row[field] = len(found)
        for outcome, counts in row.get("reasons", {}).items():
            for count in counts:
                field = (outcome, count["reason"])
                cell = {"group": group, "stage": row.get("stage"), "field": field, "deals": count["deals"]}
                report.behind.append(cell)
                count["deals"] = len(count["deals"])
    return {"stages": rows, "total": total}


def fill(report, table, deals, definition, group_by):
    """Put the table over all deals into a report, and one per group if groups are asked for."""
    report.update(publish(report, None, *table(deals, definition)))
    report["groups"] = [] if group_by else None
    groups = []
    for group in sorted((group_of(deal, group_by) for deal in deals), key=group_rank) if group_by else []:
        if not groups or group_rank(groups[-1]) != group_rank(group):
            groups.append(group)
    for group in groups:
        members = [deal for deal in deals if group_rank(group_of(deal, group_by)) == group_rank(group)]
        report["groups"].append({"group": group, **publish(report, group, *table(members, definition))})
    return report


def content_of(action):
    """What two actions with one id are compared by: the action as given, without `expected_version`."""
    # A null is an absent field, but in an amendment it takes a field away and so is content.
    dropped = ("at", "by", "id") if action["action"] == "amend" else tuple(action)
    content = {name: value for name, value in action.items() if value is not None or name not in dropped}
    content.pop("expected_version", None)
    if "at" in content:
        content["at"] = instant(content["at"]).isoformat()
    return json.dumps(content, sort_keys=True, default=str)


class Model:
    """The log, and every rule and question about it."""

    def __init__(self):
        self.events = []  # every event in the order of positions
        self.ids = []  # every idempotency key taken: (scope, id, content, result)

    # --- Recording --------------------------------------------------------------------------------

    def record(self, action, clock):
        """Record one action."""
        return self.record_all([action], clock)[0]

    def record_all(self, actions, clock):
        """Record a batch: judged one after the other, all or nothing, with one recorded_at."""
        events, ids = len(self.events), len(self.ids)
        recorded_at = in_utc(clock)
        if self.events:
            recorded_at = max(recorded_at, self.events[-1]["recorded_at"] + timedelta(microseconds=1))
        try:
            return [self._record_one(action, recorded_at) for action in actions]
        except Exception:
            del self.events[events:], self.ids[ids:]
            raise

    def _record_one(self, action, recorded_at):
        """Judge one action in the order of checks, and append what it records."""
        kind = action["action"]
        given_at = instant(action.get("at"))
        if kind in ("define_pipeline", "redefine_pipeline"):
            scope = ("pipeline", action["pipeline"])
            check_key(action["pipeline"])
            check_stages(action["stages"])
            check_moves_shape(action.get("moves") or {})
            check_limits_shape(action)
            check_reasons_shape(action.get("reasons") or {}, action.get("reason_moves") or {})
            check_assignment(action.get("assignment"))
        else:
            # An opening without a deal id takes its idempotency key for one.
            scope = ("deal", action["deal"] if action.get("deal") is not None else action["id"])
        version = len(self._events_of(scope))
        if kind not in ("define_pipeline", "open_deal"):
            refuse_if(version == 0, "unknown_" + scope[0])
        if (earlier := self._seen(scope, action)) is not None:
            return dict(earlier)
        if kind in ("define_pipeline", "open_deal"):
            refuse_if(version > 0, scope[0] + "_exists")
        expected = action.get("expected_version")
        refuse_if(expected is not None and expected != version, "conflict")
        refuse_if(given_at is not None and given_at > recorded_at, "future_time")
        if scope[0] == "pipeline":
            self._define(scope, action, given_at or recorded_at, recorded_at)
        elif kind == "retract":
            self._retract(scope, action, given_at or recorded_at, recorded_at)
        elif kind == "amend":
            self._amend(scope, action, given_at, recorded_at)
        else:
            fields = {name: action[name] for name in FIELDS[kind] if action.get(name) is not None}
            event = self._append(scope, kind, given_at or recorded_at, recorded_at, fields)
            self._judge_timeline(scope[1], event)
            if kind == "open_deal" and "owner" not in fields:
                self._distribute(event)
        return self._result(scope, action)

    def _seen(self, scope, action):
        """The first result of an id that was recorded before with the same content."""
        for seen_scope, seen_id, content, result in self.ids:
            if seen_scope == scope and seen_id == action.get("id"):
                refuse_if(content != content_of(action), "id_reused")
                return result
        return None

    def _result(self, scope, action):
        """What was recorded; the id, if there is one, is taken from now on."""
        event = self.events[-1]
        result = {
            "deal": None,
            "pipeline": None,
            scope[0]: scope[1],
            "version": event["version"],
            "position": event["position"],
        }
        if action.get("id") is not None:
            self.ids.append((scope, action["id"], content_of(action), result))
        return dict(result)

    def _append(self, scope, kind, occurred_at, recorded_at, fields, root=None):
        """Put an event at the end of the log. It is judged there; a refusal takes it away again."""
        position = len(self.events) + 1
        event = {
            "scope": scope,
            "kind": kind,
            "position": position,
            "root": root or position,
            "version": len(self._events_of(scope)) + 1,
            "occurred_at": occurred_at,
            "recorded_at": recorded_at,
            "fields": copy.deepcopy(fields),
            "pipeline": None,
            "definition": None,
            "assigned": None,
        }
        self.events.append(event)
        return event

    def _define(self, scope, action, at, recorded_at):
        """Record a definition as a whole."""
        fields = definition_of(action)
        before = self._events_of(scope)
        if before:
            refuse_if(at < before[-1]["occurred_at"], "definition_before_previous")
            check_moves(before[-1]["fields"], fields)
        check_limits(fields)
        if before:
            check_reason_moves([event["fields"] for event in before], fields)
        self._append(scope, action["action"], at, recorded_at, fields)

    def _target(self, scope, version):
        """The event that a retraction or an amendment names."""
        events = self._events_of(scope)
        refuse_if(not 1 <= version <= len(events), "unknown_version")
        target = events[version - 1]
        refuse_if(target["kind"] == "retract", "is_retraction")
        retracted = [event["fields"]["version"] for event in events if event["kind"] == "retract"]
        refuse_if(version in retracted, "already_retracted")
        return target

    def _retract(self, scope, action, at, recorded_at):
        """Record a retraction, if the timeline holds without the event."""
        refuse_if(self._target(scope, action["version"])["kind"] == "open_deal", "is_opening")
        self._append(scope, "retract", at, recorded_at, {"version": action["version"]})
        self._judge_timeline(scope[1], None)

    def _amend(self, scope, action, given_at, recorded_at):
        """Retract an event and record another in its place, as one step."""
        old = self._target(scope, action["version"])
        refuse_if("pipeline" in action, "pipeline_not_amendable")
        named = [name for name in action if name not in ENVELOPE and name != "personal"]
        refuse_if(any(name not in FIELDS[old["kind"]] for name in named), "unknown_field")
        fields = dict(old["fields"])
        for name in named:
            fields[name] = action[name]
            if action[name] is None:
                refuse_if(REQUIRED.get(old["kind"]) == name, "missing_field")
                del fields[name]
        self._append(scope, "retract", recorded_at, recorded_at, {"version": old["version"]})
        at = given_at or old["occurred_at"]
        event = self._append(scope, old["kind"], at, recorded_at, fields, old["root"])
        if "owner" not in action:
            event["assigned"] = old["assigned"]  # an owner that nobody corrected is still the one who was given
        self._judge_timeline(scope[1], event)

    # --- The distribution of leads -------------------------------------------------------------------

    def _distribute(self, event):
        """Give a deal that was just opened without owner the one whose turn it is, by the definition in force."""
        definitions = self._definitions(event["pipeline"], FOREVER)
        version = event["definition"]
        assignment = definitions[version - 1]["assignment"]
        if assignment is None:
            return
        key, condition = self._group_for(assignment, fold([event])["facts"])
        group = groups_of(assignment)[key]
        since = version
        while since > 1:
            before = definitions[since - 2]["assignment"]
            if before is None or settled(groups_of(before).get(key)) != settled(group):
                break
            since -= 1
        given = self._given(event["pipeline"], key)
        counted = [one["fields"]["owner"] for one in given if one["assigned"]["since"] == since]
        owner = self._whose_turn(event["pipeline"], group, counted, [one["fields"]["owner"] for one in given])
        event["fields"]["owner"] = owner
        event["assigned"] = {
            "group": key,
            "when": condition,
            "rule": group["rule"],
            "since": since,
            "number": counted.count(owner) + 1,
            "of": len(counted) + 1,
        }

    def _group_for(self, assignment, facts):
        """The group that the first rule which holds leads to, and the condition of that rule."""
        choose = assignment.get("choose", "all")
        rules = [{"to": choose}] if isinstance(choose, str) else choose
        return next((r["to"], r.get("when")) for r in rules if r.get("when") is None or holds(r["when"], facts))

    def _given(self, pipeline, key):
        """The openings that a group of a pipeline was given, in the order of the log, amended since or not."""
        return [
            event
            for event in self.events
            if event["assigned"] and event["root"] == event["position"]
            if event["pipeline"] == pipeline and event["assigned"]["group"] == key
        ]

    def _whose_turn(self, pipeline, group, counted, ever):
        """The owner of a group whose turn it is; `counted` and `ever` are owners of leads, the latest last."""
        weights = {m["owner"]: m.get("weight") or 1 for m in group["owners"] if not m.get("paused")}
        had = {owner: counted.count(owner) for owner in weights}
        if group["rule"] == "least_open_deals":
            states = [fold(self._timeline(deal, FOREVER)) for deal in self._deals()]
            there = [s for s in states if s["status"] == "open" and s["pipeline"] == pipeline]
            had = {owner: sum(s["facts"]["owner"] == owner for s in there) for owner in weights}
            candidates = list(weights)
        else:
            total = sum(had.values()) + 1
            candidates = [o for o in weights if Fraction(had[o]) < Fraction(total * weights[o], sum(weights.values()))]

        def waited(owner):
            return ever[::-1].index(owner) if owner in ever else len(ever)

        # min() takes the first of equals, and `candidates` has the order of the list.
        return min(candidates, key=lambda owner: (Fraction(had[owner] + 1, weights[owner]), -waited(owner)))

    def assigned(self, deal):
        """By which rule a deal got its owner when it was opened, as the newest event of its opening says; or None."""
        return [event for event in self._events_of(("deal", deal)) if event["kind"] == "open_deal"][-1]["assigned"]

    # --- The rules on a timeline ---------------------------------------------------------------------

    def _judge_timeline(self, deal, new):
        """Judge the whole resulting timeline in order; the first event that breaks a rule gives the code."""
        if new is not None and new["kind"] == "open_deal":
            # An opening depends on nothing before it, so it is settled even where it now comes too late.
            self._settle_pipeline(None, new)
            self._settle_stage(None, new)
        state = None
        for event in self._timeline(deal, FOREVER):
            if event["kind"] != "open_deal":
                self._judge_event(deal, state, event, event is new)
            state = after(state, event)

    def _judge_event(self, deal, state, event, is_new):
        """Judge one event on the state just before it; a new one is settled on the way."""
        kind = event["kind"]
        refuse_if(state is None, "before_opening")
        refuse_if(state["status"] == "merged", "deal_merged")
        refuse_if(kind in NEEDS_OPEN and state["status"] != "open", "deal_not_open")
        refuse_if(kind == "reopen_deal" and state["status"] == "open", "deal_not_closed")
        if is_new:
            self._settle_pipeline(state, event)
        if kind == "transfer_deal":
            refuse_if(event["pipeline"] == state["pipeline"], "same_pipeline")
        elif stores_definition(event):
            refuse_if(event["pipeline"] != state["pipeline"], "other_pipeline")
        if is_new:
            self._settle_stage(state, event)
        if kind in ("move_deal", "complete_action", "win_deal", "reopen_deal"):
            self._judge_stage(state, event)
        if kind == "merge_deal" and is_new:
            # Judged once, when it is recorded: what becomes of the other deal later is not asked again.
            self._judge_merge(deal, event["fields"]["into"])

    def _settle_pipeline(self, state, event):
        """The pipeline that a new event stores."""
        if event["kind"] in ("open_deal", "transfer_deal"):
            event["pipeline"] = event["fields"]["pipeline"]
            refuse_if(not self._definitions(event["pipeline"], FOREVER), "unknown_pipeline")
        elif stores_definition(event):
            event["pipeline"] = state["pipeline"]

    def _settle_stage(self, state, event):
        """The definition number that a new event stores, and the stage if it puts the deal into one."""
        if not stores_definition(event):
            return
        definitions = self._definitions(event["pipeline"], FOREVER)
        number = event["definition"] = self._in_force(event["pipeline"], event["occurred_at"], FOREVER)
        if event["kind"] in ("lose_deal", "disqualify_deal"):
            listed = definitions[number - 1]["reasons"].get(OUTCOMES[event["kind"]])
            refuse_if(listed is not None and event["fields"]["reason"] not in listed, "unknown_reason")
        if event["kind"] not in PUTS_INTO_STAGE:
            return
        stages = keys_of(definitions[number - 1])
        if "stage" not in event["fields"]:
            event["fields"]["stage"] = stages[0]
            if event["kind"] == "reopen_deal":
                left = state["visits"][-1]
                event["fields"]["stage"] = read_stage(
                    definitions, left["stage"], left["definition"], number, left["facts"]
                )
        refuse_if(event["fields"]["stage"] not in stages, "unknown_stage")
        if event["kind"] in ("open_deal", "transfer_deal"):
            against = step_against(definitions[number - 1], None, event["fields"]["stage"])
            refuse_if(against, "entry_not_allowed")

    def _judge_stage(self, state, event):
        """The rules that compare the current stage with the event, under the newer of their versions."""
        definitions = self._definitions(event["pipeline"], FOREVER)
        visit = state["visits"][-1]
        version = max(visit["definition"], event["definition"])
        definition = definitions[version - 1]
        here = read_stage(definitions, visit["stage"], visit["definition"], version, visit["facts"])
        actions = stage_of(definition, here).get("actions") or []
        if event["kind"] == "complete_action":
            keys = [action["key"] for action in actions]
            refuse_if(event["fields"]["key"] not in keys, "action_not_in_stage")
            return
        there = "won"
        if event["kind"] != "win_deal":
            # Neither a move nor a reopening changes a field, so the deal just after it has the facts of just before.
            there = read_stage(definitions, event["fields"]["stage"], event["definition"], version, state["facts"])
        refuse_if(event["kind"] == "move_deal" and there == here, "already_in_stage")
        against = step_against(definition, here, there)
        refuse_if(against, f"{against}_not_allowed")
        order = [*keys_of(definition), "won"]
        if event["kind"] == "reopen_deal" or order.index(there) < order.index(here):
            return  # going back asks for nothing, and neither does a reopening
        required = [action["key"] for action in actions if action.get("required")]
        refuse_if(any(key not in state["completed"] for key in required), "required_action_missing")

    def _judge_merge(self, deal, into):
        """The rules about the deal that another is merged into, by its whole timeline."""
        refuse_if(into == deal, "merge_into_itself")
        refuse_if(not self._events_of(("deal", into)), "merge_into_unknown")
        refuse_if(fold(self._timeline(into, FOREVER))["status"] == "merged", "merge_into_merged")

    # --- What was known, and what was in force ------------------------------------------------------

    def _events_of(self, scope):
        """Every event of a deal or a pipeline; the n-th has version n."""
        return [event for event in self.events if event["scope"] == scope]

    def _deals(self):
        """The ids of all deals."""
        return sorted({event["scope"][1] for event in self.events if event["scope"][0] == "deal"})

    def _timeline(self, deal, known_at):
        """The events of a deal recorded by K and not retracted by K, in the order in which they occurred."""
        known = [event for event in self._events_of(("deal", deal)) if event["recorded_at"] <= known_at]
        retracted = [event["fields"]["version"] for event in known if event["kind"] == "retract"]
        live = [event for event in known if event["kind"] != "retract" and event["version"] not in retracted]
        return sorted(live, key=place)

    def _state(self, deal, as_of, known_at):
        """The state of a deal at (T, K); None before its opening."""
        return fold([event for event in self._timeline(deal, known_at) if event["occurred_at"] <= as_of])

    def _definitions(self, pipeline, known_at):
        """The definitions of a pipeline recorded by K, version 1 first."""
        return [
            event["fields"] for event in self._events_of(("pipeline", pipeline)) if event["recorded_at"] <= known_at
        ]

    def _in_force(self, pipeline, as_of, known_at):
        """The version in force at T as known at K; version 1 is so from the beginning of time."""
        later = [
            event["version"]
            for event in self._events_of(("pipeline", pipeline))
            if event["recorded_at"] <= known_at and event["occurred_at"] <= as_of
        ]
        return max([1, *later])

    def _now(self, clock):
        """The clock, or the last recorded_at where the clock is behind it."""
        return max([in_utc(clock)] + [event["recorded_at"] for event in self.events])

    # --- Questions ----------------------------------------------------------------------------------

    def _reading(self, pipeline, definition, as_of, known_at):
        """The definitions known at K, the version D to read under, and whether it is a draft."""
        known = self._definitions(pipeline, known_at)
        refuse_if(not known, "unknown_pipeline")
        in_force = self._in_force(pipeline, as_of, known_at)
        if isinstance(definition, dict):
            draft = definition_of(definition)
            check_stages(draft["stages"])
            check_moves_shape(draft["moves"])
            check_limits_shape(draft)
            check_reasons_shape(draft["reasons"], draft["reason_moves"])
            check_assignment(draft["assignment"])
            check_moves(known[-1], draft)
            check_limits(draft)
            check_reason_moves(known, draft)
            # A draft is read as if it were the next version.
            return [*known, draft], len(known) + 1, True
        if definition == "as_of":
            return known, in_force, False
        if definition == "current":
            return known, len(known), False
        refuse_if(definition not in range(1, len(known) + 1), "unknown_definition")
        refuse_if(definition < in_force, "cannot_restate")
        return known, definition, False

    def _heading(self, pipeline, as_of, known_at, version, draft):
        """The part of a report that says what it is about."""
        position = max([0] + [e["position"] for e in self.events if e["recorded_at"] <= known_at])
        return Report(
            {
                "pipeline": pipeline,
                "as_of": as_of,
                "known_at": known_at,
                "position": position,
                "definition": version - 1 if draft else version,
                "draft": draft,
            }
        )

    def pipeline_report(
        self,
        pipeline,
        *,
        clock,
        as_of=None,
        known_at=None,
        definition="as_of",
        group_by=(),
        where=None,
        tz="UTC",
    ):
        """The open deals of a pipeline at (T, K), stage by stage."""
        now = self._now(clock)
        as_of, known_at = moment_asked(as_of, tz, now), moment_asked(known_at, tz, now)
        definitions, version, draft = self._reading(pipeline, definition, as_of, known_at)
        deals = []
        for deal in self._deals():
            state = self._state(deal, as_of, known_at)
            if state is None or state["status"] != "open" or state["pipeline"] != pipeline:
                continue
            if matches(state["facts"], where):
                visit = visits_under(state, pipeline, definitions, version)[-1]
                deals.append(
                    {
                        "id": deal,
                        "facts": state["facts"],
                        "stage": visit["stage"],
                        "days": days_between(visit["place"][0], as_of),
                    }
                )
        report = self._heading(pipeline, as_of, known_at, version, draft)
        return fill(report, pipeline_table, deals, definitions[version - 1], group_by)

    def closing_report(
        self,
        pipeline,
        *,
        clock,
        as_of=None,
        known_at=None,
        definition="as_of",
        group_by=(),
        where=None,
        tz="UTC",
    ):
        """When the open deals of a pipeline at (T, K) should close, and how often their dates were moved."""
        now = self._now(clock)
        as_of, known_at = moment_asked(as_of, tz, now), moment_asked(known_at, tz, now)
        definitions, version, draft = self._reading(pipeline, definition, as_of, known_at)
        today = as_of.astimezone(zone(tz)).date()
        deals = []
        for deal in self._deals():
            state = self._state(deal, as_of, known_at)
            if state is None or state["status"] != "open" or state["pipeline"] != pipeline:
                continue
            if matches(state["facts"], where):
                dates = self._dates(deal, as_of, known_at)
                expected = parsed(state["expected_close"])
                deals.append(
                    {
                        "id": deal,
                        "facts": state["facts"],
                        "stage": visits_under(state, pipeline, definitions, version)[-1]["stage"],
                        "expected_close": expected,
                        "days_over": max(0, (today - (expected or today)).days),
                        "dates": dates,
                        "moves": [(after - before).days for before, after in pairwise(dates)],
                    }
                )
        deals.sort(key=lambda deal: (-deal["days_over"], deal["id"]))
        report = self._heading(pipeline, as_of, known_at, version, draft)
        report.update(closing_tables(deals, definitions[version - 1]))
        report["deals"] = [closing_deal(deal) for deal in deals if deal["days_over"] or deal["moves"]]
        report["groups"] = [] if group_by else None
        groups = []
        for group in sorted((group_of(deal, group_by) for deal in deals), key=group_rank) if group_by else []:
            if not groups or group_rank(groups[-1]) != group_rank(group):
                groups.append(group)
        for group in groups:
            members = [deal for deal in deals if group_rank(group_of(deal, group_by)) == group_rank(group)]
            report["groups"].append({"group": group, **closing_tables(members, definitions[version - 1])})
        return report

    def _dates(self, deal, as_of, known_at):
        """The expected closes that a deal had by (T, K), each once in a row; of events at one moment the last shows."""
        timeline = [event for event in self._timeline(deal, known_at) if event["occurred_at"] <= as_of]
        dates = []
        for number, event in enumerate(timeline, 1):
            if number == len(timeline) or timeline[number]["occurred_at"] != event["occurred_at"]:
                expected = parsed(fold(timeline[:number])["expected_close"])
                if expected is not None and expected != (dates[-1] if dates else None):
                    dates.append(expected)
        return dates

    def funnel_report(
        self,
        pipeline,
        *,
        clock,
        cohort,
        as_of=None,
        known_at=None,
        definition="as_of",
        within=None,
        group_by=(),
        where=None,
        tz="UTC",
        fiscal_year_start=1,
    ):
        """How far the deals opened in a period got by T."""
        now = self._now(clock)
        as_of, known_at = moment_asked(as_of, tz, now), moment_asked(known_at, tz, now)
        first, until = period(cohort, tz, fiscal_year_start)
        definitions, version, draft = self._reading(pipeline, definition, as_of, known_at)
        cohort_of = self._cohort(pipeline, as_of, known_at, first, until, within, where)
        deals = [funnel_deal(deal, seen, pipeline, definitions, version) for deal, seen in cohort_of]
        report = self._heading(pipeline, as_of, known_at, version, draft)
        report.update(cohort={"from": first, "until": until}, within=within)
        return fill(report, funnel_table, deals, definitions[version - 1], group_by)

    def _cohort(self, pipeline, as_of, known_at, first, until, within, where):
        """The deals opened into a pipeline in a period, each as it stood at the end of its window."""
        for deal in self._deals():
            state = self._state(deal, as_of, known_at)
            # Out: not opened by T, opened elsewhere, and merged by T even if its window ended before.
            if state is None or state["visits"][0]["pipeline"] != pipeline or state["status"] == "merged":
                continue
            if first <= state["opened_at"] < until and matches(state["opened_as"], where):
                yield deal, self._state(deal, horizon(state["opened_at"], within, as_of), known_at)

    def conformance(
        self,
        pipeline,
        *,
        clock,
        cohort,
        as_of=None,
        known_at=None,
        definition="as_of",
        within=None,
        group_by=(),
        where=None,
        limit=20,
        tz="UTC",
        fiscal_year_start=1,
    ):
        """How the deals opened in a period went by T, against what a definition allows."""
        now = self._now(clock)
        as_of, known_at = moment_asked(as_of, tz, now), moment_asked(known_at, tz, now)
        first, until = period(cohort, tz, fiscal_year_start)
        definitions, version, draft = self._reading(pipeline, definition, as_of, known_at)
        cohort_of = self._cohort(pipeline, as_of, known_at, first, until, within, where)
        deals = [conformance_deal(deal, seen, pipeline, definitions, version) for deal, seen in cohort_of]
        report = self._heading(pipeline, as_of, known_at, version, draft)
        report.update(cohort={"from": first, "until": until}, within=within, limit=limit)
        report.update(conformance_table(deals, definitions[version - 1], limit))
        report["groups"] = [] if group_by else None
        for deal in sorted(deals, key=lambda deal: group_rank(group_of(deal, group_by))) if group_by else []:
            group = group_of(deal, group_by)
            if not report["groups"] or group_rank(report["groups"][-1]["group"]) != group_rank(group):
                members = [one for one in deals if group_rank(group_of(one, group_by)) == group_rank(group)]
                table = conformance_table(members, definitions[version - 1], limit)
                report["groups"].append({"group": group, **table})
        return report

    def next_actions(self, pipeline, *, clock, owner=None, as_of=None, known_at=None, tz="UTC"):
        """What is to be done for the open deals, and which of them are stalled, without owner or overdue."""
        now = self._now(clock)
        as_of, known_at = moment_asked(as_of, tz, now), moment_asked(known_at, tz, now)
        definitions, version, draft = self._reading(pipeline, "as_of", as_of, known_at)
        today = as_of.astimezone(zone(tz)).date()
        report = self._heading(pipeline, as_of, known_at, version, draft)
        report.update(actions=[], stalled=[], unowned=[], overdue=[])
        waiting = []
        for deal in self._deals():
            state = self._state(deal, as_of, known_at)
            if state is None or state["status"] != "open" or state["pipeline"] != pipeline:
                continue
            if owner is None or state["facts"]["owner"] == owner:
                visit = visits_under(state, pipeline, definitions, version)[-1]
                waiting.append((visit["place"][0], deal, state, stage_of(definitions[version - 1], visit["stage"])))
        over = {}
        for since, deal, state, stage in sorted(waiting, key=lambda one: one[:2]):
            days = days_between(since, as_of)
            row = {"deal": deal, "owner": state["facts"]["owner"], "stage": stage["key"], "stage_since": since}
            row["days_in_stage"] = rounded(days, 2)
            for action in stage.get("actions") or []:
                if action["key"] not in state["completed"]:
                    required = bool(action.get("required"))
                    of_it = {"action": action["key"], "name": action["name"], "required": required}
                    report["actions"].append({**row, **of_it})
            limit = stage.get("rots_after_days")
            if limit is not None and days > Fraction(str(limit)):
                over[deal] = days - Fraction(str(limit))
                report["stalled"].append({**row, "days_over": rounded(over[deal], 2)})
            if row["owner"] is None:
                report["unowned"].append(row)
            expected = parsed(state["expected_close"])
            if expected is not None and expected < today:
                days_over = {"expected_close": expected, "days_over": (today - expected).days}
                report["overdue"].append({**row, **days_over})
        # Sorting is stable: within each list those who have waited longest stay in front.
        report["actions"].sort(key=lambda row: not row["required"])
        report["stalled"].sort(key=lambda row: -over[row["deal"]])
        report["overdue"].sort(key=lambda row: row["expected_close"])
        return report

    def deal(self, deal, *, clock, as_of=None, known_at=None):
        """The state of one deal at (T, K), or None where these do not reach its opening."""
        refuse_if(not self._events_of(("deal", deal)), "unknown_deal")
        now = self._now(clock)
        as_of, known_at = moment_asked(as_of, "UTC", now), moment_asked(known_at, "UTC", now)
        state = self._state(deal, as_of, known_at)
        if state is None:
            return None
        pipeline, visit, facts = state["pipeline"], state["visits"][-1], state["facts"]
        stage = read_stage(
            self._definitions(pipeline, known_at),
            visit["stage"],
            visit["definition"],
            self._in_force(pipeline, as_of, known_at),
            visit["facts"],
        )
        value = facts["value"]
        return {
            "status": state["status"],
            "pipeline": pipeline,
            "stage": stage,
            "owner": facts["owner"],
            "source": facts["source"],
            "value": value and (Decimal(value["amount"]), value["currency"]),
            "expected_close": parsed(state["expected_close"]),
            "attributes": facts["attributes"],
            "opened_at": state["opened_at"],
        }

    def deals_behind(self, report, stage, field, group=None):
        """The sorted ids of the deals behind a count of a report; with stage None, of a total."""
        cells = [cell for cell in report.behind if cell["stage"] == stage and cell["field"] == field]
        refuse_if(not cells and not isinstance(field, tuple), "invalid_field")  # a reason may have no deal at all
        for cell in cells:
            if same_group(cell["group"], group):
                return sorted(cell["deals"])
        return []  # a group without a deal does not appear


def same_group(one, other):
    """Whether two groups are the same, in whatever order their fields are named; None is the whole report."""
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(rank(one[field]) == rank(other[field]) for field in one)


def horizon(opened_at, within, as_of):
    """The last moment that counts for a deal: T, or the end of its window where that comes first."""
    if within is None or Fraction(str(within)) >= days_between(opened_at, as_of):
        return as_of
    # Moments are whole microseconds, so cutting off what is less than one changes nothing.
    return opened_at + timedelta(microseconds=int(Fraction(str(within)) * 86_400 * 10**6))


def conformance_deal(deal, state, pipeline, definitions, version):
    """What a conformance report needs to know of one deal: its stages in order, and its steps that are not allowed."""
    visits = visits_under(state, pipeline, definitions, version)
    wins = [{"stage": "won", **win} for win in state["wins"] if win["pipeline"] == pipeline]
    against, here = [], None
    for step in sorted(visits + wins, key=lambda step: step["place"]):
        came_from = None if step.get("begun_by") in ("open_deal", "transfer_deal") else here
        # A reopening in the stage that the deal left from is no step.
        if step["stage"] != came_from:
            kind = step_against(definitions[version - 1], came_from, step["stage"])
            if kind:
                against.append((kind, came_from, step["stage"]))
        if step["stage"] != "won":
            here = step["stage"]
    closed = state["status"] in ("won", "lost", "disqualified")
    return {
        "id": deal,
        "facts": state["opened_as"],
        "stages": [visit["stage"] for visit in visits],
        "against": against,
        "status": state["status"] if state["pipeline"] == pipeline else "transferred",
        "days": days_between(state["opened_at"], state["closed_at"]) if closed else None,
    }


def funnel_deal(deal, state, pipeline, definitions, version):
    """What a funnel needs to know of one deal, seen at its horizon."""
    order = keys_of(definitions[version - 1])
    steps = [
        (visit["place"], order.index(visit["stage"])) for visit in visits_under(state, pipeline, definitions, version)
    ]
    furthest = max(index for _, index in steps)
    # A win is a step beyond every stage, also where the deal was reopened since.
    steps += [(win["place"], len(order)) for win in state["wins"] if win["pipeline"] == pipeline]
    path = [(index, at[0]) for at, index in sorted(steps)]
    # Whatever became of it in another pipeline is no matter here; one that came back is judged here.
    status = state["status"] if state["pipeline"] == pipeline else "transferred"
    found = {"id": deal, "facts": state["opened_as"], "furthest": furthest, "path": path, "status": status}
    if status in REASONED:
        found["reason"] = read_reason(definitions, status, state["reason"], state["reason_under"], version)
    return found
