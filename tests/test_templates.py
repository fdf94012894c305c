"""The templates: each is a definition that a deal can go through, and no two are much alike."""

import json
import re
import tomllib
from itertools import pairwise, permutations
from pathlib import Path

import pytest
from click.testing import CliRunner
from given import code_of

from dealtrail import DealtrailError, Trail
from dealtrail.cli.app import app
from dealtrail.domain.definitions import parse_stages
from dealtrail.templates import all_templates, find_template
from dealtrail.testing import trail_in_memory

TEMPLATES = {template.key: template for template in all_templates()}


@pytest.fixture
def trail():
    with trail_in_memory() as trail:
        yield trail


def test_there_are_sixteen():
    assert list(TEMPLATES) == [
        "account-based",
        "agency-retainer",
        "channel-partner",
        "commercial-insurance",
        "field-sales",
        "freight",
        "inbound-saas",
        "manufacturing-samples",
        "marketplace-sellers",
        "medical-devices",
        "outbound-enterprise",
        "professional-services",
        "public-tender",
        "real-estate-leasing",
        "renewals-expansion",
        "wholesale",
    ]


@pytest.mark.parametrize("key", TEMPLATES)
def test_a_deal_goes_through_from_lead_to_won_and_is_refused_where_a_required_action_is_missing(key, trail):
    stages = TEMPLATES[key].stages
    trail.define_pipeline("b2b", template=key)
    trail.open_deal("b2b", deal="D")
    for stage, after in zip(stages, [*stages[1:], None], strict=True):
        assert trail.deal("D").stage == stage.key

        def go_on(after=after):
            return trail.win_deal("D") if after is None else trail.move_deal("D", after.key)

        # The others are not asked for; each required one is, until it is done.
        for action in stage.actions:
            if action.required:
                with pytest.raises(DealtrailError) as caught:
                    go_on()
                assert caught.value.code == "required_action_missing"
                assert action.key in caught.value.facts["missing"]
                trail.complete_action("D", action.key)
        go_on()
    assert trail.deal("D").status == "won"
    report = trail.funnel_report("b2b", cohort=str(trail.deal("D").opened_at.year))
    assert [row.entered for row in report.stages] == [1] * len(stages)


@pytest.mark.parametrize("key", TEMPLATES)
def test_a_deal_is_lost_and_disqualified_for_the_reasons_of_the_template_alone(key, trail):
    trail.define_pipeline("b2b", template=key)
    verbs = {"lost": trail.lose_deal, "disqualified": trail.disqualify_deal}
    assert set(TEMPLATES[key].reasons) == set(verbs)
    for outcome, reasons in TEMPLATES[key].reasons.items():
        for reason in reasons:
            deal = trail.open_deal("b2b").deal
            assert code_of(verbs[outcome], deal, reason="because") == "unknown_reason"
            verbs[outcome](deal, reason=reason)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_says_what_a_team_needs_to_begin(template):
    shortest, longest = template.cycle_days
    assert 0 < shortest < longest
    assert len(template.for_whom) > 80
    assert 5 <= len(template.stages) <= 9
    chances = [stage.probability for stage in template.stages]
    assert all(one < other for one, other in pairwise(chances))
    assert all(stage.rots_after_days and stage.actions for stage in template.stages)
    assert sum(any(action.required for action in stage.actions) for stage in template.stages) > len(chances) / 2
    assert all(len(reasons) >= 4 for reasons in template.reasons.values())


