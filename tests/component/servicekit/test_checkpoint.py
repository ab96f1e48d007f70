"""The checkpoint outside the store: what it refuses, what it keeps, and what may be accepted."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from servicekit.store.checkpoint_copier import MAX_COPY_S, CheckpointCopier
from servicekit.store.checkpoint_file import CheckpointFile
from servicekit.store.errors import (
    CheckpointDamaged,
    CheckpointMissing,
    CheckpointUnwritable,
    LogKeyRefused,
    NothingToAccept,
    StoreBehind,
    StoreCorrupt,
    StoreExists,
    StoreMissing,
)
from servicekit.store.ledger import Ledger, TreeHead
from servicekit.store.log_key import create_log_key, read_log_key
from servicekit.store.vouched import (
    Doubt,
    DoubtCause,
    create_checkpoint,
    open_checkpoint,
    open_vouched,
)
from servicekit.tlog.tree import EMPTY_ROOT
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger
from tests.fakes.manual_clock import ManualClock

ORIGIN = "example.test/log"


@dataclass(frozen=True, slots=True)
class Vouched:
    """A store, and what vouches for it on what stands for another disk."""

    store: Path
    file: Path
    key_file: Path

    @property
    def checkpoint(self) -> CheckpointFile:
        """Return the checkpoint as a start opens it."""
        return open_checkpoint(self.store, self.file, self.key_file, ORIGIN)

    def open(self, *, accept: bool = False) -> tuple[Ledger, Doubt | None]:
        """Open the store as a service does at its start."""
        return open_vouched(
            lambda at_least: open_ledger(self.store, at_least=at_least),
            self.checkpoint,
            accept_restored=accept,
        )

    def grow(self, *leaves: bytes) -> None:
        """Append, with the checkpoint kept up to date as a service keeps it."""
        ledger, _ = self.open()
        ledger.keep_checkpoint(copier(self.checkpoint))
        ledger.commit(append(*leaves))
        ledger.close()


def copier(file: CheckpointFile, clock: ManualClock | None = None) -> CheckpointCopier:
    """Return a copier that copies at the start and at the end, and seldom between."""
    return CheckpointCopier(file, interval_s=3_600.0, clock=clock or ManualClock())


@pytest.fixture
def vouched(tmp_path: Path) -> Vouched:
    """Return a store with three entries whose checkpoint says so."""
    made = Vouched(tmp_path / "test.db", tmp_path / "elsewhere" / "c", tmp_path / "log.key")
    create_checkpoint(made.file, made.key_file, ORIGIN, entropy=bytes)
    create_ledger(tmp_path)
    made.grow(b"a", b"b", b"c")
    return made


def test_a_first_start_finds_the_checkpoint_of_an_empty_log(tmp_path: Path) -> None:
    """`init` makes key and checkpoint before the store; a second attempt takes them over."""
    made = Vouched(tmp_path / "test.db", tmp_path / "elsewhere" / "c", tmp_path / "log.key")
    make = partial(create_checkpoint, made.file, made.key_file, ORIGIN, entropy=bytes)

    assert make() == (made.key_file, made.file)
    assert make() == ()
    create_ledger(tmp_path)
    ledger, doubt = made.open()
    ledger.close()
    assert doubt is None
    assert made.checkpoint.read() == TreeHead(0, EMPTY_ROOT)
    assert stat.S_IMODE(made.key_file.stat().st_mode) == 0o600


def test_a_store_that_is_gone_is_not_made_anew(vouched: Vouched) -> None:
    """A checkpoint that vouches for entries says that there was a store."""
    vouched.store.unlink()
    with pytest.raises(StoreMissing):
        vouched.checkpoint  # noqa: B018 - opening is what refuses
    with pytest.raises(StoreExists, match="3 entries whose store is gone"):
        create_checkpoint(vouched.file, vouched.key_file, ORIGIN, entropy=bytes)


def test_the_last_entry_is_covered_when_a_store_is_closed(vouched: Vouched) -> None:
    """The file says what the log says, and the store opens against it."""
    ledger, doubt = vouched.open()

    assert doubt is None
    assert vouched.checkpoint.read() == ledger.head
    ledger.close()


def test_a_running_log_is_covered_without_being_closed(vouched: Vouched) -> None:
    """The copier follows by itself: a kill leaves at most its interval uncovered."""
    ledger, _ = vouched.open()
    written = threading.Event()

    class Telling(CheckpointFile):
        def write(self, head: TreeHead) -> None:
            super().write(head)
            if head.size == 4:
                written.set()

    file = Telling(vouched.file, read_log_key(vouched.key_file, ORIGIN))
    ledger.keep_checkpoint(CheckpointCopier(file, interval_s=0.1, clock=ManualClock()))
    ledger.commit(append(b"d"))
    assert written.wait(30)
    assert vouched.checkpoint.read() == ledger.head
    ledger.close()


def restore_older(vouched: Vouched) -> None:
    """Put a copy of the store in its place that was made before the last entries."""
    shutil.copy(vouched.store, vouched.store.with_name("backup"))
    vouched.grow(b"d", b"e")
    shutil.copy(vouched.store.with_name("backup"), vouched.store)


def test_an_older_copy_is_refused(vouched: Vouched) -> None:
    """The sentence names store, checkpoint and both sizes; the store is left as it is."""
    restore_older(vouched)
    before = vouched.store.read_bytes()
    with pytest.raises(StoreBehind, match=r"ends at 3 entries, before the 5 .*elsewhere/c") as told:
        vouched.open()
    assert "--accept-restored-backup" in told.value.advice
    assert vouched.store.read_bytes() == before


def test_without_a_checkpoint_the_older_copy_would_be_served_from(vouched: Vouched) -> None:
    """The control: it agrees with itself, and nothing in it says that it is older."""
    restore_older(vouched)
    ledger = open_ledger(vouched.store)
    assert leaves_of(ledger) == [b"a", b"b", b"c"]
    ledger.close()


def test_an_older_copy_is_accepted_by_decision(vouched: Vouched) -> None:
    """The start learns which head was lost, to record it; then the old checkpoint is evidence."""
    lost = vouched.checkpoint.read()
    restore_older(vouched)
    old = vouched.file.read_bytes()
    ledger, doubt = vouched.open(accept=True)

    assert doubt is not None
    assert doubt.cause is DoubtCause.BEHIND
    assert doubt.lost == vouched.checkpoint.read() != lost
    ledger.commit(append(b"restored"))
    kept = vouched.checkpoint.keep_evidence()
    ledger.keep_checkpoint(copier(vouched.checkpoint))
    ledger.close()
    assert kept is not None
    assert kept.read_bytes() == old
    ledger, doubt = vouched.open()
    assert (doubt, ledger.head.size) == (None, 4)
    ledger.close()


def test_evidence_is_never_overwritten(vouched: Vouched) -> None:
    """Each gets a name of its own."""
    kept = [vouched.checkpoint.keep_evidence() for _ in range(3)]

    assert [path and path.name for path in kept] == ["c.kept-1", "c.kept-2", "c.kept-3"]
    vouched.file.unlink()
    assert vouched.checkpoint.keep_evidence() is None


def test_a_crash_before_the_record_refuses_again(vouched: Vouched) -> None:
    """Accepting alone changes nothing outside the store."""
    restore_older(vouched)
    ledger, _ = vouched.open(accept=True)
    ledger.close()
    with pytest.raises(StoreBehind):
        vouched.open()


def test_the_option_left_on_is_refused(vouched: Vouched) -> None:
    """It would accept the next restored copy unasked."""
    with pytest.raises(NothingToAccept):
        vouched.open(accept=True)
    ledger, _ = vouched.open()
    ledger.close()


def test_another_history_is_never_accepted(vouched: Vouched) -> None:
    """As long and longer, with other entries: this is no backup, whoever says so."""
    vouched.store.unlink()
    create_ledger(vouched.store.parent)
    ledger = open_ledger(vouched.store)
    ledger.commit(append(b"x", b"y", b"z", b"more"))
    ledger.close()
    for accept in (False, True):
        with pytest.raises(StoreCorrupt, match=r"first 3 entries are not those .*elsewhere/c"):
            vouched.open(accept=accept)


def test_a_missing_checkpoint_is_refused(vouched: Vouched) -> None:
    """Whoever removes it does not make an older copy acceptable."""
    vouched.file.unlink()
    with pytest.raises(CheckpointMissing, match="elsewhere/c is missing"):
        vouched.open()
    ledger, doubt = vouched.open(accept=True)
    ledger.close()
    assert doubt == Doubt(DoubtCause.MISSING)


@pytest.mark.parametrize("damage", ["a byte", "cut", "empty", "a directory"])
def test_a_damaged_checkpoint_is_refused(vouched: Vouched, damage: str) -> None:
    """As if it vouched for nothing, which it does."""
    content = vouched.file.read_bytes()
    if damage == "a directory":
        vouched.file.unlink()
        vouched.file.mkdir()
    else:
        changed = {"a byte": content[:20] + b"?" + content[21:], "cut": content[:40], "empty": b""}
        vouched.file.write_bytes(changed[damage])
    with pytest.raises(CheckpointDamaged, match="is not to be believed"):
        vouched.open()
    ledger, doubt = vouched.open(accept=True)
    ledger.close()
    assert doubt == Doubt(DoubtCause.DAMAGED)


def test_a_checkpoint_by_another_key_is_refused(vouched: Vouched, tmp_path: Path) -> None:
    """Whoever can write beside the store and has not the key cannot lower the bar."""
    create_log_key(tmp_path / "other.key", b"\x01" * 32)
    forged = CheckpointFile(vouched.file, read_log_key(tmp_path / "other.key", ORIGIN))
    forged.write(TreeHead(0, EMPTY_ROOT))
    with pytest.raises(CheckpointDamaged, match="not signed by"):
        vouched.open()


def test_a_checkpoint_of_another_log_is_refused(vouched: Vouched) -> None:
    """Stage-4's log vouches for nothing of Stage-3's, even with one key for both."""
    other = CheckpointFile(vouched.file, read_log_key(vouched.key_file, "example.test/other"))
    other.write(TreeHead(0, EMPTY_ROOT))
    with pytest.raises(CheckpointDamaged):
        vouched.open()


@pytest.mark.parametrize("trouble", ["missing", "no key", "readable", "exists"])
def test_a_key_that_is_of_no_use_is_refused(tmp_path: Path, trouble: str) -> None:
    """Each with the file and what to do."""
    path = tmp_path / "log.key"
    if trouble != "missing":
        create_log_key(path, bytes(32))
    if trouble == "no key":
        path.write_bytes(b"no key")
    if trouble == "readable":
        path.chmod(0o604)
    with pytest.raises(LogKeyRefused, match=str(path)) as told:
        create_log_key(path, bytes(32)) if trouble == "exists" else read_log_key(path, ORIGIN)
    assert told.value.advice


def test_a_key_that_a_crash_left_half_made_is_no_obstacle(tmp_path: Path) -> None:
    """It has another name until it is whole; the next attempt makes it anew."""
    (tmp_path / "log.key.draft").write_bytes(b"half")
    create_log_key(tmp_path / "log.key", bytes(32))
    assert read_log_key(tmp_path / "log.key", ORIGIN).vkey
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


def test_the_key_is_the_same_after_it_was_read(tmp_path: Path) -> None:
    """Two reads sign alike, and the line for verifiers stays."""
    create_log_key(tmp_path / "log.key", bytes(32))
    one, two = (read_log_key(tmp_path / "log.key", ORIGIN) for _ in range(2))

    assert one.vkey == two.vkey
    assert one.sign(b"x") == two.sign(b"x")
    assert two.verify(one.sign(b"x"), b"x")
    assert not two.verify(one.sign(b"x"), b"y")


def test_a_checkpoint_that_cannot_be_kept_ends_the_start(vouched: Vouched) -> None:
    """The first copy is made before anything is served."""
    ledger, _ = vouched.open()
    shutil.rmtree(vouched.file.parent)
    with pytest.raises(CheckpointUnwritable, match="elsewhere/c"):
        ledger.keep_checkpoint(
            copier(open_checkpoint(vouched.store, vouched.file, vouched.key_file, ORIGIN))
        )
    ledger.close()


class FailingFile(CheckpointFile):
    """Fail, or hang, when told to."""

    failing = False
    gate: threading.Event | None = None
    attempts = 0

    def __init__(self, vouched: Vouched) -> None:
        super().__init__(vouched.file, read_log_key(vouched.key_file, ORIGIN))

    def write(self, head: TreeHead) -> None:
        """Write, fail or wait."""
        self.attempts += 1
        if self.gate is not None:
            self.gate.wait(30)
        if self.failing:
            raise OSError(28, os.strerror(28))
        super().write(head)


def test_a_copy_that_fails_is_a_problem_until_one_succeeds(vouched: Vouched) -> None:
    """It is said at once, with the file and the system's words, and goes by itself."""
    file = FailingFile(vouched)
    made = copier(file)
    ledger, _ = vouched.open()
    ledger.keep_checkpoint(made)
    assert made.problem is None
    file.failing = True
    ledger.commit(append(b"d"))
    made._copy()
    assert made.problem is not None
    assert "No space left" in made.problem
    assert str(vouched.file) in made.problem
    file.failing = False
    made._copy()
    assert made.problem is None
    ledger.close()
    assert vouched.checkpoint.read().size == 4


def test_nothing_is_written_while_the_log_stands_still(vouched: Vouched) -> None:
    """An idle service leaves the other disk alone."""
    file = FailingFile(vouched)
    made = copier(file)
    ledger, _ = vouched.open()
    ledger.keep_checkpoint(made)
    for _ in range(5):
        made._copy()
    ledger.close()
    assert file.attempts == 1


def test_a_copy_that_hangs_is_a_problem_and_holds_up_no_commit(vouched: Vouched) -> None:
    """Commits go on while the other disk hangs, and the end of the process does not wait for it."""
    file, clock = FailingFile(vouched), ManualClock()
    made = CheckpointCopier(file, interval_s=0.1, clock=clock)
    ledger, _ = vouched.open()
    ledger.keep_checkpoint(made)
    file.gate = threading.Event()
    ledger.commit(append(b"d"))
    while file.attempts < 2:
        pass
    assert made.problem is None
    clock.advance(MAX_COPY_S + 1)
    assert made.problem is not None
    assert "hangs" in made.problem
    assert ledger.commit(append(b"e")) == [4]
    file.gate.set()
    ledger.close()
