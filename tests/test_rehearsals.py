"""What a trail tells without recording it, what it refuses to found, and how it says that it is."""

import sqlite3
from itertools import count

import pytest
from given import B2B, act, code_of, given, move, opening, redefine, revalue

from dealtrail import DealtrailError, Imported, Trail
from dealtrail.domain.errors import error
from dealtrail.store import writing

GOOD = [opening(1), move(2, "qualified"), move(3, "proposal")]
MIXED = [GOOD[0], move(2, "lead"), *GOOD[1:]]


def codes(outcomes):
    return [None if one.refused is None else one.refused.code for one in outcomes]


def test_a_dry_run_judges_each_action_after_those_before_it_and_records_none():
    past = given(B2B)
    before = past.log()
    assert codes(past.trail.record_each(MIXED, dry_run=True)) == [None, "already_in_stage", None, None]
    assert past.log() == before
    assert code_of(past.trail.deal, "D") == "unknown_deal"


def test_what_was_rehearsed_can_then_be_recorded():
    past = given(B2B)
    rehearsed = list(past.trail.record_each(GOOD, dry_run=True))
    assert list(past.trail.record_each(GOOD)) == rehearsed
    assert [event.event for event in past.log()[1:]] == ["deal_opened", "stage_entered", "stage_entered"]


def test_an_atomic_run_records_all_or_where_one_is_refused_nothing():
    past = given(B2B)
    assert codes(past.trail.record_each(MIXED, atomic=True)) == [None, "already_in_stage", None, None]
    assert len(past.log()) == 1
    assert codes(past.trail.record_each(GOOD, atomic=True)) == [None] * 3
    assert len({event.recorded_at for event in past.log()}) == 4


@pytest.mark.parametrize("how", [{"atomic": True}, {"dry_run": True}])
def test_a_run_at_once_that_is_abandoned_records_nothing_and_lets_others_write(how):
    past = given(B2B)
    run = past.trail.record_each(GOOD, **how)
    assert next(run).refused is None
    run.close()
    assert len(past.log()) == 1
    past.trail.record(opening(1))
    assert len(past.log()) == 2


@pytest.mark.parametrize(("how", "kept"), [({"atomic": True}, True), ({"dry_run": True}, False), ({}, True)])
def test_a_long_run_remembers_every_deal_when_it_forgets_what_it_decoded(monkeypatch, how, kept):
    monkeypatch.setattr(writing, "_CACHED_DEALS", 5)
    monkeypatch.setattr("dealtrail.store.recording._STEPS_PER_COMMIT", 10)
    past = given(B2B)
    actions = [opening(1, deal=f"D-{n}") for n in range(25)] + [move(2, "qualified", deal=f"D-{n}") for n in range(25)]
    assert codes(past.trail.record_each(actions, **how)) == [None] * 50
    assert len(past.log()) == (51 if kept else 1)
    # What the trail knows afterwards is what is recorded, not what was rehearsed.
    assert codes(past.trail.record_each([opening(1, deal="D-3")])) == ["deal_exists" if kept else None]


def test_an_error_in_the_place_of_an_action_is_passed_through_as_refused():
    past = given(B2B)
    unreadable = error("invalid_json", why="it breaks off")
    outcomes = list(past.trail.record_each([GOOD[0], unreadable, GOOD[1]]))
    assert outcomes[1] == Imported(2, None, unreadable)
    assert codes(outcomes) == [None, "invalid_json", None]


def test_an_action_that_was_recorded_before_is_told_to_be_repeated():
    past = given(B2B)
    actions = [opening(1, id="first"), opening(1, id="first"), move(2, "qualified")]
    assert [one.repeated for one in past.trail.record_each(actions)] == [False, True, False]
    assert [one.repeated for one in past.trail.record_each(actions[:1])] == [True]


MOVES = {"qualified": [{"when": {"field": "value", "op": "ge", "value": "100"}, "to": "offer"}, {"to": "lead"}]}


def test_a_redefinition_is_previewed_by_the_open_deals_that_it_puts_elsewhere():
    past = given(
        B2B,
        *(opening(2, deal=deal) for deal in ("A", "B", "C", "E")),
        revalue(3, 100, deal="A"),
        *(move(4, "qualified", deal=deal) for deal in ("A", "B", "C")),
        act("lose_deal", 5, deal="C"),
    )
    before = past.log()
    stages = redefine(None, "lead", "offer", "proposal")["stages"]
    moving = past.trail.preview_redefinition("b2b", stages, moves=MOVES)
    # C is lost, and E stays in lead.
    assert [(one.deal, one.from_, one.to) for one in moving] == [
        ("A", "qualified", "offer"),
        ("B", "qualified", "lead"),
    ]
    assert past.log() == before
    past.trail.redefine_pipeline("b2b", stages, moves=MOVES)
    assert {one.deal: past.deal(one.deal).stage for one in moving} == {"A": "offer", "B": "lead"}


def test_a_preview_is_refused_as_the_redefinition_would_be():
    past = given(B2B)
    stages = redefine(None, "lead", "proposal")["stages"]
    assert code_of(past.trail.preview_redefinition, "b2b", stages) == "missing_move"
    assert code_of(past.trail.preview_redefinition, "b2c", stages) == "unknown_pipeline"
    assert code_of(past.trail.preview_redefinition, "b2b", stages, expected_version=2) == "conflict"


@pytest.mark.parametrize("name", ["none.db", "empty.db", "blank.db", ":memory:"])
def test_a_store_that_is_not_there_is_not_founded_unasked(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name == "empty.db":
        (tmp_path / name).touch()
    if name == "blank.db":
        with sqlite3.connect(tmp_path / name) as raw:
            raw.execute("PRAGMA user_version = 1")
        raw.close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert code_of(Trail.open, name, create=False) == "no_store"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_store_that_is_there_is_opened_without_founding(tmp_path):
    path = tmp_path / "sales.db"
    with Trail.open(path) as trail:
        trail.record(B2B)
    with Trail.open(path, create=False) as trail:
        assert [one.pipeline for one in trail.pipelines()] == ["b2b"]


def test_the_status_tells_the_head_of_the_log_and_how_far_behind_the_read_model_is(tmp_path):
    path = tmp_path / "sales.db"
    with Trail.open(path) as trail:
        trail.record(B2B)
        fresh = trail.status()
        assert (fresh.position, fresh.read_position, fresh.behind) == (1, 0, 1)
        trail.pipelines()
        known = trail.status()
        assert (known.read_position, known.behind) == (1, 0)
        assert (known.chain, known.log) == (fresh.chain, fresh.log)
        assert known.files[str(path)] == path.stat().st_size
        assert known.recorded_at == next(trail.follow()).recorded_at


def test_an_empty_trail_in_memory_has_a_status():
    with Trail.open(":memory:") as trail:
        status = trail.status()
    assert (status.position, status.recorded_at, status.files, status.chain) == (0, None, {}, "0" * 64)


def test_a_refusal_keeps_no_frame_of_the_run_alive():
    past = given(B2B)
    (outcome,) = past.trail.record_each([move(1, "lead")])
    assert isinstance(outcome.refused, DealtrailError)
    assert outcome.refused.__traceback__ is None


def test_the_numbers_of_a_run_count_on_over_its_commits(monkeypatch):
    monkeypatch.setattr("dealtrail.store.recording._STEPS_PER_COMMIT", 2)
    past = given(B2B)
    assert [one.line for one in past.trail.record_each(MIXED)] == [1, 2, 3, 4]
    numbers = count(1)
    assert [one.line == next(numbers) for one in past.trail.record_each(MIXED, dry_run=True)] == [True] * 4
