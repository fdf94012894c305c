"""Backing up and restoring: nothing is lost or changed on the way, and nothing half is left anywhere."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from every_kind import PAST, forget_somebody
from given import B2B, Clock, amend, code_of, euro, log, move, on, opening

from dealtrail import DealtrailError, KeyFile, Trail
from dealtrail.store import copying, mapper, placing, restoring

KINDS = set(mapper.TAGS.values())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clock():
    return Clock(on(100))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The file of a store with a past of every kind of event."""
    path = tmp_path_factory.mktemp("template") / "sales.db"
    with Trail.open(path, clock=Clock(on(100))) as made:
        for step in PAST:
            made.record_all(step)
        forget_somebody(made)
    return path


@pytest.fixture
def trail(template, folder, clock):
    """Such a store, of which questions are asked a day after it was recorded."""
    shutil.copy(template, "sales.db")
    clock.now = on(101)
    with Trail.open("sales.db", clock=clock) as made:
        yield made


def plain(path, sql):
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(sql).fetchall()


def content(path):
    """Everything that a log holds."""
    return plain(path, "SELECT * FROM event ORDER BY position"), plain(path, "SELECT * FROM log")


def digests(trail, **known):
    """What a store reports, to the digest."""
    made = [trail.pipeline_report(key, as_of=on(50), **known) for key in ("b2b", "care", "strict")]
    made += [trail.funnel_report(key, cohort="2026", as_of=on(50), **known) for key in ("b2b", "care", "strict")]
    return [report.digest for report in made]


def reported(path, clock, **known):
    with Trail.open(path, clock=clock, create=False) as trail:
        return digests(trail, **known)


def lines(path):
    with open(path, "rb") as file:
        return file.read().splitlines(keepends=True)


def written(path, lines):
    with open(path, "wb") as file:
        file.writelines(lines)
    return path


def changed(raw, **fields):
    return json.dumps(json.loads(raw) | fields).encode() + b"\n"


def refused(*files, store="new.db", **more):
    """The code with which a restore is refused, which leaves nothing."""
    before = sorted(os.listdir())
    code = code_of(Trail.restore, store, files, **more)
    assert sorted(os.listdir()) == before
    return code


def test_the_past_of_these_tests_has_every_kind_of_event(trail):
    assert {tag for (tag,) in plain("sales.db", "SELECT topic FROM event")} == KINDS


# Copies


def test_a_copy_is_the_log_to_the_last_byte_of_every_event_and_reports_the_same(trail, clock):
    done = trail.backup("copy.db")
    status = trail.status()
    assert (done.path, done.log, done.since, done.position) == ("copy.db", status.log, 0, status.position)
    assert (done.chain, done.bytes) == (status.chain, os.path.getsize("copy.db"))
    assert content("copy.db") == content("sales.db")
    with Trail.open("copy.db", clock=clock) as copy:
        assert copy.verify(head=trail.head()).ok
    assert reported("copy.db", clock) == digests(trail)
    with Trail.open("copy.db", clock=clock) as copy:
        assert copy.log_activity("D", "call").position == done.position + 1


def test_a_copy_holds_what_stood_when_it_began_though_others_write_between_two_of_its_steps(trail, clock, monkeypatch):
    monkeypatch.setattr(copying, "_PAGES", 1)
    before, at = content("sales.db"), trail.status().position
    told = []

    def meanwhile(done, total):
        told.append((done, total))
        clock.now += timedelta(seconds=1)
        trail.record_all([log(30), log(31)])
        assert not os.path.exists("copy.db")

    done = trail.backup("copy.db", progress=meanwhile)
    assert len(told) > 3
    assert told == [(page, len(told)) for page in range(1, len(told) + 1)]
    assert (done.position, content("copy.db")) == (at, before)
    assert trail.status().position == at + 2 * len(told)


