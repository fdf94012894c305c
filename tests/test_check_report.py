"""A report that was kept is made again from the log: equal, or what differs, whose doing it is, and what came later."""

import json

import msgspec
import pytest
from click.testing import CliRunner
from given import (
    B2B,
    CARE,
    Clock,
    amend,
    assign,
    code_of,
    complete,
    define,
    euro,
    expect,
    given,
    log,
    lose,
    merge,
    move,
    on,
    opening,
    redefine,
    retract,
    revalue,
    stage,
    win,
)

from dealtrail import Draft, Trail
from dealtrail.cli.app import app
from dealtrail.projections.provenance import content_digest, digest

PAST = (
    B2B,
    CARE,
    opening(1, deal="A", owner="anna", value=euro("1200.50")),
    opening(2, deal="B", owner="bob", value=euro("10")),
    move(3, "qualified", deal="A"),
    opening(4, deal="C", pipeline="care"),
    win(5, deal="B"),
)
DRAFT = Draft(stages=[stage("small")], moves={"lead": "small", "qualified": "small", "proposal": "small"})
QUESTIONS = [
    {},
    {"as_of": on(4)},
    {"group_by": ("owner",), "where": {"owner": "anna"}},
    {"definition": "current", "tz": "Europe/Amsterdam"},
    {"definition": DRAFT},
]


KINDS = ["pipeline", "funnel", "conformance"]


def asked(past, kind="pipeline", **question):
    """A report, and the same as somebody reads it from a file."""
    past.clock.now = on(101)
    trail = past.trail
    ask = {
        "pipeline": trail.pipeline_report,
        "funnel": trail.funnel_report,
        "conformance": trail.conformance,
        "closing": trail.closing_report,
        "next_actions": trail.next_actions,
    }[kind]
    report = ask("b2b", **({"cohort": "2026-01"} if kind in ("funnel", "conformance") else {}), **question)
    return report, json.loads(msgspec.json.encode(report))


def later(past, *actions):
    """What is recorded after a report was made."""
    past.clock.now = on(110)
    for action in actions:
        past.trail.record(action)


def kinds(check):
    return [one.kind for one in check.findings]


def told(differences):
    return [(one.where, one.field, one.report, one.log) for one in differences]


# Equal


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_that_this_log_gave_is_equal_from_its_struct_and_from_its_json(kind, question):
    past = given(*PAST)
    report, file = asked(past, kind, **question)
    for one in (report, file):
        check = past.trail.check_report(one)
        assert (check.ok, check.position, check.findings, check.differences) == (True, report.position, [], [])
        assert (check.since, check.events) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_stays_equal_whatever_is_recorded_later_and_the_later_events_are_told(kind):
    past = given(*PAST)
    report, file = asked(past, kind)
    later(past, opening(6, deal="D", owner="anna"), move(7, "proposal", deal="A"))
    check = past.trail.check_report(file)
    assert check.ok
    position = report.position
    assert [(one.position, one.deal, one.event) for one in check.events] == [
        (position + 1, "D", "deal_opened"),
        (position + 2, "A", "stage_entered"),
    ]
    count, cohort = {"pipeline": ("deals", 1), "funnel": ("cohort", 2), "conformance": ("deals", 2)}[kind]
    assert ("total", count, cohort, cohort + 1) in told(check.since)


def test_a_report_is_equal_where_the_clock_fell_behind_its_moments():
    past = given(*PAST)
    _, file = asked(past)
    past.clock.now = on(50)
    assert past.trail.check_report(file).ok


def test_an_empty_log_gives_no_report_to_check_and_the_first_one_is_equal():
    past = given(B2B)
    _, file = asked(past)
    assert past.trail.check_report(file).ok


# Edited


def edited(file, *path, to):
    """A copy of a report with one field changed."""
    copy = json.loads(json.dumps(file))
    at = copy
    for name in path[:-1]:
        at = at[name]
    assert at[path[-1]] != to
    at[path[-1]] = to
    return copy


def bound(past, file, *, chain=None):
    """A report whose digests are those of its edited figures."""
    file["content_digest"] = content_digest(
        file["question"], {name: file[name] for name in ("stages", "total", "groups")}
    )
    if chain is not None:
        file["digest"] = digest(file["content_digest"], chain)
    return file


FIGURES = [
    (("stages", 1, "deals"), 2, ("stage qualified", "deals", 2, 1)),
    (("stages", 1, "value"), {"EUR": "9.00"}, ("stage qualified", "value", {"EUR": "9.00"}, {"EUR": "1200.50"})),
    (("total", "stalled"), 1, ("total", "stalled", 1, 0)),
    (("groups", 0, "total", "deals"), 3, ('group owner="anna": total', "deals", 3, 1)),
    (("stages", 0, "name"), "Leads", ("stage lead", "name", "Leads", "Lead")),
]


