"""What the disk and its owner may do to a store: each trouble has a code, and what was acknowledged stays."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from given import code_of, stages

from dealtrail import DealtrailError, Trail
from dealtrail.store import connections


@pytest.fixture
def tmp_path():
    """A folder that everybody may enter, as those of pytest are not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "sales.db")
    with Trail.open(path) as trail:
        trail.define_pipeline("b2b", stages("lead", "qualified"))
        trail.open_deal("b2b", deal="D")
        trail.pipeline_report("b2b")
    return path


def count(path):
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((events, last),) = db.execute("SELECT count(*), max(position) FROM event").fetchall()
    assert events == last
    return events


def big(number=20):
    """A batch that no small room holds."""
    return [{"action": "log_activity", "deal": "D", "kind": "call", "note": "x" * 20_000} for _ in range(number)]


# No room


def test_a_full_store_is_full_and_goes_on_when_there_is_room(path, monkeypatch):
    # A limit of pages stands in for the end of the disk: SQLite answers both with SQLITE_FULL.
    made, raws = connections._Pool._create_connection, []

    def small(pool):
        made_one = made(pool)
        raw = made_one._sqlite_conn
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages + 5}")
        raws.append(raw)
        return made_one

    monkeypatch.setattr(connections._Pool, "_create_connection", small)
    with Trail.open(path) as trail:
        assert code_of(trail.record_all, big()) == "full"
        assert code_of(lambda: list(trail.record_each(big()))) == "full"
        assert trail.history("D")[-1].version == 1
        for raw in raws:
            raw.execute("PRAGMA max_page_count = 1000000")
        assert trail.record_all(big())[-1].position == 22
    assert count(path) == 22


LIMITED = """
import resource, signal, sys
from dealtrail import DealtrailError, Trail
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, limit = sys.argv[1], int(sys.argv[2])
trail = Trail.open(path)
trail.log_activity("D", "call")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    trail.record_all([{"action": "log_activity", "deal": "D", "kind": "x", "note": "x" * 20_000} for _ in range(100)])
except DealtrailError as trouble:
    print(trouble.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(trail.log_activity("D", "call").position, trail.pipeline_report("b2b").total.deals)
"""


def test_a_disk_that_refuses_to_write_is_a_disk_error_and_the_trail_goes_on_when_it_is_mended(path):
    done = run(LIMITED, path, 200_000)
    assert done.stdout.split() == ["disk_error", "4", "1"], done.stderr
    assert count(path) == 4


def test_too_many_open_files_are_a_disk_error(path):
    script = (
        "import resource, sys\nfrom dealtrail import DealtrailError, Trail\nimport sqlite_utils, msgspec\n"
        "trail = Trail.open(sys.argv[1])\ntrail.close()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "try:\n    Trail.open(sys.argv[1])\nexcept DealtrailError as trouble:\n    print(trouble.code)\n"
    )
    done = run(script, path)
    assert done.stdout.split() == ["disk_error"], done.stderr


# No right to write

UNPRIVILEGED = """
import os, sys
from dealtrail import DealtrailError, Trail
with Trail.open(":memory:") as trail:  # imports and reads what the account without rights may not be able to
    trail.define_pipeline("b2b", [{"key": "lead", "name": "Lead", "probability": "0.5"}])
    trail.pipeline_report("b2b")
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)  # root may write everything
def told(call):
    try:
        return call()
    except DealtrailError as trouble:
        return trouble.code
def attempt():
    with Trail.open(sys.argv[1]) as trail:
        return [
            told(lambda: trail.pipeline_report("b2b").total.deals),
            told(lambda: len(list(trail.follow()))),
            told(lambda: trail.open_deal("b2b").position),
            told(lambda: len(list(trail.record_each([{"action": "open_deal", "pipeline": "b2b"}])))),
        ]
print(told(attempt))
"""


def unprivileged(path):
    """What comes of reading and recording without the rights of root."""
    return run(UNPRIVILEGED, path)


