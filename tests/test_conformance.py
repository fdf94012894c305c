"""How real deals went, against what a definition allows: figures worked out by hand."""

import msgspec
import pytest
from given import (
    CARE,
    MICROSECOND,
    amend,
    code_of,
    define,
    given,
    lose,
    merge,
    move,
    on,
    opening,
    redefine,
    reopen,
    stages,
    transfer,
    win,
)

from dealtrail import ConformanceReport, Draft

KEYS = ("lead", "demo", "offer", "closing")
STRICT = Draft(stages=stages(*KEYS), entry=["lead"], back=[], skip=[])

# Nobody knew of any limit when these deals went.
PAST = [
    define(*KEYS),
    CARE,
    # A goes straight through, in ten days.
    *(opening(2, deal="A", owner="anna"), move(4, "demo", deal="A"), move(6, "offer", deal="A")),
    *(move(8, "closing", deal="A"), win(12, deal="A")),
    # B goes back from demo to lead, and to demo again; lost after eight days.
    *(opening(2, deal="B", owner="bo"), move(3, "demo", deal="B"), move(5, "lead", deal="B")),
    *(move(6, "demo", deal="B"), lose(10, deal="B")),
    # C skips demo, and by its win closing; four days.
    *(opening(2, deal="C", owner="anna"), move(4, "offer", deal="C"), win(6, deal="C")),
    # E begins in demo; two days.
    *(opening(3, deal="E", stage="demo", owner="bo"), lose(5, deal="E")),
    # F is still a lead; H is in another pipeline; M is merged.
    *(opening(2, deal="F"), opening(2, deal="H"), transfer(5, deal="H")),
    *(opening(2, deal="M", stage="closing"), merge(5, into="F", deal="M")),
    # G is lost from demo and reopened there; twenty days from its opening to its win.
    *(opening(2, deal="G"), move(4, "demo", deal="G"), lose(8, deal="G"), reopen(10, deal="G")),
    *(move(11, "offer", deal="G"), move(12, "closing", deal="G"), win(22, deal="G")),
]


def ask(past, **question):
    return past.trail.conformance("b2b", **{"cohort": "2026", "definition": STRICT, **question})


def kinds(report):
    return {row.kind: (row.count, row.deals) for row in report.kinds}


def paths(report):
    return {" ".join(row.stages): row.deals for row in report.variants}


@pytest.fixture(scope="module")
def past():
    return given(*PAST)


def test_deals_without_a_deviation_conform(past):
    report = ask(past)
    # A, F, G and H of A, B, C, E, F, G, H: 4 ÷ 7.
    assert (report.deals, report.conforming, report.conforming_share) == (7, 4, 0.5714)


def test_deviations_are_counted_by_kind_and_by_pair(past):
    report = ask(past)
    assert kinds(report) == {"entry": (1, 1), "back": (1, 1), "skip": (2, 1)}
    assert [(row.kind, row.from_, row.to, row.count, row.deals) for row in report.deviations] == [
        ("entry", None, "demo", 1, 1),
        ("back", "demo", "lead", 1, 1),
        ("skip", "lead", "offer", 1, 1),
        ("skip", "offer", "won", 1, 1),
    ]


def test_a_deal_that_deviates_twice_in_the_same_way_is_two_steps_of_one_deal(past):
    more = given(*PAST, *(reopen(30, deal="B"), move(31, "lead", deal="B"), move(32, "demo", deal="B")))
    again = next(row for row in ask(more).deviations if row.kind == "back")
    assert (again.from_, again.to, again.count, again.deals) == ("demo", "lead", 2, 1)
    assert ask(more).deviations[0] == again


def test_paths_are_told_with_what_became_of_them_the_most_common_first(past):
    report = ask(past)
    assert paths(report) == {
        "lead": 2,
        "lead demo lead demo": 1,
        "lead demo demo offer closing": 1,
        "lead demo offer closing": 1,
        "lead offer": 1,
        "demo": 1,
    }
    assert list(paths(report))[:3] == ["lead", "lead demo lead demo", "lead demo demo offer closing"]
    first, back, *_ = report.variants
    assert (first.open, first.transferred, first.won, first.win_rate, first.share) == (1, 1, 0, 0.0, 0.2857)
    assert (first.conforming, first.median_days_to_close) == (2, None)
    assert (back.lost, back.conforming, back.median_days_to_close) == (1, 0, 8.0)
    assert [row.median_days_to_close for row in report.variants if row.won] == [20.0, 10.0, 4.0]


