"""Many processes, threads and tasks on one store: nothing lost, nothing twice, whole steps for every reader."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from threading import Barrier

import pytest
from given import code_of, stages

from dealtrail import StoreError, Trail

ENOUGH = 50  # fewer real waits for the write lock, or conflicts, and a test of them has shown nothing
LONGEST_WAIT_SECONDS = 20  # a bound on starvation, not a speed: the machine may be busy with other things

# Each step opens a pair of deals and moves the second on: whoever sees one of the three events must see all of them.
SHARED = """
import json, sys, time
from dealtrail import Conflict, DealtrailError, Trail
from dealtrail.store import connections

refused = [0]
real_sleep = connections.sleep

def counted(seconds):
    refused[0] += 1
    real_sleep(seconds)

connections.sleep = counted  # called where SQLite has just refused the write lock, and nowhere else

path, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
trail = Trail.open(path)
print("ready", flush=True)
sys.stdin.readline()
"""
WRITER = (
    SHARED
    + """
waited, longest, conflicts, positions = 0, 0.0, 0, []
for number in range(steps):
    before, began = refused[0], time.monotonic()
    one, two = ({"amount": amount, "currency": "EUR"} for amount in "12")
    done = trail.record_all([
        {"action": "open_deal", "pipeline": "b2b", "deal": f"{name}-{number}-a", "value": one},
        {"action": "open_deal", "pipeline": "b2b", "deal": f"{name}-{number}-b", "value": two},
        {"action": "move_deal", "deal": f"{name}-{number}-b", "stage": "qualified"},
    ])
    waited += refused[0] > before
    longest = max(longest, time.monotonic() - began)
    positions.append([one.position for one in done])
    while True:  # one deal that all writers change: each counts up the version that it read
        version = trail.deal("shared").version
        try:
            trail.record({"action": "set_attributes", "deal": "shared", "attributes": {"by": name, "seen": version},
                          "expected_version": version})
            break
        except Conflict:
            conflicts += 1
print(json.dumps({"waited": waited, "longest": longest, "conflicts": conflicts, "positions": positions}))
"""
)
READER = (
    SHARED
    + """
reports, last, followed = 0, 0, []
while True:
    report = trail.pipeline_report("b2b")
    lead, qualified = report.stages
    assert lead.deals == qualified.deals + 1, (lead.deals, qualified.deals)  # the shared deal has no pair
    assert (lead.value.get("EUR", 0), qualified.value.get("EUR", 0)) == (qualified.deals, 2 * qualified.deals)
    assert report.position >= last, (report.position, last)
    last, reports = report.position, reports + 1
    followed += [(one.position, one.recorded_at) for one in trail.follow(followed[-1][0] if followed else 0)]
    steps_seen = [at for _, at in followed]
    assert [position for position, _ in followed] == list(range(1, len(followed) + 1))
    assert steps_seen == sorted(steps_seen)
    known_at = followed[-1][1]
    once = trail.pipeline_report("b2b", as_of=known_at, known_at=known_at)
    assert once.position == followed[-1][0]  # what had been recorded by a moment stays what it was
    assert trail.pipeline_report("b2b", as_of=known_at, known_at=known_at) == once
    if qualified.deals >= steps:
        break