def test_copies_that_are_made_while_a_writer_never_rests_hold_whole_steps(trail, clock, monkeypatch):
    monkeypatch.setattr(copying, "_PAGES", 1)
    at, stop = trail.status().position, Event()

    def write():
        with Trail.open("sales.db") as other:
            while not stop.is_set():
                other.record_all([log(30), log(31), log(32)])

    writer = Thread(target=write)
    writer.start()
    try:
        ends = [trail.backup(f"copy-{number}.db").position for number in range(8)]
    finally:
        stop.set()
        writer.join()
    assert [(end - at) % 3 for end in ends] == [0] * 8
    assert ends == sorted(ends)
    assert ends[-1] > at
    whole = content("sales.db")[0]
    assert [content(f"copy-{number}.db")[0] == whole[:end] for number, end in enumerate(ends)] == [True] * 8


def test_a_trail_in_memory_is_copied_into_a_file(clock, folder):
    with Trail.open(":memory:", clock=clock) as trail:
        for step in PAST:
            trail.record_all(step)
        clock.now = on(101)
        told = []
        trail.backup("copy.db", progress=lambda *progress: told.append(progress))
        assert told
        assert reported("copy.db", clock) == digests(trail)
        trail.backup("all.jsonl", since=0)
    assert Trail.restore("again.db", ["all.jsonl"]).position == trail_length("copy.db")


def trail_length(path):
    return plain(path, "SELECT max(position) FROM event")[0][0]


WAYS = {"copy": {}, "lines": {"since": 0}}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_backup_takes_the_place_of_a_file_only_when_it_is_asked_to(trail, way):
    written("there", [b"something of value"])
    assert code_of(trail.backup, "there", **way) == "file_exists"
    assert lines("there") == [b"something of value"]
    trail.backup("there", overwrite=True, **way)
    trail.backup("other", **way)
    assert lines("there") == lines("other")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_backup_never_takes_the_place_of_a_store_that_is_open(trail, way):
    before = content("sales.db")
    assert code_of(trail.backup, "sales.db", overwrite=True, **way) == "file_exists"
    with Trail.open("other.db") as other:
        other.record(B2B | {"at": None})
        assert code_of(trail.backup, "other.db", overwrite=True, **way) == "file_exists"
    trail.backup("other.db", overwrite=True, **way)
    assert content("sales.db") == before


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_file_that_somebody_put_there_meanwhile_stays(trail, way):
    def meanwhile(done, total):
        written("there", [b"quicker"])

    assert code_of(trail.backup, "there", progress=meanwhile, **way) == "file_exists"
    assert lines("there") == [b"quicker"]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_backup_that_breaks_off_leaves_nothing(trail, way):
    def gone(done, total):
        raise KeyboardInterrupt

    before = sorted(os.listdir())
    with pytest.raises(KeyboardInterrupt):
        trail.backup("there", progress=gone, **way)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("dest", ["no/such/folder/copy", "nul\0", "x" * 250, ":memory:"])