def test_the_win_rate_and_days_of_a_path_are_those_of_all_its_deals():
    straight = given(define("a", "b"), *(opening(2, deal=deal) for deal in "WXYZ"), win(4, deal="W"), win(8, deal="X"))
    straight.when(lose(3, deal="Y"))
    (row,) = ask(straight, definition="as_of").variants
    # Two of four are won; of 2, 6 and 1 days to the end the median is 2.
    assert (row.win_rate, row.won, row.lost, row.open, row.median_days_to_close) == (0.5, 2, 1, 1, 2.0)


def test_paths_beyond_the_limit_are_counted_together(past):
    report = ask(past, limit=2)
    assert list(paths(report)) == ["lead", "lead demo lead demo"]
    # Four paths of one deal each; 4 ÷ 7.
    rest = report.other_variants
    assert (rest.variants, rest.deals, rest.share) == (4, 4, 0.5714)
    assert ask(past, limit=0).variants == []
    everything = ask(past, limit=6).other_variants
    assert (everything.variants, everything.deals, everything.share) == (0, 0, 0.0)


def test_loops_are_stages_entered_again(past):
    assert [(row.stage, row.deals, row.times) for row in ask(past).loops] == [("lead", 1, 1), ("demo", 2, 2)]


def test_deals_that_went_alike_count_each():
    way = (("demo", 3), ("lead", 4), ("demo", 5), ("lead", 6))
    steps = [(opening(2, deal=deal), *(move(day, to, deal=deal) for to, day in way)) for deal in "XYZ"]
    report = ask(given(define(*KEYS), *(step for some in steps for step in some)))
    # Each of three goes back twice, and is a lead thrice and in demo twice.
    assert kinds(report)["back"] == (6, 3)
    assert [(row.from_, row.count, row.deals) for row in report.deviations] == [("demo", 6, 3)]
    assert [(row.stage, row.deals, row.times) for row in report.loops] == [("lead", 3, 6), ("demo", 3, 3)]
    assert [(row.deals, row.conforming, row.open) for row in report.variants] == [(3, 0, 3)]


def test_everything_conforms_where_nothing_is_limited(past):
    report = ask(past, definition="as_of")
    assert (report.conforming, report.conforming_share, report.deviations) == (7, 1.0, [])
    assert kinds(report) == {"entry": (0, 0), "back": (0, 0), "skip": (0, 0)}


def test_stages_are_read_under_the_definition_asked_for(past):
    moves = {"lead": "early", "demo": "early"}
    draft = Draft(stages=stages("early", "offer", "closing"), moves=moves, entry=["early"], back=[], skip=[])
    report = ask(past, definition=draft)
    # B stays early, and E begins there; only C deviates, by its win.
    assert [(row.from_, row.to) for row in report.deviations] == [("offer", "won")]
    # G was reopened, which begins another visit, also of a stage that it was in.
    assert paths(report) == {"early": 4, "early early offer closing": 1, "early offer closing": 1, "early offer": 1}


def test_a_later_definition_restates_and_an_earlier_one_does_not():
    past = given(*PAST, redefine(40, *KEYS, back=["demo"], skip=[], entry=["lead", "demo"]))
    assert kinds(ask(past, definition=2, as_of=on(30))) == {"entry": (0, 0), "back": (0, 0), "skip": (2, 1)}
    assert ask(past, definition="current", as_of=on(30)).deviations == ask(past, definition=2).deviations
    assert code_of(ask, past, definition=1) == "cannot_restate"


def test_a_deal_that_comes_back_begins_again():
    past = given(define(*KEYS), CARE, opening(2), move(3, "offer"), transfer(4), transfer(6, "b2b", stage="demo"))
    report = ask(past)
    assert [(row.kind, row.from_, row.to) for row in report.deviations] == [
        ("entry", None, "demo"),
        ("skip", "lead", "offer"),
    ]
    assert paths(report) == {"lead offer demo": 1}


def test_a_win_before_a_reopening_is_a_step_too():
    past = given(define(*KEYS), opening(2), win(3), reopen(5, stage="offer"))
    assert [(row.from_, row.to) for row in ask(past).deviations] == [("lead", "offer"), ("lead", "won")]


