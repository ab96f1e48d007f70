"""What a failing disk does: nobody is told a lie, nothing goes on, nothing told is lost."""

import contextlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from servicekit.store.errors import CommitOverdue, StoreError, StorePoisoned
from servicekit.store.ledger import Ledger, Turn, verify_log
from servicekit.store.queue import Job, WorkQueue
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger
from tests.fakes.faulty_disk import Fault, FaultyDisk

_COMMITS = 4


def test_every_acknowledged_commit_was_synced_first(tmp_path: Path) -> None:
    """Between a commit's last write and its answer lies a sync of the file written to."""
    disk = FaultyDisk()
    ledger = open_ledger(create_ledger(tmp_path), vfs=disk.name)
    try:
        for number in range(5):
            disk.operations.clear()
            ledger.commit(append(b"%d" % number))
            last = disk.operations[-1]
            assert (last.kind, Path(last.file).name) == ("sync", "test.db-wal")
            assert any(operation.kind == "write" for operation in disk.operations)
    finally:
        ledger.close()


def test_without_full_synchronous_the_sync_is_missing(tmp_path: Path) -> None:
    """The control: with synchronous=NORMAL the same test would fail, so it tests something."""
    disk = FaultyDisk()
    ledger = open_ledger(create_ledger(tmp_path), vfs=disk.name)
    try:
        ledger.commit(append(b"a"))
        ledger._writer._connection.execute("PRAGMA synchronous=NORMAL")
        disk.operations.clear()
        ledger.commit(append(b"b"))
        assert disk.syncs() == 0
    finally:
        ledger.close()


def test_a_batch_shares_one_sync(tmp_path: Path) -> None:
    """Works that queue up behind a busy writer cost one sync together."""
    disk = FaultyDisk()
    ledger = open_ledger(create_ledger(tmp_path), vfs=disk.name)
    entered, gate = threading.Event(), threading.Event()

    def hold(turn: Turn) -> None:
        entered.set()
        gate.wait(10)

    ledger.commit(append(b"warm"))
    threads = [threading.Thread(target=ledger.commit, args=(hold,))]
    threads[0].start()
    assert entered.wait(10)
    for number in range(30):
        threads.append(threading.Thread(target=ledger.commit, args=(append(b"%d" % number),)))
        threads[-1].start()
    while ledger.queue_depth < 30:
        pass
    disk.operations.clear()
    gate.set()
    for thread in threads:
        thread.join(10)
    syncs = disk.syncs()
    size = ledger.head.size
    ledger.close()
    assert (size, syncs) == (31, 1)


@pytest.mark.slow
def test_a_failure_at_any_write_poisons_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """For each fault, at each write, truncation and sync of four commits and a closing checkpoint.

    Whatever was acknowledged is there after reopening, in order; what is there beyond it is what
    was in flight, whole; the log verifies; and after the failure every commit was refused.
    """
    points = 0
    for fault, forever in (
        (Fault.EIO, False),
        (Fault.EIO, True),
        (Fault.ENOSPC, True),
        (Fault.SHORT, False),
    ):
        for fail_at in itertools.count():
            folder = tmp_path / f"{fault}-{forever}-{fail_at}"
            folder.mkdir()
            met = run_with_fault(folder, fault, fail_at, forever=forever)
            shutil.rmtree(folder)
            if not met:
                break
            points += 1
    assert points > 100


def run_with_fault(folder: Path, fault: Fault, fail_at: int, *, forever: bool) -> bool:
    """Commit on a disk that fails once or from then on; return whether the fault was met."""
    path = create_ledger(folder)
    disk = FaultyDisk()
    told: list[StoreError] = []
    ledger = open_ledger(path, vfs=disk.name, on_poison=told.append)
    disk.arm(fail_at, fault, forever=forever)
    acknowledged: list[bytes] = []
    attempted: list[bytes] = []
    for number in range(_COMMITS):
        leaves = [b"%d.%d" % (number, part) + bytes(2_000) for part in range(2)]
        attempted.extend(leaves)
        try:
            ledger.commit(append(*leaves, kept=str(number)))
        except StorePoisoned:
            break
        acknowledged.extend(leaves)
    poisoned_by_commit = len(acknowledged) < len(attempted)
    if poisoned_by_commit:
        assert ledger.poisoned is not None
        with pytest.raises(StorePoisoned):
            ledger.commit(append(b"never"))
        before = len(disk.operations)
        with pytest.raises(StorePoisoned):
            ledger.commit(lambda turn: None)
        ledger.close()
        # Whoever waits is refused first; the process is told once the writer has got that far.
        assert told == [ledger.poisoned]
        assert not [op for op in disk.operations[before:] if op.kind == "write"]
        assert not [op for op in disk.operations if op.file.endswith("test.db")]
    ledger.close()
    disk.armed = False
    check_after_restart(path, acknowledged, attempted)
    return disk.failed


