"""`dealtrail import`: good lines are kept, bad ones reported, and a rehearsal records nothing."""

import gzip
import json

import pytest
from shop import PAST

OPEN = {"action": "open_deal", "pipeline": "b2b", "deal": "D-4", "id": "four", "at": "2025-04-01T09:00:00Z"}
MOVE = {"action": "move_deal", "deal": "D-4", "stage": "demo", "id": "moved", "at": "2025-04-02T09:00:00Z"}
# Lines 1, 4 and 7 are good, 2 is empty, and each of 3, 5 and 6 is bad in its own way.
LINES = [
    json.dumps(OPEN),
    "",
    '{"action": "move_deal", "deal": "D-4", "stage": "demoo"}',
    json.dumps(MOVE),
    "deal,stage",
    '{"action": "move_deel", "deal": "D-4"}',
    '{"action": "log_activity", "deal": "D-4", "kind": "call"}',
]
TOLD = (
    "line 3: unknown_stage: demoo is no stage of version 1 of pipeline b2b; did you mean demo?\n"
    '    {"action": "move_deal", "deal": "D-4", "stage": "demoo"}\n'
    "line 5: invalid_json: this is no JSON object: Expecting value: line 1 column 1 (char 0)\n"
    "    deal,stage\n"
    "line 6: unknown_action: move_deel is no action; did you mean move_deal?\n"
    '    {"action": "move_deel", "deal": "D-4"}\n'
)


@pytest.fixture
def lines(shop):
    return shop.file("actions.jsonl", "\n".join(LINES) + "\n")


def test_good_lines_are_recorded_and_bad_ones_told_with_number_code_sentence_and_line(shop, lines):
    result = shop.run("import", lines)
    assert (result.exit_code, result.stderr) == (1, TOLD)
    assert result.stdout == "3 recorded, 3 refused\n"
    assert [event["event"] for event in shop.json("history", "D-4")] == [
        "deal_opened",
        "stage_entered",
        "activity_logged",
    ]


def test_each_line_is_a_step_of_its_own(shop, lines):
    shop.run("import", lines)
    recorded = [event["recorded_at"] for event in shop.json("history", "D-4")]
    assert sorted(set(recorded)) == recorded


def test_a_dry_run_tells_the_same_and_records_nothing(shop, lines):
    before = shop.path.read_bytes()
    result = shop.run("import", lines, "--dry-run")
    assert (result.exit_code, result.stderr) == (1, TOLD)
    assert result.stdout == "A dry run, nothing was recorded. It would be: 3 recorded, 3 refused\n"
    assert shop.position() == 6
    assert shop.path.read_bytes() == before


def test_an_atomic_import_with_a_bad_line_records_nothing_and_tells_every_one(shop, lines):
    result = shop.run("import", lines, "--atomic")
    assert (result.exit_code, result.stderr) == (1, TOLD)
    assert result.stdout == "Nothing was recorded, since 3 of 6 lines were refused\n"
    assert shop.position() == 6


def test_an_atomic_import_of_good_lines_records_them_all(shop):
    result = shop.run("import", "-", "--atomic", stdin=json.dumps(OPEN) + "\n" + json.dumps(MOVE))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "2 recorded, 0 refused\n", "")
    assert shop.position() == 8


