"""The commands that read: each is the Trail's own answer, as a table, as JSON and as CSV."""

import csv
import json
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner
from shop import STAGES

from dealtrail import Draft, Trail
from dealtrail.cli.app import app

MARCH = "2025-03-31"
DRAFT = {"stages": STAGES[:2], "moves": {"offer": "demo"}}


def asked(shop, method, *args, **question):
    """What the Trail answers, as JSON."""
    with Trail.open(shop.path, create=False) as trail:
        return json.loads(msgspec.json.encode(getattr(trail, method)(*args, **question)))


def rows(lines):
    return list(csv.DictReader(lines))


REPORTS = [
    (("pipeline", "b2b"), {}),
    (("pipeline", "b2b", "--definition", "1"), {"definition": 1}),
    (("pipeline", "b2b", "--definition", "current"), {"definition": "current"}),
    (("pipeline", "b2b", "--group-by", "owner", "--group-by", "source"), {"group_by": ("owner", "source")}),
    (("pipeline", "b2b", "--where", "owner=null"), {"where": {"owner": None}}),
    (
        ("pipeline", "b2b", "--where", "owner=anna", "--where", "source=web"),
        {"where": {"owner": "anna", "source": "web"}},
    ),
    (("pipeline", "b2b", "--where", "owner=42"), {"where": {"owner": "42"}}),
    (("pipeline", "b2b", "--where", 'owner="null"'), {"where": {"owner": "null"}}),
    (("pipeline", "b2b", "--where", "attributes.seats=5"), {"where": {"attributes.seats": 5}}),
    (("pipeline", "b2b", "--where", "attributes.seats=5.0"), {"where": {"attributes.seats": 5.0}}),
    (("pipeline", "b2b", "--where", "attributes.pilot=true"), {"where": {"attributes.pilot": True}}),
    (("pipeline", "b2b", "--where", 'attributes.code="5"'), {"where": {"attributes.code": "5"}}),
    (("pipeline", "b2b", "--where", "attributes.code=007"), {"where": {"attributes.code": "007"}}),
    (("pipeline", "b2b", "--where", "attributes.code=a=b"), {"where": {"attributes.code": "a=b"}}),
    (("pipeline", "b2b", "--tz", "Europe/Amsterdam"), {"tz": "Europe/Amsterdam"}),
    (("funnel", "b2b", "--cohort", "2025-Q1"), {"cohort": "2025-Q1"}),
    (("funnel", "b2b", "--cohort", "2025", "--within", "10"), {"cohort": "2025", "within": 10}),
    (("funnel", "b2b", "--cohort", "2025", "--within", "1.5"), {"cohort": "2025", "within": 1.5}),
    (("funnel", "b2b", "--cohort", "2025", "--fiscal-year-start", "4"), {"cohort": "2025", "fiscal_year_start": 4}),
    (
        ("funnel", "b2b", "--cohort", "2025", "--group-by", "attributes.seats"),
        {"cohort": "2025", "group_by": ("attributes.seats",)},
    ),
]


@pytest.mark.parametrize(
    ("words", "question"), REPORTS, ids=lambda one: " ".join(one) if isinstance(one, tuple) else ""
)
def test_a_report_is_the_one_that_python_gets_to_its_digests(shop, words, question):
    moments = {"as_of": MARCH, "known_at": "2999-01-01"} | question
    answer = shop.json(*words, "--as-of", MARCH, "--known-at", "2999-01-01")
    # A moment later than now is taken as now: the question names the same one for both.
    moments["known_at"] = answer["known_at"]
    assert answer == asked(shop, f"{words[0]}_report", "b2b", **moments)


def test_what_was_known_then_is_told_again_whatever_was_recorded_since(shop):
    then = shop.json("history", "D-3")[0]["recorded_at"]
    before = shop.json("pipeline", "b2b", "--as-of", MARCH, "--known-at", then)
    shop.run("record", "lose_deal", "deal=D-1", "at=2025-03-01T00:00:00Z")
    assert shop.json("pipeline", "b2b", "--as-of", MARCH, "--known-at", then) == before
    assert (before["total"]["deals"], before["position"]) == (2, 6)
    assert shop.json("pipeline", "b2b", "--as-of", MARCH)["total"]["deals"] == 1


