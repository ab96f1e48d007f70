"""The room that is held on a disk: let go when little is left, taken back when there is plenty."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from servicekit.store.disk_reserve import DiskReserve
from servicekit.store.errors import StoreMissing, StorePoisoned, StoreReplaced
from servicekit.store.ledger import Ledger
from tests.component.servicekit.ledger_world import append, create_ledger, open_ledger

RESERVE = 4_194_304
LOW = RESERVE // 4


class Disk:
    """Say how much is free, in place of the system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free_bytes = 100 * RESERVE
        monkeypatch.setattr(
            "servicekit.store.disk_reserve.os.statvfs",
            lambda _: SimpleNamespace(f_bavail=self.free_bytes, f_frsize=1),
        )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return a disk with plenty of room."""
    return Disk(monkeypatch)


def held(path: Path) -> int:
    """Return how many bytes are really taken."""
    return path.with_name("test.db.reserve").stat().st_blocks * 512


def test_room_is_taken_let_go_and_taken_back(tmp_path: Path, disk: Disk) -> None:
    """At each edge, with real blocks, and with a sentence that says how much is needed."""
    path = tmp_path / "test.db"
    reserve = DiskReserve(path, RESERVE)
    assert reserve.problem is None
    assert held(path) >= RESERVE

    disk.free_bytes = LOW
    assert reserve.look() is None
    disk.free_bytes = LOW - 1
    assert reserve.problem is not None
    assert held(path) >= RESERVE  # asking alone lets nothing go
    problem = reserve.look()
    assert problem is not None
    assert str(tmp_path) in problem
    assert "6144 KiB are needed" in problem
    assert held(path) == 0

    disk.free_bytes = RESERVE + 2 * LOW - 1
    assert reserve.look() is not None
    disk.free_bytes = RESERVE + 2 * LOW
    assert reserve.look() is None
    assert held(path) >= RESERVE
    reserve.close()


def test_the_room_outlives_the_process(tmp_path: Path, disk: Disk) -> None:
    """A start on a disk that filled up meanwhile begins with what was held, by letting it go."""
    path = tmp_path / "test.db"
    DiskReserve(path, RESERVE).close()
    disk.free_bytes = 0
    reserve = DiskReserve(path, RESERVE)
    assert reserve.problem is not None
    assert held(path) == 0
    reserve.close()


def test_a_reserve_that_nobody_asked_for_takes_nothing(tmp_path: Path, disk: Disk) -> None:
    """A store in a temporary directory needs none."""
    disk.free_bytes = 0
    reserve = DiskReserve(tmp_path / "test.db", 0)
    assert (reserve.problem, reserve.look()) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_works_are_told_that_the_disk_is_low_and_may_still_write(
    tmp_path: Path, disk: Disk
) -> None:
    """Whether to begin is the work's decision; the store takes what it appends."""
    ledger = open_ledger(create_ledger(tmp_path), reserve_bytes=RESERVE)
    assert ledger.commit(lambda turn: turn.disk_problem) is None
    disk.free_bytes = 0
    assert ledger.disk_problem is not None
    assert ledger.commit(lambda turn: turn.disk_problem) is not None
    assert ledger.commit(append(b"completed")) == [0]
    disk.free_bytes = 100 * RESERVE
    assert ledger.commit(lambda turn: turn.disk_problem) is None
    assert ledger.disk_problem is None
    ledger.close()


def open_with_told(path: Path) -> tuple[Ledger, list[object]]:
    """Return a ledger with one entry, and what will be told of its failure."""
    told: list[object] = []
    ledger = open_ledger(path, on_poison=told.append)
    ledger.commit(append(b"before"))
    return ledger, told


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("how", ["unlinked", "replaced", "moved away with its directory"])
def test_a_file_that_is_not_in_its_place_poisons(tmp_path: Path, suffix: str, how: str) -> None:
    """Nobody is told that it is durable, once a file is not what is under its name."""
    home = tmp_path / "home"
    home.mkdir()
    path = create_ledger(home)
    ledger, told = open_with_told(path)
    file = path.with_name(path.name + suffix)
    if how == "unlinked":
        file.unlink()
    elif how == "replaced":
        copy = tmp_path / "copy"
        copy.write_bytes(file.read_bytes())
        copy.replace(file)
    else:
        home.rename(tmp_path / "away")
    with pytest.raises(StorePoisoned) as poisoned:
        ledger.commit(append(b"into nowhere"))
    assert ledger.poisoned is not None
    assert isinstance(ledger.poisoned.__cause__, StoreReplaced)
    assert str(file if how != "moved away with its directory" else path) in str(poisoned.value)
    assert told == [ledger.poisoned]
    assert ledger.head.size == 1
    ledger.close()


def test_without_the_question_a_commit_into_nowhere_is_told_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: SQLite itself commits to an unlinked file, and a restart finds nothing."""
    path = create_ledger(tmp_path)
    monkeypatch.setattr("servicekit.store.store_place.StorePlace.confirm", lambda _: None)
    ledger, _ = open_with_told(path)
    path.unlink()
    path.with_name("test.db-wal").unlink()
    assert ledger.commit(append(b"told")) == [1]
    ledger.close()
    with pytest.raises(StoreMissing):
        open_ledger(path)


def test_copying_a_store_that_runs_is_no_replacement(tmp_path: Path) -> None:
    """Reading, linking, and changing times or rights leave a file what it is."""
    path = create_ledger(tmp_path)
    ledger, told = open_with_told(path)
    os.link(path, tmp_path / "backup")
    (tmp_path / "copy").write_bytes(path.read_bytes())
    os.utime(path)
    path.chmod(0o640)
    assert ledger.commit(append(b"after")) == [1]
    assert told == []
    ledger.close()