print(json.dumps({"reports": reports, "followed": len(followed)}))
"""
)


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "sales.db")
    with Trail.open(path) as trail:
        trail.define_pipeline("b2b", stages("lead", "qualified"))
        trail.open_deal("b2b", deal="shared")
    return path


def plain(path, question):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(question).fetchall()


def started(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def together(processes, seconds=600):
    """Let processes begin at once when all are ready, and give what each of them found."""
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        found = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [errors for _, errors in found if errors] == []
    return [json.loads(output) for output, _ in found]


def outcome_of(path, writers, readers, steps):
    """What became of writers and readers that ran together, checked against the file by plain SQL."""
    began = [started(WRITER, path, f"w{number}", steps) for number in range(writers)]
    began += [started(READER, path, f"r{number}", writers * steps) for number in range(readers)]
    found = together(began)
    written, read = found[:writers], found[writers:]
    waited = sum(one["waited"] for one in written)
    conflicts = sum(one["conflicts"] for one in written)
    longest = max(one["longest"] for one in written)
    print(
        f"{writers} writers, {readers} readers, {2 * writers * steps} steps: {waited} waits for the lock, "
        f"{conflicts} conflicts, longest wait {longest:.3f} s, {sum(one['reports'] for one in read)} reports"
    )
    assert waited + conflicts >= ENOUGH
    assert longest < LONGEST_WAIT_SECONDS
    expected = 2 + 4 * writers * steps
    assert plain(path, "SELECT count(*), min(position), max(position) FROM event") == [(expected, 1, expected)]
    told = sorted(position for one in written for step in one["positions"] for position in step)
    stored = plain(path, "SELECT position FROM event WHERE originator_id LIKE 'deal:w%' ORDER BY position")
    assert told == [position for (position,) in stored]
    steps_told = [step for one in written for step in one["positions"]]
    assert [step for step in steps_told if step != list(range(step[0], step[0] + 3))] == []
    assert plain(path, "SELECT count(*) FROM event WHERE originator_id = 'deal:shared'") == [(1 + writers * steps,)]
    seen = plain(
        path, "SELECT originator_version - 1, json_extract(CAST(state AS TEXT), '$.attributes.seen') FROM event"
        " WHERE topic = 'attributes_set.1'"
    )  # fmt: skip
    assert [pair for pair in seen if pair[0] != pair[1]] == []
    assert {one["followed"] for one in read if one["followed"] > expected} == set()
    with Trail.open(path) as trail:
        caught_up = trail.pipeline_report("b2b")
        trail.rebuild()
        assert trail.pipeline_report("b2b", as_of=caught_up.as_of, known_at=caught_up.known_at) == caught_up
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


def test_processes_that_write_and_read_one_store_lose_nothing_and_see_whole_steps(path):
    outcome_of(path, writers=6, readers=2, steps=15)


@pytest.mark.slow
def test_many_processes_that_write_and_read_one_store_for_long_lose_nothing(path):
    outcome_of(path, writers=12, readers=4, steps=60)


LEADS = (
    SHARED
    + """
waited = 0
for number in range(steps):
    before = refused[0]
    trail.record_all([
        {"action": "open_deal", "pipeline": rule, "deal": f"{name}-{number}-{rule}"}
        for rule in ("round_robin", "least_open_deals")
    ])
    waited += refused[0] > before
print(json.dumps({"waited": waited}))
"""
)


def test_eight_processes_that_open_leads_leave_nobody_out_and_no_deal_unassigned(path):
    """8 writers × 15 leads in each of two pipelines, which five owners share; with one rule the last counts twice."""
    writers, steps = 8, 15
    weights = {
        "round_robin": dict(zip("abcde", (1, 1, 1, 1, 2), strict=True)),
        "least_open_deals": dict.fromkeys("abcde", 1),
    }
    with Trail.open(path) as trail:
        for rule, shares in weights.items():
            owners = [{"owner": owner, "weight": weight} for owner, weight in shares.items()]
            trail.define_pipeline(rule, stages("lead"), assignment={"rule": rule, "owners": owners})
        done = together([started(LEADS, path, f"w{number}", steps) for number in range(writers)])
        leads = [one.data for one in trail.follow() if one.event == "deal_opened" and one.deal != "shared"]
    assert sum(one["waited"] for one in done) >= ENOUGH // 2
    assert [lead for lead in leads if lead["owner"] is None] == []
    for rule, shares in weights.items():
        owners = [lead["owner"] for lead in leads if lead["pipeline"] == rule]
        assert len(owners) == writers * steps
        for number in range(1, writers * steps + 1):
            had = Counter(owners[:number])
            off = [had[owner] - Fraction(number * weight, sum(shares.values())) for owner, weight in shares.items()]
            assert max(map(abs, off)) < 1, (rule, number)


CROWD = (
    SHARED
    + """
waited, longest = 0, 0.0
for number in range(steps):
    before, began = refused[0], time.monotonic()
    trail.open_deal("b2b", deal=f"{name}-{number}")
    waited += refused[0] > before
    longest = max(longest, time.monotonic() - began)
