"""The command line about keys: `forget`, `adopt-keys`, and where the keys come from."""

import json
from base64 import b64encode

import pytest
from click.testing import CliRunner
from shop import PAST

from dealtrail import KeyFile, Trail
from dealtrail.cli.app import app

MASTER_KEY = bytes(range(32))
MASTER_TEXT = b64encode(MASTER_KEY).decode()
TITLE = "Anna's first"
WHO = ("--by", "u-9", "--reason", "request 1")


@pytest.fixture
def sealed(empty):
    """The past of the shop in a store with keys, and the environment that names them."""
    with Trail.open(empty.path, keys=KeyFile(empty.folder / "keys", MASTER_KEY)) as trail:
        trail.record_all(PAST)
    empty.env = {"DEALTRAIL_KEYS": str(empty.folder / "keys"), "DEALTRAIL_MASTER_KEY": MASTER_TEXT}
    return empty


def shown(shop, **more):
    """Where the title of D-1 is shown, and how."""
    views = [shop.json("deal", "D-1", **more), shop.json("deals", "b2b", **more)[0]]
    views += [shop.json("history", "D-1", **more)[0]]
    follow = shop.run("follow", **more)
    views += [event for event in map(json.loads, follow.stdout.splitlines()) if event["event"] == "deal_opened"][:1]
    return {view["title"] for view in views}


def test_a_title_is_shown_with_keys_and_erased_when_its_subject_is_forgotten(sealed):
    assert shown(sealed) == {"[encrypted]"}
    assert shown(sealed, env=sealed.env) == {TITLE}
    report = sealed.json("pipeline", "b2b", "--as-of", "2025-03-31")
    result = sealed.run("forget", "D-1", *WHO, env=sealed.env)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "D-1: forgotten at position 9. The personal texts of 1 events read [erased]." in result.stdout
    assert shown(sealed, env=sealed.env) == shown(sealed) == {"[erased]"}
    assert sealed.json("pipeline", "b2b", "--as-of", "2025-03-31", "--known-at", report["known_at"]) == report
    assert "[erased]" in sealed.run("deal", "D-1").stdout
    assert "[erased]" in sealed.run("history", "D-1").stdout
    assert "[erased]" in "".join(sealed.lines("deals", "b2b"))


def test_forgetting_again_answers_the_same(sealed):
    first = sealed.json("forget", "D-1", *WHO, env=sealed.env)
    assert first == {"subject": "D-1", "position": 9, "erased": 1, "in_clear": 0, "others": []}
    assert sealed.json("forget", "D-1", *WHO, env=sealed.env) == first


def test_keys_are_named_before_or_behind_and_the_master_key_by_a_file(sealed):
    file = sealed.file("master", MASTER_TEXT + "\n")
    keys = str(sealed.folder / "keys")
    assert sealed.run("forget", "D-1", *WHO, "--keys", keys, "--master-key-file", file).exit_code == 0
    assert sealed.run("--keys", keys, "--master-key-file", file, "forget", "D-2", *WHO).exit_code == 0
    more = {"DEALTRAIL_KEYS": keys, "DEALTRAIL_MASTER_KEY_FILE": file, "DEALTRAIL_MASTER_KEY": "other"}
    assert sealed.run("forget", "D-3", *WHO, env=more).exit_code == 0


@pytest.mark.parametrize(
    ("env", "words", "told"),
    [
        ({}, WHO, "no file of keys is named"),
        ({"DEALTRAIL_KEYS": "keys"}, WHO, "no master key is given"),
        ({"DEALTRAIL_KEYS": "keys", "DEALTRAIL_MASTER_KEY": "short"}, WHO, "no base64 of 32 bytes"),
        ({"DEALTRAIL_KEYS": "keys", "DEALTRAIL_MASTER_KEY": MASTER_TEXT[:-4]}, WHO, "no base64 of 32 bytes"),
        ({"DEALTRAIL_KEYS": "keys", "DEALTRAIL_MASTER_KEY": MASTER_TEXT}, WHO[:2], "Missing option '--reason'"),
        ({"DEALTRAIL_KEYS": "keys", "DEALTRAIL_MASTER_KEY": MASTER_TEXT}, WHO[2:], "Missing option '--by'"),
    ],
)
def test_what_is_missing_is_wrong_usage(sealed, env, words, told):
    result = sealed.run("forget", "D-1", *words, env=env)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert sealed.position() == 7