def run(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_store_in_a_folder_that_cannot_be_written_to_is_read_only(path, tmp_path):
    os.chmod(path, 0o444)
    tmp_path.chmod(0o555)
    done = unprivileged(path)
    tmp_path.chmod(0o755)
    assert done.stdout.strip() == "read_only", done.stderr
    assert count(path) == 2


def test_a_file_that_may_be_written_in_a_folder_that_may_not_is_read_only(path, tmp_path):
    Path(path).chmod(0o666)
    tmp_path.chmod(0o555)
    done = unprivileged(path)
    tmp_path.chmod(0o755)
    assert done.stdout.strip() == "read_only", done.stderr
    assert count(path) == 2


def test_a_file_that_cannot_be_written_is_reported_on_and_not_written_to(path, tmp_path):
    for name in os.listdir(tmp_path):
        if name != "sales.db":
            os.remove(tmp_path / name)
    os.chmod(path, 0o444)
    tmp_path.chmod(0o777)
    done = unprivileged(path)
    tmp_path.chmod(0o755)
    assert done.stdout.strip() == "[1, 2, 'read_only', 'read_only']", done.stderr
    assert count(path) == 2


def test_a_read_model_that_is_behind_and_cannot_be_written_is_read_only_and_recording_goes_on(path, tmp_path):
    with Trail.open(path) as trail:
        trail.log_activity("D", "call")
    Path(path).chmod(0o666)
    tmp_path.chmod(0o777)
    done = unprivileged(path)
    tmp_path.chmod(0o755)
    assert done.stdout.strip() == "['read_only', 3, 4, 1]", done.stderr
    assert count(path) == 5


def test_a_new_store_in_a_folder_that_cannot_be_written_to_is_read_only(tmp_path):
    tmp_path.chmod(0o555)
    done = unprivileged(tmp_path / "new.db")
    tmp_path.chmod(0o755)
    assert (done.stdout.strip(), os.listdir(tmp_path)) == ("read_only", []), done.stderr


def test_a_copy_of_a_closed_store_answers_with_the_digest_of_the_store(path, tmp_path):
    """What to do with a store that may only be read: copy it to where one may write."""
    with Trail.open(path) as trail:
        report = trail.pipeline_report("b2b")
    copy = shutil.copy(path, tmp_path / "copy.db")
    with Trail.open(copy) as trail:
        again = trail.pipeline_report("b2b", as_of=report.as_of, known_at=report.known_at)
    assert again.digest == report.digest


# Gone

ENDS = {
    "deleted": lambda path: os.remove(path),
    "moved": lambda path: os.rename(path, f"{path}.moved"),
    "replaced by another store": lambda path: os.replace(_another(path), path),
    "replaced by a copy": lambda path: os.replace(shutil.copy(path, f"{path}.copy"), path),
    "replaced by a folder": lambda path: (os.remove(path), os.mkdir(path)),
}


def _another(path):
    with Trail.open(f"{path}.other") as trail:
        trail.define_pipeline("b2b", stages("lead", "qualified"))
    return f"{path}.other"


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_file_that_vanishes_under_an_open_trail_is_gone_and_nothing_is_acknowledged(path, end):
    with Trail.open(path) as trail:
        trail.log_activity("D", "call")
        end(path)
        for use in (
            lambda: trail.log_activity("D", "call"),
            lambda: list(trail.record_each([{"action": "log_activity", "deal": "D", "kind": "call"}])),
            lambda: trail.history("D"),
            lambda: trail.pipeline_report("b2b"),
            lambda: trail.rebuild(),
        ):
            assert code_of(use) == "gone"
    assert os.path.exists(path) == (end in (*ENDS.values(),)[2:])  # and it was not made again, empty


def test_a_file_that_is_put_back_is_the_file_that_was_opened(path):
    with Trail.open(path) as trail:
        trail.log_activity("D", "call")
        os.rename(path, f"{path}.moved")
        assert code_of(trail.log_activity, "D", "call") == "gone"
        os.rename(f"{path}.moved", path)
        assert trail.log_activity("D", "call").position == 4
    assert count(path) == 4


def test_a_file_that_vanishes_in_the_middle_of_a_step_is_gone_and_the_step_is_not_acknowledged(path):
    with Trail.open(path) as trail:
        step = [{"action": "log_activity", "deal": "D", "kind": "call"}]
        with pytest.raises(DealtrailError) as caught:
            trail.record_all(step, progress=lambda done, of: os.remove(path))
    assert caught.value.code == "gone"
    assert not os.path.exists(path)


def test_a_read_model_that_is_deleted_under_an_open_trail_costs_no_answer(path):
    with Trail.open(path) as trail:
        for number in range(3):
            for name in os.listdir(os.path.dirname(path)):
                if ".read" in name:
                    os.remove(os.path.join(os.path.dirname(path), name))
            trail.open_deal("b2b", deal=f"E{number}")
            assert trail.pipeline_report("b2b").total.deals == number + 2
            with Trail.open(path) as other:
                assert other.pipeline_report("b2b").total.deals == number + 2


def test_a_read_model_of_another_log_is_made_again(path, tmp_path):
    other = str(tmp_path / "other.db")
    with Trail.open(other) as trail:
        trail.define_pipeline("b2b", stages("lead"))
        for number in range(5):
            trail.open_deal("b2b", deal=f"X{number}")
        assert trail.pipeline_report("b2b").total.deals == 5
    for name in os.listdir(tmp_path):
        if name.startswith("other.db.read"):
            os.replace(tmp_path / name, tmp_path / name.replace("other", "sales"))
    with Trail.open(path) as trail:
        assert trail.pipeline_report("b2b").total.deals == 1


def _overwrite(pointer, offset, given):
    with open(pointer, "r+b") as file:
        file.seek(offset)
        file.write(given)


def _number(pointer, statement):
    with closing(sqlite3.connect(pointer)) as raw:
        raw.executescript(statement)


@pytest.mark.parametrize(
    "damage",
    [
        lambda pointer: _overwrite(pointer, 0, b"no database at all"),
        lambda pointer: _overwrite(pointer, 100, bytes(500)),
        lambda pointer: os.truncate(pointer, 3000),
        lambda pointer: _number(pointer, "UPDATE generation SET number = 'seven'"),
        lambda pointer: _number(pointer, "DELETE FROM generation"),
    ],
    ids=["head", "first page", "cut", "text", "empty"],
)
def test_a_damaged_pointer_to_the_read_model_is_made_anew(path, damage):
    with Trail.open(path) as trail:
        then = trail.last_recorded_at()
        digest = trail.pipeline_report("b2b", as_of=then, known_at=then).digest
    damage(f"{path}.read")
    with Trail.open(path) as trail:
        assert trail.pipeline_report("b2b", as_of=then, known_at=then).digest == digest
        assert trail.verify().findings == []
        trail.rebuild()
    assert count(path) == 2
