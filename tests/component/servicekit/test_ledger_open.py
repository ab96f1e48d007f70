"""What opening and creating promise: one process, the right file, and nothing replaced."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from servicekit.store.connection import open_writer
from servicekit.store.errors import (
    StoreCorrupt,
    StoreError,
    StoreExists,
    StoreLocked,
    StoreMismatch,
    StoreMissing,
    StoreTooNew,
    StoreTooOld,
)
from servicekit.store.ledger import Ledger
from tests.component.servicekit.ledger_world import (
    SCHEMA,
    append,
    create_ledger,
    leaves_of,
    open_ledger,
)
from tests.fakes.manual_clock import ManualClock


def test_a_store_and_all_beside_it_are_private(tmp_path: Path) -> None:
    """Every file of an open store has mode 0600."""
    ledger = open_ledger(create_ledger(tmp_path))
    ledger.commit(append(b"x"))
    ledger.read(lambda reader: reader.rows("SELECT 1"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    ledger.close()
    assert modes == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm", "test.db.lock"), 0o600)


def test_create_refuses_what_exists(tmp_path: Path) -> None:
    """A store is never replaced, nor is a write-ahead log without its file adopted."""
    path = create_ledger(tmp_path)
    before = path.read_bytes()
    with pytest.raises(StoreExists):
        create_ledger(tmp_path)
    assert path.read_bytes() == before
    path.unlink()
    path.with_name("test.db-wal").write_bytes(b"orphan")
    with pytest.raises(StoreExists):
        create_ledger(tmp_path)


def test_create_takes_over_a_draft_that_a_crash_left(tmp_path: Path) -> None:
    """A half-made store under its working name is no obstacle."""
    (tmp_path / "test.db.draft").write_bytes(b"half")
    open_ledger(create_ledger(tmp_path)).close()
    assert not (tmp_path / "test.db.draft").exists()


def test_create_needs_a_folder(tmp_path: Path) -> None:
    """A missing folder is said to be missing."""
    with pytest.raises(StoreMissing, match="no folder"):
        create_ledger(tmp_path / "absent")


def test_open_needs_a_store(tmp_path: Path) -> None:
    """Opening creates nothing."""
    with pytest.raises(StoreMissing) as refusal:
        open_ledger(tmp_path / "test.db")
    assert "init" in refusal.value.advice
    assert list(tmp_path.iterdir()) == []


def test_a_second_opener_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    """The advice names the process that holds the store; nothing is disturbed."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path)
    with pytest.raises(StoreLocked) as refusal:
        open_ledger(path)
    assert str(os.getpid()) in refusal.value.advice
    assert refusal.value.exit_code == 75
    assert ledger.commit(append(b"x")) == [0]
    ledger.close()


def test_another_name_for_the_store_is_no_way_around_the_lock(tmp_path: Path) -> None:
    """A symbolic link leads to the same lock."""
    path = create_ledger(tmp_path)
    (tmp_path / "link.db").symlink_to(path)
    ledger = open_ledger(path)
    with pytest.raises(StoreLocked):
        open_ledger(tmp_path / "link.db")
    ledger.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """The lock holds between processes, and goes with the process that held it."""
    path = create_ledger(tmp_path)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.component.servicekit.ledger_world import open_ledger\n"
        "open_ledger(Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked) as refusal:
            open_ledger(path)
        child.kill()
    assert str(child.pid) in refusal.value.advice
    open_ledger(path).close()


def test_a_refused_open_leaves_the_store_free(tmp_path: Path) -> None:
    """After a refusal for another reason the lock is not held."""
    path = create_ledger(tmp_path)
    with pytest.raises(StoreMismatch):
        Ledger.open(path, replace(SCHEMA, name="x"), clock=ManualClock(), commit_timeout_s=1)
    open_ledger(path).close()


@pytest.mark.parametrize(
    ("version", "refusal", "numbers"),
    [(2, StoreTooNew, ("version 3", "version 2")), (4, StoreTooOld, ("version 3", "version 4"))],
)
def test_another_version_is_refused_by_name(
    tmp_path: Path, version: int, refusal: type[StoreError], numbers: tuple[str, str]
) -> None:
    """Both versions are named, whichever is newer."""
    path = create_ledger(tmp_path)
    schema = replace(SCHEMA, version=version)
    with pytest.raises(refusal) as refused:
        Ledger.open(path, schema, clock=ManualClock(), commit_timeout_s=1)
    assert all(number in str(refused.value) for number in numbers)


def test_a_newer_ledger_format_is_refused(tmp_path: Path) -> None:
    """The ledger's own tables have a version, too."""
    path = create_ledger(tmp_path)
    edit(path, "UPDATE ledger_about SET value = 2 WHERE name = 'format'")
    with pytest.raises(StoreTooNew, match="format 2"):
        open_ledger(path)


def test_a_sqlite_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """Somebody else's database is not taken for a store."""
    path = tmp_path / "test.db"
    edit(path, "CREATE TABLE t (a)")
    with pytest.raises(StoreMismatch, match="not a ledger"):
        open_ledger(path)


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    """Garbage is called corrupt, not missing."""
    path = tmp_path / "test.db"
    path.write_bytes(b"garbage " * 1024)
    with pytest.raises(StoreCorrupt):
        open_ledger(path)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER events_never_change",
        "DROP TRIGGER events_never_go",
        "DROP INDEX events_by_plan",
        "CREATE TRIGGER sly AFTER INSERT ON events BEGIN SELECT 1; END",
        "ALTER TABLE events ADD COLUMN more TEXT",
    ],
)
def test_a_changed_shape_is_refused(tmp_path: Path, statement: str) -> None:
    """Tables, indexes and triggers are those that were created, or the store is not opened."""
    path = create_ledger(tmp_path)
    edit(path, statement)
    with pytest.raises(StoreCorrupt, match="not as they were created"):
        open_ledger(path)


def test_every_durability_setting_is_asked_back(tmp_path: Path) -> None:
    """The answers, not the requests, are what opening relies on."""
    connection = open_writer(create_ledger(tmp_path))
    try:
        answers = {
            name: connection.pragma(name)
            for name in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
        }
    finally:
        connection.close()
    assert answers == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
    }


def test_a_setting_that_sqlite_does_not_take_is_an_error() -> None:
    """A database in memory answers 'memory' when asked for a write-ahead log."""
    with pytest.raises(StoreError, match="journal_mode"):
        open_writer(Path(":memory:"))


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    """Head, leaves and numbering go on where they stopped, any number of times."""
    path = create_ledger(tmp_path)
    for number in range(4):
        ledger = open_ledger(path)
        assert ledger.head.size == number
        assert ledger.commit(append(b"%d" % number)) == [number]
        head = ledger.head
        ledger.close()
        ledger = open_ledger(path, at_least=head)
        assert ledger.head == head
        assert leaves_of(ledger) == [b"%d" % before for before in range(number + 1)]
        ledger.close()


def edit(path: Path, statement: str) -> None:
    """Change a file by hand."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute(statement)
    finally:
        connection.close()
