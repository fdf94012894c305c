"""Forgetting: personal texts are encrypted with a key of their subject, and are gone when the key is."""

import json
import logging
import os
import shutil
import sqlite3
from base64 import b64encode
from contextlib import closing
from threading import Barrier, Thread

import msgspec
import pytest
from given import B2B, NOW, Clock, code_of, euro, on, redefine, stages
from test_store import EVERYTHING, PERSONAL_TEXTS, column, plain, without_triggers

from dealtrail import DealtrailError, Draft, KeyFile, Trail
from dealtrail.store import mapper
from dealtrail.store.writing import Writing

MASTER_KEY = bytes(range(32))
ERASED = "[erased]"
# Nothing of these stands anywhere else in a store, in any spelling.
TITLE, NOTE, PHONE, NAME = "Zoë Quillfeather", "prefers Wednesdays, ünlike most", "+31 6 5550 1234", "direct line"
SECRETS = [TITLE, NOTE, PHONE, NAME, "Quillfeather", "Wednesdays", "5550 1234"]
PAST = [
    B2B,
    {
        "action": "open_deal",
        "deal": "D",
        "pipeline": "b2b",
        "subject": "person-7",
        "owner": "u-1",
        "source": "web",
        "value": euro("1200.50"),
        "attributes": {"seats": 5},
        "title": TITLE,
        "personal": {NAME: PHONE},
        "id": "open-1",
        "at": on(2),
    },
    {"action": "log_activity", "deal": "D", "kind": "call", "note": NOTE, "id": "call-1", "at": on(3)},
    {"action": "move_deal", "deal": "D", "stage": "qualified", "at": on(4), "personal": {"who": TITLE}},
    {"action": "amend", "deal": "D", "version": 2, "kind": "visit", "id": "amend-1"},
    {"action": "open_deal", "deal": "E", "pipeline": "b2b", "subject": "person-8", "title": "Other", "at": on(5)},
]


class Store:
    """A store with keys in a folder; `open` opens it, as a host of its own where it is given a name."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "sales.db"
        self.key_path = folder / "sales.keys"

    def keys(self):
        return KeyFile(self.key_path, MASTER_KEY)

    def open(self, host=None, **more):
        path = self.path
        if host is not None:  # its read model stands beside the path by which it opens the log
            path = self.folder / host / "sales.db"
            if not path.exists():
                path.parent.mkdir()
                path.symlink_to(self.path)
        return Trail.open(path, **{"clock": Clock(NOW), "keys": self.keys(), **more})


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    with made.open() as trail:
        trail.record_all(PAST)
    return made


def texts(trail, deal="D"):
    """What every view shows of the personal texts of a deal, each text once."""
    views = [trail.deal(deal), *(v for v in trail.list_deals("b2b") if v.deal == deal)]
    views += [v for v in trail.deals(trail.pipeline_report("b2b")) if v.deal == deal]
    views += trail.history(deal)
    views += [event for event in trail.follow() if event.deal == deal]
    shown = set()
    for view in views:
        shown |= {view.title, getattr(view, "note", None), *(view.personal or {}), *(view.personal or {}).values()}
    return shown - {None}


def personal_columns(path):
    return [stored for stored in column(path, "personal") if stored is not None]


# Sealing


def test_a_text_is_read_back_and_stored_nowhere_in_clear(store):
    with store.open() as trail:
        assert texts(trail) == {TITLE, NOTE, NAME, PHONE, "who"}
        assert (trail.deal("D").title, trail.deal("D").personal) == (TITLE, {NAME: PHONE, "who": TITLE})
    for path in store.folder.iterdir():
        assert [secret for secret in SECRETS if secret.encode() in path.read_bytes()] == []


def test_a_store_without_keys_is_stored_as_ever(tmp_path):
    with Trail.open(tmp_path / "sales.db", clock=Clock(NOW)) as trail:
        trail.record_all(PAST)
        assert [event.position for event in trail.follow()] == [*range(1, 8)]
        assert trail.status().in_clear is None
    assert personal_columns(tmp_path / "sales.db")[:2] == [
        mapper.encode_personal(mapper.Personal(TITLE, None, {NAME: PHONE})),
        mapper.encode_personal(mapper.Personal(None, NOTE)),
    ]


def test_every_action_works_with_keys_and_gives_the_same_figures(tmp_path):
    reports = []
    for name, keys in (("plain", None), ("sealed", KeyFile(tmp_path / "keys", MASTER_KEY))):
        with Trail.open(tmp_path / name, clock=Clock(on(40)), keys=keys) as trail:
            for action in EVERYTHING:
                trail.record(action)
            history = trail.history("D")
            shown = [[(e.event, e.title, e.note, e.personal) for e in trail.history(d)] for d in ("D", "Zoë’s")]
            figures = [trail.pipeline_report(key, as_of=on(9)).stages for key in ("b2b", "care")]
            figures += [trail.funnel_report(key, cohort="2026").stages for key in ("b2b", "care")]
            trail.rebuild()
            reports.append((len(history), shown, figures, trail.deal("D").title, trail.deal("D").personal))
    assert reports[0] == reports[1]
    stored = b"".join(personal_columns(tmp_path / "sealed"))
    assert [text for text in PERSONAL_TEXTS if text.encode() in stored] == []


def test_a_trail_in_memory_takes_keys(tmp_path):
    with Trail.open(":memory:", clock=Clock(NOW), keys=KeyFile(tmp_path / "keys", MASTER_KEY)) as trail:
        trail.record_all(PAST)
        assert TITLE in texts(trail)
        trail.forget("person-7", "u-9", "request 1")
        assert texts(trail) == {ERASED}


class OneKey:
    """A host's own keys, the same for every log and subject."""

    def __init__(self):
        self.held = set()

    def get(self, log, subjects):
        return dict.fromkeys(self.held & set(subjects), MASTER_KEY)

    def make(self, log, subjects):
        self.held |= set(subjects)
        return dict.fromkeys(subjects, MASTER_KEY)

    def destroy(self, log, subjects):
        gone = self.held & set(subjects)
        self.held -= gone
        return len(gone)


