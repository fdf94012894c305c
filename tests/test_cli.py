"""The command line as a whole: help, version, completion, exit codes, the store that it names, and recording."""

import errno
import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from shop import STAGES

import dealtrail
from dealtrail.cli.app import app

COMMANDS = sorted(app.commands)
# Commands that only read, each with what it needs.
READING = [
    ("pipeline", "b2b"),
    ("funnel", "b2b", "--cohort", "2025"),
    ("deals", "b2b"),
    ("deal", "D-1"),
    ("history", "D-1"),
    ("pipelines",),
    ("definitions", "b2b"),
    ("follow",),
    ("status",),
    ("rebuild",),
]


def run(*words, **more):
    return CliRunner().invoke(app, words, **more)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_each_of_its_options(command):
    result = run(command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    options = [option for option in app.commands[command].params if isinstance(option, click.Option)]
    assert [option.opts[-1] for option in options if option.opts[-1] not in result.stdout] == []
    assert [option.name for option in options if not option.help] == []


def test_the_module_and_the_script_are_the_same_program():
    module = subprocess.run(
        [sys.executable, "-m", "dealtrail", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout == run("--version", prog_name="dealtrail").stdout
    assert module.stdout.startswith("dealtrail 0.")


def test_help_imports_neither_the_engine_nor_the_tables():
    program = (
        "import sys; from dealtrail.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'msgspec', 'eventsourcing', 'rich', 'sqlite3', 'dealtrail.trail'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")


def test_the_package_hands_out_its_public_names_and_no_other():
    assert [name for name in dealtrail.__all__ if getattr(dealtrail, name).__name__ != name] == []
    assert set(dealtrail.__all__) <= set(dir(dealtrail))
    with pytest.raises(AttributeError, match="Trial"):
        _ = dealtrail.Trial


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_DEALTRAIL_COMPLETE={shell}_complete" in result.stdout


def test_completion_completes_commands_and_options():
    def completed(words, place):
        env = os.environ | {"_DEALTRAIL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        return subprocess.run([sys.executable, "-m", "dealtrail"], env=env, capture_output=True, text=True).stdout

    assert completed("dealtrail fun", 1).split() == ["plain,funnel"]
    assert "plain,--known-at" in completed("dealtrail pipeline --", 2).split()


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        (["pipelin", "b2b"], "'pipeline'"),
        (["import", "--dryrun", "-"], "'--dry-run'"),
        (["record", "--acter", "x"], "'--actor'"),
        (["define", "--att", "x"], "'--at'"),
        (["redefine", "--dry-rum"], "'--dry-run'"),
        (["pipeline", "--as-off", "2025"], "'--as-of'"),
        (["funnel", "--cohor", "2025"], "'--cohort'"),
        (["deals", "--statu", "open"], "'--status'"),
        (["deal", "--knownat", "2025"], "'--known-at'"),
        (["history", "--formt", "json"], "'--format'"),
        (["pipelines", "--tzz", "UTC"], "'--tz'"),
        (["definitions", "--formta", "csv"], "'--format'"),
        (["follow", "--aftr", "3"], "'--after'"),
        (["status", "--fromat", "json"], "'--format'"),
        (["rebuild", "--dbb", "x"], "'--db'"),
        (["demo", "--sed", "7"], "'--seed'"),
        (["completion", "--hlp"], "'--help'"),
    ],
)
def test_a_typo_is_wrong_usage_and_names_the_nearest_word(typo, meant):
    result = run(*typo)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Did you mean" in result.stderr
    assert meant in result.stderr


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_a_reading_command_founds_no_store_where_there_is_none(empty, words):
    result = empty.run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: no_store: there is no store at {empty.path}")
    assert list(empty.folder.iterdir()) == []


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_a_file_that_is_no_store_is_said_to_be_none(empty, words):
    empty.file("sales.db", "deal,stage\n" * 100)
    result = empty.run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: not_a_store: ")


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_without_a_store_named_it_is_wrong_usage(words):
    result = run(*words, env={"DEALTRAIL_DB": None})
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give --db FILE, or set DEALTRAIL_DB" in result.stderr


def test_the_store_is_named_before_or_behind_the_command_or_in_the_environment(shop):
    words = ["deal", "D-1", "--format", "csv"]
    before = run("--db", str(shop.path), *words)
    behind = run(*words, "--db", str(shop.path))
    environment = run(*words, env={"DEALTRAIL_DB": str(shop.path)})
    assert before.exit_code == 0
    assert before.stdout == behind.stdout == environment.stdout
    nearer = run(*words, "--db", str(shop.path), env={"DEALTRAIL_DB": "elsewhere.db"})
    assert nearer.stdout == before.stdout


def test_an_action_is_recorded_from_words_from_json_and_from_stdin(shop):
    by_words = shop.json(
        "record",
        "open_deal",
        "deal=D-4",
        "pipeline=b2b",
        "value=99.50:eur",
        "owner=42",
        "attributes.seats=7",
        'attributes.code="7"',
        "personal.contact=Ada",
        "at=2025-04-01T09:00:00Z",
    )
    assert by_words == {"deal": "D-4", "pipeline": None, "version": 1, "position": 7}
    as_json = json.dumps({"action": "assign_deal", "deal": "D-4", "owner": "eva"})
    assert shop.json("record", as_json)["version"] == 2
    assert shop.json("record", stdin=as_json.replace("eva", "finn"))["version"] == 3
    assert shop.json("record", "amend", "deal=D-4", "version=2", "owner=null")["version"] == 5
    deal = shop.json("deal", "D-4")
    assert deal["value"] == {"amount": "99.50", "currency": "EUR"}
    assert deal["attributes"] == {"seats": 7, "code": "7"}
    assert (deal["owner"], deal["personal"]) == ("finn", {"contact": "Ada"})
    assert [event["data"].get("owner") for event in shop.json("history", "D-4")] == ["42", "eva", "finn", None, None]


def test_the_actor_fills_by_where_the_action_does_not_say_it(shop):
    shop.run("record", "--actor", "eva", "log_activity", "deal=D-1", "kind=call")
    shop.run("record", "--actor", "eva", "log_activity", "deal=D-1", "kind=call", "by=finn")
    shop.run("record", "log_activity", "deal=D-1", "kind=call", env={"DEALTRAIL_ACTOR": "greta"})
    assert [event["by"] for event in shop.json("history", "D-1")[2:]] == ["eva", "finn", "greta"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["win_deel", "deal=D-1"], "unknown_action: win_deel is no action; did you mean win_deal?"),
        (["move_deal", "deal=D-1", "stge=offer"], "unknown_field: stge is not a field here; did you mean stage?"),
        (["move_deal", "deal=D-1", "stage=ofer"], "unknown_stage: ofer is no stage of version 1 of pipeline b2b; "),
        (
            ["move_deal", "deal=D-1", "stage=offer"],
            "required_action_missing: stage demo of deal D-1 still requires: held",
        ),
        (["move_deal", "deal=D-9", "stage=offer"], "unknown_deal: there is no deal D-9"),
        (['{"action": "win_deal"'], "invalid_json: this is no JSON object: "),
        (["[1]"], "invalid_json: this is no JSON object: "),
        (["change_value", "deal=D-1", "value=12"], "invalid_field: value: "),
    ],
)
def test_a_refused_action_exits_with_1_and_tells_code_and_sentence_on_stderr(shop, words, told):
    result = shop.run("record", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {told}")
    assert shop.position() == 6


@pytest.mark.parametrize(
    "words",
    [
        ["deal=D-1"],
        ["win_deal", "D-1"],
        ["win_deal", "deal=D-1", "deal=D-2"],
        ["win_deal", "action=lose_deal"],
        ['{"action": "win_deal", "deal": "D-1"}', "by=eva"],
        ["set_attributes", "deal=D-1", "attributes={}", "attributes={}"],
    ],
)
def test_words_that_make_no_action_are_wrong_usage(shop, words):
    result = shop.run("record", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert shop.position() == 6


def test_an_action_for_a_store_that_is_not_there_founds_none(empty):
    result = empty.run("record", "win_deal", "deal=D-1")
    assert result.stderr.startswith("Error: no_store: ")
    assert list(empty.folder.iterdir()) == []


def test_no_control_character_of_an_id_or_a_path_reaches_the_terminal(empty):
    result = run("--db", str(empty.folder / "\x1b[31mred.db"), "status")
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr


def test_a_full_disk_under_stdout_is_told_and_a_reader_that_is_gone_is_not(shop, monkeypatch):
    told = {}
    for number in (errno.ENOSPC, errno.EPIPE):

        def refuse(*args, number=number, **more):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("dealtrail.cli.formats.json_text", refuse)
        result = shop.run("status", "--format", "json")
        assert result.exit_code == 1
        told[number] = result.stderr
    assert told == {errno.ENOSPC: "Error: [Errno 28] No space left on device\n", errno.EPIPE: ""}


def test_a_pipeline_is_defined_from_json_or_toml_and_founds_the_store(empty):
    toml = 'name = "New"\n[[stages]]\nkey = "lead"\nname = "Lead"\nprobability = 0.1\nrots_after_days = 3\n'
    told = empty.json("define", "new", empty.file("new.toml", toml), "--at", "2025-01-01T00:00:00Z")
    assert told == {"deal": None, "pipeline": "new", "version": 1, "position": 1}
    file = empty.file("b2b.json", json.dumps({"stages": STAGES}))
    assert empty.run("define", "b2b", file, "--actor", "ops").stdout == "b2b: version 1, position 2\n"
    new = empty.json("pipelines")[1]
    assert (new["name"], new["occurred_at"], new["version"]) == ("New", "2025-01-01T00:00:00Z", 1)
    assert new["stages"][0]["probability"] == "0.1"
    assert json.loads(empty.run("follow", "--after", "1").stdout)["by"] == "ops"


def test_a_definition_that_is_refused_says_why(shop):
    file = shop.file("b2b.json", json.dumps({"stages": STAGES}))
    assert shop.run("define", "b2b", file).stderr.startswith("Error: pipeline_exists: ")
    assert shop.run("define", "b2c", shop.file("no.json", '{"stages": []}')).stderr.startswith("Error: no_stages: ")
    mistyped = shop.file("typo.json", json.dumps({"stagse": STAGES, "stages": STAGES}))
    assert "did you mean stages?" in shop.run("define", "b2c", mistyped).stderr
    other = shop.file("other.json", json.dumps({"pipeline": "b2d", "stages": STAGES}))
    assert shop.run("define", "b2c", other).stderr.startswith('Error: invalid_field: pipeline: the file says "b2d"')
    assert shop.position() == 6


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("no.json", "{", "is not valid JSON"),
        ("no.toml", "= 3", "is not valid TOML"),
        ("list.json", "[]", "holds no object"),
        ("none.json", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_definition_is_wrong_usage(shop, name, text, told):
    path = str(shop.folder / name) if text is None else shop.file(name, text)
    for words in (["define", "b2c", path], ["redefine", "b2b", path], ["pipeline", "b2b", "--draft", path]):
        result = shop.run(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert told in result.stderr


# demo goes, and is read as lead below 1,000 euros, else as offer
NEXT = {
    "stages": [STAGES[0], STAGES[2]],
    "moves": {
        "demo": [{"when": {"field": "value", "op": "ge", "value": "1000"}, "to": "offer"}, {"to": "lead"}],
    },
}


def test_a_dry_redefinition_tells_which_open_deals_would_move_and_records_nothing(shop):
    file = shop.file("next.json", json.dumps(NEXT))
    assert shop.json("redefine", "b2b", file, "--dry-run") == [{"deal": "D-1", "from": "demo", "to": "offer"}]
    assert shop.lines("redefine", "b2b", file, "--dry-run") == ["deal,from,to", "D-1,demo,offer", ""]
    table = shop.run("redefine", "b2b", file, "--dry-run").stdout
    assert "Open deals that would change their stage: 1. Nothing was recorded." in table
    assert shop.position() == 6
    assert shop.json("redefine", "b2b", file)["version"] == 2
    assert shop.json("deal", "D-1")["stage"] == "offer"
    same = shop.run("redefine", "b2b", file.replace("next", "same"), "--dry-run")
    assert same.exit_code == 2


def test_a_dry_redefinition_that_moves_nothing_says_so(shop):
    file = shop.file("same.json", json.dumps({"stages": STAGES}))
    assert shop.run("redefine", "b2b", file, "--dry-run").stdout == (
        "It would be recorded, and no open deal would change its stage. Nothing was recorded.\n"
    )


@pytest.mark.parametrize(
    ("definition", "words", "code"),
    [
        ({"stages": NEXT["stages"]}, [], "missing_move"),
        ({"stages": STAGES, "moves": {"demoo": "lead"}}, [], "unknown_stage"),
        ({"stages": STAGES, "expected_version": 7}, [], "conflict"),
        ({"stages": STAGES}, ["--at", "2024-01-01T00:00:00Z"], "definition_before_previous"),
        ({"stages": STAGES}, ["--at", "2999-01-01T00:00:00Z"], "future_time"),
        ({"moves": {}}, [], "missing_field"),
    ],
)
def test_a_dry_redefinition_is_refused_as_the_real_one_would_be(shop, definition, words, code):
    file = shop.file("next.json", json.dumps(definition))
    for dry in (["--dry-run"], []):
        result = shop.run("redefine", "b2b", file, *words, *dry)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: {code}: ")
    assert shop.position() == 6
