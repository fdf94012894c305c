"""Upgrades: a store that any release wrote opens, is sound, and reports the same digests as it did then.

`write_fixture.py` writes such a store and what it reported; one that belongs to a release is never written again.
"""

import json
import shutil
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
import write_fixture
from given import B2B, Clock, code_of, log, on

from dealtrail import DealtrailError, Trail
from dealtrail.store import mapper
from dealtrail.store.log import FORMAT

HERE = Path(__file__).parent
FIXTURES = sorted(path.stem for path in write_fixture.FIXTURES.glob("*.db"))


@pytest.fixture(params=FIXTURES)
def old(request, tmp_path):
    """A copy of a store that a release wrote, and what it told of itself then."""
    name = request.param
    shutil.copy(write_fixture.FIXTURES / f"{name}.db", tmp_path / "sales.db")
    return tmp_path / "sales.db", json.loads((write_fixture.FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def test_every_version_that_was_released_and_the_present_one_has_a_store_and_what_it_reported():
    present = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert set(FIXTURES) == write_fixture.released() | {present}
    assert sorted(path.stem for path in write_fixture.FIXTURES.glob("*.json")) == FIXTURES


def test_the_store_of_a_version_that_is_not_released_yet_has_every_kind_of_event():
    """Where it has not: `python tests/write_fixture.py`."""
    for name in set(FIXTURES) - write_fixture.released():
        with closing(sqlite3.connect(f"file:{write_fixture.FIXTURES / name}.db?immutable=1", uri=True)) as raw:
            assert {tag for (tag,) in raw.execute("SELECT topic FROM event")} == set(mapper.TAGS.values())


def test_a_store_of_an_earlier_release_opens_and_reports_what_it_did_to_the_digest(old):
    path, told = old
    with Trail.open(path, clock=Clock(on(200)), create=False) as trail:
        assert str(trail.head()) == told["head"]
        assert len(told["reports"]) > 30
        assert [write_fixture.asked(trail, one["question"]) for one in told["reports"]] == told["reports"]


def test_a_store_of_an_earlier_release_is_sound(old):
    path, told = old
    with Trail.open(path, clock=Clock(on(200)), create=False) as trail:
        assert trail.verify(head=told["head"]).findings == []
        trail.rebuild()
        assert trail.verify(head=told["head"]).findings == []


def test_a_store_of_an_earlier_release_is_written_to_and_reports_the_past_as_before(old):
    path, told = old
    with Trail.open(path, clock=Clock(on(200)), create=False) as trail:
        position = int(told["head"].partition(":")[0])
        assert trail.record(log(120)).position == position + 1
        trail.rebuild()
        assert [write_fixture.asked(trail, one["question"]) for one in told["reports"]] == told["reports"]


def test_a_store_of_an_earlier_release_moves_by_lines_and_reports_the_same(old):
    path, told = old
    with Trail.open(path, clock=Clock(on(200)), create=False) as trail:
        trail.backup(path.parent / "all.jsonl", since=0)
    made = Trail.restore(path.parent / "new.db", [path.parent / "all.jsonl"])
    assert f"{made.position}:{made.chain}" == told["head"]
    with Trail.open(made.path, clock=Clock(on(200))) as trail:
        assert [write_fixture.asked(trail, one["question"]) for one in told["reports"]] == told["reports"]


def test_the_fixture_of_the_present_code_holds_every_kind_of_event_and_is_the_same_at_every_run(tmp_path):
    told = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_fixture.write(tmp_path / name, "next")
        told.append((tmp_path / name / "next.json").read_bytes())
        with Trail.open(tmp_path / name / "next.db") as trail:
            assert {event.event for event in trail.follow()} == {tag.partition(".")[0] for tag in mapper.TAGS.values()}
    assert told[0] == told[1]


# Stores of newer code


def test_a_store_of_a_newer_format_is_refused_with_a_sentence_that_says_so(tmp_path, monkeypatch):
    path = tmp_path / "sales.db"
    monkeypatch.setattr("dealtrail.store.log.FORMAT", FORMAT + 1)  # as the code of a later release founds it
    with Trail.open(path) as trail:
        trail.record(B2B | {"at": None})
    monkeypatch.undo()
    before = path.read_bytes()
    with pytest.raises(DealtrailError) as caught:
        Trail.open(path)
    assert str(caught.value) == (f"newer_store: {path} was written by a newer dealtrail (format {FORMAT + 1}); upgrade")
    assert path.read_bytes() == before


@pytest.mark.parametrize("tag", ["activity_logged.2", "contact_made.1"])
def test_a_store_with_an_event_that_only_a_newer_code_knows_is_refused_with_a_sentence_that_says_so(
    tmp_path, monkeypatch, tag
):
    path = tmp_path / "sales.db"
    clock = Clock(on(100))
    with Trail.open(path, clock=clock) as trail:
        trail.record(B2B)
        trail.open_deal("b2b", deal="D")
        with monkeypatch.context() as later:  # the code of a later release writes its own tag
            kind = next(kind for kind, known in mapper.TAGS.items() if known == "activity_logged.1")
            later.setitem(mapper.TAGS, kind, tag)
            trail.log_activity("D", "call")
    for use in (
        lambda trail: trail.pipeline_report("b2b"),
        lambda trail: trail.history("D"),
        lambda trail: list(trail.follow()),
        lambda trail: trail.log_activity("D", "mail"),
        lambda trail: trail.rebuild(),
    ):
        with Trail.open(path, clock=clock) as trail:
            assert code_of(use, trail) == "newer_store"
    with Trail.open(path, clock=clock) as trail, pytest.raises(DealtrailError) as caught:
        trail.pipeline_report("b2b")
    assert str(caught.value) == (
        f"newer_store: {path} was written by a newer dealtrail (it holds events tagged '{tag}'); upgrade"
    )