def field_of(path, position, field):
    stored = json.loads(column(path, "personal")[position - 1])
    return stored[field][""] if field == "personal" else stored[field]


def put(path, position, **fields):
    part = json.dumps({n: {"": text} if n == "personal" else text for n, text in fields.items()})
    with plain(path) as db:
        db.execute("UPDATE event SET personal = ? WHERE position = ?", (part.encode(), position))


def test_a_sealed_text_is_bound_to_its_log_its_deal_its_version_and_its_field(tmp_path):
    same = {"title": "T", "note": "N"}
    for name in ("one", "other"):
        with Trail.open(tmp_path / name, clock=Clock(NOW), keys=OneKey()) as trail:
            trail.define_pipeline("b2b", stages("lead"))
            for deal in ("D", "E"):  # positions 3 to 5 and 6 to 8
                trail.open_deal("b2b", deal=deal, subject="S", title="T", personal={"title": "T"})
                trail.log_activity(deal, "call", note=same["note"])
                trail.log_activity(deal, "call", note=same["note"])
    one, other = tmp_path / "one", tmp_path / "other"
    without_triggers(one)
    keys = OneKey()
    keys.make("", ["", "S"])
    moved = [
        ("another log", 3, {"title": field_of(other, 3, "title")}),
        ("another deal", 3, {"title": field_of(one, 6, "title")}),
        ("another version", 4, {"note": field_of(one, 5, "note")}),
        ("another version, that it says", 4, {"note": field_of(one, 5, "note").replace("\0" + "3:", "\0" + "2:")}),
        ("another field", 3, {"title": field_of(one, 3, "personal")}),
        ("another subject", 3, {"title": field_of(one, 3, "title").removesuffix("S")}),
        ("a bit", 4, {"note": field_of(one, 4, "note").replace("=", "A")}),
        ("cut off", 4, {"note": field_of(one, 4, "note")[:30]}),
    ]
    for what, position, fields in moved:
        before = column(one, "personal")[position - 1]
        put(one, position, **fields)
        with Trail.open(one, clock=Clock(NOW), keys=keys) as trail:
            assert code_of(trail.history, "D") == "damaged", what
        with plain(one) as db:
            db.execute("UPDATE event SET personal = ? WHERE position = ?", (before, position))
    with Trail.open(one, clock=Clock(NOW), keys=keys) as trail:
        assert trail.history("D")[1].note == "N"


def test_two_seals_of_the_same_text_differ(store):
    with store.open() as trail:
        trail.log_activity("D", "call", note="the same")
        trail.log_activity("D", "call", note="the same")
    first, second = personal_columns(store.path)[-2:]
    assert first[-20:] != second[-20:]
    assert len(set(personal_columns(store.path))) == len(personal_columns(store.path))


def test_an_amendment_seals_what_it_takes_over_for_its_own_version(store):
    with store.open() as trail:
        assert [(e.version, e.note) for e in trail.history("D") if e.note] == [(2, NOTE), (5, NOTE)]
    notes = [json.loads(stored)["note"] for stored in personal_columns(store.path) if b'"note"' in stored]
    assert [note[1:].split(":")[0] for note in notes] == ["2", "5"]


def test_the_same_id_with_the_same_text_is_the_same_action_though_its_seal_differs(store):
    opening, call, amendment = PAST[1], PAST[2], PAST[4]
    with store.open() as trail:
        end = trail.status().position
        assert [trail.record(action).version for action in (opening, call, amendment)] == [1, 2, 5]
        for other in (
            opening | {"title": "another"},
            opening | {"personal": {NAME: "another"}},
            call | {"note": "another"},
            call | {"kind": "mail"},
            amendment | {"note": "another"},
        ):
            assert code_of(trail.record, other) == "id_reused", other
        assert trail.status().position == end


# The order of things