print(json.dumps({"waited": waited, "longest": longest, "ended": time.monotonic()}))
"""
)


def crowd(path, writers, steps):
    found = together([started(CROWD, path, f"c{number}", steps) for number in range(writers)])
    waited, longest = sum(one["waited"] for one in found), max(one["longest"] for one in found)
    print(f"{writers} writers, {writers * steps} steps: {waited} waits for the lock, longest wait {longest:.3f} s")
    assert waited >= ENOUGH
    assert min(one["waited"] for one in found) > 0  # everybody met the others: nobody ran before or after them
    assert longest < LONGEST_WAIT_SECONDS
    assert plain(path, "SELECT count(*), max(position) FROM event") == [(2 + writers * steps, 2 + writers * steps)]


def test_a_crowd_of_writers_takes_turns(path):
    crowd(path, 12, 40)


@pytest.mark.slow
def test_a_large_crowd_of_writers_takes_turns(path):
    crowd(path, 32, 200)


# Threads and tasks


def test_threads_share_a_trail_and_read_while_others_write(path):
    with Trail.open(path) as trail, ThreadPoolExecutor(12) as pool:
        start = Barrier(12)

        def write(name):
            start.wait()
            for number in range(15):
                trail.record_all(
                    {"action": "open_deal", "pipeline": "b2b", "deal": f"{name}-{number}-{half}"} for half in "ab"
                )

        def read():
            start.wait()
            return [trail.pipeline_report("b2b").total.deals for _ in range(15)]

        writes, reads = [pool.submit(write, name) for name in range(8)], [pool.submit(read) for _ in range(4)]
        assert [one.result() for one in writes] == [None] * 8
        counts = [one.result() for one in reads]
    assert [row for row in counts if row != sorted(row)] == []
    assert [count for row in counts for count in row if count % 2 == 0] == []  # the shared deal and whole pairs
    assert plain(path, "SELECT count(*), max(position) FROM event") == [(242, 242)]


def test_a_reader_does_not_wait_behind_writers_that_wait_for_the_lock(path):
    with Trail.open(path) as trail, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(3) as pool:
            writing = [pool.submit(trail.open_deal, "b2b", deal=f"D{number}") for number in range(3)]
            assert [trail.history("shared")[0].version for _ in range(20)] == [1] * 20
            assert [one.done() for one in writing] == [False] * 3
            other.execute("ROLLBACK")
            assert sorted(one.result().position for one in writing) == [3, 4, 5]


def test_tasks_record_and_ask_through_threads(path):
    async def backend():
        with Trail.open(path) as trail:
            opened = await asyncio.gather(
                *(asyncio.to_thread(trail.open_deal, "b2b", deal=f"D{number}") for number in range(20))
            )
            report = await asyncio.to_thread(trail.pipeline_report, "b2b")
            return sorted(one.position for one in opened), report.total.deals

    assert asyncio.run(backend()) == (list(range(3, 23)), 21)


def test_of_many_that_expect_the_same_version_one_is_served_and_the_others_are_in_conflict(path):
    with Trail.open(path) as trail, ThreadPoolExecutor(8) as pool:
        start = Barrier(8)

        def assign(owner):
            start.wait()
            try:
                return trail.assign_deal("shared", owner, expected_version=1).version
            except StoreError:
                raise
            except Exception as refusal:
                return refusal.code

        found = list(pool.map(assign, [f"owner-{number}" for number in range(8)]))
    assert sorted(map(str, found)) == ["2", *["conflict"] * 7]


# Forks


def in_child(work):
    """Run something in a forked child and give what it returned, as text; the child ends without cleaning up."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = str(work())
        except BaseException as trouble:
            told = f"{type(trouble).__name__}: {trouble}"
        os.write(send, told.encode())
        os._exit(0)
    os.close(send)
    with open(receive, encoding="utf-8") as answer:
        told = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return told


def test_a_forked_child_cannot_use_the_trail_of_its_parent_and_the_parent_goes_on(path):
    with Trail.open(path) as trail:
        for use in (
            lambda: trail.open_deal("b2b"),
            lambda: trail.pipeline_report("b2b"),
            lambda: list(trail.follow()),
            lambda: trail.deal("shared"),
        ):
            assert in_child(lambda use=use: code_of(use)) == "forked"
        assert trail.open_deal("b2b", deal="D").position == 3
        assert trail.pipeline_report("b2b").total.deals == 2
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_forked_child_may_close_its_parents_trail_and_open_it_again(path):
    with Trail.open(path) as trail:
        trail.open_deal("b2b", deal="before")

        def child():
            trail.close()
            with Trail.open(path) as own:
                return own.open_deal("b2b", deal="child").position

        assert in_child(child) == "4"
        assert trail.open_deal("b2b", deal="after").position == 5
        assert trail.pipeline_report("b2b").total.deals == 4