def test_a_place_that_cannot_be_written_to_is_refused(trail, way, dest):
    assert code_of(trail.backup, dest, **way) == "unwritable_file"


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_backup_is_on_the_disk_before_it_gets_its_name_and_the_name_before_it_is_acknowledged(
    trail, way, monkeypatch
):
    synced = []
    sync = placing._sync

    def noted(path):
        synced.append((os.path.basename(path).partition(".")[0], os.path.exists("there")))
        sync(path)

    monkeypatch.setattr(placing, "_sync", noted)
    trail.backup("there", **way)
    assert synced == [("there", False), (os.path.basename(os.getcwd()), True)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_backup_for_which_there_is_no_room_leaves_nothing_and_the_store_goes_on(trail, way):
    before = sorted(os.listdir())
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow beyond
    try:
        code = code_of(trail.backup, "there", **way)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == ("unwritable_file" if way else "disk_error")
    assert sorted(os.listdir()) == before
    trail.log_activity("D", "call")
    trail.backup("there", **way)


KILLED = """
import os, sys
from dealtrail import Trail
from dealtrail.store import copying
copying._PAGES = 1
with Trail.open("sales.db") as trail:
    trail.backup("there", progress=lambda done, total: os._exit(9), **eval(sys.argv[1]))
"""


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_backup_that_is_killed_leaves_no_half_of_it_under_its_name(trail, way):
    before = set(os.listdir())
    run = subprocess.run([sys.executable, "-c", KILLED, repr(way)], check=False)
    assert run.returncode == 9
    (left,) = set(os.listdir()) - before - {name for name in os.listdir() if name.endswith("-journal")}
    assert left.startswith("there.")
    assert left.endswith(".partial")
    assert trail.backup("there", **way).position == trail.status().position


def without_triggers(path, *statements):
    with closing(sqlite3.connect(path)) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            raw.execute(statement)
        raw.commit()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET state = CAST(replace(state, 'lead', 'won') AS BLOB) WHERE position = 3",
        "UPDATE event SET occurred_at = occurred_at + 1 WHERE position = 3",
        "UPDATE event SET personal = NULL WHERE position = 3",
        "UPDATE event SET recorded_at = 'now' WHERE position = 3",
        "UPDATE event SET state = x'ff' WHERE position = 3",
        "DELETE FROM event WHERE position = 3",
    ],
)
def test_a_log_that_was_changed_is_not_backed_up_as_if_it_were_whole(trail, way, damage):
    without_triggers("sales.db", damage)
    before = sorted(os.listdir())
    assert code_of(trail.backup, "there", **way) == "damaged"
    assert sorted(os.listdir()) == before


# Lines


def test_a_log_restored_from_an_export_and_its_increments_is_the_same_to_every_byte_and_digest(trail, clock):
    first = trail.backup("0.jsonl", since=0)
    assert (first.since, first.bytes) == (0, os.path.getsize("0.jsonl"))
    files = ["0.jsonl"]
    for number in range(1, 4):
        since = trail.status().position
        clock.now += timedelta(hours=1)
        trail.record_all([log(40, kind=f"call {number}"), opening(41, deal=f"N-{number}")])
        assert trail.backup(f"{number}.jsonl", since=since).since == since
        files.append(f"{number}.jsonl")
    told = []
    made = Trail.restore("new.db", files, progress=lambda *progress: told.append(progress))
    status = trail.status()
    assert (made.path, made.log, made.brought) == ("new.db", status.log, 0)
    assert (made.position, made.chain) == (status.position, status.chain)
    assert content("new.db") == content("sales.db")
    with Trail.open("new.db", clock=clock) as new:
        assert new.verify(head=trail.head()).ok
    assert told[-1] == (sum(map(os.path.getsize, files)),) * 2
    clock.now += timedelta(days=1)
    assert reported("new.db", clock) == digests(trail)
    assert reported("new.db", clock, known_at=on(101)) == digests(trail, known_at=on(101))
    with Trail.open("new.db", clock=clock) as new:
        assert new.log_activity("D", "call").position == status.position + 1
        assert (
            new.record(
                opening(
                    2,
                    owner="anna",
                    value=euro("12.50"),
                    title="Zoë's deal",
                    id="o-1",
                    by="anna",
                    attributes={"vip": True},
                )
            ).position
            == 3
        )


@pytest.mark.parametrize("lot", [1, 4, 5])
def test_lines_that_are_read_and_written_in_small_lots_are_the_same(trail, clock, monkeypatch, lot):
    trail.backup("at-once.jsonl", since=0)
    monkeypatch.setattr(copying, "_EVENTS", lot)
    monkeypatch.setattr(restoring, "_PER_COMMIT", lot)
    told = []
    end = trail.backup("all.jsonl", since=0, progress=lambda *progress: told.append(progress)).position
    assert told == [(done, end) for done in range(lot, end, lot)] + [(end, end)]
    assert lines("all.jsonl") == lines("at-once.jsonl")
    Trail.restore("new.db", ["all.jsonl"])
    assert content("new.db") == content("sales.db")
    made = Trail.restore("crm.db", [history("crm.jsonl", *ELSEWHERE)], clock=clock)
    assert (made.position, made.brought) == (6, 6)