class Watched:
    """A file of keys whose steps can be watched, or fail."""

    def __init__(self, store):
        self._keys = store.keys()
        self.steps = []
        self.before = self.after = lambda step: None

    def get(self, log, subjects):
        return self._keys.get(log, subjects)

    def make(self, log, subjects):
        return self._step("make", log, subjects)

    def destroy(self, log, subjects):
        return self._step("destroy", log, subjects)

    def _step(self, name, log, subjects):
        self.before(name)
        self.steps.append((name, *subjects))
        done = getattr(self._keys, name)(log, subjects)
        self.after(name)
        return done


class Stop(Exception):
    """The process ended here."""


def stop(*names):
    def at(step):
        if step in names:
            raise Stop(step)

    return at


def test_a_key_is_durable_before_the_event_that_needs_it_is_seen(store):
    keys, seen = Watched(store), []
    with store.open(keys=keys) as trail:
        end = len(column(store.path, "position"))
        keys.after = lambda step: seen.append((step, len(column(store.path, "position"))))
        trail.record_all(
            [{"action": "open_deal", "deal": d, "pipeline": "b2b", "title": d * 3} for d in ("one", "two", "one more")]
        )
        assert seen == [("make", end)]  # one durable step for all of them
        assert keys.steps == [("make", "one", "one more", "two")]
        assert store.keys().get(trail.status().log, ["one more"]).get("one more") is not None


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_needs_a_key_that_could_not_be_made_is_not_recorded(store, when):
    keys = Watched(store)
    with store.open(keys=keys) as trail:
        end = trail.status().position
        setattr(keys, when, stop("make"))
        with pytest.raises(Stop):
            trail.open_deal("b2b", deal="F", title="F")
        assert trail.status().position == end
        setattr(keys, when, lambda step: None)
        trail.open_deal("b2b", deal="F", title="F")
        assert trail.deal("F").title == "F"


def test_a_dry_run_makes_no_key(store):
    keys = Watched(store)
    with store.open(keys=keys) as trail:
        action = {"action": "open_deal", "deal": "F", "pipeline": "b2b", "title": "F"}
        assert [one.refused for one in trail.record_each([action], dry_run=True)] == [None]
        assert keys.steps == []


@pytest.mark.parametrize("flushes", ["distribution", "length"])
def test_a_dry_run_that_writes_on_its_way_makes_no_key_and_writes_no_text_in_clear(store, flushes, monkeypatch):
    keys, written = Watched(store), []
    flush = Writing.flush

    def flushed(writing):
        flush(writing)
        written.extend(writing.reading.rows(0, writing.position, 10_000))

    action = {"action": "open_deal", "pipeline": "led" if flushes == "distribution" else "b2b", "title": TITLE}
    with store.open(keys=keys) as trail:
        team = {"rule": "round_robin", "owners": [{"owner": "anna"}]}
        trail.define_pipeline("led", stages("lead"), assignment=team)
        end, steps = trail.status().position, len(keys.steps)
        monkeypatch.setattr(Writing, "flush", flushed)
        actions = ({**action, "deal": f"F{n}"} for n in range(3 if flushes == "distribution" else 1_001))
        assert {one.refused for one in trail.record_each(actions, dry_run=True)} == {None}
        assert written
        assert not any(TITLE.encode() in (row[12] or b"") for row in written)
        assert (trail.status().position, len(keys.steps)) == (end, steps)


# Forgetting


def test_a_forgotten_subject_reads_erased_everywhere_and_another_stays(store):
    with store.open() as trail:
        end = trail.status().position
        forgotten = trail.forget("person-7", "u-9", "request 2026-114")
        assert (forgotten.subject, forgotten.erased, forgotten.in_clear, forgotten.others) == ("person-7", 4, 0, [])
        assert texts(trail) == {ERASED}
        assert (trail.deal("D").title, trail.deal("D").personal) == (ERASED, {ERASED: ERASED})
        assert texts(trail, "E") == {"Other"}
        begun, done = trail.follow(end)
        assert (begun.event, begun.by, begun.data) == (
            "forgetting_begun",
            "u-9",
            {"subject": "person-7", "reason": "request 2026-114"},
        )
        assert (done.event, done.position, done.by) == ("subject_forgotten", forgotten.position, "u-9")
        assert done.data == {"subject": "person-7", "erased": 4, "in_clear": 0}
        assert (begun.version, done.version, begun.deal, begun.pipeline) == (1, 2, None, None)
        trail.rebuild()
        assert texts(trail) == {ERASED}
    with store.open() as trail:
        assert texts(trail) == {ERASED}
    with store.open(keys=None) as trail:
        assert texts(trail) == {ERASED}


def test_forgetting_again_changes_nothing(store):
    with store.open() as trail:
        first = trail.forget("person-7", "u-9", "request 1")
        assert trail.forget("person-7", "u-10", "request 2") == first
        assert trail.status().position == first.position


