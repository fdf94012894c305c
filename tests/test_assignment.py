"""The distribution of leads: who gets a deal that is opened without owner, why, and that nobody is left out."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from fractions import Fraction

import msgspec
import pytest
from click.testing import CliRunner
from given import (
    CARE,
    act,
    amend,
    assign,
    code_of,
    define,
    euro,
    given,
    lose,
    merge,
    on,
    opening,
    redefine,
    reopen,
    retract,
    transfer,
    win,
)
from hypothesis import given as whatever
from hypothesis import settings
from hypothesis import strategies as st

from dealtrail import Draft, Trail
from dealtrail.cli.app import app
from dealtrail.domain.assignment import Group, Member
from dealtrail.domain.distribution import Had, whose_turn
from dealtrail.testing import Clock

STAGES = ("lead", "qualified", "proposal")


def round_robin(*owners):
    return group("round_robin", *owners)


def fewest(*owners):
    return group("least_open_deals", *owners)


def group(rule, *owners):
    """A group of owners: a name, a name and a weight, or a name that is paused (None)."""
    pairs = [owner if isinstance(owner, tuple) else (owner, 1) for owner in owners]
    members = [{"owner": n, "paused": True} if w is None else {"owner": n, "weight": w} for n, w in pairs]
    return {"rule": rule, "owners": members}


def distributing(assignment, **more):
    return define(*STAGES, assignment=assignment, **more)


def by_region(**groups):
    """EU leads go to `eu`, large ones of elsewhere to `large`, the others to `rest`."""
    rules = [
        {"when": {"field": "attributes.region", "op": "eq", "value": "eu"}, "to": "eu"},
        {"when": {"field": "value", "op": "ge", "value": "10000"}, "to": "large"},
        {"to": "rest"},
    ]
    return {"groups": groups, "choose": rules}


class Leads:
    """A past to which leads are added, each named by its number: who got them?"""

    def __init__(self, *past):
        self.past = given(*past)
        self.number = 0

    def batch(self, size, day=50, **fields):
        first = self.number + 1
        self.number += size
        return [opening(day, deal=f"L{number}", **fields) for number in range(first, self.number + 1)]

    def owners(self, size, **fields):
        """Open leads one by one."""
        return "".join(self.given_to(self.batch(1, **fields)) for _ in range(size))

    def given_to(self, batch):
        assert self.past.when(*batch).refusal is None
        return "".join(event.data["owner"][0] for event in self.past.new)

    def do(self, *actions):
        assert self.past.when(*actions).refusal is None
        return self


# Round robin


def test_a_round_robin_goes_round_in_the_order_of_the_list():
    assert Leads(distributing(round_robin("anna", "ben", "carl"))).owners(7) == "abcabca"


def test_of_two_owners_one_of_twice_the_weight_gets_every_second_and_third_lead():
    """By hand: (1/2, 1/1) a; then 2/2 ties with 1/1, and b never had one; then a, since b has one of two."""
    assert Leads(distributing(round_robin(("anna", 2), "ben"))).owners(6) == "abaaba"


def test_a_heavy_owner_does_not_get_ahead_of_the_share():
    """By hand, 5 of 7: three in a row, as 3 ≤ 3·5/7 + 1; a fourth would be one more than 4·5/7 rounded up."""
    assert Leads(distributing(round_robin(("anna", 5), "ben", "carl"))).owners(7) == "aaabaca"


@settings(max_examples=60, deadline=None)
@whatever(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.data())
def test_everybody_is_within_one_of_their_share_at_all_times_however_long_each_has_waited(weights, data):
    members = tuple(Member(owner=f"o{n}", weight=weight) for n, weight in enumerate(weights))
    waited = data.draw(st.permutations(range(len(weights))))
    had = {f"o{n}": Had(0, last) for n, last in enumerate(waited)}
    for number in range(1, 60):
        owner = whose_turn(Group(rule="round_robin", owners=members), had, {}).owner
        had[owner] = Had(had[owner].leads + 1, 100 + number)
        for member in members:
            share = Fraction(number * member.weight, sum(weights))
            assert abs(had[member.owner].leads - share) < 1


def test_a_paused_owner_gets_nothing_and_no_flood_when_the_pause_ends():
    leads = Leads(distributing(round_robin("anna", ("ben", None), "carl")))
    assert leads.owners(5) == "acaca"
    leads.do(redefine(40, *STAGES, assignment=round_robin("anna", "ben", "carl")))
    assert leads.owners(6) == "bcabca"


def test_a_new_owner_gets_the_next_lead_and_then_one_of_each_round():
    leads = Leads(distributing(round_robin("anna", "ben")))
    assert leads.owners(3) == "aba"
    leads.do(redefine(40, *STAGES, assignment=round_robin("anna", "ben", "dora")))
    assert leads.owners(6) == "dbadba"


def test_nobody_is_left_out_where_the_group_changes_after_each_lead():
    """Each change begins the count anew; the turn goes on with whoever waited longest. Zoe is there now and then."""
    leads, names = Leads(distributing(round_robin("anna", "ben", "carl"))), ""
    for number in range(9):
        names += leads.owners(1)
        zoe = ("zoe", None if number % 2 else 1)
        leads.do(redefine(40, *STAGES, assignment=round_robin("anna", "ben", "carl", zoe)))
    assert names == "abczabcza"


def test_a_redefinition_that_leaves_the_group_as_it_is_goes_on_counting():
    group = round_robin(("anna", 3), "ben")
    leads = Leads(distributing(group))
    first = leads.owners(3)
    leads.do(redefine(40, "lead", "won-over", assignment=group, moves={"qualified": "lead", "proposal": "lead"}))
    assert first + leads.owners(5) == "aabaaaba" == Leads(distributing(group)).owners(8)
    assert leads.past.new[-1].data["assigned"].since == 1


def test_a_lead_with_an_owner_keeps_it_and_takes_nobodys_turn():
    leads = Leads(distributing(round_robin("anna", "ben")))
    assert leads.owners(1) + leads.owners(3, owner="zoe") + leads.owners(2) == "azzzba"
    assert "assigned" not in leads.past.when(*leads.batch(1, owner="zoe")).new[0].data


def test_who_passes_a_lead_on_has_had_it():
    leads = Leads(distributing(round_robin("anna", "ben")))
    assert leads.owners(1) == "a"
    leads.do(assign(60, "ben", deal="L1"), assign(61, None, deal="L1"))
    assert leads.owners(2) == "ba"


# Fewest open deals


def test_the_owner_with_the_fewest_open_deals_gets_the_lead():
    leads = Leads(distributing(fewest("anna", "ben")), *(opening(5, deal=f"A{n}", owner="anna") for n in range(2)))
    assert leads.owners(3) == "bba"  # 2 and 0, 2 and 1; then both have two, and anna never had a lead


def test_of_equal_owners_the_one_who_waits_longest_gets_the_lead():
    leads = Leads(distributing(fewest("anna", "ben", "carl")))
    assert leads.owners(3) == "abc"
    leads.do(*(lose(60, deal=f"L{number}") for number in (1, 2, 3)))
    assert leads.owners(2) == "ab"
    leads.do(lose(60, deal="L5"), lose(60, deal="L4"))
    assert leads.owners(1) == "c"


def test_an_owner_of_weight_three_has_three_open_deals_for_one_of_another():
    assert Counter(Leads(distributing(fewest(("anna", 3), "ben"))).owners(8)) == {"a": 6, "b": 2}


ENDED = {
    "lost": [lose(10)],
    "won": [win(10)],
    "merged": [opening(4, deal="E", owner="zoe"), merge(10)],
    "in another pipeline": [transfer(10)],
    "passed on": [assign(10, "zoe")],
    "without owner": [assign(10, None)],
    "amended to another owner": [amend(1, owner="zoe")],
    "opened with an owner who was taken away": [amend(1, owner=None)],
}
OPEN = {
    "open": [],
    "reopened": [lose(10), reopen(11)],
    "won by mistake": [win(10), retract(2)],
    "back from another pipeline": [transfer(10), transfer(11, "b2b")],
    "passed on and back": [assign(10, "zoe"), assign(11, "anna")],
    "lost before it was passed on": [assign(10, "zoe"), assign(9, "ben"), assign(11, "anna")],
}


@pytest.mark.parametrize("then", ENDED.values(), ids=ENDED)
def test_a_deal_counts_no_longer_when_it_is(then):
    assert Leads(CARE, distributing(fewest("anna", "ben")), opening(3, owner="anna"), *then).owners(1) == "a"


@pytest.mark.parametrize("then", OPEN.values(), ids=OPEN)
def test_a_deal_counts_that_is(then):
    assert Leads(CARE, distributing(fewest("anna", "ben")), opening(3, owner="anna"), *then).owners(1) == "b"


def test_what_happened_in_the_same_batch_counts():
    leads = Leads(distributing(fewest("anna", "ben")), opening(3, owner="anna"), opening(3, deal="E", owner="anna"))
    batch = [*leads.batch(1), lose(60), lose(60, deal="E"), *leads.batch(3)]
    leads.past.when(*batch)
    assert [e.data["owner"] for e in leads.past.new if e.event == "deal_opened"] == ["ben", "anna", "ben", "anna"]


def test_a_backdated_lead_goes_by_the_open_deals_of_now():
    leads = Leads(distributing(fewest("anna", "ben")), opening(30, owner="anna"))
    assert leads.owners(1, day=10) == "b"


# Groups


def test_conditions_on_the_deal_choose_the_group():
    leads = Leads(distributing(by_region(eu=round_robin("eva", "emil"), large=fewest("lou"), rest=round_robin("rob"))))
    eu = {"attributes": {"region": "eu"}, "value": euro(99999)}
    assert (
        leads.owners(1, **eu) + leads.owners(1, value=euro(10000)) + leads.owners(1) + leads.owners(1, **eu) == "elre"
    )
    assert leads.past.new[0].data["owner"] == "emil"


def test_groups_count_for_themselves():
    rest = round_robin("anna", "ben")
    leads = Leads(distributing(by_region(eu=round_robin("anna", "ben"), large=rest, rest=rest)))
    eu = {"attributes": {"region": "eu"}}
    assert leads.owners(1) + leads.owners(1, **eu) + leads.owners(1) + leads.owners(1, **eu) == "aabb"


def test_pipelines_count_for_themselves():
    leads = Leads(distributing(round_robin("anna", "ben")), distributing(fewest("anna", "ben"), pipeline="care"))
    assert leads.owners(1) + leads.owners(1, pipeline="care") + leads.owners(1) + leads.owners(1, pipeline="care") == (
        "aabb"
    )


def test_the_event_says_by_which_rule_and_why():
    leads = Leads(distributing(by_region(eu=round_robin("eva", "emil"), large=fewest("lou"), rest=round_robin("rob"))))
    leads.owners(2, attributes={"region": "eu"})
    leads.owners(1, value=euro(50000))
    leads.owners(1, attributes={"region": "eu"})
    told = [json.loads(json_of(event.data["assigned"])) for event in leads.past.log()[1:]]
    of_eu = {"group": "eu", "when": {"field": "attributes.region", "op": "eq", "value": "eu"}, "rule": "round_robin"}
    large = {"group": "large", "when": {"field": "value", "op": "ge", "value": "10000"}, "rule": "least_open_deals"}
    rest = {"weight": 1, "since": 1, "open_deals": None}
    assert told == [
        of_eu | rest | {"number": 1, "of": 1},
        of_eu | rest | {"number": 1, "of": 2},
        large | rest | {"number": 1, "of": 1, "open_deals": 0},
        of_eu | rest | {"number": 2, "of": 3},
    ]


def json_of(struct):
    return msgspec.json.encode(struct)


# Which definition


def test_the_definition_in_force_when_the_lead_came_in_gives_it_away():
    leads = Leads(
        distributing(round_robin("anna")),
        redefine(20, *STAGES, assignment=round_robin("ben")),
        redefine(30, *STAGES),
    )
    assert leads.owners(1, day=10) + leads.owners(1, day=20) == "ab"
    leads.past.when(*leads.batch(1, day=30)).then("deal_opened", owner=None)


def test_a_definition_that_says_nothing_of_it_gives_nobody():
    given(define(*STAGES)).when(opening(5)).then("deal_opened", owner=None)


def test_a_transfer_gives_nobody():
    past = given(CARE, distributing(round_robin("anna")), opening(5, "care"))
    assert past.when(transfer(6, "b2b")).trail.deal("D").owner is None


def test_a_version_shows_its_assignment():
    one = round_robin("anna", ("ben", None))
    past = given(distributing(one), redefine(20, *STAGES))
    first, second = past.trail.definitions("b2b")
    members = [{"owner": "anna", "weight": 1, "paused": False}, {"owner": "ben", "weight": 1, "paused": True}]
    assert first.assignment == {"groups": {"all": {"rule": "round_robin", "owners": members}}, "choose": "all"}
    assert second.assignment is None


def test_a_draft_takes_an_assignment_that_could_be_recorded_and_gives_nothing_by_it():
    past = given(define(*STAGES), opening(5))
    stages_given = define(*STAGES)["stages"]
    report = past.trail.pipeline_report("b2b", definition=Draft(stages=stages_given, assignment=round_robin("anna")))
    assert report.question["definition"]["assignment"]["choose"] == "all"
    assert past.trail.deal("D").owner is None
    nobody = Draft(stages=stages_given, assignment=round_robin(("anna", None)))
    assert code_of(past.trail.pipeline_report, "b2b", definition=nobody) == "nobody_to_assign"


# Reports, corrections, repetitions, rehearsals


def test_a_funnel_finds_the_lead_under_the_owner_whom_it_was_given():
    past = given(distributing(round_robin("anna", "ben")), opening(5), opening(6, deal="E"), assign(7, "zoe"))
    assert past.trail.funnel_report("b2b", cohort="2026", where={"owner": "anna"}).total.cohort == 1
    assert [g.group["owner"] for g in past.trail.funnel_report("b2b", cohort="2026", group_by="owner").groups] == [
        "anna",
        "ben",
    ]


def test_an_amendment_of_the_opening_leaves_the_owner_and_the_reason_and_takes_no_turn():
    leads = Leads(distributing(round_robin("anna", "ben", "carl")))
    assert leads.owners(2) == "ab"
    leads.past.when(amend(1, 40, deal="L1", source="web")).then("event_retracted", "deal_opened", owner="anna")
    assert (leads.past.new[-1].data["assigned"].number, leads.past.new[-1].data["assigned"].of) == (1, 1)
    assert leads.owners(2) == "ca"


def test_an_owner_whom_an_amendment_names_was_given_by_no_rule_and_the_turn_stays_taken():
    leads = Leads(distributing(round_robin("anna", "ben")))
    assert leads.owners(1) == "a"
    leads.past.when(amend(1, deal="L1", owner="zoe")).then("event_retracted", "deal_opened", owner="zoe")
    assert "assigned" not in leads.past.new[-1].data
    assert leads.owners(1) == "b"


def test_an_amendment_that_takes_the_owner_away_gives_nobody():
    past = given(distributing(round_robin("anna")), opening(5))
    past.when(amend(1, owner=None)).then("event_retracted", "deal_opened", owner=None)


def test_an_action_that_is_repeated_returns_the_first_result_and_takes_no_turn():
    leads = Leads(distributing(round_robin("anna", "ben")))
    once = opening(5, deal="X", id="form-17")
    first = leads.past.when(once).results
    assert leads.past.when(once).then().results == first
    assert leads.past.trail.deal("X").owner == "anna"
    assert leads.owners(1) == "b"


def test_a_refused_lead_takes_no_turn():
    leads = Leads(distributing(round_robin("anna", "ben")))
    leads.past.when(*leads.batch(2), opening(5, deal="L1")).refused("deal_exists")
    leads.past.when(*leads.batch(1, stage="nowhere")).refused("unknown_stage")
    assert leads.owners(1) == "a"


def test_a_rehearsal_takes_no_turn():
    leads = Leads(distributing(round_robin("anna", "ben")))
    tried = leads.past.trail.record_each(leads.batch(3), dry_run=True)
    assert [one.refused for one in tried] == [None] * 3
    leads.past.trail.preview_redefinition("b2b", define(*STAGES)["stages"], assignment=round_robin("zoe"))
    assert leads.owners(2) == "ab"


def test_leads_that_are_imported_go_round_too():
    leads = Leads(distributing(round_robin("anna", "ben", "carl")))
    batch = [*leads.batch(2), opening(50, deal="L1"), *leads.batch(3)]
    done = list(leads.past.trail.record_each(batch))
    assert [one.refused and one.refused.code for one in done] == [None, None, "deal_exists", None, None, None]
    assert [leads.past.trail.deal(f"L{n}").owner[0] for n in range(1, 6)] == list("abcab")


# On the command line


def test_the_command_line_defines_an_assignment_from_a_file_and_shows_whom_it_gave_what_and_why(tmp_path):
    def answer(*words):
        done = CliRunner().invoke(app, [*words, "--db", str(tmp_path / "sales.db")])
        assert done.exit_code == 0, done.output
        return done.output

    definition = tmp_path / "b2b.json"
    several = by_region(eu=round_robin(("anna", 2), ("ben", None)), large=fewest("lou"), rest=fewest("rob"))
    definition.write_text(json.dumps({"stages": define(*STAGES)["stages"], "assignment": several}))
    answer("define", "b2b", str(definition))
    answer("record", "open_deal", "pipeline=b2b", "deal=L1", "attributes.region=eu")
    answer("record", "open_deal", "pipeline=b2b", "deal=L2")
    assert (
        'owner=anna, attributes={"region":"eu"}, assigned=round_robin in eu since attributes.region eq "eu" '
        "(the owner's lead 1 of 1 from version 1 on)"
    ) in answer("history", "L1")
    assert "assigned=least_open_deals in rest (the owner's lead 1 of 1 from version 1 on, open deals before it 0)" in (
        answer("history", "L2")
    )
    shown = [" ".join(line.split()) for line in answer("definitions", "b2b").splitlines()]
    assert shown[-4:-1] == [
        'b2b 1 eu round_robin anna ×2, ben (paused) 1. attributes.region eq "eu"',
        'large least_open_deals lou 2. value ge "10000"',
        "rest least_open_deals rob 3. all others",
    ]


# Refused definitions

ANNA = {"owner": "anna"}
ONE = {"rule": "round_robin", "owners": [ANNA]}
WRONG = [
    ("round_robin", "invalid_assignment", "assignment"),
    ([], "invalid_assignment", "assignment"),
    ({}, "missing_field", "assignment.rule"),
    ({"rule": "round_robin"}, "missing_field", "assignment.owners"),
    ({"rule": "round_robin", "owners": []}, "invalid_field", "assignment.owners"),
    ({"rule": "at_random", "owners": [ANNA]}, "invalid_field", "assignment.rule"),
    (ONE | {"wieght": 2}, "unknown_field", "assignment.wieght"),
    ({"rule": "round_robin", "owners": ["anna"]}, "invalid_field", "assignment.owners[0]"),
    ({"rule": "round_robin", "owners": [{"weight": 2}]}, "missing_field", "assignment.owners[0].owner"),
    ({"rule": "round_robin", "owners": [{"owner": ""}]}, "invalid_field", "assignment.owners[0].owner"),
    ({"rule": "round_robin", "owners": [ANNA | {"name": "Anna"}]}, "unknown_field", "assignment.owners[0].name"),
    ({"rule": "round_robin", "owners": [ANNA | {"weight": 0}]}, "invalid_field", "assignment.owners[0].weight"),
    ({"rule": "round_robin", "owners": [ANNA | {"weight": 1.5}]}, "invalid_field", "assignment.owners[0].weight"),
    ({"rule": "round_robin", "owners": [ANNA | {"paused": "no"}]}, "invalid_field", "assignment.owners[0].paused"),
    ({"rule": "round_robin", "owners": [ANNA, ANNA]}, "duplicate_key", "assignment.owners"),
    ({"rule": "round_robin", "owners": [ANNA | {"paused": True}]}, "nobody_to_assign", "assignment.owners"),
    ({"groups": {"g": ONE}}, "invalid_assignment", "assignment"),
    ({"choose": "g"}, "invalid_assignment", "assignment"),
    ({"groups": {"g": ONE}, "choose": "g"} | ONE, "invalid_assignment", "assignment"),
    ({"groups": {}, "choose": "g"}, "invalid_assignment", "assignment.groups"),
    ({"groups": {"G": ONE}, "choose": "G"}, "invalid_key", "assignment.groups.G.key"),
    ({"groups": {"g": ONE}, "choose": "h"}, "unknown_group", "assignment.choose"),
    ({"groups": {"g": ONE}, "choose": [{"to": "h"}]}, "unknown_group", "assignment.choose"),
    ({"groups": {"g": ONE}, "choose": []}, "invalid_assignment", "assignment.choose"),
    ({"groups": {"g": ONE}, "choose": [{"to": "g"}, {"to": "g"}]}, "invalid_assignment", "assignment.choose"),
    (
        {"groups": {"g": ONE}, "choose": [{"when": {"field": "title", "op": "eq", "value": "x"}, "to": "g"}]},
        "invalid_condition",
        "assignment.choose[0].when",
    ),
]


@pytest.mark.parametrize(("assignment", "code", "field"), WRONG, ids=[json.dumps(one[0])[:70] for one in WRONG])
@pytest.mark.parametrize("again", [False, True], ids=["defined", "redefined"])
def test_an_assignment_that_says_no_owner_is_refused(assignment, code, field, again):
    past = given(define(*STAGES)) if again else given()
    named = redefine(5, *STAGES, assignment=assignment) if again else distributing(assignment)
    past.when(named).refused(code, field=field)


def test_null_is_no_assignment_and_an_optional_field_that_is_null_is_absent():
    owners = [{"owner": "anna", "weight": None, "paused": None}]
    past = given(define(*STAGES, assignment=None)).when(
        redefine(5, *STAGES, assignment={"rule": "round_robin", "owners": owners, "groups": None, "choose": None})
    )
    assert past.refusal is None
    assert past.trail.definitions("b2b")[1].assignment["groups"]["all"]["owners"][0]["weight"] == 1


# The index in the log's file


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sales.db")


def opened(trail, name):
    trail.open_deal("b2b", deal=name)
    return trail.deal(name).owner[0]


def plain(path, statement):
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


def defined(path, assignment, clock=None):
    with Trail.open(path, clock=clock or Clock(on(100))) as trail:
        trail.record(distributing(assignment))


def test_another_process_goes_on_where_the_last_one_stopped(path):
    defined(path, round_robin("anna", "ben", "carl"))
    found = ""
    for number in range(5):
        with Trail.open(path) as trail:
            found += opened(trail, f"L{number}")
    assert found == "abcab"


@pytest.mark.parametrize("rule", [round_robin, fewest])
@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM distribution",
        "DELETE FROM distribution_lead",
        "UPDATE distribution SET made_by = 0",
        "UPDATE distribution SET chain = zeroblob(32)",
        "UPDATE distribution SET position = 99",
        "UPDATE distribution SET position = 'none'",
        "DROP TABLE distribution_open",
    ],
)
def test_the_index_is_made_anew_where_it_does_not_continue_the_log(path, rule, harm):
    """Where only rows are gone, the checkpoint goes too: whoever deletes the index deletes all of it."""
    defined(path, rule("anna", "ben", "carl"))
    with Trail.open(path) as trail:
        assert "".join(opened(trail, f"L{number}") for number in range(4)) == "abca"
    plain(path, harm)
    if harm.endswith(("_lead", "_open")):
        plain(path, "DELETE FROM distribution")
    with Trail.open(path) as trail:
        assert "".join(opened(trail, f"M{number}") for number in range(3)) == "bca"


@pytest.mark.parametrize(
    ("harm", "row"),
    [
        (
            "DELETE FROM distribution_lead WHERE owner = 'anna'",
            "distribution_lead pipeline='b2b', team='all', owner='anna', since=1",
        ),
        (
            "UPDATE distribution_lead SET position = 3",
            "distribution_lead pipeline='b2b', team='all', owner='anna', since=1",
        ),
        (
            "INSERT INTO distribution_lead VALUES ('b2b', 'all', 'emil', 1, 3)",
            "distribution_lead pipeline='b2b', team='all', owner='emil', since=1",
        ),
        ("DELETE FROM distribution_open WHERE deal = 'deal:L0'", "distribution_open deal='L0'"),
        ("UPDATE distribution_open SET owner = 'carl' WHERE deal = 'deal:L1'", "distribution_open deal='L1'"),
        (
            "INSERT INTO distribution_open VALUES ('deal:X', 'b2b', 'anna')",
            "distribution_open more than there are open deals with an owner",
        ),
        ("DROP TABLE distribution_lead", "distribution_lead all"),
    ],
)
def test_an_index_that_was_edited_is_named_by_a_verification_and_made_anew_by_a_rebuild(path, harm, row):
    defined(path, round_robin("anna", "ben", "carl"))
    with Trail.open(path) as trail:
        assert "".join(opened(trail, f"L{number}") for number in range(4)) == "abca"
        trail.lose_deal("L3")
        assert trail.verify().ok
    plain(path, harm)
    with Trail.open(path) as trail:
        found = trail.verify().findings
        assert {one.kind for one in found} == {"distribution"}
        assert f"{found[0].table} {found[0].row}" == row
        trail.rebuild()
        assert trail.verify().ok
        assert "".join(opened(trail, f"M{number}") for number in range(3)) == "bca"
        assert trail.verify().ok


def test_an_index_that_cannot_be_read_is_named_by_a_verification(path):
    defined(path, round_robin("anna"))
    plain(path, "CREATE TABLE distribution (something)")  # that of another program
    with Trail.open(path) as trail:
        assert [one.kind for one in trail.verify().findings] == ["distribution"]


def test_a_lead_that_finds_an_index_of_other_events_is_refused_and_says_what_helps(path):
    defined(path, round_robin("anna", "ben"))
    with Trail.open(path) as trail:
        opened(trail, "L0"), opened(trail, "L1")
    plain(path, "UPDATE distribution_lead SET position = 1")  # that of the definition
    with Trail.open(path) as trail:
        assert code_of(opened, trail, "L2") == "damaged"
        trail.rebuild()
        assert opened(trail, "L2") == "a"


def test_what_others_recorded_meanwhile_is_caught_up_with(path):
    defined(path, fewest("anna", "ben"))
    with Trail.open(path) as one, Trail.open(path) as other:
        assert opened(one, "L1") + opened(other, "L2") + opened(one, "L3") == "aba"
        other.lose_deal("L1")
        other.lose_deal("L3")
        assert opened(one, "L4") + opened(one, "L5") == "ab"


def test_a_store_that_distributes_nothing_gets_no_index(path):
    with Trail.open(path) as trail:
        trail.record(define(*STAGES, day=None))
        trail.open_deal("b2b", owner="anna")
        trail.open_deal("b2b")
    assert plain(path, "SELECT name FROM sqlite_master WHERE name LIKE 'distribution%'") == []


@pytest.mark.parametrize("rule", [round_robin, fewest])
def test_the_cost_of_a_lead_does_not_grow_with_the_log(path, rule, monkeypatch):
    """SQLite's own steps are counted, not seconds: a thousand deals more may not cost twice as many."""
    steps, connect = [0], sqlite3.connect

    def watched(*args, **named):
        connection = connect(*args, **named)
        connection.set_progress_handler(counted, 10)
        return connection

    def counted():
        steps[0] += 1

    monkeypatch.setattr(sqlite3, "connect", watched)
    defined(path, rule("anna", "ben"))

    def cost():
        before = steps[0]
        trail.open_deal("b2b")
        return steps[0] - before

    with Trail.open(path) as trail:
        deals = [act("open_deal", None, deal=f"D{number}", pipeline="b2b") for number in range(1_000)]
        trail.record_all(deals[:20])
        cost()
        few = cost()
        trail.record_all(deals[20:])
        trail.record_all(act("lose_deal", None, deal=deal["deal"]) for deal in deals[20:])
        cost()
        assert cost() < 2 * few