@pytest.mark.parametrize(("path", "to", "difference"), FIGURES, ids=repr)
def test_a_figure_that_was_edited_in_the_file_is_named_and_so_is_that_it_was_edited(path, to, difference):
    past = given(*PAST)
    _, file = asked(past, group_by="owner")
    check = past.trail.check_report(edited(file, *path, to=to))
    assert not check.ok
    assert kinds(check) == ["content_digest", "report"]
    assert told(check.differences) == [difference]


PATHS = [
    (("conforming",), 1, ("total", "conforming", 1, 2)),
    (("variants", 0, "won"), 5, ("path lead", "won", 5, 1)),
    (("kinds", 0, "deals"), 3, ("kind entry", "deals", 3, 0)),
    (("other_variants", "deals"), 3, ("other variants", "deals", 3, 0)),
]


@pytest.mark.parametrize(("path", "to", "difference"), PATHS, ids=repr)
def test_a_figure_of_a_conformance_report_that_was_edited_is_named(path, to, difference):
    past = given(*PAST)
    _, file = asked(past, "conformance", limit=10)
    check = past.trail.check_report(edited(file, *path, to=to))
    assert kinds(check) == ["content_digest", "report"]
    assert told(check.differences) == [difference]


def test_an_edited_figure_with_a_new_content_digest_is_no_longer_bound_to_the_log():
    past = given(*PAST)
    _, file = asked(past)
    check = past.trail.check_report(bound(past, edited(file, "total", "deals", to=7)))
    assert kinds(check) == ["digest", "report"]
    assert {(one.where, one.field) for one in check.differences} == {("report", "content_digest"), ("total", "deals")}


def test_an_edited_figure_with_both_digests_made_anew_is_named_by_the_log():
    past = given(*PAST)
    _, file = asked(past)
    chain = bytes.fromhex(past.trail.head().chain)
    check = past.trail.check_report(bound(past, edited(file, "total", "deals", to=7), chain=chain))
    assert kinds(check) == ["report"]
    assert ("total", "deals", 7, 1) in told(check.differences)


@pytest.mark.parametrize(
    ("field", "to"),
    [
        ("pipeline", "care"),
        ("as_of", "2026-01-02T00:00:00Z"),
        ("known_at", "2026-01-02T00:00:00Z"),
        ("definition", 2),
        ("draft", True),
        ("content_digest", "0" * 64),
        ("digest", "0" * 64),
        ("position", 3),
    ],
)
def test_a_heading_that_was_edited_is_named(field, to):
    past = given(*PAST)
    _, file = asked(past)
    check = past.trail.check_report(edited(file, field, to=to))
    assert not check.ok
    assert [(one.where, one.field) for one in check.differences] == [("report", field)]


def test_a_question_that_was_edited_is_answered_as_it_stands_and_the_edit_is_named():
    past = given(*PAST)
    _, file = asked(past)
    check = past.trail.check_report(edited(file, "question", "as_of", to="2026-01-01T12:00:00Z"))
    assert kinds(check) == ["content_digest", "report"]
    assert ("stage lead", "deals") in [(one.where, one.field) for one in check.differences]


def test_a_question_that_cannot_be_asked_is_said_to_be_refused():
    past = given(*PAST)
    _, file = asked(past)
    check = past.trail.check_report(edited(file, "question", "pipeline", to="none"))
    assert kinds(check) == ["content_digest", "refused"]
    assert "unknown_pipeline" in check.findings[1].why


@pytest.mark.parametrize(
    "broken",
    [{}, {"stages": 5}, [], "text", None, {"question": {}}],
    ids=repr,
)
def test_what_is_no_report_is_refused(broken):
    past = given(*PAST)
    _, file = asked(past)
    given_report = {**file, **broken} if isinstance(broken, dict) and broken else broken
    assert code_of(past.trail.check_report, given_report) in ("missing_field", "invalid_field")


# Another log


def test_a_report_of_another_log_with_the_same_facts_is_told_by_its_digest_alone():
    past, other = given(*PAST), given(*PAST)
    _, file = asked(past)
    other.clock.now = on(101)
    check = other.trail.check_report(file)
    assert kinds(check) == ["digest", "report"]
    assert [(one.where, one.field) for one in check.differences] == [("report", "digest")]