def test_the_answer_as_json_holds_every_refusal(shop, lines):
    result = shop.run("import", lines, "--format", "json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["lines"], answer["recorded"], answer["repeated"]) == (1, 6, 3, 0)
    assert [(bad["line"], bad["code"], bad["field"]) for bad in answer["refused"]] == [
        (3, "unknown_stage", "stage"),
        (5, "invalid_json", None),
        (6, "unknown_action", "action"),
    ]
    assert answer["refused"][1]["text"] == "deal,stage"


def test_the_same_file_again_records_only_what_has_no_id(shop, lines):
    shop.run("import", lines)
    assert shop.run("import", lines).stdout == "1 recorded, 2 recorded before, 3 refused\n"
    assert shop.position() == 10


def test_a_compressed_file_and_a_compressed_stdin_are_read_as_plain_ones(shop):
    packed = shop.folder / "actions.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps(OPEN).encode()))
    assert shop.run("import", str(packed)).stdout == "1 recorded, 0 refused\n"
    assert shop.run("import", "-", stdin=gzip.compress(json.dumps(MOVE).encode())).stdout == "1 recorded, 0 refused\n"
    assert shop.position() == 8


def test_a_compressed_file_that_breaks_off_is_reported_and_what_could_be_read_is_kept(shop):
    packed = shop.folder / "broken.gz"
    packed.write_bytes(gzip.compress((json.dumps(OPEN) + "\n").encode())[:-8])
    result = shop.run("import", str(packed))
    assert (result.exit_code, result.stdout) == (1, "1 recorded, 1 refused\n")
    assert result.stderr.startswith("line 2: invalid_json: this is no JSON object: the file cannot be read any further")


def test_a_line_that_is_no_utf8_is_reported(shop):
    result = shop.run("import", "-", stdin=b'{"action": "\xff"}\n')
    assert (result.exit_code, result.stdout) == (1, "0 recorded, 1 refused\n")
    assert result.stderr.startswith("line 1: invalid_json: ")


def test_the_actor_fills_by_in_every_line_that_has_none(shop):
    shop.run("import", "-", "--actor", "crm", stdin="\n".join(json.dumps(a) for a in (OPEN, MOVE | {"by": "eva"})))
    assert [event["by"] for event in shop.json("history", "D-4")] == ["crm", "eva"]


def test_an_import_founds_a_store_and_a_rehearsal_does_not(empty):
    lines = "\n".join(json.dumps(action) for action in PAST)
    rehearsed = empty.run("import", "-", "--dry-run", stdin=lines)
    assert (rehearsed.exit_code, rehearsed.stderr) == (0, "")
    assert rehearsed.stdout == "A dry run, nothing was recorded. It would be: 6 recorded, 0 refused\n"
    assert list(empty.folder.iterdir()) == []
    assert empty.run("import", "-", stdin=lines).stdout == "6 recorded, 0 refused\n"
    assert empty.position() == 6


def test_more_lines_than_one_commit_holds_keep_their_numbers(shop):
    lines = [json.dumps({"action": "log_activity", "deal": "D-1", "kind": "call"})] * 2_500
    lines[2_221] = "{}"
    told = "line 2222: missing_field: action is missing; give it\n    {}\n"
    for words in (["--dry-run"], ["--atomic"]):
        assert shop.run("import", "-", *words, stdin="\n".join(lines)).stderr == told
        assert shop.position() == 6
    assert shop.run("import", "-", stdin="\n".join(lines)).stderr == told
    assert shop.position() == 6 + 2_499


def test_a_file_that_is_not_there_is_wrong_usage(shop):
    result = shop.run("import", "nowhere.jsonl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'nowhere.jsonl': No such file or directory" in result.stderr


def test_an_import_takes_reasons_as_the_actions_do(shop):
    why = {"reasons": {"lost": ["Price"]}, "reason_moves": {"lost": {"too dear": "Price"}}}
    redefine = {"action": "redefine_pipeline", "pipeline": "b2b", "stages": PAST[0]["stages"], **why}
    lost = {"action": "lose_deal", "deal": "D-4", "reason": "Prize"}
    given = [redefine, OPEN, lost, lost | {"reason": "Price"}]
    result = shop.run("import", shop.file("why.jsonl", "\n".join(map(json.dumps, given))))
    assert (result.exit_code, result.stdout) == (1, "3 recorded, 1 refused\n")
    assert "line 3: unknown_reason: Prize" in result.stderr
    assert shop.json("deal", "D-4")["reason"] == "Price"


def test_words_take_reasons_as_json(shop):
    stages = json.dumps(PAST[0]["stages"])
    words = ["record", "define_pipeline", "pipeline=care", f"stages={stages}", 'reasons={"lost": ["Rude"]}']
    assert shop.run(*words).exit_code == 0
    assert shop.json("definitions", "care")[0]["reasons"] == {"lost": ["Rude"]}