def test_a_subject_that_no_deal_has_is_unknown(store):
    with store.open() as trail:
        end = trail.status().position
        assert code_of(trail.forget, "person-77", "u-9", "request 1") == "unknown_subject"
        assert code_of(trail.forget, "D", "u-9", "request 1") == "unknown_subject"  # it has another subject
        assert code_of(trail.forget, "", "u-9", "request 1") == "invalid_field"
        assert code_of(trail.forget, "person-7", "", "request 1") == "invalid_field"
        assert code_of(trail.forget, "person-7", "u-9", "a\nb") == "invalid_field"
        assert trail.status().position == end


def test_the_subject_of_a_deal_is_its_id_where_none_is_given(store):
    with store.open() as trail:
        trail.open_deal("b2b", deal="F", title="F's")
        assert trail.forget("F", "u-9", "request 1").erased == 1
        assert trail.deal("F").title == ERASED


def test_new_texts_about_a_forgotten_subject_are_refused_and_facts_are_not(store):
    with store.open() as trail:
        trail.forget("person-7", "u-9", "request 1")
        end = trail.status().position
        for action in (
            {"action": "log_activity", "deal": "D", "kind": "call", "note": "again"},
            {"action": "move_deal", "deal": "D", "stage": "proposal", "personal": {"who": "him"}},
            {"action": "amend", "deal": "D", "version": 1, "title": "again"},
            {"action": "open_deal", "deal": "F", "pipeline": "b2b", "subject": "person-7", "title": "again"},
        ):
            assert code_of(trail.record, action) == "forgotten_subject", action
        assert trail.status().position == end
        trail.open_deal("b2b", deal="F", subject="person-7")
        trail.move_deal("D", "proposal")
        trail.open_deal("b2b", deal="G", subject="person-7-again", title="again")
        assert (trail.deal("D").stage, trail.deal("G").title) == ("proposal", "again")


def test_an_amendment_leaves_erased_texts_erased_unless_it_takes_them_away(store):
    with store.open() as trail:
        trail.forget("person-7", "u-9", "request 1")
        trail.amend("D", 5, kind="mail")
        assert trail.history("D")[-1].note == ERASED
        trail.amend("D", 7, note=None)
        assert trail.history("D")[-1].note is None
        trail.amend("D", 1, owner="u-2")
        assert (trail.deal("D").owner, trail.deal("D").title) == ("u-2", ERASED)


def test_what_was_at_hand_in_clear_when_its_subject_was_forgotten_is_so_no_longer(store):
    with store.open() as trail, store.open() as other:
        for one in (other, trail):
            one.log_activity("D", "call", note=NOTE)
        trail.forget("person-7", "u-9", "request 1")
        for version, one in ((7, trail), (6, other)):
            one.amend("D", version, kind="mail")
            assert one.history("D")[-1].note == ERASED
            assert "person-7" not in one._log.vault._at_hand


def test_the_same_id_again_is_compared_by_what_is_not_erased(store):
    opening, call = PAST[1], PAST[2]
    with store.open() as trail:
        trail.forget("person-7", "u-9", "request 1")
        end = trail.status().position
        assert trail.record(call | {"note": "who can tell"}).version == 2
        assert trail.record(opening).version == 1
        assert code_of(trail.record, call | {"kind": "mail"}) == "id_reused"
        assert code_of(trail.record, {k: v for k, v in call.items() if k != "note"}) == "id_reused"
        assert trail.status().position == end


def test_a_deal_whose_subject_was_amended_names_the_other_subject(store):
    with store.open() as trail:
        trail.amend("D", 1, subject="person-70")
        assert trail.deal("D").title == TITLE
        forgotten = trail.forget("person-70", "u-9", "request 1")
        assert (forgotten.erased, forgotten.others) == (1, ["person-7"])
        assert trail.deal("D").title == ERASED
        assert trail.history("D")[0].title == TITLE
        assert trail.forget("person-7", "u-9", "request 1").others == ["person-70"]
        assert texts(trail) == {ERASED}


# Broken off


def noted(monkeypatch, kind, when):
    """End the process just before or just after an event of a kind is committed."""
    note = Writing.note

    def watched(writing, stream, event, by=None):
        if type(event).__name__ != kind:
            return note(writing, stream, event, by)
        if when == "before":
            raise Stop
        note(writing, stream, event, by)
        writing.flush()
        writing.reading.cursor.execute("COMMIT")
        writing.reading.cursor.execute("BEGIN")
        raise Stop

    monkeypatch.setattr(Writing, "note", watched)


POINTS = [
    "before the intent",
    "after the intent",
    "before destroying",
    "after destroying",
    "before the outcome",
    "done",
]


