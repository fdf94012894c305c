"""The demo: a year recorded day by day, shown, and left to be queried."""

import json

import pytest
from click.testing import CliRunner

from dealtrail.cli.app import app

DEALS = "150"


def run(*words, **more):
    return CliRunner().invoke(app, words, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small demo: its file and what was printed."""
    file = tmp_path_factory.mktemp("demo") / "demo.db"
    result = run("demo", str(file), "--deals", DEALS)
    assert (result.exit_code, result.stderr) == (0, "")
    return file, result.stdout


def digests(told):
    """The content digests of the five reports."""
    return [line.split()[-1] for line in told.splitlines() if line.startswith("content digest")]


def test_the_demo_shows_three_pipelines_and_two_funnels(made):
    told = made[1]
    assert "Today's pipeline" in told
    assert "as it was known on" in told
    assert "restated under the new definition" in told
    assert len(set(digests(told))) == 5


def test_the_demo_points_at_what_was_not_known_on_the_past_day(made):
    told = made[1].splitlines()
    assert any(line.startswith("The difference: ") for line in told)
    assert any(line.startswith("For one, D-") for line in told)
    assert any(line.startswith("  its ") and "was recorded" in line for line in told)


def test_the_funnel_is_restated_from_the_old_stages_to_the_new(made):
    old, new = made[1].split("\nThe funnel of ")[1:]
    assert ("Negotiation" in old, "Negotiation" in new) == (True, False)
    assert ("Tender" in old, "Tender" in new) == (False, True)


def test_the_file_can_be_queried_by_what_the_demo_suggests(made):
    file, told = made
    suggested = [line.split() for line in told.split("Try next:")[1].splitlines() if line.startswith("  dealtrail ")]
    assert len(suggested) == 5
    for command in suggested:
        result = run(*command[1:], env={"DEALTRAIL_DB": str(file)})
        assert (result.exit_code, result.stderr) == (0, ""), command
    total = json.loads(run("--db", str(file), "status", "--format", "json").stdout)["position"]
    assert total > int(DEALS)


def test_the_same_seed_makes_the_same_figures_and_another_others(made, tmp_path):
    again = run("demo", str(tmp_path / "again.db"), "--deals", DEALS).stdout
    other = run("demo", str(tmp_path / "other.db"), "--deals", DEALS, "--seed", "8").stdout
    assert digests(again) == digests(made[1])
    assert set(digests(other)).isdisjoint(digests(made[1]))


def test_a_file_that_is_there_is_replaced_by_force_only(tmp_path):
    file = tmp_path / "demo.db"
    assert run("demo", str(file), "--deals", "20").exit_code == 0
    before = file.read_bytes()
    refused = run("demo", str(file), "--deals", "20")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "is there already; name another file, or replace it with --force" in refused.stderr
    assert file.read_bytes() == before
    assert run("demo", str(file), "--deals", "20", "--force").exit_code == 0
    assert file.read_bytes() != before


def test_force_replaces_no_file_that_is_not_a_store(tmp_path):
    file = tmp_path / "letters.txt"
    file.write_text("Dear Ada, " * 100)
    refused = run("demo", str(file), "--force")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: not_a_store: ")
    assert file.read_text() == "Dear Ada, " * 100


def test_force_replaces_no_store_that_no_demo_made(shop):
    before = shop.path.read_bytes()
    refused = run("demo", str(shop.path), "--force")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "is a store, but no demo's" in refused.stderr
    assert (shop.path.read_bytes(), shop.position()) == (before, 6)


def test_a_demo_that_is_cut_off_leaves_no_half_of_a_year(tmp_path, monkeypatch):
    def interrupted(self, done, total=None):
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("dealtrail.cli.progress.Ticker.__call__", interrupted)
    result = run("demo", str(tmp_path / "demo.db"), "--deals", "20")
    assert (result.exit_code, result.stdout) == (1, "")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_touches_no_store_that_the_environment_or_an_option_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("demo", "--deals", "20", env={"DEALTRAIL_DB": "mine.db"}).exit_code == 0
    assert ((tmp_path / "demo.db").exists(), (tmp_path / "mine.db").exists()) == (True, False)
    assert run("--db", "mine.db", "demo", "other.db").exit_code == 2
    assert not (tmp_path / "mine.db").exists()