def test_the_lines_say_what_the_log_keeps_and_the_chain_can_be_made_again_from_them_alone(trail):
    trail.backup("all.jsonl", since=0)
    header, *events, trailer = map(json.loads, lines("all.jsonl"))
    assert header == {
        "dealtrail": "log",
        "lines": 1,
        "log": trail.status().log,
        "format": 1,
        "since": 0,
        "chain": "0" * 64,
    }
    followed = list(trail.follow())
    shown = ("position", "version", "by", "id")
    assert [[event[name] for name in shown] for event in events] == [
        [getattr(event, name) for name in shown] for event in followed
    ]
    named = [event["stream"].removeprefix("deal:").removeprefix("pipeline:") for event in events]
    assert [event.deal or event.pipeline or name for event, name in zip(followed, named, strict=True)] == named
    assert [event["event"].partition(".")[0] for event in events] == [event.event for event in followed]
    for name in ("recorded_at", "occurred_at"):
        assert [datetime.fromisoformat(event[name]) for event in events] == [getattr(e, name) for e in followed]

    def part(value):
        kind, data = {
            type(None): lambda: ("n", b""),
            int: lambda: ("i", str(value).encode()),
            str: lambda: ("t", value.encode()),
            bytes: lambda: ("b", value),
        }[type(value)]()
        return f"{kind}{len(data)}:".encode() + data

    def micros(text):
        return (datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00:00Z")) // timedelta(
            microseconds=1
        )

    chain = bytes(32)
    for event in events:
        stream = event["stream"]
        values = [
            *(header["log"], event["position"], stream, event["version"], event["event"], event["state"].encode()),
            *(micros(event["occurred_at"]), micros(event["recorded_at"]), event["clock_behind_us"]),
            *(event["by"], event["id"], event["request"] and bytes.fromhex(event["request"]), event["amends"]),
            event["personal"] and event["personal"].encode(),
        ]
        chain = hashlib.sha256(chain + b"".join(map(part, values))).digest()
        assert event["chain"] == chain.hex()
    assert trailer == {"dealtrail": "end", "count": len(events), "position": len(events), "chain": chain.hex()}


def test_an_increment_without_an_event_is_one_too_and_a_position_beyond_the_log_is_none(trail):
    end = trail.status().position
    trail.backup("all.jsonl", since=0)
    assert trail.backup("none.jsonl", since=end).position == end
    assert len(lines("none.jsonl")) == 2
    assert Trail.restore("new.db", ["all.jsonl", "none.jsonl", "none.jsonl"]).position == end
    for since in (end + 1, -1, 2**80, "1", 1.5, True):
        assert code_of(trail.backup, "more.jsonl", since=since) == "invalid_field"
    assert not os.path.exists("more.jsonl")


def test_an_export_without_an_event_founds_an_empty_store_of_that_id(folder, clock):
    with Trail.open("empty.db", clock=clock) as trail:
        trail.backup("all.jsonl", since=0)
        log_id = trail.status().log
    made = Trail.restore("new.db", ["all.jsonl"])
    assert (made.log, made.position) == (log_id, 0)


def test_a_file_that_was_cut_anywhere_is_refused(trail):
    trail.backup("all.jsonl", since=0)
    whole = b"".join(lines("all.jsonl"))
    ends = [len(b"".join(lines("all.jsonl")[:count])) for count in range(len(lines("all.jsonl")))]
    cuts = sorted({*ends, *(end - 1 for end in ends[1:]), *range(1, len(whole) - 1, 797), len(whole) - 2})
    assert len(cuts) > 60
    assert {refused(written("cut.jsonl", [whole[:cut]])) for cut in cuts} == {"cut_file"}
    written("cut.jsonl", [whole[:-1]])
    assert Trail.restore("new.db", ["cut.jsonl"]).position == trail.status().position


