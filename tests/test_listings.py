"""The deals behind the cells of a report, deals and their histories, pages of deals, pipelines, and the log itself."""

import json
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec
import pytest
from given import (
    B2B,
    CARE,
    MICROSECOND,
    amend,
    assign,
    code_of,
    complete,
    define,
    disqualify,
    euro,
    given,
    log,
    lose,
    merge,
    move,
    on,
    opening,
    redefine,
    reopen,
    retract,
    revalue,
    stage,
    transfer,
    win,
)

from dealtrail import Draft
from dealtrail.store.reading import Reading

BIG = {"field": "value", "op": "ge", "value": "100"}
STAGES = [
    stage("lead", probability="0.1", rots_after_days=3),
    stage("qualified", probability="0.35"),
    stage("proposal", probability="0.6", rots_after_days=0),
]
PAST = (
    define(*STAGES),
    CARE,
    opening(1, deal="A", owner="anna", value=euro("100.005"), attributes={"size": 1}),
    opening(1, deal="B", owner="bob", value=euro(40)),
    opening(2, deal="C", owner="anna", value={"amount": "900", "currency": "JPY"}, attributes={"size": "1"}),
    opening(2, deal="D", stage="qualified", value=euro("0.005")),
    opening(3, deal="E", owner="anna", attributes={"size": True}),
    opening(3, deal="F", value=euro(-12)),
    opening(4, deal="G", pipeline="care"),
    opening(4, deal="H", owner="bob"),
    move(5, "qualified", deal="A"),
    move(6, "proposal", deal="A"),
    move(6, "proposal", deal="C"),
    win(8, deal="A", value=euro(120)),
    lose(8, deal="C"),
    move(9, "qualified", deal="B"),
    disqualify(9, deal="E"),
    transfer(10, deal="F"),
    transfer(10, deal="G", pipeline="b2b", stage="qualified"),
    reopen(11, deal="C", stage="lead"),
    merge(12, deal="H", into="B"),
    assign(13, "carl", deal="B"),
    redefine(
        15,
        stage("small", probability="0.2"),
        stage("large", probability="0.5", rots_after_days=2),
        moves={
            "lead": "small",
            "qualified": [{"when": BIG, "to": "large"}, {"to": "small"}],
            "proposal": "large",
        },
    ),
    move(16, "large", deal="B"),
)
DRAFT = Draft(stages=[stage("all", rots_after_days=1)], moves={"small": "all", "large": "all"})
MOMENTS = [
    {"as_of": on(7)},
    {"as_of": on(11, 12)},
    {"as_of": on(11), "definition": "current"},
    {"as_of": on(40)},
    {"as_of": on(9), "definition": DRAFT},
    {"definition": DRAFT},
    {"as_of": on(20), "where": {"owner": "anna"}},
]
GROUPS = [(), ("owner",), ("currency", "attributes.size")]
FUNNELS = [{}, {"within": 5}, {"cohort": "2026-01-01..2026-01-03"}]
COUNTS = ("entered", "reached", "passed", "open", "lost", "disqualified", "transferred")


def told():
    past = given(*PAST)
    past.clock.now = on(101)
    return past


def cells(report):
    """Every stage and total of a report, in each group and in none."""
    for part, group in [(report, None), *((g, g.group) for g in report.groups or ())]:
        for row in part.stages:
            yield row, {"stage": row.stage, "group": group}
        yield part.total, {"group": group}


def rounded(amounts, currency):
    unit = Decimal(1) if currency == "JPY" else Decimal("0.01")
    return sum(amounts, Decimal(0)).quantize(unit, rounding=ROUND_HALF_EVEN)


def sums(deals):
    """The sum of the values of some deals, by currency."""
    found = {}
    for deal in deals:
        found.setdefault(deal.value.currency, []).append(deal.value.amount)
    return {currency: rounded(amounts, currency) for currency, amounts in found.items()}


