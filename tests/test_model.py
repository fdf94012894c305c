"""The engine against the naive model: random actions, valid and not, and random questions, always the same answers.

The model shares no code with the package. After each step the rows kept up incrementally equal those of a rebuild.
"""

import os
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import mutations
from comparing import figures, plain
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_model import Model, Refused

from dealtrail import DealtrailError, Trail
from dealtrail.projections.readmodel import ReadModel

START = datetime(2026, 3, 1, tzinfo=UTC)
STAGES = ["a", "b", "c", "d", "e"]
DEALS = ["D1", "D2", "D3", "D4"]
PIPELINES = ["p", "q"]
OWNERS = ["anna", "bob", None]
FIELDS = ["owner", "source", "currency", "attributes.seg", "attributes.n"]
WEIGHTS = {
    "open_deal": 1,
    "move_deal": 10,
    "change_value": 2,
    "assign_deal": 1,
    "set_attributes": 1,
    "change_expected_close": 3,
    "complete_action": 5,
    "log_activity": 1,
    "win_deal": 3,
    "lose_deal": 3,
    "disqualify_deal": 1,
    "reopen_deal": 3,
    "transfer_deal": 3,
    "merge_deal": 1,
    "retract": 3,
    "amend": 6,
}
TABLES = ("definition", "personal")

# Each rule draws one seed and makes its step of it: drawn value by value, nearly all steps would be refused ones.
seeds = st.integers(0, 2**32 - 1)


def value(rnd: Random) -> dict[str, str] | None:
    amount = rnd.choice(["1", "10.005", "99.995", "-3.25", "1000", "0", "2.5"])
    return rnd.choice([None, *[{"amount": amount, "currency": currency} for currency in ("EUR", "JPY", "KWD")]])


def attributes(rnd: Random) -> dict[str, Any]:
    return {name: rnd.choice(["x", "y", 1, 2.5, True, None]) for name in ("seg", "n") if rnd.random() < 0.5}


def condition(rnd: Random) -> dict[str, Any]:
    op = rnd.choice(["eq", "ne", "lt", "le", "gt", "ge"])
    return rnd.choice(
        [
            {"field": "value", "op": op, "value": rnd.choice(["10", 1000, 2.5])},
            {"field": "value", "op": "in", "value": ["1000", 0]},
            {"field": rnd.choice(["owner", "source"]), "op": op, "value": rnd.choice(["anna", "web", 1])},
            {"field": "owner", "op": "in", "value": ["anna", "carl"]},
            {"field": rnd.choice(["attributes.seg", "attributes.n"]), "op": op, "value": rnd.choice(["x", 1, True])},
        ]
    )


def assignment(rnd: Random) -> dict[str, Any] | None:
    """Who gets deals without owner: nobody, one group, or groups by rules; now and then one that is refused."""

    def group() -> dict[str, Any]:
        owners = [{"owner": name} for name in rnd.sample(["anna", "bob", "carl"], rnd.randint(1, 3))]
        for member in owners:
            member |= rnd.choice([{}, {}, {"weight": rnd.choice([1, 2, 7])}, {"paused": rnd.random() < 0.7}])
        return {"rule": rnd.choice(["round_robin", "least_open_deals"]), "owners": owners}

    if rnd.random() < 0.3:
        return None
    if rnd.random() < 0.5:
        return group()
    rules = [{"when": condition(rnd), "to": rnd.choice("gh")} for _ in range(rnd.randint(0, 2))]
    last = rnd.choice("gggghhhhi")
    return {"groups": {"g": group(), "h": group()}, "choose": [*rules, {"to": last}] if rules else last}


def stage_list(rnd: Random) -> list[dict[str, Any]]:
    call, demo = {"key": "call", "name": "Call"}, {"key": "demo", "name": "Demo"}
    required = {"required": True}
    actions: list[list[Any]] = [[], [], [], [call], [call | required], [call, demo | required]]
    return [
        {
            "key": key,
            "name": key.upper(),
            "probability": rnd.choice([0, 0.1, "0.333", 0.5, 1]),
            "rots_after_days": rnd.choice([None, 0, 1, 2]),
            "actions": rnd.choice(actions),
        }
        for key in rnd.sample(STAGES, rnd.randint(1, 4))
    ]


