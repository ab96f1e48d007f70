"""What keeps the write-ahead log small: the writer's own checkpoints, and what they must not do."""

import threading
from pathlib import Path

import pytest

from servicekit.store.errors import StoreError, StorePoisoned
from servicekit.store.ledger import Ledger, Reader, verify_log
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger
from tests.fakes.faulty_disk import Fault, FaultyDisk

_BIG = bytes(1_000_000)


def grow(ledger: Ledger, megabytes: int) -> None:
    """Commit so many leaves of a megabyte, one by one."""
    for _ in range(megabytes):
        ledger.commit(append(_BIG))


def home(disk: FaultyDisk) -> int:
    """Return how often the database file itself was synced."""
    return sum(
        operation.kind == "sync" and operation.file.endswith("test.db")
        for operation in disk.operations
    )


def test_the_write_ahead_log_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Sixty megabytes are committed; the write-ahead log stays at a fraction of that."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path)
    grow(ledger, 60)
    wal_bytes = path.with_name("test.db-wal").stat().st_size
    ledger.close()
    assert wal_bytes < 40_000_000
    assert path.stat().st_size > 55_000_000
    assert verify_log(path).problem is None


def test_an_idle_writer_checkpoints_without_being_asked(tmp_path: Path) -> None:
    """When nobody waits, pages go home: the database file is written and synced."""
    disk = FaultyDisk()
    ledger = open_ledger(create_ledger(tmp_path), vfs=disk.name)
    done = threading.Event()
    disk.operations.clear()
    disk.before_sync = lambda: done.set() if home(disk) else None
    grow(ledger, 5)
    assert done.wait(10)
    ledger.close()


def test_a_reader_in_the_way_of_a_checkpoint_stops_nobody(tmp_path: Path) -> None:
    """Commits go on while an old snapshot is read, and the snapshot stays what it was."""
    ledger = open_ledger(create_ledger(tmp_path))

    def query(reader: Reader) -> object:
        before = reader.rows("SELECT count(*) FROM events")
        grow(ledger, 45)
        assert reader.rows("SELECT count(*) FROM events") == before
        return before

    assert ledger.read(query) == [(0,)]
    assert ledger.head.size == 45
    assert len(leaves_of(ledger)) == 45
    ledger.close()


@pytest.mark.parametrize("fault", [Fault.ENOSPC, Fault.SHORT])
def test_a_checkpoint_without_room_is_made_later(tmp_path: Path, fault: Fault) -> None:
    """All is in the write-ahead log, which goes on; once there is room it is copied as ever."""
    path = create_ledger(tmp_path)
    disk = FaultyDisk()
    ledger = open_ledger(path, vfs=disk.name)
    disk.only_file = "test.db"
    disk.arm(3, fault, forever=True)
    grow(ledger, 20)
    assert disk.failed
    assert ledger.poisoned is None
    assert home(disk) == 0
    disk.armed = False
    grow(ledger, 10)
    ledger.close()
    assert home(disk) > 0
    again = open_ledger(path)
    assert again.head.size == 30
    again.close()
    assert verify_log(path).problem is None


@pytest.mark.parametrize("fault", [Fault.EIO])
def test_a_failing_checkpoint_poisons_and_loses_nothing(tmp_path: Path, fault: Fault) -> None:
    """The file could not be written, so the write-ahead log is kept, and all is found in it."""
    path = create_ledger(tmp_path)
    disk = FaultyDisk()
    told = threading.Event()
    failures: list[StoreError] = []

    def on_poison(error: StoreError) -> None:
        failures.append(error)
        told.set()

    ledger = open_ledger(path, vfs=disk.name, on_poison=on_poison)
    disk.only_file = "test.db"
    disk.arm(3, fault, forever=True)
    acknowledged = 0
    try:
        for _ in range(40):
            ledger.commit(append(_BIG))
            acknowledged += 1
    except StorePoisoned:
        pass
    assert told.wait(10)
    assert failures == [ledger.poisoned]
    with pytest.raises(StorePoisoned):
        ledger.commit(append(b"never"))
    ledger.close()
    disk.armed = False
    again = open_ledger(path)
    assert again.head.size >= acknowledged > 0
    assert again.commit(append(b"next")) == [again.head.size - 1]
    again.close()
    assert verify_log(path).problem is None