def test_a_report_of_a_log_with_other_facts_is_told_by_digest_and_figures():
    past, other = given(*PAST), given(*PAST[:-1], lose(5, deal="B"), log(6, deal="A"))
    _, file = asked(past, "funnel")
    other.clock.now = on(101)
    check = other.trail.check_report(file)
    assert kinds(check) == ["digest", "report"]
    assert ("total", "won", 1, 0) in told(check.differences)


def test_a_report_that_lies_beyond_the_end_of_the_log_says_that_the_log_was_cut():
    past, other = given(*PAST), given(*PAST[:4])
    report, file = asked(past)
    other.clock.now = on(101)
    check = other.trail.check_report(file)
    assert kinds(check) == ["digest", "report"]
    assert f"ends at 4, before the report's position {report.position}" in check.findings[0].why
    assert ("report", "position", report.position, 4) in told(check.differences)


# What came later


def events(past, file):
    return [(one.deal or f"pipeline {one.pipeline}", one.event) for one in past.trail.check_report(file).events]


def test_only_later_events_that_bear_on_the_report_explain_it():
    past = given(*PAST)
    _, file = asked(past, as_of=on(10))
    later(
        past,
        log(6, deal="A"),  # no figure is made of an activity
        retract(3, deal="A"),  # nor changed where one is taken back
        move(50, "proposal", deal="A"),  # after the moment of the report
        opening(7, deal="E", pipeline="care"),  # in no report about this pipeline
        revalue(8, "5", deal="A"),
        opening(9, deal="F"),
    )
    assert events(past, file) == [("A", "value_changed"), ("F", "deal_opened")]


def test_a_retraction_explains_whenever_it_came_and_so_does_a_merge():
    past = given(*PAST, opening(6, deal="D"))
    _, file = asked(past, as_of=on(10))
    later(past, retract(2, deal="A"), merge(7, deal="D", into="A"))
    assert events(past, file) == [("A", "event_retracted"), ("D", "deal_merged")]
    check = past.trail.check_report(file)
    assert ("stage qualified", "deals", 1, 0) in told(check.since)
    assert ("total", "deals", 2, 1) in told(check.since)


def test_an_amended_opening_that_brings_a_deal_into_the_cohort_explains_it():
    past = given(*PAST, opening(40, deal="G"))
    _, file = asked(past, "funnel")
    later(past, amend(1, deal="G", at=on(20)))
    assert events(past, file) == [("G", "event_retracted"), ("G", "deal_opened")]


def test_a_later_definition_explains_a_report_under_it_and_no_other():
    past = given(*PAST)
    files = {name: asked(past, as_of=on(10), definition=name)[1] for name in ("as_of", "current", 1)}
    later(past, redefine(105, "start", "proposal", moves={"lead": "start", "qualified": "start"}))
    assert events(past, files["current"]) == [("pipeline b2b", "pipeline_redefined")]
    assert events(past, files["as_of"]) == events(past, files[1]) == []
    check = past.trail.check_report(files["current"])
    assert check.ok
    assert ("report", "definition", 1, 2) in told(check.since)
    assert ("stage start", "deals", None, 1) in told(check.since)


def test_a_version_that_may_no_longer_be_asked_for_is_told_and_the_report_stays_equal():
    past = given(*PAST)
    _, file = asked(past, as_of=on(10), definition=1)
    later(past, redefine(5, "start", "proposal", moves={"lead": "start", "qualified": "start"}))
    check = past.trail.check_report(file)
    assert (check.ok, check.differences) == (True, [])
    ((where, field, before, now),) = told(check.since)
    assert (where, field, before) == ("question", "definition", 1)
    assert now.startswith("cannot_restate")
    assert events(past, file) == [("pipeline b2b", "pipeline_redefined")]


# Reports that name their deals themselves

DUE = (
    define(stage("lead", ["call"], ["mail"], rots_after_days=30), stage("offer")),
    CARE,
    opening(1, deal="A", owner="anna", value=euro("1200.50"), expected_close="2026-03-01"),
    opening(2, deal="B", expected_close="2026-02-01"),
    complete(3, "call", deal="B"),
    expect(4, "2026-03-10", deal="A"),
    opening(4, deal="C", pipeline="care", expected_close="2026-02-01"),
)


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_a_closing_report_that_this_log_gave_is_equal(question):
    if "definition" in question and question["definition"] is DRAFT:
        question = {"definition": Draft(stages=[stage("small")], moves={"lead": "small", "offer": "small"})}
    past = given(*DUE)
    report, file = asked(past, "closing", **question)
    for one in (report, file):
        check = past.trail.check_report(one)
        assert (check.ok, check.findings, check.since, check.events) == (True, [], [], [])


