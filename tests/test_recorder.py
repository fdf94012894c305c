"""The log's recorder keeps the contract of the library's own test case, on a file and in memory."""

import sys
import threading
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent

from dealtrail.store.connections import Datastore, file_name, memory_name
from dealtrail.store.recorder import LogRecorder


def library_contract():
    """The library's test cases; their module imports a cipher of an optional package that none of those here needs."""
    before = sys.modules.get("eventsourcing.cipher")
    stand_in = ModuleType("eventsourcing.cipher")
    stand_in.AESCipher = None
    sys.modules["eventsourcing.cipher"] = stand_in
    try:
        return import_module("eventsourcing.tests.persistence")
    finally:
        del sys.modules["eventsourcing.cipher"]
        if before is not None:
            sys.modules["eventsourcing.cipher"] = before


contract = library_contract()


def recorder_on(name):
    recorder = LogRecorder(Datastore(name, durable=False))
    recorder.create_table()
    return recorder


class _TextIds:
    EXPECT_CONTIGUOUS_NOTIFICATION_IDS = True

    def new_originator_id(self):
        return f"deal:{uuid4()}"

    def closed_at_the_end(self, recorder):
        """Some cases leave their readers running for a moment: a connection must not be closed under them."""
        others = set(threading.enumerate())

        def close():
            for thread in set(threading.enumerate()) - others:
                thread.join(10)
            recorder.datastore.close()

        self.addCleanup(close)
        return recorder


class TestRecorderOnAFile(_TextIds, contract.ApplicationRecorderTestCase):
    def create_recorder(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return self.closed_at_the_end(recorder_on(file_name(str(Path(folder.name) / "log.db"), create=True)))


class TestRecorderInMemory(_TextIds, contract.ApplicationRecorderTestCase):
    def create_recorder(self):
        return self.closed_at_the_end(recorder_on(memory_name()))


class TestPositionsDoNotInterleaveOnAFile(_TextIds, contract.NonInterleavingNotificationIDsBaseCase):
    insert_num = 1_000
    create_recorder = TestRecorderOnAFile.create_recorder


class TestPositionsDoNotInterleaveInMemory(_TextIds, contract.NonInterleavingNotificationIDsBaseCase):
    insert_num = 1_000
    create_recorder = TestRecorderInMemory.create_recorder


@pytest.fixture(params=["a file", "memory"])
def recorder(request, tmp_path):
    name = memory_name() if request.param == "memory" else file_name(str(tmp_path / "log.db"), create=True)
    made = recorder_on(name)
    yield made
    made.datastore.close()


def stored(version, stream="deal:D-1"):
    return StoredEvent(stream, version, "topic", b"state")


def test_a_version_that_stands_already_is_refused_and_leaves_nothing_of_its_batch(recorder):
    recorder.insert_events([stored(1), stored(2)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(3), stored(2)])
    assert [event.originator_version for event in recorder.select_events("deal:D-1")] == [1, 2]


def test_a_refused_batch_leaves_no_gap_in_the_positions(recorder):
    recorder.insert_events([stored(1)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(1, "deal:D-2"), stored(1)])
    assert recorder.insert_events([stored(1, "deal:D-3")]) == [2]


def test_streams_whose_names_begin_alike_are_kept_apart(recorder):
    recorder.insert_events([stored(1), stored(1, "deal:D-10"), stored(1, "deal:d-1")])
    assert [event.originator_id for event in recorder.select_events("deal:D-1")] == ["deal:D-1"]