def assert_pipeline_adds_up(trail, report):
    for row, cell in cells(report):
        assert len(trail.deals(report, **cell)) == row.deals
        assert len(trail.deals(report, field="stalled", **cell)) == row.stalled
        assert len(trail.deals(report, field="median_days_in_stage", **cell)) == row.deals
        for field in ("value", "weighted_value"):
            assert sums(trail.deals(report, field=field, **cell)).keys() == getattr(row, field).keys()
        assert sums(trail.deals(report, field="value", **cell)) == row.value
        for currency, amount in row.value.items():
            deals = trail.deals(report, field="value", currency=currency, **cell)
            assert sums(deals) == {currency: amount}
    for row, cell in cells(report):
        stages = (
            [cell | {"stage": row.stage}] if "stage" in cell else [cell | {"stage": s.stage} for s in report.stages]
        )
        for currency, amount in row.weighted_value.items():
            parts = [
                deal.value.amount * PROBABILITIES[one["stage"]]
                for one in stages
                for deal in trail.deals(report, field="weighted_value", currency=currency, **one)
            ]
            assert rounded(parts, currency) == amount


PROBABILITIES = {
    key: Decimal(probability)
    for key, probability in {
        "lead": "0.1",
        "qualified": "0.35",
        "proposal": "0.6",
        "small": "0.2",
        "large": "0.5",
        "all": "0.5",
    }.items()
}


def assert_funnel_adds_up(trail, report):
    for row, cell in cells(report):
        if "stage" not in cell:
            for field in ("cohort", "won", "lost", "disqualified", "open", "transferred"):
                assert len(trail.deals(report, field=field, **cell)) == getattr(row, field), field
            for field in ("win_rate", "close_rate"):
                assert trail.deals(report, field=field, **cell) == trail.deals(report, field="won", **cell)
            continue
        for field in COUNTS:
            assert len(trail.deals(report, field=field, **cell)) == getattr(row, field), field
        assert len(trail.deals(report, field="conversion_from_start", **cell)) == row.reached
        assert len(trail.deals(report, field="conversion_to_next", **cell)) == row.passed
        for field in ("median_days_to_pass", "p90_days_to_pass"):
            assert bool(trail.deals(report, field=field, **cell)) == (getattr(row, field) is not None)


def pipeline_reports(past, **question):
    for moments in MOMENTS:
        for group_by in GROUPS:
            yield past.trail.pipeline_report("b2b", **moments, **question, group_by=group_by)


def funnel_reports(past, **question):
    for moments in MOMENTS:
        for group_by, more in zip(GROUPS, FUNNELS, strict=True):
            more = {"cohort": "2026-01", **more}
            yield past.trail.funnel_report("b2b", **moments, **more, **question, group_by=group_by)


def ids(deals):
    return [deal.deal for deal in deals]


# Behind a report


def test_the_deals_behind_each_cell_of_a_pipeline_report_add_up_to_it():
    past = told()
    for report in pipeline_reports(past):
        assert_pipeline_adds_up(past.trail, report)


def test_the_deals_behind_each_cell_of_a_funnel_report_add_up_to_it():
    past = told()
    for report in funnel_reports(past):
        assert_funnel_adds_up(past.trail, report)


def test_the_deals_behind_a_report_of_the_past_are_those_of_then_also_when_it_is_asked_later():
    past = told()
    pipelines, funnels = list(pipeline_reports(past)), list(funnel_reports(past))
    before = [ids(past.trail.deals(report)) for report in pipelines + funnels]
    past.clock.now = on(120)
    past.trail.record_all(
        [
            amend(1, deal="A", value=euro(7), owner=None),
            retract(2, deal="B"),
            opening(2, deal="I", owner="anna", value=euro(3)),
            disqualify(14, deal="D"),
            redefine(30, "small", moves={"large": "small"}),
        ]
    )
    past.clock.now = on(130)
    assert [ids(past.trail.deals(report)) for report in pipelines + funnels] == before
    for report in pipelines:
        assert_pipeline_adds_up(past.trail, report)
    for report in funnels:
        assert_funnel_adds_up(past.trail, report)
    again = list(pipeline_reports(past, known_at=on(101)))
    assert [report.stages for report in again if report.as_of < on(101)] == [
        report.stages for report in pipelines if report.as_of < on(101)
    ]
    assert_pipeline_adds_up(past.trail, past.trail.pipeline_report("b2b", as_of=on(14), group_by="owner"))