def limits(rnd: Random, keys: list[str], *, most: float = 0.8) -> dict[str, Any]:
    """What is allowed: mostly nearly everything, so that deals still move; now and then a key that is no stage."""
    found: dict[str, Any] = {}
    for name in ("entry", "back", "skip"):
        if rnd.random() < 0.6:
            some = [key for key in keys if rnd.random() < most]
            found[name] = rnd.choice([None, "any", some, some, some, some + ["z"] * (rnd.random() < 0.1)])
    return found


def moves(rnd: Random, before: list[str], after: list[str]) -> dict[str, Any]:
    """What becomes of the old keys, mostly as the rules want it."""
    found: dict[str, Any] = {}
    for key in before:
        if rnd.random() < (0.75 if key in after else 0.02):
            continue
        targets = after if rnd.random() < 0.97 else STAGES
        rules = [{"when": condition(rnd), "to": rnd.choice(targets)} for _ in range(rnd.randint(0, 2))]
        found[key] = [*rules, {"to": rnd.choice(targets)}] if rules else rnd.choice(targets)
    return found


REASONS = ["price", "timing", "feature"]


def reasons(rnd: Random, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """The reasons of a definition, and what becomes of those before, mostly as the rules want it."""
    listed = {
        outcome: rnd.sample(REASONS, rnd.randint(1, 3)) for outcome in ("lost", "disqualified") if rnd.random() < 0.4
    }
    if not earlier:
        return {"reasons": listed}
    named: dict[str, dict[str, str]] = {}
    for outcome in ("lost", "disqualified"):
        targets = listed.get(outcome, REASONS)
        before = earlier[-1].get(outcome, REASONS)
        for reason in REASONS:
            if rnd.random() < (0.03 if reason not in before else 0.4 if reason in targets else 0.98):
                named.setdefault(outcome, {})[reason] = rnd.choice(targets if rnd.random() < 0.98 else REASONS)
    return {"reasons": listed, "reason_moves": named}


def rows(model: ReadModel, position: int) -> dict[str, list[Any]]:
    with model.answering(position) as c:
        found = {}
        for table in TABLES:
            c.execute(f"SELECT * FROM {table}")
            found[table] = sorted(c.fetchall(), key=repr)
        return found


class Engine(RuleBasedStateMachine):
    """Two ledgers of the same actions: the engine's and the naive model's."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = START
        self.trail = Trail.open(":memory:", clock=lambda: self.clock)
        self.model = Model()
        self.stages: dict[str, list[list[str]]] = {}
        self.reasons: dict[str, list[dict[str, Any]]] = {}
        self.lost: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.assignments: dict[str, Any] = {}
        self.leads: list[str] = []
        self.used = [START]
        self.questions = 0

    def teardown(self) -> None:
        # Row by row: what was kept up step by step is what a fold of everything gives.
        done = self.trail.verify()
        self.trail.close()
        assert done.ok, done.findings

    @initialize(seed=seeds)
    def define(self, seed: int) -> None:
        rnd = Random(seed)
        for key in PIPELINES:
            stages = stage_list(rnd)
            self.stages[key] = [[stage["key"] for stage in stages]]
            more = limits(rnd, self.stages[key][0]) | reasons(rnd, [])
            self.reasons[key] = [more["reasons"]]
            given = {"action": "define_pipeline", "pipeline": key, "stages": stages}
            more["assignment"] = self.assignments[key] = assignment(rnd)
            if isinstance(self.both([given | more]), str):
                self.assignments[key] = None
                self.both([given])
                self.reasons[key] = [{}]
        self.several(rnd, 25)

    def both(self, actions: list[dict[str, Any]]) -> list[Any] | str:
        """Record in both, which must agree on what was recorded, or on the code of the refusal."""
        self.used.append(self.clock)
        try:
            expected: Any = self.model.record_all([dict(action) for action in actions], self.clock)
        except Refused as refusal:
            expected = refusal.code
        try:
            found: Any = [plain(recorded) for recorded in self.trail.record_all(actions)]
        except DealtrailError as refusal:
            found = refusal.code
        assert found == expected, (actions, found, expected)
        return found

    def at(self, rnd: Random) -> dict[str, Any]:
        """An `at`: none, one used before, so that many share a moment, or hours or days back (now and then ahead)."""
        kind = rnd.random()
        if kind < 0.4:
            return {}
        if kind < 0.7:
            return {"at": rnd.choice(self.used[-4:])}
        hours = rnd.choice([0, 0, 1, 1, 5, 24, 26, 60] + [-1] * (rnd.random() < 0.1))
        at = self.clock - timedelta(hours=hours)
        self.used.append(min(self.clock, at))
        return {"at": at}

    def action(self, rnd: Random) -> dict[str, Any]:
        """An action on one of a few deals: on one that is there, mostly, and with a stage that its pipeline has."""
        deal = rnd.choice(DEALS)
        there = [name for name in DEALS if name in self.versions]
        if self.leads and rnd.random() < 0.3:
            deal, there = "", self.leads
        if deal in DEALS and deal not in there and rnd.random() < 0.8:
            name = "open_deal"
        else:
            deal = rnd.choice(there) if there and (not deal or rnd.random() < 0.98) else deal
            name = rnd.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        action: dict[str, Any] = {"action": name, "deal": deal, **self.at(rnd)}
        match name:
            case "open_deal":
                pipeline = rnd.choice(["p", "p", "p", "q"])
                action |= {"pipeline": pipeline, "value": value(rnd), "owner": rnd.choice(OWNERS)}
                action |= {"stage": self.stage(rnd, pipeline, optional=True), "attributes": attributes(rnd)}
                action |= {"source": rnd.choice(["web", "fair", None])}
                action |= {"expected_close": rnd.choice([None, "2026-03-31", "2026-03-02"])}
            case "move_deal":
                action["stage"] = self.stage(rnd, rnd.choice("ppq"))
            case "change_value":
                action["value"] = value(rnd)
            case "assign_deal":
                action["owner"] = rnd.choice(OWNERS)
            case "set_attributes":
                action["attributes"] = attributes(rnd)
            case "change_expected_close":
                dates = [None, "2026-03-01", "2026-03-03", "2026-05-01", "2026-02-27", "2026-03-20"]
                action["expected_close"] = rnd.choice(dates)
            case "complete_action":
                action["key"] = rnd.choice(["call", "demo"])
            case "log_activity":
                action |= {"kind": "mail", "note": "hello", "personal": {"who": rnd.choice("xyz")}}
            case "win_deal":
                action["value"] = value(rnd)
            case "lose_deal" | "disqualify_deal":
                action["reason"] = rnd.choice([*REASONS, None])
            case "reopen_deal":
                action["stage"] = self.stage(rnd, "p", optional=True)
            case "transfer_deal":
                pipeline = rnd.choice("pq")
                action |= {"pipeline": pipeline, "stage": self.stage(rnd, pipeline, optional=True)}
            case "merge_deal":
                action["into"] = rnd.choice([*DEALS, "D9"])
            case "retract":
                action |= {"version": rnd.randint(1, max(2, self.versions.get(deal, 0))), "reason": "mistake"}
            case "amend":
                action |= {"version": rnd.randint(1, max(1, self.versions.get(deal, 0)))} | self.changes(rnd, deal)
                if (lost := self.lost.get(deal)) and rnd.random() < 0.3:
                    action |= {"version": lost, "reason": rnd.choice([*REASONS, None])}
        if rnd.random() < 0.1:
            action["id"] = rnd.choice(["i1", "i2"])
        if rnd.random() < 0.08:
            action["expected_version"] = self.versions.get(deal, 0)
        return action

    def stage(self, rnd: Random, pipeline: str, *, optional: bool = False) -> str | None:
        if optional and rnd.random() < 0.5:
            return None
        definition = self.stages[pipeline][-1] if rnd.random() < 0.8 else rnd.choice(self.stages[pipeline])
        return rnd.choice(definition if rnd.random() < 0.97 else STAGES)

    def changes(self, rnd: Random, deal: str) -> dict[str, Any]:
        return rnd.choice(
            [
                {"value": value(rnd)},
                {"expected_close": rnd.choice([None, "2026-04-01", "2026-03-03"])},
                {"stage": self.stage(rnd, "p")},
                {"stage": None},
                {"owner": rnd.choice(OWNERS)},
                {"attributes": attributes(rnd)},
                {"into": rnd.choice(DEALS)},
                {"reason": rnd.choice([*REASONS, None])},
                {},
                {},
            ]
        )

    def noted(self, found: list[Any] | str) -> None:
        for recorded in found if isinstance(found, list) else []:
            if recorded["deal"]:
                self.versions[recorded["deal"]] = max(recorded["version"], self.versions.get(recorded["deal"], 0))

    @rule(seed=seeds, minutes=st.sampled_from([0, 1, 30, 600, 1500, -90]))
    def record_one(self, seed: int, minutes: int) -> None:
        self.clock += timedelta(minutes=minutes)
        self.noted(self.both([self.action(Random(seed))]))

    @rule(seed=seeds, size=st.integers(2, 8))
    def record_several(self, seed: int, size: int) -> None:
        self.several(Random(seed), size)

    def several(self, rnd: Random, size: int) -> None:
        for _ in range(size):
            self.clock += timedelta(minutes=rnd.choice([0, 1, 30, 600, 1500]))
            action = self.action(rnd)
            found = self.both([action])
            self.noted(found)
            if action["action"] in ("lose_deal", "disqualify_deal") and isinstance(found, list):
                self.lost[action["deal"]] = found[0]["version"]
            if rnd.random() < 0.15:
                self.busy_moment(rnd)

    def busy_moment(self, rnd: Random) -> None:
        """Several changes of a deal that occur at one moment and are recorded one after the other; one is amended."""
        deal, at = rnd.choice(DEALS), self.clock
        for _ in range(3):
            self.noted(self.both([{"action": "change_value", "deal": deal, "value": value(rnd), "at": at}]))
            self.clock += timedelta(minutes=rnd.choice([0, 1, 30]))
        version = self.versions.get(deal, 3) - rnd.randint(1, 2)
        self.noted(self.both([{"action": "amend", "deal": deal, "version": max(1, version), "value": value(rnd)}]))

    @rule(seed=seeds, size=st.integers(2, 3))
    def record_batch(self, seed: int, size: int) -> None:
        rnd = Random(seed)
        self.clock += timedelta(minutes=7)
        self.noted(self.both([self.action(rnd) for _ in range(size)]))

    @rule(seed=seeds, size=st.integers(1, 4), together=st.booleans())
    @precondition(lambda self: len(self.leads) < 16)
    def lead(self, seed: int, size: int, together: bool) -> None:
        """New deals without owner, one by one or as a batch."""
        rnd = Random(seed)
        self.clock += timedelta(minutes=rnd.choice([0, 1, 30, 600]))
        pipeline, opened = rnd.choice("ppq"), []
        for _ in range(size):
            name = f"L{len(self.leads) + len(opened) + 1}"
            facts = {"value": value(rnd), "attributes": attributes(rnd), "source": rnd.choice(["web", None])}
            opened.append({"action": "open_deal", "deal": name, "pipeline": pipeline} | facts)
        opened[0] |= self.at(rnd)
        for batch in [opened] if together else [[one] for one in opened]:
            found = self.both(batch)
            self.noted(found)
            if isinstance(found, list):
                self.leads += [one["deal"] for one in batch]

    @rule(seed=seeds, minutes=st.integers(0, 3000))
    @precondition(lambda self: sum(map(len, self.stages.values())) < 7)
    def redefine(self, seed: int, minutes: int) -> None:
        rnd = Random(seed)
        self.clock += timedelta(minutes=minutes)
        key, stages = rnd.choice("ppq"), stage_list(rnd)
        after = [stage["key"] for stage in stages]
        named = moves(rnd, self.stages[key][-1], after)
        more = limits(rnd, after) | reasons(rnd, self.reasons[key])
        # Mostly the same as before, so that counting goes on from version to version.
        more["assignment"] = self.assignments[key] if rnd.random() < 0.6 else assignment(rnd)
        action = {"action": "redefine_pipeline", "pipeline": key, "stages": stages, "moves": named, **more}
        found = self.both([action | (self.at(rnd) if rnd.random() < 0.5 else {})])
        if isinstance(found, list):
            self.stages[key].append(after)
            self.reasons[key].append(more["reasons"])
            self.assignments[key] = more["assignment"]

    def moments(self, rnd: Random) -> dict[str, Any]:
        def moment() -> Any:
            if rnd.random() < 0.4:
                return None
            if rnd.random() < 0.3:
                return rnd.choice(self.used)
            if rnd.random() < 0.1:
                return START.date() + timedelta(days=rnd.randint(0, 9))
            span = max(1, int((self.clock - START).total_seconds() // 60))
            # Rather late than early, where most has happened; now and then before the beginning or after the end.
            return START + timedelta(minutes=int(span * (1.05 - 1.1 * rnd.random() ** 2)))

        return {"as_of": moment(), "known_at": moment()}

    def asked(self, rnd: Random, key: str) -> dict[str, Any]:
        versions = len(self.stages[key])
        definition: Any = rnd.choice(["as_of", "as_of", "current", "draft", rnd.randint(1, versions + 1), versions])
        if definition == "draft":
            stages = stage_list(rnd)
            after = [stage["key"] for stage in stages]
            definition = {"stages": stages, "moves": moves(rnd, self.stages[key][-1], after)}
            definition |= limits(rnd, after, most=0.3) | reasons(rnd, self.reasons[key])
            definition["assignment"] = assignment(rnd)
        where = {rnd.choice(FIELDS): rnd.choice(["anna", "x", 1, None, "EUR", "web"])} if rnd.random() < 0.2 else {}
        return self.moments(rnd) | {
            "definition": definition,
            "group_by": rnd.sample(FIELDS, rnd.choice([0, 0, 0, 1, 2])),
            "where": where,
            "tz": rnd.choice(["UTC", "Europe/Amsterdam", "America/New_York"]),
        }

    def same_report(self, kind: str, key: str, question: dict[str, Any], rnd: Random) -> None:
        try:
            expected: Any = getattr(self.model, kind)(key, clock=self.clock, **question)
        except Refused as refusal:
            expected = refusal.code
        try:
            found: Any = getattr(self.trail, kind)(key, **question)
        except DealtrailError as refusal:
            found = refusal.code
        assert (found if isinstance(found, str) else figures(found)) == expected, (key, question)
        if isinstance(found, str):
            return
        again = getattr(self.trail, kind)(key, **question)
        assert again.digest == found.digest
        if kind in ("conformance", "next_actions", "closing_report"):
            return
        stage = rnd.choice([None, *(row.stage for row in found.stages)])
        if kind == "pipeline_report":
            field = rnd.choice(["deals", "stalled"])
        elif stage is None:
            field = rnd.choice(["cohort", "won", "lost", "disqualified", "open", "transferred"])
        else:
            field = rnd.choice(["entered", "reached", "passed", "open", "lost", "transferred"])
        group = rnd.choice([None, *(g.group for g in found.groups or [])])
        behind = self.trail.deals(found, stage=stage, field=field, group=group)
        assert [view.deal for view in behind] == self.model.deals_behind(expected, stage, field, group)
        if kind == "funnel_report":
            outcome, reason = rnd.choice(["lost", "lost", "disqualified"]), rnd.choice([*REASONS, None])
            behind = self.trail.deals(found, stage=stage, field=outcome, reason=reason, group=group)
            expected_deals = self.model.deals_behind(expected, stage, (outcome, reason), group)
            assert [view.deal for view in behind] == expected_deals

    @invariant()
    def reports_equal_the_model(self) -> None:
        self.questions += 1
        rnd = Random(f"{self.questions} {self.clock}")
        for _ in range(2):
            key = rnd.choice("ppq")
            self.same_report("pipeline_report", key, self.asked(rnd, key), rnd)
            key = rnd.choice("ppq")
            self.same_report("closing_report", key, self.asked(rnd, key), rnd)
            key = rnd.choice("ppq")
            cohort = rnd.choice(["2026-03", "2026-W10", "2026-03-01", "2026-03-02..2026-03-05", "2026", "2026"])
            within = rnd.choice([None, None, 0, 1, 3])
            self.same_report("funnel_report", key, self.asked(rnd, key) | {"cohort": cohort, "within": within}, rnd)
            key = rnd.choice("ppq")
            question = self.asked(rnd, key)
            if rnd.random() < 0.4:
                same = self.model._events_of(("pipeline", key))[-1]["fields"]["stages"]
                question["definition"] = {"stages": same, **limits(rnd, self.stages[key][-1], most=0.3)}
            question |= {"cohort": rnd.choice([cohort, "2026"]), "within": within, "limit": rnd.choice([0, 1, 2, 20])}
            self.same_report("conformance", key, question, rnd)
        question = {"owner": rnd.choice([None, None, "anna"]), "tz": rnd.choice(["UTC", "Asia/Tokyo"])}
        self.same_report("next_actions", rnd.choice("ppq"), self.moments(rnd) | question, rnd)
        self.same_deal(rnd)

    def same_deal(self, rnd: Random) -> None:
        deal, moments = rnd.choice([*DEALS, *self.leads]), self.moments(rnd)
        try:
            view = self.trail.deal(deal, **moments)
        except DealtrailError as refusal:
            # Where the model knows a deal that K does not reach, it says nothing of it.
            assert refusal.code == "unknown_deal"
            view = None
        try:
            expected = self.model.deal(deal, clock=self.clock, **moments)
        except Refused as refusal:
            assert refusal.code == "unknown_deal"
            expected = None
        if expected is None:
            assert view is None
            return
        assert view is not None
        opening = [one for one in self.trail.history(deal) if one.event == "deal_opened"][-1]
        given = plain(opening.data.get("assigned"))
        told = self.model.assigned(deal)
        assert told == (None if given is None else {name: given[name] for name in told})
        found = {name: getattr(view, name) for name in expected}
        found["value"] = view.value and (view.value.amount, view.value.currency)
        assert found == expected

    @invariant()
    def incremental_rows_equal_a_rebuild(self) -> None:
        with self.trail._log.reading() as reading:
            position = reading.head().position
        other = ReadModel(self.trail._log)
        try:
            other.rebuild()
            assert rows(self.trail._model, position) == rows(other, position)
        finally:
            other.close()


Engine.TestCase.settings = settings(
    max_examples=int(os.environ.get("DEALTRAIL_EXAMPLES", "40")),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    # Shrinking a history of forty steps takes minutes: done where it is asked for, with DEALTRAIL_SHRINK=1.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] * ("DEALTRAIL_SHRINK" in os.environ))],
    derandomize="DEALTRAIL_EXAMPLES" not in os.environ,
)
TestEngine = Engine.TestCase


def test_every_mutation_that_is_tried_on_the_code_still_has_its_line():
    for path, old, _ in mutations.MUTATIONS:
        assert (mutations.ROOT / path).read_text(encoding="utf-8").count(old) == 1, (path, old)