@pytest.mark.parametrize("point", POINTS)
def test_what_was_broken_off_is_finished_at_the_next_opening(store, point, monkeypatch, caplog):
    keys = Watched(store)
    with store.open(keys=keys) as trail:
        report = trail.pipeline_report("b2b")
        log = trail.status().log
        match point:
            case "before the intent":
                noted(monkeypatch, "ForgettingBegun", "before")
            case "after the intent":
                noted(monkeypatch, "ForgettingBegun", "after")
            case "before destroying":
                keys.before = stop("destroy")
            case "after destroying":
                keys.after = stop("destroy")
            case "before the outcome":
                noted(monkeypatch, "SubjectForgotten", "before")
            case "done":
                noted(monkeypatch, "SubjectForgotten", "after")
        with pytest.raises(Stop):
            trail.forget("person-7", "u-9", "request 1")
        if point == "before the intent":
            assert TITLE in texts(trail)
        else:  # nobody reads it any more, though its key may still be there
            assert texts(trail) == {ERASED}
            assert code_of(trail.log_activity, "D", "call", note="again") == "forgotten_subject"
    monkeypatch.undo()
    with store.open() as trail:
        if point == "before the intent":
            assert TITLE in texts(trail)
            trail.forget("person-7", "u-9", "request 1")
        assert store.keys().get(log, ["person-7"]).get("person-7") is None
        events = [(e.event, e.by) for e in trail.follow() if e.deal is None and e.pipeline is None]
        assert events == [("keys_configured", None), ("forgetting_begun", "u-9"), ("subject_forgotten", "u-9")]
        assert texts(trail) == {ERASED}
        assert trail.pipeline_report("b2b", as_of=report.as_of, known_at=report.known_at) == report


def test_a_failed_forgetting_may_be_tried_again_without_opening_anew(store):
    keys = Watched(store)
    with store.open(keys=keys) as trail:
        keys.before = stop("destroy")
        with pytest.raises(Stop):
            trail.forget("person-7", "u-9", "request 1")
        keys.before = lambda step: None
        assert trail.forget("person-7", "u-9", "request 1").erased == 4
        assert [e.event for e in trail.follow()][-2:] == ["forgetting_begun", "subject_forgotten"]


def test_a_key_that_an_old_backup_brings_back_is_destroyed_again_at_opening(store, caplog):
    backup = store.folder / "backup.keys"
    shutil.copy(store.key_path, backup)
    with store.open() as trail:
        log = trail.status().log
        trail.forget("person-7", "u-9", "request 1")
        end = trail.status().position
    shutil.copy(backup, store.key_path)
    assert store.keys().get(log, ["person-7"]).get("person-7") is not None
    with caplog.at_level(logging.WARNING, logger="dealtrail"), store.open() as trail:
        assert "1 keys of forgotten subjects had come back" in caplog.text
        assert store.keys().get(log, ["person-7"]).get("person-7") is None
        assert texts(trail) == {ERASED}
        assert texts(trail, "E") == {"Other"}
        assert trail.status().position == end


def test_an_old_backup_of_the_log_has_no_key_for_what_was_forgotten_since(store):
    with closing(sqlite3.connect(store.path)) as db, closing(sqlite3.connect(store.folder / "old.db")) as old:
        db.backup(old)
    with store.open() as trail:
        trail.forget("person-7", "u-9", "request 1")
    with Trail.open(store.folder / "old.db", clock=Clock(NOW), keys=store.keys()) as trail:
        assert texts(trail) == {"[encrypted]"}  # that log does not know why its key is gone
        assert trail.forget("person-7", "u-9", "request 1, once more").erased == 4
        assert texts(trail) == {ERASED}
        assert texts(trail, "E") == {"Other"}


# Others who have the store open


def test_an_open_process_and_another_host_see_it_at_once(store):
    with store.open() as one, store.open() as open_before, store.open("elsewhere") as host:
        for trail in (open_before, host):
            assert TITLE in texts(trail)
        events = open_before.follow()
        assert next(events).event == "keys_configured"
        one.forget("person-7", "u-9", "request 1")
        for trail in (open_before, host):
            assert texts(trail) == {ERASED}
            assert code_of(trail.log_activity, "D", "call", note="again") == "forgotten_subject"
            assert code_of(trail.record, PAST[2] | {"kind": "mail"}) == "id_reused"
            assert trail.record(PAST[2]).version == 2
        assert {event.note for event in events} == {None, ERASED}  # also what was fetched before


def test_a_process_without_keys_reads_what_is_encrypted_as_such_and_records_none_in_clear(store):
    with store.open() as one:
        report = one.pipeline_report("b2b")
    with store.open(keys=None) as trail:
        assert texts(trail) == {"[encrypted]"}
        assert trail.pipeline_report("b2b", as_of=report.as_of, known_at=report.known_at) == report
        end = trail.status().position
        assert code_of(trail.log_activity, "D", "call", note="again") == "keys_missing"
        assert code_of(trail.amend, "D", 5, kind="mail") == "keys_missing"  # it would copy what it cannot read
        assert code_of(trail.record, PAST[2]) == "keys_missing"
        assert code_of(trail.forget, "person-7", "u-9", "request 1") == "keys_missing"
        assert trail.status().position == end
        trail.log_activity("D", "call")
        trail.move_deal("D", "proposal")
        assert trail.deal("D").stage == "proposal"