def test_the_deals_behind_a_cell_stand_as_they_were_at_its_moment():
    past = told()
    report = past.trail.pipeline_report("b2b", as_of=on(12), group_by="owner")
    (deal,) = past.trail.deals(report, stage="qualified", group={"owner": "bob"})
    assert (deal.deal, deal.owner, deal.stage, deal.stage_since, deal.version) == ("B", "bob", "qualified", on(9), 4)


def test_deals_come_in_the_order_of_their_ids():
    past = given(B2B, *(opening(1, deal=deal) for deal in ("b", "a10", "B", "a9", "é", "ab")))
    report = past.trail.pipeline_report("b2b")
    assert ids(past.trail.deals(report)) == ["B", "a10", "a9", "ab", "b", "é"]


def test_a_group_is_named_by_all_its_fields_in_any_order_and_its_types_are_told_apart():
    past = told()
    report = past.trail.funnel_report("b2b", cohort="2026-01", group_by=("owner", "attributes.size"))
    found = {
        repr(size): ids(past.trail.deals(report, group={"attributes.size": size, "owner": "anna"}))
        for size in (1, 1.0, "1", True, None)
    }
    assert found == {"1": ["A"], "1.0": ["A"], "'1'": ["C"], "True": ["E"], "None": []}
    for group in ({"owner": "anna"}, {}, {"owner": "anna", "attributes.size": 1, "source": None}):
        assert code_of(past.trail.deals, report, group=group) == "invalid_field"


def test_a_report_read_back_from_its_json_still_knows_its_deals():
    past = told()
    for report in [*pipeline_reports(past), *funnel_reports(past)]:
        stored = msgspec.json.encode(report)
        expected = past.trail.deals(report, stage=report.stages[0].stage)
        for again in (msgspec.json.decode(stored, type=type(report)), json.loads(stored)):
            assert past.trail.deals(again, stage=report.stages[0].stage) == expected


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ({"field": "reached"}, "invalid_field"),
        ({"field": ["deals"]}, "invalid_field"),
        ({"stage": "small"}, "unknown_stage"),
        ({"stage": ["lead"]}, "unknown_stage"),
        ({"group": {"owner": "anna"}}, "invalid_field"),
        ({"group": "owner"}, "invalid_field"),
    ],
    ids=repr,
)
def test_a_cell_that_a_report_has_not_is_refused(cell, code):
    past = told()
    report = past.trail.pipeline_report("b2b", as_of=on(7))
    assert code_of(past.trail.deals, report, **cell) == code


@pytest.mark.parametrize("field", ["cohort", "won", "win_rate", "deals"])
def test_a_field_of_the_total_is_none_of_a_stage(field):
    past = told()
    report = past.trail.funnel_report("b2b", cohort="2026")
    assert code_of(past.trail.deals, report, stage="small", field=field) == "invalid_field"


@pytest.mark.parametrize("wrong", [None, {}, [], "report", 7, {"cohort": {}}], ids=repr)
def test_only_a_report_has_deals_behind_it(wrong):
    assert code_of(told().trail.deals, wrong) in ("missing_field", "invalid_field")


# A deal


def test_a_deal_at_a_moment_has_every_field():
    past = given(
        define(stage("lead", optional=["call"]), "qualified"),
        opening(
            1,
            subject="person-7",
            title="Roof",
            value=euro("10.50"),
            owner="anna",
            source="web",
            expected_close="2026-05-01",
            attributes={"size": 2, "vip": True},
            personal={"name": "Ann"},
        ),
        complete(2, "call"),
        log(3, note="rang", personal={"phone": "1"}),
        lose(5, reason="price"),
        redefine(9, "early", "qualified", moves={"lead": "early"}),
    )
    past.clock.now = on(101)
    (deal, before) = past.deal(), past.deal(as_of=on(2))
    assert (deal.deal, deal.pipeline, deal.status, deal.stage, deal.definition) == ("D", "b2b", "lost", "early", 2)
    assert (deal.stage_since, deal.opened_at, deal.closed_at) == (on(1), on(1), on(5))
    assert (deal.recorded_stage, deal.recorded_definition, deal.completed) == ("lead", 1, ["call"])
    assert (deal.value.amount, deal.value.currency) == (Decimal("10.50"), "EUR")
    assert (deal.owner, deal.source, deal.expected_close) == ("anna", "web", date(2026, 5, 1))
    assert (deal.attributes, deal.reason, deal.merged_into) == ({"size": 2, "vip": True}, "price", None)
    assert (deal.subject, deal.title, deal.personal) == ("person-7", "Roof", {"name": "Ann", "phone": "1"})
    assert deal.version == 4
    assert (before.status, before.stage, before.closed_at, before.reason) == ("open", "lead", None, None)
    assert (before.title, before.personal, before.completed) == ("Roof", {"name": "Ann"}, ["call"])


