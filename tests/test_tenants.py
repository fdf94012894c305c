"""A pool of stores: each tenant has one, few are open, none that is used is closed."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from given import B2B, code_of, on, opening

from dealtrail import DealtrailError, Tenants, Trail

NOW = on(100)


@pytest.fixture
def opened(monkeypatch):
    """How often each store was opened, and how many are open at present, and were at most."""

    class Opened:
        now, most, times = 0, 0, {}

    lock = threading.Lock()
    real_open, real_close = Trail.open, Trail.close

    def open_(path, **options):
        trail = real_open(path, **options)
        with lock:
            Opened.now += 1
            Opened.most = max(Opened.most, Opened.now)
            name = Path(path).stem
            Opened.times[name] = Opened.times.get(name, 0) + 1
        return trail

    def close(self):
        with lock:
            Opened.now -= 1
        real_close(self)

    Opened.times = {}
    monkeypatch.setattr(Trail, "open", open_)
    monkeypatch.setattr(Trail, "close", close)
    return Opened


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def deals(tenants, name):
    with tenants.trail(name) as trail:
        return [deal.deal for deal in trail.list_deals("b2b")]


# Names


PATHS = ["", ".", "..", "../acme", "a/b", "a\\b", "/etc/passwd", "acme.db", "-a"]


@pytest.mark.parametrize("name", [*PATHS, "Acme", "äcme", "acme\n", "acme\0", "a" * 65, None, 7, b"acme", ["acme"]])
def test_a_name_that_is_no_key_is_no_tenant_and_makes_no_file(tmp_path, name):
    with Tenants(tmp_path / "stores") as tenants:
        assert code_of(tenants.path, name) == "invalid_key"
        assert code_of(lambda: tenants.trail(name).__enter__()) == "invalid_key"
    assert list(tmp_path.iterdir()) == []


def test_a_tenant_has_a_file_of_its_own(tmp_path):
    with Tenants(tmp_path, clock=lambda: NOW) as tenants:
        for name in ("acme", "acme-2"):
            with tenants.trail(name) as trail:
                trail.record_all([B2B, opening(2, deal=f"of-{name}")])
        assert tenants.path("acme") == str(tmp_path / "acme.db")
        assert (deals(tenants, "acme"), deals(tenants, "acme-2")) == (["of-acme"], ["of-acme-2"])


def test_the_options_are_those_of_a_trail(tmp_path):
    asked = []
    pool = Tenants(tmp_path, clock=lambda: NOW, authorize=lambda actor, request: asked.append(actor))
    with pool as tenants, tenants.trail("acme") as trail:
        trail.acting("anna").record(B2B)
    assert asked == ["anna"]
    with Tenants(tmp_path, create=False) as tenants:
        assert code_of(lambda: tenants.trail("acne").__enter__()) == "no_store"
        with tenants.trail("acme") as trail:
            assert trail.last_recorded_at() == NOW
    assert not (tmp_path / "acne.db").exists()


@pytest.mark.parametrize("most", [0, -1, True, 2.0, None])
def test_a_pool_has_room_for_one_at_least(tmp_path, most):
    assert code_of(Tenants, tmp_path, most) == "invalid_field"


# Opening and closing


def test_a_store_stays_open_until_its_place_is_needed_and_the_one_let_go_of_longest_ago_gives_way(tmp_path, opened):
    with Tenants(tmp_path, open_at_most=2) as tenants:
        for name in ("a", "b", "a", "c", "a", "b"):
            with tenants.trail(name):
                pass
        # c took the place of b, b that of c; a was used in between.
        assert opened.times == {"a": 1, "b": 2, "c": 1}
        assert (opened.now, opened.most) == (2, 2)
    assert opened.now == 0


def test_one_in_use_is_never_closed(tmp_path, opened):
    with Tenants(tmp_path, open_at_most=2) as tenants, tenants.trail("a") as trail:
        for name in ("b", "c", "d"):
            with tenants.trail(name):
                pass
        with tenants.trail("a") as again:
            assert again is trail
        trail.record(B2B)
        assert opened.times == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_where_all_are_in_use_one_waits_until_one_is_let_go_of(tmp_path, monkeypatch):
    with Tenants(tmp_path, open_at_most=1) as tenants, ThreadPoolExecutor(1) as pool:
        with tenants.trail("a"):
            waiting = pool.submit(lambda: tenants.trail("b").__enter__().status().position)
            with tenants.trail("a"):
                assert not waiting.done()
        assert waiting.result(timeout=30) == 0


def test_who_waits_for_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("dealtrail.tenants.LOCK_TIMEOUT_SECONDS", 0.01)
    with Tenants(tmp_path, open_at_most=1) as tenants, tenants.trail("a"):
        assert code_of(lambda: tenants.trail("b").__enter__()) == "all_in_use"


def test_a_store_that_cannot_be_opened_takes_no_place(tmp_path, opened):
    (tmp_path / "broken.db").write_bytes(b"no store at all, but some text" * 100)
    with Tenants(tmp_path, open_at_most=1) as tenants:
        with tenants.trail("a"):
            pass
        for _ in range(3):
            assert code_of(lambda: tenants.trail("broken").__enter__()) == "not_a_store"
        assert opened.now == 0
        with tenants.trail("b") as trail:
            trail.record(B2B)


def test_a_closed_pool_opens_nothing_and_closes_what_is_in_use_when_it_is_let_go_of(tmp_path, opened):
    tenants = Tenants(tmp_path, open_at_most=3)
    with ExitStack() as using:
        trail = using.enter_context(tenants.trail("a"))
        with tenants.trail("b"):
            pass
        tenants.close()
        assert opened.now == 1
        trail.record(B2B)
        assert code_of(lambda: tenants.trail("a").__enter__()) == "closed"
    assert opened.now == 0
    tenants.close()


def test_threads_share_a_pool_smaller_than_their_tenants(tmp_path, opened):
    """Each deal is in the store of the tenant for whom it was recorded, and in no other."""
    names = [f"tenant-{number}" for number in range(5)]
    with Tenants(tmp_path, open_at_most=2, clock=lambda: NOW) as tenants:
        for name in names:
            with tenants.trail(name) as trail:
                trail.record(B2B)

        def work(seed):
            rnd, made = random.Random(seed), []
            for number in range(8):
                name = rnd.choice(names)
                with tenants.trail(name) as trail:
                    made.append((name, trail.record(opening(2, deal=f"{seed}-{number}")).deal))
                    assert opened.now <= 2
            return made

        with ThreadPoolExecutor(4) as pool:
            made = [one for some in pool.map(work, range(4)) for one in some]
        for name in names:
            assert deals(tenants, name) == sorted(deal for of, deal in made if of == name)
    assert (opened.most, opened.now) == (2, 0)


def test_threads_that_want_one_tenant_open_it_once(tmp_path, opened):
    ready = threading.Barrier(8)

    def work(_):
        ready.wait()
        with tenants.trail("acme") as trail:
            return trail.status().log

    with Tenants(tmp_path) as tenants, ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(8)))) == 1
    assert opened.times == {"acme": 1}


def run(tenants, count):
    """Each tenant once: a deal recorded and reported on; the most file descriptors seen."""
    most = 0
    for number in range(count):
        with tenants.trail(f"tenant-{number}") as trail:
            trail.record_all([B2B, opening(2, deal=f"D{number}")])
            assert trail.pipeline_report("b2b").total.deals == 1
        most = max(most, descriptors())
    return most


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="file descriptors are counted in /proc")
@pytest.mark.parametrize(("count", "most"), [(6, 2), pytest.param(1_000, 50, marks=pytest.mark.slow)])
def test_the_files_that_are_open_are_those_of_the_stores_that_are(tmp_path, opened, count, most):
    before = descriptors()
    with Tenants(tmp_path, open_at_most=most, clock=lambda: NOW) as tenants:
        seen = run(tenants, count)
        assert (opened.now, opened.most) == (most, most)
        # Three files of SQLite (the data, -wal, -shm) for each connection of a store: its log is read and written by
        # two, the pointer of its read model by two, a generation by two.
        assert 0 < seen - before <= most * 3 * 6 + 10
        with tenants.trail("tenant-0") as trail:
            try:
                assert trail.deal("D0").deal == "D0"
            except DealtrailError as refusal:
                raise AssertionError("a store that was closed came back empty") from refusal
    assert descriptors() <= before