@pytest.mark.parametrize("question", [{}, {"owner": "anna"}, {"as_of": on(40), "tz": "Asia/Tokyo"}], ids=repr)
def test_next_actions_that_this_log_gave_are_equal(question):
    past = given(*DUE)
    report, file = asked(past, "next_actions", **question)
    for one in (report, file):
        check = past.trail.check_report(one)
        assert (check.ok, check.findings, check.since, check.events) == (True, [], [], [])


def test_a_closing_report_that_was_edited_is_told_and_what_came_later_explains_it():
    past = given(*DUE)
    _, file = asked(past, "closing", as_of=on(50))
    check = past.trail.check_report(edited(file, "deals", 0, "days_pushed", to=8))
    assert kinds(check) == ["content_digest", "report"]
    place = file["deals"][0]["deal"]
    assert told(check.differences) == [(f"deal {place}", "days_pushed", 8, file["deals"][0]["days_pushed"])]
    check = past.trail.check_report(edited(file, "months", 0, "deals", to=8))
    assert ("month 2026-02", "deals", 8, 1) in told(check.differences)
    later(past, log(5, deal="A"), expect(6, None, deal="B"), complete(7, "mail", deal="B"), lose(60, deal="A"))
    check = past.trail.check_report(file)
    assert check.ok
    assert ("month 2026-02", "deals", 1, None) in told(check.since)
    assert ("month none", "deals", None, 1) in told(check.since)
    assert [(one.deal, one.event) for one in check.events] == [("B", "expected_close_changed")]


def test_next_actions_that_were_edited_are_told_and_what_came_later_explains_them():
    past = given(*DUE)
    _, file = asked(past, "next_actions", as_of=on(50))
    assert [(row["deal"], row["action"]) for row in file["actions"]] == [("A", "call"), ("A", "mail"), ("B", "mail")]
    check = past.trail.check_report(edited(file, "actions", 1, "required", to=True))
    assert kinds(check) == ["content_digest", "report"]
    assert told(check.differences) == [("action A mail", "required", True, False)]
    later(
        past, log(5, deal="A"), complete(7, "mail", deal="B"), assign(8, "bob", deal="B"), assign(60, "carl", deal="A")
    )
    check = past.trail.check_report(file)
    assert check.ok
    assert ("action B mail", "action", "mail", None) in told(check.since)
    assert ("unowned B", "deal", "B", None) in told(check.since)
    assert [(one.deal, one.event) for one in check.events] == [("B", "action_completed"), ("B", "deal_assigned")]


def test_nothing_is_explained_where_no_figure_changed():
    past = given(*PAST)
    _, file = asked(past)
    later(past, assign(6, "carl", deal="A"))
    check = past.trail.check_report(file)
    assert (check.ok, check.since, check.events) == (True, [], [])


# The command line


@pytest.fixture
def store(tmp_path):
    """A store, and a file of a report that it gave."""
    path = str(tmp_path / "sales.db")
    with Trail.open(path, clock=Clock(on(100))) as trail:
        for action in PAST:
            trail.record(action)
    with Trail.open(path, clock=Clock(on(101))) as trail:
        report = trail.pipeline_report("b2b", as_of=on(10))
    file = tmp_path / "report.json"
    file.write_bytes(msgspec.json.encode(report))
    return path, file


def run(path, *words, stdin=None):
    return CliRunner().invoke(app, ["--db", path, "check-report", *map(str, words)], input=stdin)


def test_the_command_says_that_a_report_is_equal_from_a_file_and_from_stdin(store):
    path, file = store
    done = run(path, file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "the very same report, at position 7" in done.stdout
    told = json.loads(run(path, "-", "--format", "json", stdin=file.read_text()).stdout)
    assert (told["ok"], told["findings"], told["since"]) == (True, [], [])


def test_the_command_shows_what_was_edited_and_exits_with_1(store):
    path, file = store
    file.write_text(json.dumps(edited(json.loads(file.read_text()), "total", "deals", to=7)))
    done = run(path, file)
    assert done.exit_code == 1
    assert "the report was edited" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if "total" in line] == [["total", "deals", "7", "1"]]
    assert run(path, file, "--format", "json").exit_code == 1


def test_the_command_shows_what_came_later_and_exits_with_0(store):
    path, file = store
    with Trail.open(path) as trail:
        trail.record_all([opening(6, deal=f"L{number}") for number in range(25)])
    done = run(path, file)
    assert done.exit_code == 0
    assert "deal_opened" in done.stdout
    assert "and 5 more" in done.stdout


def test_the_command_refuses_what_is_no_report(store, tmp_path):
    path, _ = store
    assert "invalid_json" in run(path, "-", stdin="no").stderr
    assert "missing_field" in run(path, "-", stdin="{}").stderr