def test_a_process_that_was_open_before_keys_came_records_none_in_clear_after(tmp_path):
    store = Store(tmp_path)
    with store.open(keys=None) as without:
        without.record_all(PAST[:1])
        without.open_deal("b2b", deal="A")
        with store.open() as trail:
            assert trail.status().in_clear == 0
            assert code_of(without.log_activity, "A", "call", note="again") == "keys_missing"
            trail.log_activity("A", "call", note="again")
            assert without.history("A")[-1].note == "[encrypted]"


def test_threads_that_record_while_their_subject_is_forgotten_leave_nothing_to_read(store):
    refused, begin = [], Barrier(4)

    def record(trail):
        begin.wait()
        for number in range(200):
            try:
                trail.log_activity("D", "call", note=f"{NOTE} {number}")
            except DealtrailError as refusal:
                refused.append(refusal.code)
                return

    with store.open() as trail, store.open() as other:
        threads = [Thread(target=record, args=(one,)) for one in (trail, trail, other)]
        for thread in threads:
            thread.start()
        begin.wait()
        while trail.deal("D").version < 20:
            pass
        trail.forget("person-7", "u-9", "request 1")
        for thread in threads:
            thread.join()
        assert refused == ["forgotten_subject"] * 3
        assert texts(trail) == texts(other) == {ERASED}
        assert store.keys().get(trail.status().log, ["person-7"]) == {}


@pytest.mark.parametrize("subject", ["a:b:c", "person 7; DROP", "Zoë’s", 'it\'s "quoted" %_'])
def test_any_id_can_be_a_subject(store, subject):
    with store.open() as trail:
        trail.open_deal("b2b", deal="F", subject=subject, title=TITLE)
        assert trail.deal("F").title == TITLE
        assert trail.forget(subject, "u-9", "request 1").erased == 1
        assert trail.deal("F").title == ERASED
        assert TITLE in texts(trail)


def test_a_long_list_asks_for_its_keys_at_once(store):
    with store.open() as trail:
        trail.record_all(
            {"action": "open_deal", "deal": f"L-{n}", "pipeline": "b2b", "title": f"title {n}"} for n in range(50)
        )
    keys, asked = Watched(store), []
    with store.open(keys=keys) as trail:
        get = keys.get
        keys.get = lambda log, subjects: asked.append(len(subjects)) or get(log, subjects)
        assert {view.title for view in trail.list_deals("b2b")} >= {f"title {n}" for n in range(50)}
        assert asked == [52]
        trail.list_deals("b2b")
        assert asked == [52]


# Recorded in clear before


@pytest.fixture
def clear(tmp_path):
    """A store with a past in clear, which gets keys afterwards."""
    made = Store(tmp_path)
    with made.open(keys=None) as trail:
        trail.record_all(PAST)
    return made


def test_events_in_clear_are_said_at_every_opening(clear, caplog):
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="dealtrail"), clear.open() as trail:
            assert "5 events with personal texts were recorded in clear" in caplog.text
            assert trail.status().in_clear == 5
            assert any("recorded in clear" in advice for advice in trail.status().advice)
            trail.log_activity("D", "call", note="sealed from here")
            assert b"sealed from here" not in personal_columns(clear.path)[-1]
            assert {TITLE, "sealed from here"} <= texts(trail)


def test_adopting_keys_refuses_what_stands_in_clear_and_changes_nothing(clear, tmp_path):
    with clear.open(keys=None) as trail:
        end = trail.status().position
        assert code_of(trail.adopt_keys, clear.keys()) == "recorded_in_clear"
        assert (trail.status().position, trail.status().in_clear) == (end, None)
    with clear.open():
        pass
    with clear.open(keys=None) as trail:
        assert code_of(trail.adopt_keys, clear.keys()) == "recorded_in_clear"
    with Trail.open(tmp_path / "other.db", clock=Clock(NOW)) as trail:
        trail.record(B2B)
        trail.adopt_keys(clear.keys())
        trail.open_deal("b2b", deal="D", title=TITLE)
        assert (trail.deal("D").title, trail.status().in_clear) == (TITLE, 0)
    assert TITLE.encode() not in b"".join(personal_columns(tmp_path / "other.db"))


def test_what_stands_in_clear_is_not_said_to_be_forgotten(clear):
    with clear.open() as trail:
        trail.log_activity("D", "call", note="sealed")
        assert code_of(trail.forget, "person-7", "u-9", "request 1") == "recorded_in_clear"
        assert trail.history("D")[-1].note == "sealed"
        forgotten = trail.forget("person-7", "u-9", "request 1", partly=True)
        assert (forgotten.erased, forgotten.in_clear) == (1, 4)
        assert trail.history("D")[-1].note == ERASED
        assert trail.history("D")[0].title == TITLE
        trail.open_deal("b2b", deal="F", title="sealed")
        assert trail.forget("F", "u-9", "request 1").in_clear == 0


# Keys that do not fit