def test_a_deal_is_none_before_its_opening_and_unknown_before_it_was_recorded():
    past = told()
    assert past.deal("A", as_of=on(1) - MICROSECOND) is None
    assert past.deal("A", as_of=on(1)).status == "open"
    assert code_of(past.deal, "A", known_at=on(100)) == "unknown_deal"
    assert code_of(past.deal, "Z") == "unknown_deal"


def test_the_version_of_a_deal_counts_what_was_known_and_serves_as_expected_version():
    past = given(B2B, opening(1), revalue(2, 5), retract(2, recorded=on(120)), move(50, "proposal", recorded=on(121)))
    past.clock.now = on(130)
    found = [past.deal(known_at=at).version for at in (on(110), on(120), on(130))]
    # It counts events, whatever the business time that is asked about.
    assert (found, past.deal(as_of=on(1)).version) == ([2, 3, 4], 4)
    past.when(win(60, expected_version=4)).then("deal_won")


def test_a_merged_deal_says_into_which():
    past = told()
    deal = past.deal("H")
    assert (deal.status, deal.merged_into, deal.closed_at) == ("merged", "B", on(12))
    assert past.deal("H", as_of=on(11)).merged_into is None


@pytest.mark.parametrize("deal", [7, "", "\ud800", "a\nb", ["D"], "x" * 256], ids=repr)
def test_what_can_be_no_deal_id_is_refused(deal):
    past = told()
    for ask in (past.trail.deal, past.trail.history):
        assert code_of(ask, deal) == "invalid_deal"


# A history


def test_a_history_tells_every_event_with_its_coordinates_and_what_became_of_it():
    past = given(
        B2B,
        opening(1, by="anna", id="o1", title="Roof"),
        revalue(2, 5),
        assign(3, "bob"),
        amend(2, 4, value=euro(6), by="carl", recorded=on(120)),
        retract(3, recorded=on(121)),
    )
    past.clock.now = on(130)
    events = past.trail.history("D")
    assert [(e.version, e.position, e.event) for e in events] == [
        (1, 2, "deal_opened"),
        (2, 3, "value_changed"),
        (3, 4, "deal_assigned"),
        (4, 5, "event_retracted"),
        (5, 6, "value_changed"),
        (6, 7, "event_retracted"),
    ]
    assert [(e.retracted_by, e.amended_by, e.amends) for e in events] == [
        (None, None, None),
        (4, 5, None),
        (6, None, None),
        (None, None, None),
        (None, None, 2),
        (None, None, None),
    ]
    assert [e.occurred_at for e in events[:3]] == [on(1), on(2), on(3)]
    assert (events[4].occurred_at, events[4].recorded_at, events[4].by) == (on(4), on(120), "carl")
    assert (events[0].by, events[0].id, events[0].title, events[0].deal) == ("anna", "o1", "Roof", "D")
    assert events[5].data["version"] == 3


def test_a_history_marks_only_what_was_known():
    past = given(B2B, opening(1), revalue(2, 5), retract(2, recorded=on(120)))
    past.clock.now = on(130)
    known = past.trail.history("D", known_at=on(119))
    assert [(e.version, e.retracted_by) for e in known] == [(1, None), (2, None)]
    assert [(e.version, e.retracted_by) for e in past.trail.history("D")] == [(1, None), (2, 3), (3, None)]


# Pages of deals


def listed(past, **question):
    return ids(past.trail.list_deals("b2b", **question))


def pages(past, **question):
    """All deals of a listing, page after page."""
    found, after = [], None
    while page := past.trail.list_deals("b2b", after=after, **question):
        assert len(page) <= question["limit"]
        found += page
        after = page[-1].deal
    return ids(found)