def test_a_line_of_which_anything_was_changed_is_refused(trail):
    trail.backup("all.jsonl", since=0)
    whole = lines("all.jsonl")
    other = {str: "x", int: 99, bool: False, type(None): 1}
    found = {}
    for name, value in json.loads(whole[3]).items():
        for new in {repr(v): v for v in (other[type(value)], None, "2026-01-01T00:00:00Z", "00" * 32)}.values():
            if new != value:
                damaged = [*whole[:3], changed(whole[3], **{name: new}), *whole[4:]]
                found[name, repr(new)] = refused(written("bad.jsonl", damaged))
    assert {name for name, _ in found} == set(json.loads(whole[3]))
    assert set(found.values()) == {"wrong_chain", "invalid_line"}
    assert {found[name, "'x'"] for name in ("by", "id", "state", "event")} == {"wrong_chain"}


def test_lines_that_were_swapped_dropped_doubled_or_put_in_are_refused(trail):
    trail.backup("all.jsonl", since=0)
    head, *events, end = lines("all.jsonl")
    swapped = [head, events[0], events[2], events[1], *events[3:], end]
    dropped = [head, events[0], *events[2:], end]
    doubled = [head, events[0], events[0], *events[1:], end]
    forged = changed(events[1], position=3)
    for given in (swapped, dropped, doubled, [head, *events[:2], forged, *events[2:], end]):
        assert refused(written("bad.jsonl", given)) == "wrong_chain"
    less = json.loads(end)["count"] - 1
    assert refused(written("bad.jsonl", [head, *events[:-1], end])) == "cut_file"
    shorter = changed(end, count=less)
    assert refused(written("bad.jsonl", [head, *events[:-1], shorter])) == "invalid_line"
    assert refused(written("bad.jsonl", [head, *events, end, events[0]])) == "invalid_line"
    assert refused(written("bad.jsonl", [head, *events, head])) == "invalid_line"
    assert refused(written("bad.jsonl", [head, *events, b'{"dealtrail":"end"}\n'])) == "invalid_line"
    assert refused(written("bad.jsonl", [head, b"{}\n", *events, end])) == "invalid_line"
    assert refused(written("bad.jsonl", [head, b"\n", *events, end])) == "invalid_json"


def test_files_with_a_gap_in_the_wrong_order_or_twice_are_refused(trail, clock):
    ends = [0]
    for number in range(4):
        trail.backup(f"{number}.jsonl", since=ends[-1])
        ends.append(trail.status().position)
        clock.now += timedelta(hours=1)
        trail.log_activity("D", "call")
    with pytest.raises(DealtrailError) as caught:
        Trail.restore("new.db", ["0.jsonl", "2.jsonl"])
    assert caught.value.code == "log_gap"
    assert caught.value.facts == {"path": "2.jsonl", "since": ends[2], "position": ends[1]}
    for given in ("1", "01 1", "0 2 1", "0 0", "0 1 3"):
        assert refused(*(f"{number}.jsonl" for number in given.replace(" ", ""))) == "log_gap"
    assert Trail.restore("new.db", [f"{number}.jsonl" for number in range(4)]).position == ends[-1]


def test_a_file_of_another_log_is_refused(trail, clock):
    trail.backup("0.jsonl", since=0)
    with Trail.open("other.db", clock=clock) as other:
        for step in PAST:
            other.record_all(step)
        forget_somebody(other)
        end = other.status().position
        other.log_activity("D", "call")
        other.backup("other.jsonl", since=end)
    assert refused("0.jsonl", "other.jsonl") == "other_log"
    header, *rest = lines("other.jsonl")
    same = changed(header, log=trail.status().log)
    assert refused("0.jsonl", written("renamed.jsonl", [same, *rest])) == "wrong_chain"


def test_a_file_of_another_past_of_the_same_log_is_refused(trail, clock):
    trail.backup("fork.db")
    trail.log_activity("D", "call")
    trail.backup("0.jsonl", since=0)
    with Trail.open("fork.db", clock=clock) as fork:
        end = fork.log_activity("D", "mail").position
        fork.log_activity("D", "mail")
        fork.backup("fork.jsonl", since=end)
    assert refused("0.jsonl", "fork.jsonl") == "wrong_chain"