def check_after_restart(path: Path, acknowledged: list[bytes], attempted: list[bytes]) -> None:
    """Expect all that was acknowledged, at most what was attempted, whole works only."""
    again = open_ledger(path)
    try:
        stored = leaves_of(again)
        kept = again.read(lambda reader: reader.rows("SELECT count(*) FROM kept"))
        assert stored[: len(acknowledged)] == acknowledged
        assert stored == attempted[: len(stored)]
        assert kept == [(len(stored) // 2,)]
        assert again.commit(append(b"next")) == [len(stored)]
    finally:
        again.close()
    assert verify_log(path).problem is None


def test_a_work_that_hides_a_disk_error_is_not_believed(tmp_path: Path) -> None:
    """A full disk met inside a work poisons the ledger, even if the work says that all is well."""
    disk = FaultyDisk()
    ledger = open_ledger(create_ledger(tmp_path), vfs=disk.name)
    disk.arm(0, Fault.ENOSPC, forever=True)

    def work(turn: Turn) -> str:
        with contextlib.suppress(apsw.Error):
            for number in range(40):  # more than the cache holds, so that pages are written early
                turn.run("INSERT INTO kept VALUES (?, 0)", (str(number) * 500_000,))
        return "all is well"

    with pytest.raises(StorePoisoned):
        ledger.commit(work)
    ledger.close()


def test_an_answer_that_came_in_time_is_no_delay() -> None:
    """A caller whose patience ends just after the answer takes the answer, and poisons nothing."""
    queue = WorkQueue(on_poison=None)
    job = Job(lambda turn: None, sees_clock=False, queued_s=0.0)
    queue.tell([job])
    queue._overdue(job, 1.0)
    assert queue.poison is None
    assert job.error is None


def test_a_commit_that_takes_too_long_poisons_the_ledger(tmp_path: Path) -> None:
    """The caller is told in time, the next is refused, and a late success is told to nobody."""
    path = create_ledger(tmp_path)
    told: list[StoreError] = []
    ledger = open_ledger(path, commit_timeout_s=0.2, on_poison=told.append)
    gate, entered = threading.Event(), threading.Event()
    outcomes: dict[str, BaseException] = {}

    def stuck(turn: Turn) -> None:
        append(b"too late")(turn)
        entered.set()
        gate.wait(10)

    def call(name: str, ledger: Ledger) -> None:
        try:
            ledger.commit(stuck if name == "stuck" else append(b"behind"))
        except StoreError as error:
            outcomes[name] = error

    first = threading.Thread(target=call, args=("stuck", ledger))
    first.start()
    # It is overdue all the same where the writer is so busy that it comes to it too late.
    while not entered.wait(0.01) and ledger.poisoned is None:
        pass
    second = threading.Thread(target=call, args=("behind", ledger))
    second.start()
    first.join(10)
    second.join(10)
    assert isinstance(outcomes["stuck"], CommitOverdue)
    assert isinstance(outcomes["behind"], StorePoisoned | CommitOverdue)
    assert told == [ledger.poisoned]
    with pytest.raises(StorePoisoned):
        ledger.commit(append(b"after"))
    gate.set()
    ledger.close()
    again = open_ledger(path)
    assert leaves_of(again) == []
    again.close()


def test_a_sync_that_ends_too_late_is_told_to_nobody(tmp_path: Path) -> None:
    """All works of the batch are refused, though the disk finished; a restart finds them whole.

    Whoever came behind them has waited for too long meanwhile, and that ends the store for all.
    """
    path = create_ledger(tmp_path)
    disk = FaultyDisk()
    ledger = open_ledger(path, vfs=disk.name)
    ledger.commit(append(b"before"))
    entered, gate = threading.Event(), threading.Event()
    syncing, sync = threading.Event(), threading.Event()
    outcomes: list[object] = []

    def hold(turn: Turn) -> None:
        entered.set()
        gate.wait(10)
        append(b"first")(turn)

    def call(work: Callable[[Turn], object]) -> None:
        try:
            outcomes.append(ledger.commit(work))
        except StoreError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=call, args=(work,)) for work in (hold, append(b"second"))]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    while ledger.queue_depth < 1:
        pass

    def hang() -> None:
        syncing.set()
        sync.wait(10)

    disk.before_sync = hang
    gate.set()
    assert syncing.wait(10)
    ledger._commit_timeout_s = 0.05
    with pytest.raises(CommitOverdue):
        ledger.commit(append(b"third"))
    sync.set()
    for thread in threads:
        thread.join(10)
    ledger.close()
    assert outcomes == [StorePoisoned, StorePoisoned]
    again = open_ledger(path)
    assert leaves_of(again) == [b"before", b"first", b"second"]
    again.close()


def test_a_failing_disk_at_open_is_no_corruption(tmp_path: Path) -> None:
    """An I/O error while opening is reported as what it is, and the store stays free."""
    path = create_ledger(tmp_path)
    ledger = open_ledger(path)
    ledger.commit(append(b"x"))
    ledger.close()
    disk = FaultyDisk()
    disk.arm(0, Fault.EIO, forever=True)
    path.chmod(0o600)
    with pytest.raises(StoreError) as refusal:
        open_ledger(path, vfs=disk.name)
    assert type(refusal.value) is StoreError
    assert os.path.basename(path) in str(refusal.value)  # noqa: PTH119 - the text, not a path
    open_ledger(path).close()