def test_the_page_about_templates_has_each_of_them():
    page = Path(__file__).parent.parent / "docs" / "how-to" / "templates.md"
    assert re.findall(r"^\| `([\w-]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE) == list(TEMPLATES)


def names(template):
    """The names of stages and actions, whatever their case."""
    stages = [stage.name for stage in template.stages]
    return {name.casefold() for name in (*stages, *(action.name for s in template.stages for action in s.actions))}


def keys(template):
    return {stage.key for stage in template.stages} | {action.key for s in template.stages for action in s.actions}


@pytest.mark.parametrize("words", [names, keys])
def test_no_two_share_more_than_half_of_their_stages_and_actions(words):
    said = {key: words(template) for key, template in TEMPLATES.items()}
    shares = {(a, b): len(said[a] & said[b]) / len(said[a]) for a, b in permutations(said, 2)}
    assert len(shares) == 16 * 15
    assert {pair: share for pair, share in shares.items() if share > 0.5} == {}


# Defining by one


def test_what_is_recorded_is_the_definition_itself(trail):
    recorded = trail.define_pipeline("b2b", template="freight", by="ops", at="2026-01-01T00:00:00Z")
    assert (recorded.pipeline, recorded.version) == ("b2b", 1)
    [event] = trail.follow()
    template = TEMPLATES["freight"]
    assert (event.data["name"], event.data["stages"], event.by) == ("Freight", template.stages, "ops")
    assert event.data["reasons"] == template.reasons


def test_what_is_given_beside_a_template_stands_in_its_place(trail):
    trail.define_pipeline("b2b", template="freight", name="Lanes", reasons={"lost": ["Rate"]})
    [view] = trail.pipelines()
    assert (view.name, view.reasons) == ("Lanes", {"lost": ["Rate"]})


def test_stages_and_a_template_together_are_refused(trail):
    stages = [{"key": "lead", "name": "Lead", "probability": 1}]
    assert code_of(trail.define_pipeline, "b2b", stages, template="freight") == "invalid_field"
    assert trail.pipelines() == []


def test_neither_stages_nor_a_template_is_refused_as_before(trail):
    assert code_of(trail.define_pipeline, "b2b") == code_of(
        trail.record, {"action": "define_pipeline", "pipeline": "b2b", "stages": None}
    )


@pytest.mark.parametrize("key", ["inbound-sas", "", "../freight", 7, ["freight"]])
def test_an_unknown_template_is_refused(key, trail):
    assert code_of(trail.define_pipeline, "b2b", template=key) == "unknown_template"
    assert code_of(find_template, key) == "unknown_template"


def test_the_refusal_names_the_nearest_template():
    with pytest.raises(DealtrailError) as caught:
        find_template("inbound-sas")
    assert "did you mean inbound-saas?" in caught.value.message


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_as_toml_is_the_file_of_its_definition(template):
    held = tomllib.loads(template.as_toml())
    assert set(held) == {"name", "stages", "reasons"}
    assert parse_stages(held["stages"]) == template.stages
    assert (held["name"], held["reasons"]) == (template.name, {k: list(v) for k, v in template.reasons.items()})
    assert template.as_toml().startswith(f"# {template.for_whom}\n")


# The command line


def run(*words):
    return CliRunner().invoke(app, words)


def test_the_command_lists_every_template_with_its_cycle():
    lines = run("templates").stdout.splitlines()
    for template in TEMPLATES.values():
        [line] = [line for line in lines if line.startswith(f"{template.key} ")]
        assert "{}–{}".format(*template.cycle_days) in line
    assert [one["key"] for one in json.loads(run("templates", "--format", "json").stdout)] == list(TEMPLATES)


def test_the_command_shows_a_template_whole():
    shown = run("templates", "wholesale").stdout
    template = TEMPLATES["wholesale"]
    told = [name for s in template.stages for name in (s.key, s.name, *(f"{a.key}: {a.name}" for a in s.actions))]
    told += [template.for_whom, "14–60", *(reason for reasons in template.reasons.values() for reason in reasons)]
    assert [one for one in told if one not in shown] == []
    assert json.loads(run("templates", "wholesale", "--format", "json").stdout)["stages"][0]["key"] == "applied"


def test_the_command_names_the_nearest_template():
    refused = run("templates", "wholesael")
    assert (refused.exit_code, "did you mean wholesale?" in refused.stderr) == (1, True)
    assert run("templates", "--format", "toml").exit_code == 2


def test_a_pipeline_is_defined_by_a_template_or_by_the_file_that_the_command_writes(tmp_path):
    db, file = ["--db", str(tmp_path / "sales.db")], tmp_path / "own.toml"
    assert run(*db, "define", "b2b", "--template", "freight").exit_code == 0
    file.write_text(run("templates", "freight", "--format", "toml").stdout, encoding="utf-8")
    assert run(*db, "define", "own", str(file)).exit_code == 0
    with Trail.open(db[1], create=False) as trail:
        one, other = trail.pipelines()
        assert (one.stages, one.reasons, one.name) == (other.stages, other.reasons, other.name)


@pytest.mark.parametrize("more", [(), ("FILE", "--template", "freight")])
def test_either_a_file_or_a_template_is_given(more, tmp_path):
    file = tmp_path / "b2b.json"
    file.write_text("{}", encoding="utf-8")
    words = [str(file) if word == "FILE" else word for word in more]
    refused = run("--db", str(tmp_path / "sales.db"), "define", "b2b", *words)
    assert (refused.exit_code, list(tmp_path.glob("sales.db*"))) == (2, [])


def test_an_unknown_template_founds_no_store(tmp_path):
    refused = run("--db", str(tmp_path / "sales.db"), "define", "b2b", "--template", "freigth")
    assert (refused.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "did you mean freight?" in refused.stderr