def test_what_was_known_then_is_told_again():
    past = given(define(*KEYS, recorded=on(2)), opening(2, recorded=on(2)), move(5, "offer", recorded=on(5)))
    past.when(amend(2, stage="demo", recorded=on(20)))
    assert kinds(ask(past, known_at=on(10)))["skip"] == (1, 1)
    assert kinds(ask(past))["skip"] == (0, 0)
    assert kinds(ask(past, as_of=on(5) - MICROSECOND, known_at=on(10)))["skip"] == (0, 0)


def test_within_counts_only_the_first_days_of_each_deal(past):
    # Three days on, B has not gone back yet, and C has skipped demo but is not won.
    assert kinds(ask(past, within=2)) == {"entry": (1, 1), "back": (0, 0), "skip": (1, 1)}


def test_groups_and_filters_look_at_the_deal_as_it_opened(past):
    report = ask(past, group_by="owner")
    assert [(group.group["owner"], group.deals, group.conforming) for group in report.groups] == [
        ("anna", 2, 1),
        ("bo", 2, 0),
        (None, 3, 3),
    ]
    assert ask(past, where={"owner": "bo"}).conforming_share == 0.0


def test_of_no_deals_there_are_no_shares(past):
    report = ask(past, cohort="2025")
    assert (report.deals, report.conforming_share, report.variants, report.other_variants.share) == (0, None, [], None)


def test_the_limit_is_a_number(past):
    for limit in (-1, 10_001, 1.5, "2", True):
        assert code_of(ask, past, limit=limit) == "invalid_field"


def test_the_report_can_be_made_again_from_its_question(past):
    report = ask(past, group_by="owner", limit=3, within=30)
    question = {name: value for name, value in report.question.items() if name not in ("report", "pipeline")}
    again = past.trail.conformance("b2b", **question)
    assert report.question["report"] == "conformance"
    assert (again.digest, again) == (report.digest, report)
    assert ask(past, group_by="owner", limit=2, within=30).digest != report.digest


# The deals behind


def behind(past, report, **cell):
    return "".join(view.deal for view in past.trail.deals(report, **cell))


def test_deals_stand_behind_every_count(past):
    report = ask(past)
    for row in report.kinds:
        assert len(behind(past, report, field=row.kind)) == row.deals
    for row in report.deviations:
        assert len(behind(past, report, field=row.kind, path=[row.from_, row.to])) == row.deals
    for row in report.variants:
        for field in ("deals", "conforming", "won", "lost", "disqualified", "open", "transferred"):
            assert len(behind(past, report, field=field, path=row.stages)) == getattr(row, field)
    for row in report.loops:
        assert len(behind(past, report, field="loops", stage=row.stage)) == row.deals


def test_the_deals_behind_are_those_that_went_so(past):
    report = ask(past)
    assert behind(past, report) == "ABCEFGH"
    assert behind(past, report, field="conforming") == "AFGH"
    assert behind(past, report, field="skip", path=["offer", "won"]) == "C"
    assert behind(past, report, field="entry", path=[None, "demo"]) == "E"
    assert behind(past, report, path=["lead"]) == "FH"
    assert behind(past, report, field="open", path=["lead"]) == "F"
    assert behind(past, report, field="loops") == "BG"
    assert behind(past, report, field="median_days_to_close") == "ABCEG"


def test_a_report_read_back_from_its_json_has_its_deals_too(past):
    report = ask(past, group_by="owner")
    read = msgspec.json.decode(msgspec.json.encode(report))
    assert msgspec.convert(read, ConformanceReport, strict=False) == report
    assert behind(past, read, field="conforming", group={"owner": "anna"}) == "A"


@pytest.mark.parametrize(
    "cell",
    [
        {"field": "reached"},
        {"field": "won", "stage": "lead"},
        {"field": "loops", "path": ["lead"]},
        {"field": "skip", "path": ["lead"]},
        {"path": ["leed"]},
        {"path": "lead"},
        {"path": [1]},
    ],
)
def test_a_cell_that_the_report_has_not_is_refused(past, cell):
    assert code_of(past.trail.deals, ask(past), **cell) == "invalid_field"


def test_other_reports_have_no_paths(past):
    report = past.trail.funnel_report("b2b", cohort="2026")
    assert code_of(past.trail.deals, report, path=["lead"]) == "invalid_field"