def test_a_restore_founds_a_new_store_and_takes_the_place_of_none(trail):
    trail.backup("all.jsonl", since=0)
    before = content("sales.db")
    assert refused("all.jsonl", store="sales.db") == "file_exists"
    written("left.db-wal", [b"of a store that was not closed"])
    assert refused("all.jsonl", store="left.db") == "file_exists"
    assert content("sales.db") == before


def test_what_is_no_file_of_lines_is_refused(trail):
    trail.backup("copy.db")
    assert refused("copy.db") == "invalid_line"
    assert refused("no-such.jsonl") == "unreadable_file"
    assert refused(".") == "unreadable_file"
    assert refused("nul\0") == "unreadable_file"
    assert refused() == "invalid_field"
    assert code_of(Trail.restore, "new.db", "all.jsonl") == "invalid_field"
    for text in (b"", b"\n", b"[]\n", b"{}\n", b'{"dealtrail":"log"}\n', b'{"dealtrail":"logs","lines":1}\n'):
        assert refused(written("bad.jsonl", [text])) == ("invalid_line" if text else "cut_file")
    assert refused(written("bad.jsonl", [b'{"dealtrail":"log","lines":1,"log":""}\n'])) == "invalid_line"
    assert refused(written("bad.jsonl", [b'{"action":"open_deal"}\n'])) == "invalid_line"


def test_lines_of_a_newer_code_are_refused_and_it_is_said(trail):
    trail.backup("all.jsonl", since=0)
    header, *rest = lines("all.jsonl")
    assert refused(written("bad.jsonl", [changed(header, lines=2), *rest])) == "newer_store"
    assert refused(written("bad.jsonl", [changed(header, format=2), *rest])) == "newer_store"


def test_an_event_of_a_newer_code_is_restored_by_none_that_cannot_read_it(trail, monkeypatch):
    trail.backup("all.jsonl", since=0)
    known = {tag: decode for tag, decode in mapper._DECODERS.items() if tag != "deal_merged.1"}
    monkeypatch.setattr(mapper, "_DECODERS", known)
    assert refused("all.jsonl") == "newer_store"


# A history that was recorded elsewhere

HEADER = {"dealtrail": "history", "lines": 1}


def history(path, *actions, header=HEADER, count=None):
    """A file of actions, each with when it was recorded."""
    trailer = {"dealtrail": "end", "count": len(actions) if count is None else count}
    texts = [json.dumps(line, default=datetime.isoformat) for line in (header, *actions, trailer)]
    return written(path, [f"{text}\n".encode() for text in texts])


def at(day, action, hour=0):
    return action | {"recorded_at": on(day, hour)}


ELSEWHERE = [
    at(1, B2B),
    at(2, opening(2, owner="anna", id="crm-1")),
    at(9, move(3, "qualified", by="anna")),
    at(12, amend(1, owner="bob")),
    at(20, log(None)),
]


def test_a_history_gets_the_times_of_its_lines_and_a_chain_of_its_own_and_is_marked(folder, clock):
    made = Trail.restore("crm.db", [history("crm.jsonl", *ELSEWHERE)], clock=clock)
    assert (made.position, made.brought) == (6, 6)  # an amendment is two events
    with Trail.open("crm.db", clock=clock) as trail:
        events = list(trail.follow())
        assert [event.recorded_at for event in events] == [on(1), on(2), on(9), on(12), on(12), on(20)]
        assert events[-1].occurred_at == on(20)
        before, after = (trail.deal("D", as_of=on(5), known_at=on(day)) for day in (8, 9))
        assert (before.stage, after.stage) == ("lead", "qualified")
        status = trail.status()
        assert (status.brought, status.log, status.chain) == (6, made.log, made.chain)
        assert trail.log_activity("D", "call").position == 7
        assert next(trail.follow(6)).recorded_at == on(100)
        assert trail.status().brought == 6
        day_us = 86_400_000_000
        assert plain("crm.db", "SELECT clock_behind_us FROM event") == [
            *((-(100 - day) * day_us,) for day in (1, 2, 9, 12, 12, 20)),
            (0,),
        ]
        # It stays marked wherever it goes, and the mark is in the chain.
        trail.backup("copy.db")
        trail.backup("all.jsonl", since=0)
    again = Trail.restore("again.db", ["all.jsonl"])
    assert (again.brought, again.log) == (6, made.log)
    for path in ("copy.db", "again.db"):
        with Trail.open(path) as trail:
            assert trail.verify().ok
            assert trail.status().brought == 6
    header, *rest = lines("all.jsonl")
    unmarked = changed(header, log="0" * 32)
    assert refused(written("bad.jsonl", [unmarked, *rest])) == "wrong_chain"