UNSORTED = given(
    B2B,
    *(
        opening(day, deal=f"D{n:02}", value=value and {"amount": value[0], "currency": value[1]}, expected_close=close)
        for n, (day, value, close) in enumerate(
            [
                (9, ("10", "USD"), "2026-05-02"),
                (5, ("10.0", "EUR"), None),
                (9, None, "2026-05-01"),
                (1, ("9", "EUR"), "2026-05-02"),
                (5, ("10", "EUR"), None),
                (2, ("1000", "EUR"), "2026-05-02"),
                (5, None, "2026-04-30"),
            ]
        )
    ),
    move(20, "proposal", deal="D05"),
)
ORDERS = {
    "deal": [0, 1, 2, 3, 4, 5, 6],
    "-deal": [6, 5, 4, 3, 2, 1, 0],
    "opened_at": [3, 5, 1, 4, 6, 0, 2],
    "-opened_at": [0, 2, 1, 4, 6, 5, 3],
    "stage_since": [3, 1, 4, 6, 0, 2, 5],
    "-stage_since": [5, 0, 2, 1, 4, 6, 3],
    "expected_close": [6, 2, 0, 3, 5, 1, 4],
    "-expected_close": [0, 3, 5, 2, 6, 1, 4],
    "value": [3, 1, 4, 5, 0, 2, 6],
    "-value": [0, 5, 1, 4, 3, 2, 6],
}


@pytest.mark.parametrize("sort", ORDERS)
def test_a_listing_in_either_direction_puts_equals_in_the_order_of_ids_and_the_missing_last(sort):
    assert listed(UNSORTED, sort=sort) == [f"D{n:02}" for n in ORDERS[sort]]


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_the_pages_of_a_listing_are_the_whole_of_it_each_deal_once(sort, limit):
    assert pages(UNSORTED, sort=sort, limit=limit) == listed(UNSORTED, sort=sort)


def test_the_pages_of_a_past_do_not_shift_while_deals_are_recorded():
    past = told()
    question = {"as_of": on(20), "known_at": on(101), "sort": "-opened_at"}
    whole = listed(past, **question)
    first = listed(past, limit=2, **question)
    past.when(opening(19, deal="New", recorded=on(110)), lose(19, deal=first[0], recorded=on(111)))
    past.clock.now = on(120)
    assert first + listed(past, after=first[-1], **question) == whole


def test_a_listing_holds_a_hundred_deals_unless_told_otherwise():
    past = given(B2B, [opening(1, deal=f"D{n:03}") for n in range(101)])
    assert (len(listed(past)), len(listed(past, limit=101))) == (100, 101)


def test_a_listing_may_be_of_a_status_a_stage_an_owner_and_a_filter():
    past = told()
    at = {"as_of": on(12)}
    assert listed(past, **at) == ["A", "B", "C", "D", "E", "G"]
    assert {s: listed(past, status=s, **at) for s in ("open", "won", "lost", "disqualified", "merged")} == {
        "open": ["B", "C", "D", "G"],
        "won": ["A"],
        "lost": [],
        "disqualified": ["E"],
        "merged": ["H"],
    }
    assert listed(past, stage="qualified", **at) == ["B", "D", "G"]
    assert listed(past, owner="anna", **at) == ["A", "C", "E"]
    assert listed(past, where={"owner": None}, **at) == ["D", "G"]
    assert listed(past, owner="anna", status="open", where={"currency": "JPY"}, **at) == ["C"]
    assert ids(past.trail.list_deals("care", **at)) == ["F"]
    # The stage is that of the version in force at the moment.
    assert listed(past, stage="large", as_of=on(20)) == ["A", "B"]
    assert code_of(listed, past, stage="large", **at) == "unknown_stage"


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "closed"},
        {"status": ["open"]},
        {"sort": "owner"},
        {"sort": "--deal"},
        {"sort": None},
        {"limit": 0},
        {"limit": 1.5},
        {"limit": True},
        {"owner": 7},
        {"owner": ["anna"]},
        {"owner": "\ud800"},
        {"after": "Z"},
        {"after": 7},
    ],
    ids=repr,
)
def test_a_listing_that_makes_no_sense_is_refused(wrong):
    assert code_of(listed, told(), **wrong) == "invalid_field"


