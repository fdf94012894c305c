"""The engine against the naive model: random actions, valid and not, and random questions, always the same answers.

The model shares no code with the package. After each step the rows kept up incrementally equal those of a rebuild.
"""

import os
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from naive_model import Model, Refused

from dealtrail import DealtrailError, Trail
from dealtrail.projections.readmodel import ReadModel

START = datetime(2026, 3, 1, tzinfo=UTC)
STAGES = ["a", "b", "c", "d", "e"]
DEALS = ["D1", "D2", "D3", "D4"]
PIPELINES = ["p", "q"]
OWNERS = ["anna", "bob"]
FIELDS = ["owner", "source", "currency", "attributes.seg", "attributes.n"]
TABLES = ("deal", "period", "visit", "personal", "definition")

keys = st.sampled_from(STAGES)
deals = st.sampled_from(DEALS)
pipelines = st.sampled_from(["p", "p", "q"])
owners = st.sampled_from([*OWNERS, None])
values = st.one_of(
    st.none(),
    st.builds(
        lambda amount, currency: {"amount": amount, "currency": currency},
        st.sampled_from(["1", "10.005", "99.995", "-3.25", "1000", "0", "2.5"]),
        st.sampled_from(["EUR", "JPY", "KWD"]),
    ),
)
attributes = st.dictionaries(
    st.sampled_from(["seg", "n"]), st.sampled_from(["x", "y", 1, 2.5, True, None]), max_size=2
)
conditions = st.one_of(
    st.builds(
        lambda op, value: {"field": "value", "op": op, "value": value},
        st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]),
        st.sampled_from(["10", 1000, 2.5]),
    ),
    st.builds(
        lambda field, op, value: {"field": field, "op": op, "value": value},
        st.sampled_from(["owner", "source", "attributes.seg", "attributes.n"]),
        st.sampled_from(["eq", "ne", "lt", "ge"]),
        st.sampled_from(["anna", "x", 1, True]),
    ),
    st.just({"field": "owner", "op": "in", "value": ["anna", "carl"]}),
)


@st.composite
def stage_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    chosen = draw(st.lists(keys, min_size=1, max_size=4, unique=True))
    return [
        {
            "key": key,
            "name": key.upper(),
            "probability": draw(st.sampled_from([0, 0.1, "0.333", 0.5, 1])),
            "rots_after_days": draw(st.sampled_from([None, 0, 1, 2])),
            "actions": draw(
                st.sampled_from(
                    [
                        [],
                        [],
                        [{"key": "call", "name": "Call"}],
                        [{"key": "call", "name": "Call", "required": True}],
                        [{"key": "call", "name": "Call"}, {"key": "demo", "name": "Demo", "required": True}],
                    ]
                )
            ),
        }
        for key in chosen
    ]


@st.composite
def moves(draw: st.DrawFn, before: list[str], after: list[str]) -> dict[str, Any]:
    targets = st.sampled_from([*after, *after, *STAGES])
    found = {}
    for key in before:
        if key in after and draw(st.integers(0, 3)):
            continue
        if draw(st.integers(0, 9)) == 0:
            continue  # a move may be missing
        if draw(st.booleans()):
            found[key] = draw(targets)
        else:
            rules = [{"when": draw(conditions), "to": draw(targets)} for _ in range(draw(st.integers(0, 2)))]
            found[key] = [*rules, {"to": draw(targets)}]
    return found