def test_the_keys_of_another_log_are_refused(store, tmp_path):
    others = KeyFile(tmp_path / "others.keys", MASTER_KEY)
    assert code_of(store.open, keys=others) == "wrong_keys"
    with Trail.open(tmp_path / "other.db", keys=others):
        pass
    assert code_of(store.open, keys=others) == "wrong_keys"
    with store.open() as trail:
        assert TITLE in texts(trail)


def test_one_file_of_keys_serves_many_stores_whose_subjects_share_names(store, tmp_path):
    with Trail.open(tmp_path / "other.db", clock=Clock(NOW), keys=store.keys()) as other, store.open() as trail:
        other.record_all(PAST)
        trail.forget("person-7", "u-9", "request 1")
        assert texts(trail) == {ERASED}
        assert TITLE in texts(other)


def test_a_lost_key_is_no_forgotten_subject(store, caplog):
    with store.open() as trail:
        store.keys().destroy(trail.status().log, ["person-7"])
    with caplog.at_level(logging.WARNING, logger="dealtrail"), store.open() as trail:
        assert texts(trail) == {"[encrypted]"}
        assert "there is no key of subject person-7" in caplog.text
        assert code_of(trail.amend, "D", 5, kind="mail") == "keys_missing"
        trail.log_activity("D", "call", note="under a new key")
        assert texts(trail) == {"[encrypted]", "under a new key"}


# Figures


def questions(trail):
    """A report of every kind."""
    for more in ({}, {"group_by": ("owner", "source")}, {"where": {"attributes.seats": 5}}, {"definition": "current"}):
        yield trail.pipeline_report("b2b", **more)
        yield trail.funnel_report("b2b", cohort="2026", **more)
        yield trail.conformance("b2b", cohort="2026", **more)
        yield trail.closing_report("b2b", **more)
    yield trail.pipeline_report("b2b", definition=Draft(stages("lead", "qualified", "proposal", "late")))
    yield trail.funnel_report("b2b", cohort="2026-01", within=30)
    yield trail.pipeline_report("b2b", as_of=on(3))


def again(trail, report):
    question = dict(report.question)
    kind = question.pop("report")
    ask = trail.conformance if kind == "conformance" else getattr(trail, f"{kind}_report")
    return ask(**question)


def test_every_report_of_an_earlier_moment_is_as_it_was_to_its_digest(store):
    with store.open() as trail:
        before = list(questions(trail))
        cells = [report for report in before if report.question["report"] in ("pipeline", "funnel")]
        behind = [[(d.deal, d.value, d.stage) for d in trail.deals(report)] for report in cells]
        moments = {"as_of": before[0].as_of, "known_at": before[0].known_at}
        to_do = trail.next_actions("b2b", **moments)
        trail.forget("person-7", "u-9", "request 1")
        assert [again(trail, report) for report in before] == before
        trail.rebuild()
        assert [again(trail, report) for report in before] == before
        assert [[(d.deal, d.value, d.stage) for d in trail.deals(report)] for report in cells] == behind
        assert trail.next_actions("b2b", **moments) == to_do


def test_the_chain_holds_over_ciphertext_and_over_the_forgetting(store):
    from dealtrail.store.recorder import link

    with store.open() as trail:
        trail.forget("person-7", "u-9", "request 1")
        status = trail.status()
    chain = bytes(32)
    with plain(store.path) as db:
        for position, *row, stored in db.execute("SELECT * FROM event ORDER BY position"):
            chain = link(chain, status.log, position, row)
            assert chain == stored
    assert chain.hex() == status.chain


PERSONAL_FIELDS = ["title", "note", "personal", f"personal.{NAME}", "personal.who", "subject"]


def test_no_report_filter_group_rule_or_condition_reads_a_personal_field(store):
    with store.open() as trail:
        for field in PERSONAL_FIELDS:
            by = {"group_by": (field,)}, {"where": {field: TITLE}}, {"where": {field: None}}
            for more in by:
                code = "invalid_group_by" if "group_by" in more else "invalid_where"
                assert code_of(trail.pipeline_report, "b2b", **more) == code, field
                assert code_of(trail.funnel_report, "b2b", cohort="2026", **more) == code, field
                assert code_of(trail.conformance, "b2b", cohort="2026", **more) == code, field
            assert code_of(trail.list_deals, "b2b", where={field: TITLE}) == "invalid_where"
            assert code_of(trail.list_deals, "b2b", sort=field) == "invalid_field"
            assert code_of(trail.deals, trail.pipeline_report("b2b"), field=field) == "invalid_field"
            assert code_of(trail.deals, trail.pipeline_report("b2b"), group={field: TITLE}) == "invalid_field"
            rule = [{"when": {"field": field, "op": "eq", "value": TITLE}, "to": "lead"}, {"to": "proposal"}]
            draft = Draft(stages("lead", "proposal"), {"qualified": rule})
            assert code_of(trail.record, redefine(9, "lead", "proposal", moves={"qualified": rule})) == (
                "invalid_condition"
            )
            assert code_of(trail.pipeline_report, "b2b", definition=draft) == "invalid_condition"
        # As the name of an attribute each is a name like any other: the personal field does not answer to it.
        for field in PERSONAL_FIELDS:
            report = trail.pipeline_report("b2b", group_by=(f"attributes.{field}",))
            assert [group.group for group in report.groups] == [{f"attributes.{field}": None}]
            assert trail.pipeline_report("b2b", where={f"attributes.{field}": TITLE}).total.deals == 0