def test_a_draft_from_a_file_is_a_draft_in_python(shop):
    file = shop.file("draft.json", json.dumps(DRAFT))
    answer = shop.json("pipeline", "b2b", "--draft", file)
    assert [stage["stage"] for stage in answer["stages"]] == ["lead", "demo"]
    again = asked(shop, "pipeline_report", "b2b", as_of=answer["as_of"], known_at=answer["known_at"], definition=DRAFT)
    assert answer == again
    with Trail.open(shop.path, create=False) as trail:
        report = trail.pipeline_report(
            "b2b", as_of=answer["as_of"], known_at=answer["known_at"], definition=Draft(**DRAFT)
        )
        assert report.digest == answer["digest"]


def test_a_draft_and_a_definition_together_are_wrong_usage(shop):
    result = shop.run("pipeline", "b2b", "--definition", "1", "--draft", shop.file("draft.json", json.dumps(DRAFT)))
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_pipeline_as_csv_has_a_row_for_each_stage(shop):
    assert shop.lines("pipeline", "b2b", "--as-of", MARCH) == [
        "stage,name,deals,value.EUR,weighted_value.EUR,median_days_in_stage,stalled",
        # 2025-03-01 09:00 to the end of 2025-03-31 are 30 days and 15 hours; 10 days are allowed.
        "lead,Lead,1,,,30.62,1",
        # 2025-01-15 09:00 to the end of 2025-03-31 are 75 days and 15 hours; 0.4 × 1200.50 is 480.20.
        "demo,Demo,1,1200.50,480.20,75.62,0",
        "offer,Offer,0,,,,0",
        "",
    ]


def test_a_grouped_report_as_csv_has_a_row_for_each_stage_of_each_group(shop):
    found = rows(shop.lines("pipeline", "b2b", "--as-of", MARCH, "--group-by", "owner"))
    assert [(row["group.owner"], row["stage"], row["deals"]) for row in found] == [
        ("anna", "lead", "0"),
        ("anna", "demo", "1"),
        ("anna", "offer", "0"),
        ("", "lead", "1"),
        ("", "demo", "0"),
        ("", "offer", "0"),
    ]


def test_the_funnel_as_csv_has_a_row_for_each_stage(shop):
    found = rows(shop.lines("funnel", "b2b", "--cohort", "2025-Q1", "--as-of", MARCH))
    # All three were opened into lead; D-1 went on to demo after ten days, D-2 was lost from lead.
    assert [
        (row["stage"], row["reached"], row["passed"], row["lost"], row["median_days_to_pass"]) for row in found
    ] == [
        ("lead", "3", "1", "1", "10.0"),
        ("demo", "1", "0", "0", ""),
        ("offer", "0", "0", "0", ""),
    ]


def test_the_table_of_the_pipeline_says_the_figures_and_where_they_came_from(shop):
    result = shop.run("pipeline", "b2b", "--as-of", MARCH, "--where", "source=web")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "b2b as of 2025-03-31 23:59" in result.stdout
    assert "definition 1, where source = web" in result.stdout
    total = next(line for line in result.stdout.splitlines() if line.startswith("Total"))
    assert total.split() == ["Total", "1", "1,200.50", "EUR", "480.20", "EUR", "75.62", "0"]
    assert asked(shop, "pipeline_report", "b2b")["digest"] not in result.stdout
    assert "position 6" in result.stdout


def test_the_table_of_a_grouped_report_has_a_part_for_each_group_and_one_of_all(shop):
    told = shop.run("pipeline", "b2b", "--as-of", MARCH, "--group-by", "owner").stdout.splitlines()
    assert [line for line in told if line in ("owner = anna", "owner = (none)", "all")] == [
        "owner = anna",
        "owner = (none)",
        "all",
    ]


