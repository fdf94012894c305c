"""A question about what was known in the past is answered from the read model: no event is read from the log for it."""

import sqlite3

import pytest
from given import B2B, CARE, amend, assign, euro, given, lose, move, on, opening, redefine, retract, transfer, win

PAST = (
    B2B,
    CARE,
    opening(1, deal="A", owner="anna", value=euro(100)),
    opening(2, deal="B", value=euro(50), title="Roof", personal={"name": "Ann"}),
    opening(2, deal="C"),
    move(5, "qualified", deal="A", recorded=on(102)),
    transfer(6, deal="C", recorded=on(103)),
    amend(1, deal="A", value=euro(900), recorded=on(104)),
    redefine(7, "lead", "proposal", moves={"qualified": "lead"}, recorded=on(105)),
    assign(8, "bob", deal="B", recorded=on(106)),
    retract(2, deal="A", recorded=on(107)),
    win(9, deal="B", recorded=on(108)),
)
# What a question may read of the log: its head, positions by moment, the chain, and how many events a deal has.
# Everything else in a row says what happened.
COORDINATES = {"position", "recorded_at", "chain", "originator_id", "originator_version"}
AT = {"as_of": on(20)}
ASKED = {
    "pipeline_report": lambda trail, known: trail.pipeline_report("b2b", **AT, known_at=known),
    "pipeline_report by owner": lambda trail, known: trail.pipeline_report(
        "b2b", **AT, known_at=known, group_by="owner"
    ),
    "funnel_report": lambda trail, known: trail.funnel_report("b2b", cohort="2026", **AT, known_at=known),
    "deals": lambda trail, known: trail.deals(trail.funnel_report("b2b", cohort="2026", **AT, known_at=known)),
    "deal": lambda trail, known: trail.deal("A", **AT, known_at=known),
    "list_deals": lambda trail, known: trail.list_deals("b2b", **AT, known_at=known),
    "pipelines": lambda trail, known: trail.pipelines(**AT, known_at=known),
    "definitions": lambda trail, known: trail.definitions("b2b", **AT, known_at=known),
}


class Watch:
    """Which columns of the log's events are read while it looks, over every connection that is opened."""

    def __init__(self, monkeypatch):
        self.connections, self.read = [], set()
        connect = sqlite3.connect

        def watched(*args, **named):
            connection = connect(*args, **named)
            self.connections.append(connection)
            connection.set_authorizer(self._noted)
            return connection

        monkeypatch.setattr(sqlite3, "connect", watched)

    def _noted(self, action, table, column, *_):
        if action == sqlite3.SQLITE_READ and table == "event":
            self.read.add(column)
        return sqlite3.SQLITE_OK

    def of(self, ask, *args):
        """The columns that a question reads, and its answer."""
        for connection in self.connections:
            # Setting it makes every statement be prepared, and so judged, again.
            connection.set_authorizer(self._noted)
        self.read = set()
        answer = ask(*args)
        return self.read, answer


@pytest.fixture
def watch(monkeypatch):
    return Watch(monkeypatch)


def told():
    past = given(*PAST)
    past.clock.now = on(120)
    past.trail.pipeline_report("b2b")  # the read model has caught up
    return past


@pytest.mark.parametrize("known", [on(101), on(104), on(106), on(119)], ids=lambda known: f"{known:%j}")
@pytest.mark.parametrize("asked", ASKED)
def test_a_question_at_a_known_past_reads_no_event(watch, asked, known):
    past = told()
    read, answer = watch.of(ASKED[asked], past.trail, known)
    assert answer
    assert read - COORDINATES == set()
    assert "recorded_at" in read  # it does watch: the position of the moment was looked up


def test_the_watch_sees_an_event_that_is_read(watch):
    past = told()
    read, _ = watch.of(past.trail.history, "A")
    assert {"state", "topic"} <= read
    past.trail.record(lose(50, deal="C"))
    read, _ = watch.of(ASKED["pipeline_report"], past.trail, None)
    assert {"state", "topic"} <= read  # to catch up, once
    read, _ = watch.of(ASKED["pipeline_report"], past.trail, None)
    assert read - COORDINATES == set()


def test_a_question_at_a_known_past_waits_for_no_catching_up(watch):
    past = told()
    past.trail.record_all([opening(50, deal=f"N{n}") for n in range(20)])
    for ask in ASKED.values():
        read, _ = watch.of(ask, past.trail, on(108))
        assert read - COORDINATES == set()


def test_the_answers_are_those_that_were_given_then():
    """Each question is asked when all that is known yet is what was known at K, and again when all is known."""
    past = given(*PAST[:5])
    then = []
    for step in PAST[5:]:
        past.when(step)
        known = past.new[-1].recorded_at
        then.append((known, [ask(past.trail, known) for ask in ASKED.values()]))
    past.clock.now = on(200)
    for known, answers in then:
        assert [ask(past.trail, known) for ask in ASKED.values()] == answers