def plain(value: Any) -> Any:
    """A report as dicts and lists, amounts and moments as they are."""
    if isinstance(value, msgspec.Struct):
        names = type(value).__struct_encode_fields__
        return {
            name: plain(getattr(value, field))
            for name, field in zip(names, type(value).__struct_fields__, strict=True)
        }
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def figures(report: Any) -> dict[str, Any]:
    """What the model can know of a report: all but the question and the digests."""
    left_out = ("question", "content_digest", "digest")
    return {key: value for key, value in plain(report).items() if key not in left_out}


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
        self.versions: dict[str, int] = {}
        self.last_at = START

    def teardown(self) -> None:
        self.trail.close()

    @initialize(first=stage_lists(), second=stage_lists())
    def define(self, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
        for key, stages in zip(PIPELINES, (first, second), strict=True):
            self.both([{"action": "define_pipeline", "pipeline": key, "stages": stages}])
            self.stages[key] = [[stage["key"] for stage in stages]]

    def both(self, actions: list[dict[str, Any]]) -> list[Any] | str:
        """Record in both, which must agree on what was recorded, or on the code of the refusal."""
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

    def when(self, draw: st.DrawFn) -> dict[str, Any]:
        """An `at`: none, the clock's, another event's, or some hours or days back (now and then ahead)."""
        kind = draw(st.integers(0, 9))
        if kind < 4:
            return {}
        if kind < 6:
            return {"at": self.last_at}
        hours = draw(st.sampled_from([0, 1, 5, 24, 26, 60, -1]))
        self.last_at = min(self.clock, self.clock - timedelta(hours=hours))
        return {"at": self.clock - timedelta(hours=hours)}

    def action(self, draw: st.DrawFn) -> dict[str, Any]:
        name = draw(
            st.sampled_from(
                ["open_deal"] * 4
                + ["move_deal"] * 7
                + ["change_value", "assign_deal", "set_attributes", "change_expected_close"]
                + ["complete_action"] * 3
                + ["log_activity", "win_deal", "win_deal", "lose_deal", "disqualify_deal"]
                + ["reopen_deal"] * 2
                + ["transfer_deal"] * 2
                + ["merge_deal"]
                + ["retract"] * 2
                + ["amend"] * 3
            )
        )
        deal = draw(deals)
        action: dict[str, Any] = {"action": name, "deal": deal, **self.when(draw)}
        match name:
            case "open_deal":
                action |= {"pipeline": draw(pipelines), "value": draw(values), "owner": draw(owners)}
                action |= {"stage": draw(st.one_of(st.none(), keys)), "attributes": draw(attributes)}
                action |= {"source": draw(st.sampled_from(["web", "fair", None]))}
            case "move_deal":
                action["stage"] = draw(keys)
            case "change_value":
                action["value"] = draw(values)
            case "assign_deal":
                action["owner"] = draw(owners)
            case "set_attributes":
                action["attributes"] = draw(attributes)
            case "change_expected_close":
                action["expected_close"] = draw(st.sampled_from([None, "2026-05-01"]))
            case "complete_action":
                action["key"] = draw(st.sampled_from(["call", "demo"]))
            case "log_activity":
                action |= {"kind": "mail", "note": "hello"}
            case "win_deal":
                action["value"] = draw(values)
            case "reopen_deal":
                action["stage"] = draw(st.one_of(st.none(), keys))
            case "transfer_deal":
                action |= {"pipeline": draw(pipelines), "stage": draw(st.one_of(st.none(), keys))}
            case "merge_deal":
                action["into"] = draw(st.sampled_from([*DEALS, "D9"]))
            case "retract" | "amend":
                last = self.versions.get(deal, 0)
                action["version"] = draw(st.integers(1, max(1, last)))
                if name == "retract":
                    action["reason"] = "mistake"
                else:
                    action |= draw(
                        st.one_of(
                            st.builds(lambda v: {"value": v}, values),
                            st.builds(lambda k: {"stage": k}, keys),
                            st.builds(lambda o: {"owner": o}, owners),
                            st.builds(lambda a: {"attributes": a}, attributes),
                            st.just({}),
                            st.just({"stage": None}),
                        )
                    )
        if draw(st.integers(0, 7)) == 0:
            action["id"] = draw(st.sampled_from(["i1", "i2"]))
        if draw(st.integers(0, 11)) == 0:
            action["expected_version"] = self.versions.get(deal, 0)
        return action

    def noted(self, found: list[Any] | str) -> None:
        for recorded in found if isinstance(found, list) else []:
            if recorded["deal"]:
                self.versions[recorded["deal"]] = max(recorded["version"], self.versions.get(recorded["deal"], 0))

    @rule(data=st.data(), minutes=st.sampled_from([0, 1, 30, 600, 1500, -90]))
    def record_one(self, data: st.DataObject, minutes: int) -> None:
        self.clock += timedelta(minutes=minutes)
        self.noted(self.both([self.action(data.draw)]))

    @rule(data=st.data(), size=st.integers(2, 4))
    def record_batch(self, data: st.DataObject, size: int) -> None:
        self.clock += timedelta(minutes=7)
        self.noted(self.both([self.action(data.draw) for _ in range(size)]))

    @rule(data=st.data(), key=st.sampled_from(["p", "p", "q"]), stages=stage_lists(), minutes=st.integers(0, 300))
    @precondition(lambda self: sum(map(len, self.stages.values())) < 7)
    def redefine(self, data: st.DataObject, key: str, stages: list[dict[str, Any]], minutes: int) -> None:
        self.clock += timedelta(minutes=minutes)
        after = [stage["key"] for stage in stages]
        named = data.draw(moves(self.stages[key][-1], after))
        action = {"action": "redefine_pipeline", "pipeline": key, "stages": stages, "moves": named}
        found = self.both([action | self.when(data.draw)])
        if isinstance(found, list):
            self.stages[key].append(after)

    def asked(self, draw: st.DrawFn, key: str) -> dict[str, Any]:
        def moment() -> Any:
            kind = draw(st.integers(0, 5))
            if kind < 2:
                return None
            if kind == 2:
                return date(2026, 3, 1) + timedelta(days=draw(st.integers(0, 9)))
            span = max(1, int((self.clock - START).total_seconds() // 60))
            return START + timedelta(minutes=draw(st.integers(-60, span + 60)))

        definition: Any = draw(st.sampled_from(["as_of", "as_of", "current", 1, 2, 3, "draft"]))
        if definition == "draft":
            stages = draw(stage_lists())
            after = [stage["key"] for stage in stages]
            definition = {"stages": stages, "moves": draw(moves(self.stages[key][-1], after))}
        return {
            "as_of": moment(),
            "known_at": moment(),
            "definition": definition,
            "group_by": draw(st.lists(st.sampled_from(FIELDS), max_size=2, unique=True)),
            "where": draw(
                st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(["anna", "x", 1, None, "EUR"]), max_size=1)
            ),
            "tz": draw(st.sampled_from(["UTC", "Europe/Amsterdam", "America/New_York"])),
        }

    def same_report(self, kind: str, key: str, question: dict[str, Any], data: st.DataObject) -> None:
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
        stage = data.draw(st.sampled_from([None, *(row.stage for row in found.stages)]))
        if kind == "pipeline_report":
            field = data.draw(st.sampled_from(["deals", "stalled"]))
        elif stage is None:
            field = data.draw(st.sampled_from(["cohort", "won", "lost", "disqualified", "open", "transferred"]))
        else:
            field = data.draw(st.sampled_from(["entered", "reached", "passed", "open", "lost", "transferred"]))
        group = data.draw(st.sampled_from([None, *(g.group for g in found.groups or [])]))
        behind = self.trail.deals(found, stage=stage, field=field, group=group)
        assert [view.deal for view in behind] == self.model.deals_behind(expected, stage, field, group)

    @rule(data=st.data(), key=st.sampled_from(PIPELINES))
    def ask_pipeline(self, data: st.DataObject, key: str) -> None:
        self.same_report("pipeline_report", key, self.asked(data.draw, key), data)

    @rule(
        data=st.data(),
        key=st.sampled_from(PIPELINES),
        cohort=st.sampled_from(["2026-03", "2026-W10", "2026-03-01", "2026-03-02..2026-03-05", "2026"]),
        within=st.sampled_from([None, None, 0, 1, 3]),
    )
    def ask_funnel(self, data: st.DataObject, key: str, cohort: str, within: int | None) -> None:
        question = self.asked(data.draw, key) | {"cohort": cohort, "within": within}
        self.same_report("funnel_report", key, question, data)

    @rule(data=st.data(), deal=deals)
    def ask_deal(self, data: st.DataObject, deal: str) -> None:
        asked = self.asked(data.draw, "p")
        moments = {"as_of": asked["as_of"], "known_at": asked["known_at"]}
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
        found = {name: getattr(view, name) for name in expected}
        found["value"] = view.value and (view.value.amount, view.value.currency)
        assert found == expected

    @rule()
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
    max_examples=int(os.environ.get("DEALTRAIL_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    # Shrinking a history of forty steps takes minutes: done where it is asked for, with DEALTRAIL_SHRINK=1.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] * ("DEALTRAIL_SHRINK" in os.environ))],
    derandomize="DEALTRAIL_EXAMPLES" not in os.environ,
)
TestEngine = Engine.TestCase
