"""What a crash leaves: kill -9 at any moment, and power loss at any write."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from servicekit.store.ledger import verify_log
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger
from tests.fakes.faulty_disk import FaultyDisk, Operation

_PROGRAM = """
import sys, threading
from pathlib import Path
from servicekit.clock import SystemClock
from tests.component.servicekit.ledger_world import append, open_ledger
ledger = open_ledger(Path(sys.argv[1]), clock=SystemClock())
lock = threading.Lock()
def call(name):
    for number in range(10**9):
        (seq,) = ledger.commit(append(b"%d/%d" % (name, number)))
        with lock:
            print(seq, f"{name}/{number}", flush=True)
for name in range(4):
    threading.Thread(target=call, args=(name,), daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.parametrize("lines", [1, 7, 50, 333])
def test_every_acknowledged_event_survives_a_kill(tmp_path: Path, lines: int) -> None:
    """A process killed while it commits leaves all it acknowledged, and a log that verifies."""
    path = create_ledger(tmp_path)
    acknowledged: dict[int, bytes] = {}
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in itertools.islice(child.stdout, lines):
            seq, leaf = line.split()
            acknowledged[int(seq)] = leaf.encode()
        os.kill(child.pid, signal.SIGKILL)
        for line in child.stdout:
            if line.endswith("\n"):
                seq, leaf = line.split()
                acknowledged[int(seq)] = leaf.encode()
    assert len(acknowledged) >= lines
    assert verify_log(path).problem is None
    ledger = open_ledger(path)
    stored = leaves_of(ledger)
    ledger.close()
    assert {seq: stored[seq] for seq in acknowledged} == acknowledged
    assert verify_log(path).problem is None


@pytest.mark.slow
def test_no_acknowledged_event_is_lost_with_the_power(tmp_path: Path) -> None:
    """Every state a power cut may leave opens, verifies, and holds what was acknowledged by then.

    After each operation the power goes: what was synced is there; of the writes since the last sync
    of that file none, all, every second one, or the last one torn in the middle.
    """
    states, lost = replay(tmp_path, synchronous="FULL")
    assert states > 300
    assert lost == 0


@pytest.mark.slow
def test_without_full_synchronous_power_loss_loses_events(tmp_path: Path) -> None:
    """The control: with synchronous=NORMAL the same replay finds acknowledged events lost."""
    _, lost = replay(tmp_path, synchronous="NORMAL")
    assert lost > 0


def replay(folder: Path, *, synchronous: str) -> tuple[int, int]:
    """Return how many states after a power cut were opened, and in how many something was lost."""
    path = create_ledger(folder)
    disk = FaultyDisk()
    ledger = open_ledger(path, vfs=disk.name)
    ledger._writer._connection.execute(f"PRAGMA synchronous={synchronous}")
    start = {name: (folder / name).read_bytes() for name in ("test.db", "test.db-wal")}
    disk.operations.clear()
    # For each commit: after how many operations it was acknowledged.
    acknowledged: list[int] = []
    for number in range(12):
        ledger.commit(append(b"%d" % number + bytes(700)))
        acknowledged.append(len(disk.operations))
        if number == 6:
            # A checkpoint in the middle: the file itself is written, and the write-ahead log starts
            # over.
            ledger._writer._checkpoint()
    operations = list(disk.operations)
    ledger.close()
    states = lost = 0
    for cut in range(len(operations) + 1):
        expected = sum(count <= cut for count in acknowledged)
        for choice in ("none", "all", "alternate", "torn"):
            target = folder / f"cut-{cut}-{choice}"
            target.mkdir()
            for name, content in after_power_loss(start, operations[:cut], choice).items():
                (target / name).write_bytes(content)
            states += 1
            lost += count_events(target / "test.db") < expected
            shutil.rmtree(target)  # each holds a warmed write-ahead log of 4 MiB
    return states, lost


def after_power_loss(
    start: dict[str, bytes], operations: list[Operation], choice: str
) -> dict[str, bytes]:
    """Return the files as the disk may hold them after these operations and a power cut."""
    result = {}
    for name, content in start.items():
        durable = bytearray(content)
        waiting: list[Operation] = []
        for operation in operations:
            if Path(operation.file).name != name:
                continue
            if operation.kind == "sync":
                for write in waiting:
                    apply(durable, write, write.data)
                waiting.clear()
            else:
                waiting.append(operation)
        for number, write in enumerate(waiting):
            last = number == len(waiting) - 1
            if choice == "all" or (choice == "alternate" and number % 2):
                apply(durable, write, write.data)
            elif choice == "torn":
                apply(durable, write, write.data[: len(write.data) // 2] if last else write.data)
        result[name] = bytes(durable)
    return result


def apply(content: bytearray, operation: Operation, data: bytes) -> None:
    """Apply one write or truncation to a file's bytes."""
    if operation.kind == "truncate":
        del content[operation.offset :]
        return
    end = operation.offset + len(data)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : end] = data


def count_events(path: Path) -> int:
    """Recover a file as a restart would, expect it intact, and return how many events it holds."""
    ledger = open_ledger(path)
    try:
        assert ledger.read(lambda reader: reader.rows("SELECT count(*) FROM events")) == [
            (ledger.head.size,)
        ]
        return ledger.head.size
    finally:
        ledger.close()
        connection = apsw.Connection(str(path))
        assert connection.pragma("integrity_check") == "ok"
        connection.close()