def test_what_a_child_records_stays_when_its_parent_closes_first(path):
    """The last to close takes the write-ahead log away: a child must be seen to hold the file, by locks of its own."""
    trail = Trail.open(path)
    trail.open_deal("b2b", deal="before")
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        own = Trail.open(path)
        own.open_deal("b2b", deal="child-1")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        own.open_deal("b2b", deal="child-2")
        os._exit(0)  # without closing, as one that is killed
    os.read(ready[0], 1)
    trail.close()
    os.write(go[1], b"x")
    assert os.waitpid(child, 0)[1] == 0
    for end in (*ready, *go):
        os.close(end)
    found = plain(path, "SELECT originator_id FROM event ORDER BY position DESC LIMIT 3")
    assert [stream for (stream,) in found] == ["deal:child-2", "deal:child-1", "deal:before"]


def test_a_fork_in_the_middle_of_a_transaction_harms_neither(path):
    with Trail.open(path) as trail:
        told = []

        def forking(done, of):
            told.append(in_child(lambda: (code_of(Trail.open, path), code_of(trail.open_deal, "b2b"))))

        batch = [{"action": "open_deal", "pipeline": "b2b", "deal": f"D{number}"} for number in range(3)]
        assert [one.position for one in trail.record_all(batch, progress=forking)] == [3, 4, 5]
        assert told == ["('forked', 'forked')"]
        assert trail.open_deal("b2b", deal="after").position == 6
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_child_that_walks_out_of_its_parents_transaction_commits_nothing(path):
    with Trail.open(path) as trail:
        parent, children = os.getpid(), []

        def forking(done, of):
            children.append(os.fork())

        try:
            trail.open_deal("b2b", deal="before")
            outcome = trail.record_all([{"action": "open_deal", "pipeline": "b2b", "deal": "D"}], progress=forking)
        except StoreError as refusal:
            outcome = refusal
        if os.getpid() != parent:
            os._exit(7 if getattr(outcome, "code", None) == "forked" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
        assert outcome[0].position == 4
        assert trail.open_deal("b2b", deal="after").position == 5
    assert plain(path, "SELECT count(*) FROM event") == [(5,)]


PREFORKED = """
import os, sys
from dealtrail import Trail
path, workers = sys.argv[1], int(sys.argv[2])
master = Trail.open(path)  # a server that looks at its store before it forks, and keeps it open
master.open_deal("b2b", deal="master-before")
children = []
for worker in range(workers):
    child = os.fork()
    if child == 0:
        with Trail.open(path) as trail:
            for number in range(20):
                trail.open_deal("b2b", deal=f"worker-{worker}-{number}")
                trail.pipeline_report("b2b")
        del master  # and the end of the process collects what it inherited
        sys.exit(0)
    children.append(child)
for number in range(20):
    master.open_deal("b2b", deal=f"master-{number}")
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
total = master.pipeline_report("b2b").total.deals
master.close()
print(codes, total)
"""


def test_a_pre_forked_server_opens_the_store_in_each_worker(path):
    done = subprocess.run([sys.executable, "-c", PREFORKED, path, "4"], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "[0, 0, 0, 0] 102\n")
    assert plain(path, "SELECT count(*), max(position) FROM event") == [(103, 103)]
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


# Killing


def test_writers_that_are_killed_leave_whole_steps_and_no_lock(path):
    victims = [started(WRITER, path, f"w{number}", 100_000) for number in range(4)]
    for victim in victims:
        assert victim.stdout.readline() == "ready\n"
    for victim in victims:
        victim.stdin.write("\n")
        victim.stdin.flush()
    with Trail.open(path) as trail:
        while trail.pipeline_report("b2b").total.deals < 30:
            pass
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
        trail.open_deal("b2b", deal="after")
        lead, qualified = trail.pipeline_report("b2b").stages
    assert lead.deals == qualified.deals + 2
    ((count, last),) = plain(path, "SELECT count(*), max(position) FROM event")
    assert count == last
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]
