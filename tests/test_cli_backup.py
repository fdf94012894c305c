"""The command line of backups: what is written, what is told, and what a refusal leaves."""

import json
import os

from click.testing import CliRunner

from dealtrail import Trail
from dealtrail.cli.app import app


def restored(*words):
    return CliRunner().invoke(app, ["restore", *map(str, words)])


def test_a_backup_tells_what_it_holds_and_its_head(shop):
    copy = shop.folder / "copy.db"
    found = shop.json("backup", str(copy))
    with Trail.open(copy) as trail:
        status = trail.status()
    assert found["path"] == str(copy)
    assert (found["position"], found["chain"], found["log"]) == (len(trail_events(copy)), status.chain, status.log)
    result = shop.run("backup", str(shop.folder / "again.db"))
    assert result.stdout.splitlines() == [
        f"{shop.folder}/again.db: {status.position} events, {found['bytes']:,} bytes, verified",
        f"head {status.position}:{status.chain}",
    ]


def trail_events(path):
    with Trail.open(path) as trail:
        return list(trail.follow())


def test_a_backup_over_a_file_is_refused_unless_it_is_asked_for(shop):
    there = shop.file("there", "something of value")
    result = shop.run("backup", str(there))
    assert (result.exit_code, result.stderr.startswith("Error: file_exists: ")) == (1, True)
    assert shop.run("backup", str(there), "--overwrite").exit_code == 0
    assert trail_events(there) == trail_events(shop.path)


def test_lines_are_written_since_a_position_and_found_a_store(shop):
    first, second, new = (shop.folder / name for name in ("0.jsonl", "1.jsonl", "new.db"))
    at = shop.json("backup", str(first), "--since", "0")["position"]
    with Trail.open(shop.path) as trail:
        trail.log_activity("D-1", "call")
    told = shop.run("backup", str(second), "--since", str(at)).stdout
    assert told.startswith(f"{second}: 1 event, ")
    result = restored(new, first, second)
    assert result.stdout == f"{new}: {at + 1} events, verified\n" + told.splitlines()[1] + "\n"
    assert trail_events(new) == trail_events(shop.path)


def test_a_refused_restore_says_where_and_leaves_nothing(shop):
    first = shop.folder / "0.jsonl"
    shop.run("backup", str(first), "--since", "0")
    lines = first.read_text(encoding="utf-8").splitlines(keepends=True)
    first.write_text("".join([*lines[:3], *lines[4:]]), encoding="utf-8")
    before = sorted(os.listdir(shop.folder))
    result = restored(shop.folder / "new.db", first)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: wrong_chain: {first}, line 4: position 4 does not continue the chain")
    assert sorted(os.listdir(shop.folder)) == before


def test_a_history_is_told_to_be_one_also_by_the_status(empty):
    history = empty.file(
        "crm.jsonl",
        '{"dealtrail": "history", "lines": 1}\n'
        '{"action": "define_pipeline", "pipeline": "b2b", "stages": [{"key": "lead", "name": "L", "probability": 1}],'
        ' "recorded_at": "2024-01-01T00:00:00Z"}\n'
        '{"action": "open_deal", "deal": "D-1", "pipeline": "b2b", "recorded_at": "2024-01-02T00:00:00Z"}\n'
        '{"dealtrail": "end", "count": 2}\n',
    )
    result = restored(empty.path, history)
    assert result.stdout.startswith(f"{empty.path}: 2 events, recorded elsewhere up to position 2, verified\n")
    assert empty.json("status")["brought"] == 2
    assert "recorded_at from elsewhere up to position 2" in empty.run("status").stdout
    assert empty.run("history", "D-1").stdout.count("recorded elsewhere") == 1
    assert json.loads(restored(empty.folder / "two.db", history, "--format", "json").stdout)["brought"] == 2