# Pipelines and definitions


def test_pipelines_are_listed_with_the_definition_in_force_then_as_known_then():
    past = given(
        CARE,
        define("lead", name="Business"),
        redefine(10, "lead", "late", recorded=on(110)),
        define("x", pipeline="a", day=115, recorded=on(120)),
    )
    past.clock.now = on(130)

    def found(**question):
        views = past.trail.pipelines(**question)
        return [(view.pipeline, view.name, view.version, len(view.stages)) for view in views]

    now = [("a", "a", 1, 1), ("b2b", "Business", 2, 2), ("care", "care", 1, 2)]
    assert found() == now
    assert found(as_of=on(9)) == [now[0], ("b2b", "Business", 1, 1), now[2]]
    assert found(known_at=on(109)) == [("b2b", "Business", 1, 1), now[2]]
    assert found(known_at=on(99)) == []


def test_a_definition_tells_its_stages_moves_and_both_times():
    past = given(
        define(stage("lead", required=["call"], probability="0.10", rots_after_days=2.5)),
        redefine(10, "late", moves={"lead": [{"when": BIG, "to": "late"}, {"to": "late"}]}, recorded=on(110)),
    )
    past.clock.now = on(130)
    first, second = past.trail.definitions("b2b", as_of=on(5))
    (lead,) = first.stages
    assert (lead["key"], lead["name"], lead["probability"], lead["rots_after_days"]) == ("lead", "Lead", "0.10", "2.5")
    assert [dict(action) for action in lead["actions"]] == [{"key": "call", "name": "Call", "required": True}]
    assert (first.version, first.occurred_at, first.recorded_at, first.in_force) == (1, on(1), on(100), True)
    assert (second.version, second.occurred_at, second.recorded_at, second.in_force) == (2, on(10), on(110), False)
    assert [rule["to"] for rule in second.moves["lead"]] == ["late", "late"]
    assert [view.version for view in past.trail.definitions("b2b", known_at=on(109))] == [1]
    assert code_of(past.trail.definitions, "b3b") == "unknown_pipeline"


# The log


def test_following_tells_every_event_in_log_order_and_goes_on_where_it_was_left():
    past = told()
    whole = list(past.trail.follow())
    assert [event.position for event in whole] == list(range(1, len(whole) + 1))
    assert [(event.pipeline, event.deal, event.event) for event in whole[:3]] == [
        ("b2b", None, "pipeline_defined"),
        ("care", None, "pipeline_defined"),
        (None, "A", "deal_opened"),
    ]
    for after in (0, 1, 7, len(whole)):
        assert list(past.trail.follow(after)) == whole[after:]
    past.when(log(50, deal="A"))
    assert [event.event for event in past.trail.follow(len(whole))] == ["activity_logged"]


def test_following_reads_a_thousand_events_at_a_time(monkeypatch):
    past = given(B2B, [opening(1)] + [log(2)] * 2_500)
    read = []
    following = Reading.following

    def spy(self, after, limit):
        found = following(self, after, limit)
        read.append(len(found))
        return found

    monkeypatch.setattr(Reading, "following", spy)
    events = past.trail.follow()
    next(events)
    assert read == [1_000]
    assert len(list(events)) == 2_501
    assert read == [1_000, 1_000, 502, 0]


def test_whoever_follows_may_record_meanwhile():
    past = given(B2B, opening(1))
    seen = []
    for event in past.trail.follow():
        seen.append(event.event)
        if event.event == "deal_opened":
            past.trail.record(win(5))
    assert seen == ["pipeline_defined", "deal_opened", "deal_won"]


@pytest.mark.parametrize("after", [-1, "1", 1.5, True, 2**64], ids=repr)
def test_what_is_no_position_is_not_followed(after):
    assert code_of(told().trail.follow, after) == "invalid_field"


def test_what_is_asked_for_by_none_is_missing():
    past = told()
    for ask in (past.trail.deal, past.trail.history, past.trail.follow):
        assert code_of(ask, None) == "missing_field"