def test_no_message_shows_the_master_key(sealed):
    for text in (MASTER_TEXT + "x", b64encode(bytes(16) + MASTER_KEY).decode()):
        result = sealed.run("forget", "D-1", *WHO, env=sealed.env | {"DEALTRAIL_MASTER_KEY": text})
        assert result.exit_code == 2
        assert text not in result.output


def test_refusals_are_printed_with_their_codes(sealed):
    def refused(*words, env):
        result = sealed.run(*words, env=env)
        assert result.exit_code == 1
        return result.stderr

    assert "unknown_subject" in refused("forget", "D-77", *WHO, env=sealed.env)
    assert "wrong_keys" in refused("forget", "D-1", *WHO, env=sealed.env | {"DEALTRAIL_KEYS": "mistyped"})
    other = b64encode(bytes(32)).decode()
    assert "wrong_keys" in refused("deal", "D-1", env=sealed.env | {"DEALTRAIL_MASTER_KEY": other})
    note = ("record", "log_activity", "deal=D-1", "kind=call", "note=again")
    assert "keys_missing" in refused(*note, env={})
    assert sealed.run("forget", "D-1", *WHO, env=sealed.env).exit_code == 0
    assert "forgotten_subject" in refused(*note, env=sealed.env)
    assert sealed.position() == 9


def test_keys_are_adopted_where_nothing_stands_in_clear_and_refused_where_it_does(shop, empty):
    env = {"DEALTRAIL_KEYS": str(shop.folder / "keys"), "DEALTRAIL_MASTER_KEY": MASTER_TEXT}
    result = shop.run("adopt-keys", env=env)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "recorded_in_clear: 1 events" in result.stderr
    assert shown(shop) == {TITLE}
    position = shop.position()
    with_warning = shop.run("forget", "D-1", *WHO, env=env)
    assert "recorded_in_clear" in with_warning.stderr
    partly = shop.run("forget", "D-1", *WHO, "--partly", env=env)
    assert "1 events were recorded in clear and can still be read" in " ".join(partly.stdout.split())
    assert shop.position() == position + 3
    assert shop.json("status", env=env)["in_clear"] == 1


def test_a_new_store_adopts_keys(empty):
    env = {"DEALTRAIL_KEYS": str(empty.folder / "keys"), "DEALTRAIL_MASTER_KEY": MASTER_TEXT}
    assert empty.run("adopt-keys", env=env).exit_code == 1
    with Trail.open(empty.path) as trail:
        trail.record(PAST[0])
    result = empty.run("adopt-keys", env=env)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Personal texts of this store are encrypted." in result.stdout
    assert empty.run("record", "open_deal", "deal=D-1", "pipeline=b2b", "title=Anna", env=env).exit_code == 0
    assert (empty.json("deal", "D-1", env=env)["title"], empty.json("deal", "D-1")["title"]) == ("Anna", "[encrypted]")


def test_who_founds_a_store_with_keys_founds_their_file_too(tmp_path):
    store, keys = tmp_path / "new.db", tmp_path / "new.keys"
    env = {"DEALTRAIL_DB": str(store), "DEALTRAIL_KEYS": str(keys), "DEALTRAIL_MASTER_KEY": MASTER_TEXT}
    run = CliRunner().invoke
    assert run(app, ["define", "b2b", "--template", "freight"], env=env).exit_code == 0
    titled = ["record", "open_deal", "pipeline=b2b", "deal=D", "title=Zoe Zanders"]
    assert run(app, titled, env=env).exit_code == 0
    assert "Zoe Zanders" in run(app, ["deal", "D"], env=env).output
    assert b"Zanders" not in store.read_bytes()
    keys.rename(tmp_path / "elsewhere")
    refused = run(app, ["define", "other", "--template", "freight"], env=env)
    assert (refused.exit_code, keys.exists()) == (1, False)
    assert "wrong_keys" in refused.stderr


def test_a_history_that_is_restored_with_keys_is_encrypted(empty):
    steps = [dict(step, recorded_at=step["at"]) for step in PAST]
    lines = [{"dealtrail": "history", "lines": 1}, *steps, {"dealtrail": "end", "count": len(steps)}]
    file = empty.file("crm.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    empty.env = {"DEALTRAIL_KEYS": str(empty.folder / "keys"), "DEALTRAIL_MASTER_KEY": MASTER_TEXT}
    result = CliRunner().invoke(app, ["restore", str(empty.path), str(file)], env=empty.env)
    assert result.stdout.startswith(f"{empty.path}: 7 events, recorded elsewhere up to position 6, verified\n")
    assert (shown(empty), shown(empty, env=empty.env)) == ({"[encrypted]"}, {TITLE})