def test_no_report_holds_a_personal_text(store):
    with store.open() as trail:
        reports = msgspec.json.encode(list(questions(trail))).decode()
    assert [secret for secret in SECRETS if secret in reports] == []
    assert "u-1" in reports


def test_personal_texts_change_no_figure_of_any_report(tmp_path):
    bare = [{k: v for k, v in action.items() if k not in ("title", "note", "personal")} for action in PAST]
    told = []
    for name, past in (("with", PAST), ("without", bare)):
        with Trail.open(tmp_path / name, clock=Clock(NOW), keys=KeyFile(tmp_path / "keys", MASTER_KEY)) as trail:
            trail.record_all(past)
            told.append([report.content_digest for report in questions(trail)])
    assert told[0] == told[1]


# Every file


def spellings(text):
    """The bytes by which a text could stand in a file: UTF-8, UTF-16, escaped, and in base64 at each offset."""
    plain_text = [text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), json.dumps(text)[1:-1].encode()]
    for raw in plain_text[:3]:
        yield raw
        for offset in range(3):
            # What stands before and behind decides the first and the last characters: those are left out.
            yield b64encode(b"\0" * offset + raw)[4:].rstrip(b"=")[:-4]
    yield plain_text[3]


def found_in(folder):
    """Which text stands in which file."""
    needles = {(text, spelling) for text in SECRETS for spelling in spellings(text)}
    found = set()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        held = path.read_bytes()
        found |= {(path.name, text) for text, spelling in needles if spelling in held}
    return found


def test_the_search_finds_every_spelling(tmp_path):
    for number, raw in enumerate((TITLE.encode(), TITLE.encode("utf-16-le"), TITLE.encode("utf-16-be"))):
        for offset in range(4):
            (tmp_path / f"{number}-{offset}").write_bytes(b64encode(b"x" * offset + raw + b"yz"))
        (tmp_path / f"{number}-plain").write_bytes(b"\xff" + raw)
    (tmp_path / "json").write_text(json.dumps([TITLE]))
    assert {name for name, text in found_in(tmp_path) if text == TITLE} == {path.name for path in tmp_path.iterdir()}


def test_the_search_finds_what_a_store_without_keys_holds(tmp_path):
    store = Store(tmp_path)
    with store.open(keys=None) as trail:
        trail.record_all(PAST)
        assert TITLE in texts(trail)
        assert {name for name, text in found_in(tmp_path) if text == TITLE} == {"sales.db-wal", "sales.db.read-1"}
    assert {name for name, text in found_in(tmp_path) if text == TITLE} == {"sales.db", "sales.db.read-1"}


def test_no_file_holds_a_plain_text_in_any_spelling_after_forgetting(tmp_path):
    (tmp_path / "exports").mkdir()
    store = Store(tmp_path)
    with store.open() as trail, store.open("host-1") as one, store.open("host-2") as two:
        trail.record_all(PAST)
        trail.record_all(
            {"action": "log_activity", "deal": "D", "kind": "call", "note": f"{NOTE} {n}"} for n in range(50)
        )
        for host in (one, two):
            host.pipeline_report("b2b")
            assert TITLE in texts(host)
        one.retract("D", 5, "by mistake")
        two.rebuild()
        with closing(sqlite3.connect(store.path)) as db, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
            db.backup(backup)
        key = store.keys().get(trail.status().log, ["person-7"]).get("person-7")
        trail.forget("person-7", "u-9", "request 1")
        for host in (one, two):
            assert texts(host) == {ERASED}
        for name, host in (("trail", trail), ("one", one), ("two", two)):
            (tmp_path / "exports" / name).write_bytes(
                msgspec.json.encode([list(host.follow()), host.history("D"), host.list_deals("b2b"), host.deal("D")])
            )
        names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
        assert {"sales.db", "sales.db-wal", "sales.keys", "backup.db", "sales.db.read", "sales.db.read-1"} <= names
        assert found_in(tmp_path) == set()
    assert found_in(tmp_path) == set()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and key in path.read_bytes()] == []


def test_no_wrapped_key_is_left_in_the_file_of_keys(store):
    with store.open() as trail:
        log = trail.status().log
        with closing(sqlite3.connect(store.key_path)) as db:
            wrapped = dict(db.execute("SELECT subject, wrapped FROM key"))
        trail.forget("person-7", "u-9", "request 1")
    held = store.key_path.read_bytes()
    assert wrapped["person-7"] not in held
    assert wrapped["person-8"] in held
    with closing(sqlite3.connect(store.key_path)) as db:
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert [name for name in os.listdir(store.folder) if name.startswith("sales.keys-")] == []
    assert store.keys().get(log, ["person-7"]).get("person-7") is None