def test_the_table_of_the_funnel_says_what_became_of_the_cohort(shop):
    told = shop.run("funnel", "b2b", "--cohort", "2025-Q1", "--as-of", MARCH, "--group-by", "owner").stdout
    assert "deals opened from 2025-01-01 00:00 until 2025-04-01 00:00" in told
    # 0 of 3 are won; of the one that is closed, too.
    assert "3 deals: 0 won, 1 lost, 0 disqualified, 2 open, 0 transferred; win rate 0.00%, close rate 0.00%" in told
    lead = [line.split() for line in told.splitlines() if line.startswith("Lead")][-1]
    assert [lead[1], *lead[3:7]] == ["3", "100%", "1", "33.33%", "3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pipeline", "b2"], "unknown_pipeline: there is no pipeline b2; did you mean b2b?"),
        (["pipeline", "b2b", "--as-of", "2025-03-31T10:00"], "naive_time: as_of: "),
        (["pipeline", "b2b", "--as-of", "yesterday"], "invalid_time: as_of: "),
        (["pipeline", "b2b", "--group-by", "ownr"], "invalid_group_by: group_by: ownr is no field to group by; "),
        (["pipeline", "b2b", "--where", "sorce=web"], "invalid_where: where: "),
        (["pipeline", "b2b", "--definition", "7"], "unknown_definition: "),
        (["pipeline", "b2b", "--definition", "curent"], "invalid_field: definition: "),
        (["pipeline", "b2b", "--tz", "Mars"], "invalid_tz: "),
        (["funnel", "b2b", "--cohort", "2025Q1"], "invalid_period: 2025Q1 is no period"),
        (["funnel", "b2b", "--cohort", "2025", "--fiscal-year-start", "13"], "invalid_field: fiscal_year_start: "),
        (["deals", "b2"], "unknown_pipeline: "),
        (["deals", "b2b", "--status", "opne"], "invalid_field: status: "),
        (["deals", "b2b", "--sort", "vlue"], "invalid_field: sort: "),
        (["deals", "b2b", "--stage", "demoo"], "unknown_stage: demoo is no stage of version 1 of pipeline b2b; "),
        (["deals", "b2b", "--field", "stalld"], "invalid_field: field: "),
        (["deals", "b2b", "--after", "D-9"], "invalid_field: after: "),
        (["deal", "D-9"], "unknown_deal: "),
        (["history", "D-9"], "unknown_deal: "),
        (["definitions", "b2"], "unknown_pipeline: "),
        (["pipelines", "--known-at", "then"], "invalid_time: known_at: "),
    ],
)
def test_a_refused_question_exits_with_1_and_nothing_on_stdout(shop, words, told):
    result = shop.run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {told}")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["pipeline", "b2b", "--group-by", "ownr"], "did you mean owner?"),
        (["pipeline", "b2b", "--where", "sorce=web"], "did you mean source?"),
        (["deals", "b2b", "--status", "opne"], "did you mean open?"),
        (["deals", "b2b", "--sort", "-vlue"], "did you mean value?"),
        (["deals", "b2b", "--field", "stalld"], "did you mean stalled?"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest_one(shop, words, near):
    assert near in shop.run(*words).stderr


def test_deals_are_listed_in_pages(shop):
    def page(*words):
        return [deal["deal"] for deal in shop.json("deals", "b2b", *words)]

    assert page() == ["D-1", "D-2", "D-3"]
    assert page("--status", "open") == ["D-1", "D-3"]
    assert page("--owner", "bram") == ["D-2"]
    assert page("--stage", "demo") == ["D-1"]
    assert page("--where", "attributes.pilot=true") == ["D-3"]
    assert page("--sort", "-opened_at", "--limit", "2") == ["D-3", "D-2"]
    assert page("--sort", "-opened_at", "--after", "D-2") == ["D-1"]
    assert page("--as-of", "2025-01-31") == ["D-1"]


def test_a_full_page_says_on_stderr_how_to_get_the_next(shop):
    result = shop.run("deals", "b2b", "--limit", "2")
    assert result.stderr == "2 deals; for those behind them: --after D-2\n"
    assert "D-3" not in result.stdout


def test_deals_as_csv_have_a_column_for_each_field_and_attribute(shop):
    lines = shop.lines("deals", "b2b")
    assert lines[0] == (
        "deal,pipeline,status,stage,definition,stage_since,recorded_stage,recorded_definition,opened_at,closed_at,"
        "value.amount,value.currency,owner,source,expected_close,attributes.code,attributes.pilot,attributes.seats,"
        "completed,reason,merged_into,subject,title,version"
    )
    first, _, third = rows(lines)
    assert (first["value.amount"], first["value.currency"], first["title"]) == ("1200.50", "EUR", "Anna's first")
    assert (third["value.amount"], third["attributes.seats"], third["attributes.pilot"]) == ("", "5", "true")


def test_no_deal_is_an_empty_list_a_header_and_a_sentence(shop):
    assert shop.json("deals", "b2b", "--status", "won") == []
    header, end = shop.lines("deals", "b2b", "--status", "won")
    assert (header.split(",")[:2], end) == (["deal", "pipeline"], "")
    assert shop.run("deals", "b2b", "--status", "won").stdout == "no such deal\n"


@pytest.mark.parametrize(
    ("words", "deals"),
    [
        (["--field", "deals"], ["D-1", "D-3"]),
        (["--field", "stalled", "--stage", "lead"], ["D-3"]),
        (["--field", "value", "--currency", "EUR"], ["D-1"]),
        (["--field", "deals", "--group", "owner=anna"], ["D-1"]),
        (["--field", "deals", "--group", "owner=null"], ["D-3"]),
        (["--field", "reached", "--stage", "demo", "--cohort", "2025-Q1"], ["D-1"]),
        (["--field", "lost", "--cohort", "2025-Q1"], ["D-2"]),
        (["--field", "open", "--stage", "lead", "--cohort", "2025", "--within", "3"], ["D-1", "D-2", "D-3"]),
        (["--field", "cohort", "--cohort", "2025-Q4", "--fiscal-year-start", "4"], ["D-1", "D-2", "D-3"]),
    ],
    ids=" ".join,
)
def test_the_deals_behind_a_cell_are_listed(shop, words, deals):
    assert [deal["deal"] for deal in shop.json("deals", "b2b", "--as-of", MARCH, *words)] == deals


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--field", "lost", "--status", "open"], "--status does not go with --field"),
        (["--cohort", "2025"], "--cohort needs --field"),
        (["--group", "owner=anna"], "--group needs --field"),
        (["--field", "deals", "--within", "3"], "need --cohort"),
        (["--where", "owner"], "'owner' is no NAME=VALUE"),
        (["--where", "owner=a", "--where", "owner=b"], "owner is given twice"),
        (["--limit", "many"], "'many' is not a valid integer"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(shop, words, told):
    result = shop.run("deals", "b2b", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_a_deal_is_shown_as_it_was(shop):
    assert shop.json("deal", "D-1", "--as-of", "2025-01-10")["stage"] == "lead"
    assert shop.json("deal", "D-1", "--as-of", "2025-01-04") is None
    assert shop.run("deal", "D-1", "--as-of", "2025-01-04").stdout == "D-1 was not open yet\n"
    told = [line.split(maxsplit=1) for line in shop.run("deal", "D-1").stdout.splitlines()]
    assert ["value", "1,200.50 EUR"] in told
    assert ["stage", "demo"] in told
    assert rows(shop.lines("deal", "D-1"))[0]["stage"] == "demo"


def test_the_history_marks_what_was_amended_and_what_was_retracted(shop):
    shop.run("record", "amend", "deal=D-1", "version=1", "source=fair")
    shop.run("record", "retract", "deal=D-1", "version=2", "reason=slip")
    told = shop.run("history", "D-1").stdout.splitlines()
    marked = {line.split()[0]: line.split("  ")[-1].strip() for line in told if line.strip()[:1].isdigit()}
    # The amendment of event 1 is a retraction, 3, and the new opening, 4; event 5 takes back event 2.
    assert marked["1"] == "amended by 4"
    assert marked["2"] == "retracted by 5"
    assert marked["4"] == "amends 1"
    assert [event["version"] for event in shop.json("history", "D-1")] == [1, 2, 3, 4, 5]
    assert [row["event"] for row in rows(shop.lines("history", "D-1"))][3] == "deal_opened"


def test_the_history_marks_what_was_recorded_while_the_clock_was_behind(shop):
    with Trail.open(shop.path, clock=lambda: datetime(2100, 1, 1, tzinfo=UTC)) as trail:
        trail.log_activity("D-1", "call")  # by a clock that runs far ahead
    shop.run("record", "log_activity", "deal=D-1", "kind=mail")
    ahead, behind = shop.json("history", "D-1")[-2:]
    assert ahead["clock_behind_us"] == 0
    assert behind["clock_behind_us"] > 365 * 86_400_000_000
    marked = ["clock behind by" in line for line in shop.run("history", "D-1").stdout.splitlines() if "kind=" in line]
    assert marked == [False, True]


def test_a_title_cannot_send_control_sequences_to_the_terminal(shop):
    shop.run("record", '{"action": "open_deal", "deal": "D-4", "pipeline": "b2b", "title": "\\u001b[31mred\\n[bold]x"}')
    for words in (["deals", "b2b"], ["deal", "D-4"], ["history", "D-4"]):
        told = shop.run(*words).stdout
        assert "\x1b" not in told
        assert "[bold]x" in told


def test_pipelines_and_definitions_are_listed(shop):
    assert shop.json("pipelines")[0]["pipeline"] == "b2b"
    assert [one["version"] for one in shop.json("definitions", "b2b")] == [1]
    assert [row["stage"] for row in rows(shop.lines("definitions", "b2b"))] == ["lead", "demo", "offer"]
    assert [row["stage"] for row in rows(shop.lines("pipelines"))] == ["lead", "demo", "offer"]
    assert shop.json("pipelines", "--known-at", "2024-12-31") == []
    for words in (["pipelines"], ["definitions", "b2b"]):
        assert [line.split()[-1] for line in shop.run(*words).stdout.splitlines() if "held" in line] == ["held"]


def test_following_prints_the_events_behind_a_position_as_json_lines(shop):
    lines = shop.run("follow", "--after", "3").stdout.splitlines()
    assert [json.loads(line)["position"] for line in lines] == [4, 5, 6]
    assert [json.loads(line)["event"] for line in lines] == ["deal_opened", "deal_lost", "deal_opened"]
    assert len(shop.run("follow", "--limit", "2").stdout.splitlines()) == 2
    assert shop.run("follow", "--after", "6").stdout == ""


def test_the_status_says_how_far_the_read_model_lags(shop):
    shop.run("pipelines")
    assert shop.json("status")["behind"] == 0
    shop.run("record", "log_activity", "deal=D-1", "kind=call")
    found = shop.json("status")
    assert (found["position"], found["read_position"], found["behind"]) == (7, 6, 1)
    assert found["files"][str(shop.path)] == shop.path.stat().st_size
    assert set(found["versions"]) >= {"dealtrail", "python", "sqlite"}
    shown = " ".join(shop.run("status").stdout.split())
    assert "1 events behind, the oldest of them for 0 s; the next question catches up" in shown
    assert "generation 1; with files: 1" in shown
    assert "UTC, 6 events in 0." in shown
    assert "last verify none" in shown


def test_a_rebuild_catches_up_and_changes_no_figure(shop):
    question = ["pipeline", "b2b", "--as-of", MARCH]
    before = shop.json(*question)["stages"]
    assert shop.run("rebuild").stdout == "The read model was made anew from 6 events.\n"
    assert shop.json("status")["behind"] == 0
    assert shop.json(*question)["stages"] == before


def test_a_funnel_tells_why_deals_were_lost_and_asks_for_the_deals_behind(tmp_path):
    db = ["--db", str(tmp_path / "why.db")]
    with Trail.open(db[1]) as trail:
        reasons = {"disqualified": ["Student", "No budget"]}
        trail.define_pipeline("b2b", [{"key": "lead", "name": "Lead", "probability": 0.5}], reasons=reasons)
        for number, reason in enumerate(["price", "price", "a", "b", "c", "d", "e", None]):
            trail.open_deal("b2b", deal=f"D-{number}", at="2025-03-01T09:00:00Z")
            trail.lose_deal(f"D-{number}", reason=reason, at="2025-03-02T09:00:00Z")
    shown = CliRunner().invoke(app, [*db, "funnel", "b2b", "--cohort", "2025"])
    lines = [line.split() for line in shown.stdout.splitlines() if line.startswith("Lost")]
    # The five most frequent of seven: price twice, then by their text; none was disqualified.
    told = ["price", "2,", "a", "1,", "b", "1,", "c", "1,", "d", "1,", "and", "2", "more"]
    assert lines == [["Lost", "Lead", *told], ["Lost", "Total", *told]]
    assert "Disqualified" not in shown.stdout
    defined = CliRunner().invoke(app, [*db, "definitions", "b2b"])
    assert defined.stdout.splitlines()[-1] == "b2b, version 1: disqualified for Student, No budget"
    cell = ["--field", "lost", "--cohort", "2025", "--format", "json"]
    for reason, deals in (("price", ["D-0", "D-1"]), ("null", ["D-7"]), ("'null'", [])):
        found = CliRunner().invoke(app, [*db, "deals", "b2b", *cell, "--reason", reason])
        assert [deal["deal"] for deal in json.loads(found.stdout)] == deals
    astray = CliRunner().invoke(app, [*db, "deals", "b2b", "--reason", "price"])
    assert (astray.exit_code, "--reason needs --field" in astray.stderr) == (2, True)
