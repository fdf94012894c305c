"""How deals went, on the command line."""

import csv
import json

import pytest
from shop import PAST, STAGES, Shop

from dealtrail import Trail

STRICT = {"stages": STAGES, "entry": ["lead"], "back": [], "skip": []}
COHORT = ("--cohort", "2025-Q1")


@pytest.fixture
def shop(tmp_path):
    """D-1 skips the offer by its win, D-2 is lost from lead, D-3 is moved to demo and back to lead."""
    shop = Shop(tmp_path)
    more = [
        {"action": "complete_action", "deal": "D-1", "key": "held", "at": "2025-02-01T09:00:00Z"},
        {"action": "win_deal", "deal": "D-1", "at": "2025-02-01T09:00:00Z"},
        {"action": "move_deal", "deal": "D-3", "stage": "demo", "at": "2025-03-02T09:00:00Z"},
        {"action": "move_deal", "deal": "D-3", "stage": "lead", "at": "2025-03-03T09:00:00Z"},
    ]
    with Trail.open(shop.path) as trail:
        trail.record_all([*PAST, *more])
    return shop


def test_the_report_as_json_is_that_of_python(shop):
    draft = shop.file("strict.json", json.dumps(STRICT))
    moments = ("--as-of", "2025-03-31", "--known-at", "2999-01-01")
    answer = shop.json("paths", "b2b", *COHORT, *moments, "--draft", draft, "--limit", "2", "--group-by", "owner")
    with Trail.open(shop.path) as trail:
        asked = {name: value for name, value in answer["question"].items() if name not in ("report", "pipeline")}
        assert trail.conformance("b2b", **asked).digest == answer["digest"]
    assert (answer["deals"], answer["conforming"], answer["limit"], len(answer["groups"])) == (3, 1, 2, 3)


def test_the_table_shows_deviations_paths_and_loops(shop):
    draft = shop.file("strict.json", json.dumps(STRICT))
    lines = [" ".join(line.split()) for line in shop.run("paths", "b2b", *COHORT, "--draft", draft).stdout.splitlines()]
    assert "1 of 3 deals conform (33.33%); steps against it: entry 0, back 1, skip 1" in lines
    assert {"back demo lead 1 1", "skip demo won 1 1", "lead 1 1"} <= set(lines)
    # D-1 took from 5 January to 1 February.
    assert {"lead → demo 1 33.33% 0 1 0 0 0 0 100% 27.00", "lead 1 33.33% 1 0 1 0 0 0 0.00% 10.00"} <= set(lines)


def test_paths_beyond_the_limit_are_one_line(shop):
    lines = [line.split() for line in shop.run("paths", "b2b", *COHORT, "--limit", "1").stdout.splitlines()]
    assert ["2", "other", "paths", "2", "66.67%"] in lines


def test_groups_have_their_names(shop):
    printed = shop.run("paths", "b2b", *COHORT, "--group-by", "owner").stdout
    assert [name in printed for name in ("owner = anna: 1 of 1", "owner = (none): 1 of 1", "all: 3 of 3")] == [True] * 3


def test_as_csv_there_is_a_row_for_each_path(shop):
    found = list(csv.DictReader(shop.lines("paths", "b2b", *COHORT)))
    assert [(json.loads(row["stages"]), row["deals"], row["won"]) for row in found] == [
        (["lead"], "1", "0"),
        (["lead", "demo"], "1", "1"),
        (["lead", "demo", "lead"], "1", "0"),
    ]
    by_owner = list(csv.DictReader(shop.lines("paths", "b2b", *COHORT, "--group-by", "owner")))
    assert [row["group.owner"] for row in by_owner] == ["anna", "bram", ""]
    assert shop.lines("paths", "b2b", "--cohort", "2020")[0].startswith("stages,deals,share,conforming")


def test_a_file_of_a_definition_holds_its_lists(shop):
    file = shop.file("next.toml", 'entry = ["lead"]\nskip = []\n[[stages]]\nkey = "lead"\nname = "Lead"\n')
    assert shop.run("redefine", "b2b", file).exit_code == 1
    text = 'entry = ["lead"]\nskip = []\n' + "".join(
        f'[[stages]]\nkey = "{one["key"]}"\nname = "{one["name"]}"\nprobability = {one["probability"]}\n'
        for one in STAGES
    )
    assert shop.run("redefine", "b2b", shop.file("next.toml", text)).exit_code == 0
    assert shop.run("record", "open_deal", "deal=D-9", "pipeline=b2b", "stage=demo").stderr.startswith(
        "Error: entry_not_allowed"
    )
    rows = [line.split() for line in shop.run("definitions", "b2b").stdout.splitlines()]
    assert ["offer", "0.8", "entry,", "skip"] in rows
    assert ["lead", "0.1", "skip"] in [row[-3:] for row in rows]