def test_a_log_of_ones_own_bears_no_such_mark(trail):
    assert trail.status().brought == 0


def test_a_history_that_is_restored_with_keys_holds_no_text_in_clear_and_can_be_forgotten(folder, clock):
    texts = {"title": "Quillfeather", "personal": {"who": "Quillfeather"}}
    past = [
        at(1, B2B),
        at(2, opening(2, subject="s", **texts)),
        at(3, amend(1, owner="bob")),
        at(4, log(4, note="Quill")),
    ]
    keys = KeyFile("crm.keys", bytes(32))
    made = Trail.restore("crm.db", [history("crm.jsonl", *past)], clock=clock, keys=keys)
    assert (made.position, made.brought) == (6, 5)  # behind the history stands that keys are configured
    assert b"Quill" not in Path("crm.db").read_bytes()
    with Trail.open("crm.db", clock=clock, keys=keys) as trail:
        assert [event.recorded_at for event in trail.follow()] == [on(1), on(2), on(3), on(3), on(4), on(100)]
        assert (trail.status().in_clear, trail.status().brought) == (0, 5)
        assert [event.title or event.note for event in trail.history("D")] == [
            "Quillfeather",
            None,
            "Quillfeather",
            "Quill",
        ]
        assert trail.verify().ok
        trail.adopt_keys(keys)
        trail.log_activity("D", "call", note="Quill")
        assert trail.forget("s", "u-1", "asked").erased == 4
        assert {event.title or event.note for event in trail.history("D")} == {"[erased]", None}
        assert trail.verify().ok
    with Trail.open("crm.db", clock=clock) as trail:
        assert code_of(trail.log_activity, "D", "call", note="Quill") == "keys_missing"


def test_a_log_that_is_restored_keeps_its_texts_as_they_were_whatever_keys_are_given(trail, clock):
    trail.backup("all.jsonl", since=0)
    made = Trail.restore("new.db", ["all.jsonl"], clock=clock, keys=KeyFile("new.keys", bytes(32)))
    assert f"{made.position}:{made.chain}" == str(trail.head())


def test_the_same_history_restored_twice_says_the_same_under_two_chains(folder, clock):
    file = history("crm.jsonl", *ELSEWHERE)
    one, two = (Trail.restore(f"{name}.db", [file], clock=clock) for name in ("one", "two"))
    assert one.log != two.log
    assert one.chain != two.chain
    with Trail.open("one.db", clock=clock) as first, Trail.open("two.db", clock=clock) as second:
        reports = [trail.pipeline_report("b2b", known_at=on(10)) for trail in (first, second)]
    assert reports[0].content_digest == reports[1].content_digest
    assert reports[0].digest != reports[1].digest


