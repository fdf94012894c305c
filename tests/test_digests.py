"""A report says how it came about: the question, from which it can be made again, and digests for an auditor."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random

import msgspec
import pytest
from given import (
    B2B,
    CARE,
    MICROSECOND,
    Clock,
    amend,
    assign,
    code_of,
    euro,
    given,
    lose,
    move,
    on,
    opening,
    redefine,
    retract,
    stage,
    transfer,
    win,
)

from dealtrail import Draft, Trail
from dealtrail.domain.conditions import Rule
from dealtrail.domain.definitions import Stage

BIG = {"field": "value", "op": "ge", "value": "1000"}
DRAFT = Draft(
    stages=[stage("small", probability=0.1), stage("large", rots_after_days=5)],
    moves={"lead": [{"when": BIG, "to": "large"}, {"to": "small"}], "proposal": "large"},
)
PAST = (
    B2B,
    CARE,
    opening(1, deal="A", owner="anna", source="web", value=euro("1200.50")),
    opening(5, deal="B", owner="bob", value={"amount": "7", "currency": "JPY"}, attributes={"size": 1, "vip": True}),
    opening(9, deal="C", attributes={"size": 2.5}),
    move(12, "qualified", deal="A"),
    move(14, "proposal", deal="B"),
    win(20, deal="B"),
    opening(35, deal="E", owner="anna", value=euro("0.005")),
    transfer(40, deal="C"),
    redefine(50, "lead", "proposal", moves={"qualified": "lead"}),
    lose(55, deal="A"),
)


def audited():
    """A past, of which questions are asked a day after it was recorded."""
    past = given(*PAST)
    past.clock.now = on(101)
    return past


def pipeline(past, **question):
    return past.trail.pipeline_report("b2b", **question)


def funnel(past, **question):
    return past.trail.funnel_report("b2b", **{"cohort": "2026", **question})


def asked_again(trail, question):
    """The report that a question alone makes, as it may be read from its JSON."""
    arguments = json.loads(msgspec.json.encode(question))
    kind = arguments.pop("report")
    return getattr(trail, f"{kind}_report")(**arguments)


# The same question


@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_the_same_question_has_the_same_report_to_its_digest(ask):
    past = audited()
    first = ask(past, as_of=on(30), group_by="owner")
    assert ask(past, as_of=on(30), group_by="owner") == first
    assert (len(first.digest), len(first.content_digest)) == (64, 64)


@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_a_report_of_what_was_known_stays_as_it_was_whatever_is_recorded_later(ask):
    past = audited()
    first = ask(past, as_of=on(60), known_at=on(101))
    past.clock.now = on(120)
    past.trail.record_all(
        [
            opening(30, deal="F"),
            assign(2, "carl", deal="A"),
            amend(1, deal="B", value=euro(9)),
            retract(2, deal="C", day=None),
            redefine(52, "all", moves={"lead": "all", "proposal": "all"}),
        ]
    )
    again = ask(past, as_of=on(60), known_at=on(101))
    assert again == first
    now = ask(past, as_of=on(60))
    assert (now.content_digest, now.digest) != (first.content_digest, first.digest)


@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_a_rebuilt_read_model_makes_the_same_report(ask):
    past = audited()
    first = ask(past, as_of=on(30), definition="current")
    past.trail.rebuild()
    assert ask(past, as_of=on(30), definition="current") == first


def test_another_process_makes_the_same_reports(tmp_path):
    path = tmp_path / "sales.db"
    clock = Clock(on(100))
    with Trail.open(path, clock=clock) as trail:
        trail.record_all(PAST)
        clock.now = on(101)
        here = [
            trail.pipeline_report("b2b", as_of=on(30), group_by="owner"),
            trail.funnel_report("b2b", cohort="2026-Q1", definition=DRAFT, within=60),
        ]
    code = (
        "import json, sys; from dealtrail import Trail\n"
        "with Trail.open(sys.argv[1]) as trail:\n"
        "    for question in json.loads(sys.argv[2]):\n"
        "        print(getattr(trail, question.pop('report') + '_report')(**question).digest)"
    )
    questions = msgspec.json.encode([report.question for report in here]).decode()
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), questions], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == [report.digest for report in here]


# What differs


def test_reports_that_differ_in_anything_have_different_digests():
    past = audited()
    asked = [
        {},
        {"as_of": on(101) - MICROSECOND},
        {"known_at": on(101) - MICROSECOND},
        {"as_of": on(49)},
        {"definition": "current"},
        {"definition": 2},
        {"definition": DRAFT2},
        {"definition": Draft(stages=DRAFT2.stages, moves={**DRAFT2.moves, "proposal": "small"})},
        {"group_by": "owner"},
        {"group_by": "source"},
        {"group_by": ("owner", "source")},
        {"group_by": ("source", "owner")},
        {"where": {"owner": "anna"}},
        {"where": {"owner": None}},
        {"where": {"attributes.size": 1}},
        {"where": {"attributes.size": "1"}},
        {"where": {"attributes.size": True}},
        {"tz": "Europe/Amsterdam"},
    ]
    reports = [pipeline(past, **question) for question in asked] + [funnel(past, **question) for question in asked]
    windows = [{"within": 0}, {"within": 30}, {"within": 30.5}, {"cohort": "2026-Q1"}, {"fiscal_year_start": 4}]
    reports += [funnel(past, **question) for question in windows]
    for name in ("digest", "content_digest"):
        assert len({getattr(report, name) for report in reports}) == len(reports), name


DRAFT2 = Draft(
    stages=[stage("small"), stage("large")],
    moves={"lead": [{"when": BIG, "to": "large"}, {"to": "small"}], "proposal": "large"},
)


def test_two_logs_of_the_same_actions_say_the_same_and_are_told_apart():
    one, other = pipeline(audited()), pipeline(audited())
    assert one.content_digest == other.content_digest
    assert one.digest != other.digest


def test_another_figure_is_another_digest():
    one, other = audited(), given(*PAST[:-1], lose(101, deal="A", recorded=on(101)))
    assert pipeline(one, as_of=on(100)).content_digest != pipeline(other, as_of=on(100)).content_digest


@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_an_auditor_makes_the_digests_from_the_json_alone_and_the_chain(ask):
    past = audited()
    report = ask(past, group_by=("owner", "attributes.size"), where={"source": None})
    read = json.loads(msgspec.json.encode(report))
    figures = {name: read[name] for name in ("stages", "total", "groups")}
    canonical = json.dumps([read["question"], figures], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    content = hashlib.sha256(canonical.encode()).hexdigest()
    assert content == read["content_digest"]
    with past.trail._log.reading() as reading:
        chain = reading.chain_at(read["position"])
    assert hashlib.sha256(f"{content}:{chain.hex()}".encode()).hexdigest() == read["digest"]


# The question as it was understood


def test_the_question_repeats_every_argument_of_a_pipeline_report():
    report = pipeline(
        audited(),
        as_of=date(2026, 1, 31),
        known_at="2026-04-11",
        definition=2,
        group_by="owner",
        where={"attributes.size": 2.0, "source": None},
        tz="Europe/Amsterdam",
    )
    assert report.question == {
        "report": "pipeline",
        "pipeline": "b2b",
        # A bare date is the end of that day in the zone; a moment later than now is now.
        "as_of": "2026-01-31T22:59:59.999999Z",
        "known_at": "2026-04-11T00:00:00Z",
        "definition": 2,
        "group_by": ["owner"],
        "where": {"attributes.size": 2, "source": None},
        "tz": "Europe/Amsterdam",
    }


def test_the_question_repeats_every_argument_of_a_funnel_report():
    report = funnel(audited(), cohort="2026-Q4", within=30.0, fiscal_year_start=4)
    assert report.question == {
        "report": "funnel",
        "pipeline": "b2b",
        "as_of": "2026-04-11T00:00:00Z",
        "known_at": "2026-04-11T00:00:00Z",
        "definition": "as_of",
        "group_by": [],
        "where": {},
        "tz": "UTC",
        "cohort": "2026-Q4",
        "within": 30,
        "fiscal_year_start": 4,
    }


def test_the_question_repeats_the_stages_and_moves_of_a_draft_as_they_were_read():
    found = pipeline(audited(), definition=DRAFT).question["definition"]
    small, large = found["stages"]
    assert (small["key"], small["probability"], small["rots_after_days"]) == ("small", "0.1", None)
    assert (large["key"], large["probability"], large["rots_after_days"]) == ("large", "0.5", "5")
    assert found["moves"] == {
        "lead": [{"to": "large", "when": BIG}, {"to": "small", "when": None}],
        "proposal": "large",
    }


ZONED = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"group_by": "owner"}, {"group_by": ("owner",)}),
        ({"group_by": ["owner", "source"]}, {"group_by": ("owner", "source")}),
        ({"group_by": None}, {"group_by": ()}),
        ({"where": None}, {"where": {}}),
        ({"where": {"owner": "anna", "source": "web"}}, {"where": {"source": "web", "owner": "anna"}}),
        ({"where": {"attributes.size": 1}}, {"where": {"attributes.size": 1.0}}),
        ({"where": {"attributes.size": 0}}, {"where": {"attributes.size": -0.0}}),
        ({"as_of": date(2026, 1, 31)}, {"as_of": "2026-01-31"}),
        ({"as_of": date(2026, 1, 31), "tz": "Europe/Amsterdam"}, {"as_of": ZONED, "tz": "Europe/Amsterdam"}),
        ({"as_of": "2026-01-31T23:59:59.999999+01:00"}, {"as_of": ZONED.astimezone(UTC)}),
        ({"as_of": None}, {"as_of": "2031-01-01", "known_at": on(900)}),
        ({"definition": DRAFT2}, {"definition": {"stages": DRAFT2.stages, "moves": DRAFT2.moves}}),
        ({"definition": DRAFT2}, {"definition": msgspec.structs.replace(DRAFT2, stages=tuple(DRAFT2.stages))}),
        (
            {"definition": {"stages": [stage("lead"), stage("proposal")]}},
            {"definition": {"stages": [stage("lead"), stage("proposal")], "moves": {}}},
        ),
        (
            {"definition": Draft(stages=[stage("lead", probability=0.25), stage("proposal")])},
            {"definition": Draft(stages=[stage("lead", probability="0.25"), stage("proposal")], moves=None)},
        ),
    ],
    ids=repr,
)
@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_questions_of_one_meaning_are_equal(ask, one, other):
    past = audited()
    first, second = ask(past, **one), ask(past, **other)
    assert first.question == second.question
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


def test_a_window_of_ninety_days_is_one_whether_whole_or_a_float():
    past = audited()
    one, other = funnel(past, within=90), funnel(past, within=90.0)
    assert (one.digest, one.within, repr(other.within)) == (other.digest, 90, "90")


def test_a_draft_of_typed_stages_and_rules_is_understood_as_one_of_maps():
    typed = Draft(
        stages=msgspec.convert(DRAFT2.stages, tuple[Stage, ...]),
        moves={"lead": msgspec.convert(DRAFT2.moves["lead"], tuple[Rule, ...]), "proposal": "large"},
    )
    past = audited()
    assert pipeline(past, definition=typed) == pipeline(past, definition=DRAFT2)


def test_a_report_does_not_change_when_the_callers_arguments_do():
    past = audited()
    draft = {"stages": [stage("lead"), stage("proposal")], "moves": {}}
    where, group_by = {"owner": "anna"}, ["owner"]
    report = pipeline(past, definition=draft, where=where, group_by=group_by)
    before = msgspec.json.encode(report)
    draft["stages"].clear()
    where.clear()
    group_by.append("source")
    assert msgspec.json.encode(report) == before


@pytest.mark.parametrize("seed", range(40))
def test_any_report_can_be_made_again_from_its_question_alone(seed):
    rnd = Random(seed)
    past = audited()
    day = rnd.choice([None, 3, 13, 21, 45, 52, 60])
    question = {
        "as_of": rnd.choice([None, "2026-02-01", date(2026, 1, 13)] if day is None else [on(day)]),
        "known_at": rnd.choice([None, on(100) + timedelta(microseconds=rnd.randint(8, 30))]),
        "definition": rnd.choice(["as_of", "current", DRAFT2 if day in (None, 60) else "as_of", DRAFT_OF_ALL]),
        "group_by": rnd.sample(["owner", "source", "currency", "attributes.size"], rnd.randint(0, 2)),
        "where": rnd.choice([None, {"owner": "anna"}, {"attributes.size": 1.0}, {"attributes.vip": True}]),
        "tz": rnd.choice(["UTC", "Europe/Amsterdam", "Asia/Kolkata"]),
    }
    if seed % 2:
        question |= {
            "cohort": rnd.choice(["2026", "2026-01", "2026-Q4", "2026-W02", "2026-01-01..2026-02-10"]),
            "within": rnd.choice([None, 0, 12.5, 30]),
            "fiscal_year_start": rnd.choice([1, 4, 12]),
        }
    report = (funnel if seed % 2 else pipeline)(past, **question)
    past.clock.now = on(200)
    past.when(move(56, "proposal", deal="E", recorded=on(200)))
    assert asked_again(past.trail, report.question) == report


DRAFT_OF_ALL = Draft(stages=[stage("all", probability="0.333")], moves={"lead": "all", "proposal": "all"})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"where": {"attributes.size": float("nan")}}, "invalid_where"),
        ({"where": {"attributes.size": float("inf")}}, "invalid_where"),
        ({"where": {"attributes.size": 2**63}}, "invalid_where"),
        ({"where": {"owner": "\ud800"}}, "invalid_where"),
        ({"where": {"attributes.\ud800": "x"}}, "invalid_where"),
        ({"group_by": "attributes.\ud800"}, "invalid_group_by"),
        ({"tz": ["UTC"]}, "invalid_tz"),
        ({"tz": None}, "invalid_tz"),
        ({"definition": Draft(stages=object())}, "invalid_field"),
        ({"definition": Draft(stages=[stage("lead")], moves={"lead": object()})}, "invalid_field"),
        ({"definition": {"stages": [{"key": "lead", "name": object(), "probability": 1}]}}, "invalid_field"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_what_a_question_could_not_repeat_in_json_is_refused(ask, arguments, code):
    assert code_of(ask, audited(), **arguments) == code


@pytest.mark.parametrize("month", [0, 13, 4.0, True, "4", None])
def test_a_fiscal_year_starts_in_a_month(month):
    assert code_of(funnel, audited(), fiscal_year_start=month) == "invalid_field"


# The shape


def test_the_json_of_a_pipeline_report():
    past = given(B2B, opening(1, deal="A", owner="anna", value=euro("1.005")))
    past.clock.now = on(101)
    report = pipeline(past, as_of=datetime(2026, 1, 2, 13, 30, 0, 500, tzinfo=UTC), group_by="owner")
    figures = {"deals": 1, "value": {"EUR": "1.00"}, "weighted_value": {"EUR": "0.50"}}
    figures |= {"median_days_in_stage": 1.56, "stalled": 0}
    none = {"deals": 0, "value": {}, "weighted_value": {}, "median_days_in_stage": None, "stalled": 0}
    stages = [
        {"stage": "lead", "name": "Lead"} | figures,
        {"stage": "qualified", "name": "Qualified"} | none,
        {"stage": "proposal", "name": "Proposal"} | none,
    ]
    expected = {
        "question": report.question,
        "pipeline": "b2b",
        "as_of": "2026-01-02T13:30:00.000500Z",
        "known_at": "2026-04-11T00:00:00Z",
        "position": 2,
        "definition": 1,
        "draft": False,
        "content_digest": report.content_digest,
        "digest": report.digest,
        "stages": stages,
        "total": figures,
        "groups": [{"group": {"owner": "anna"}, "stages": stages, "total": figures}],
    }
    # Written the same, so that the order of the fields is the documented one too.
    assert msgspec.json.encode(report).decode() == json.dumps(expected, separators=(",", ":"))


def test_the_json_of_a_funnel_report():
    past = given(B2B, opening(1, deal="A"), move(4, "proposal", deal="A"), opening(2, deal="B"))
    past.when(lose(3, deal="B", reason="price"))
    past.clock.now = on(101)
    report = funnel(past, cohort="2026-01", tz="Europe/Amsterdam", within=30)
    names = ("entered", "reached", "passed", "open", "lost", "disqualified", "transferred")
    shares = ("conversion_from_start", "conversion_to_next", "median_days_to_pass", "p90_days_to_pass")
    rows = {
        "lead": (2, 2, 1, 0, 1, 0, 0, 1.0, 0.5, 3.0, 3.0),
        "qualified": (0, 1, 1, 0, 0, 0, 0, 0.5, 1.0, None, None),
        "proposal": (1, 1, 0, 1, 0, 0, 0, 0.5, 0.0, None, None),
    }
    price = {"lost": [{"reason": "price", "deals": 1}], "disqualified": []}
    why = {"lead": price, "qualified": {"lost": [], "disqualified": []}, "proposal": {"lost": [], "disqualified": []}}
    expected = {
        "question": report.question,
        "pipeline": "b2b",
        "cohort": {"from": "2025-12-31T23:00:00Z", "until": "2026-01-31T23:00:00Z"},
        "as_of": "2026-04-11T00:00:00Z",
        "known_at": "2026-04-11T00:00:00Z",
        "position": 5,
        "definition": 1,
        "draft": False,
        "within": 30,
        "content_digest": report.content_digest,
        "digest": report.digest,
        "stages": [
            {"stage": key, "name": key.title()} | dict(zip(names + shares, row, strict=True)) | {"reasons": why[key]}
            for key, row in rows.items()
        ],
        "total": {
            "cohort": 2,
            "won": 0,
            "lost": 1,
            "disqualified": 0,
            "open": 1,
            "transferred": 0,
            "win_rate": 0.0,
            "close_rate": 0.0,
            "reasons": price,
        },
        "groups": None,
    }
    assert msgspec.json.encode(report).decode() == json.dumps(expected, separators=(",", ":"))


@pytest.mark.parametrize("ask", [pipeline, funnel])
def test_a_report_read_from_its_json_is_the_report(ask):
    report = ask(audited(), group_by=("owner", "attributes.size", "attributes.vip"), definition=DRAFT)
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report