@pytest.mark.parametrize(
    ("code", "line", "actions"),
    [
        ("already_in_stage", 4, [*ELSEWHERE[:2], at(3, move(3, "lead"))]),
        ("unknown_pipeline", 2, [at(2, opening(2))]),
        ("unknown_field", 3, [ELSEWHERE[0], at(2, opening(2, colour="red"))]),
        ("future_time", 3, [ELSEWHERE[0], at(2, opening(3))]),
        ("not_after_previous", 3, [at(2, B2B), at(2, opening(2))]),
        ("not_after_previous", 3, [at(2, B2B), at(1, opening(1))]),
        ("missing_field", 2, [B2B]),
        ("naive_time", 2, [B2B | {"recorded_at": "2026-01-01T00:00:00"}]),
        ("invalid_time", 2, [B2B | {"recorded_at": 7}]),
        ("invalid_field", 2, [B2B | {"recorded_at": on(100)}]),
        ("unknown_action", 2, [B2B | {"action": "teleport", "recorded_at": on(1)}]),
    ],
)
def test_a_history_is_judged_as_any_action_is_and_the_line_is_named(folder, clock, code, line, actions):
    file = history("crm.jsonl", *actions)
    assert refused(file, clock=clock) == code
    with pytest.raises(DealtrailError) as caught:
        Trail.restore("new.db", [file], clock=clock)
    assert (caught.value.facts["path"], caught.value.facts["line"]) == ("crm.jsonl", line)
    assert str(caught.value).startswith(f"{code}: crm.jsonl, line {line}: ")


def test_a_history_that_was_cut_is_refused(folder, clock):
    history("crm.jsonl", *ELSEWHERE)
    whole = lines("crm.jsonl")
    assert refused(written("cut.jsonl", whole[:-1]), clock=clock) == "cut_file"
    assert refused(written("cut.jsonl", [*whole[:2], *whole[3:]]), clock=clock) in ("cut_file", "unknown_deal")
    assert refused(history("cut.jsonl", *ELSEWHERE[:-1], count=5), clock=clock) == "cut_file"


def test_a_history_is_one_file(folder, clock):
    file = history("crm.jsonl", *ELSEWHERE)
    assert refused(file, history("more.jsonl", at(30, log(30))), clock=clock) == "invalid_line"


def test_a_history_does_not_go_on_a_log(trail):
    trail.backup("all.jsonl", since=0)
    assert refused("all.jsonl", history("crm.jsonl", *ELSEWHERE)) == "other_log"


# The read model beside a log that was put back


def put_back(log):
    """The log of another file in the place of that of sales.db, beside the read model that is there."""
    assert os.path.exists("sales.db.read")
    os.remove("sales.db")
    shutil.copy(log, "sales.db")


def test_a_read_model_that_is_newer_than_the_log_beside_it_is_made_anew(trail, clock):
    trail.backup("older.db")
    expected = digests(trail)
    trail.record_all([opening(30, deal=f"N-{number}") for number in range(5)])
    assert digests(trail) != expected
    trail.close()
    put_back("older.db")
    assert reported("sales.db", clock) == expected


def test_so_it_is_where_the_log_that_was_put_back_has_gone_on_beyond_it(trail, clock):
    trail.backup("older.db")
    trail.record_all([opening(30, deal="N-1"), opening(30, deal="N-2")])
    digests(trail)
    trail.close()
    with Trail.open("older.db", clock=clock) as older:
        older.record_all([opening(30, deal=f"M-{number}") for number in range(9)])
        clock.now += timedelta(hours=1)
        expected = digests(older)
    put_back("older.db")
    assert reported("sales.db", clock) == expected


def test_so_it_is_where_the_log_is_that_of_another_store(trail, clock):
    digests(trail)
    trail.close()
    with Trail.open("other.db", clock=clock) as other:
        for step in PAST:
            other.record_all(step)
        clock.now += timedelta(hours=1)
        expected = digests(other)
    put_back("other.db")
    assert reported("sales.db", clock) == expected


def test_a_store_restored_beside_the_read_model_of_one_that_was_lost_reports_what_it_holds(trail, clock):
    trail.backup("all.jsonl", since=0)
    expected = digests(trail)
    trail.record_all([opening(30, deal=f"N-{number}") for number in range(5)])
    digests(trail)
    trail.close()
    os.remove("sales.db")
    Trail.restore("sales.db", ["all.jsonl"])
    assert reported("sales.db", clock) == expected
