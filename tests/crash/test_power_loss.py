"""The power goes at any moment of Stage-3's whole life: what was told is there, and all of it fits.

The trace is that of the real Stage-3 on its real store; each state is opened as a restart opens it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from servicekit.store.connection import open_writer
from servicekit.store.errors import StoreError
from servicekit.store.verification import inspect
from servicekit.tlog.tree import Frontier, leaf_hash
from stage3_service.settings import STORE_FILE
from tests.crash.power_loss import Files, Trace, states
from tests.crash.store_scenario import SCOPE, Tokens, Told, play, serving
from tests.fakes.faulty_disk import FaultyDisk
from tests.harness.stage3 import running_stage3

FEW, MANY, ALL = 0, 16, 4_096
SAMPLE = 9
"""The quick run cuts the power after every ninth operation: no period of a commit's own."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Hold a trace, and the root over each number of entries of the log that it led to."""

    trace: Trace
    roots: list[bytes]


def record(home: Path, *, synchronous: str) -> Recorded:
    """Run the scenario once and note each operation, and what was told after how many."""
    with running_stage3(home) as stage3:
        good, doomed = stage3.issue(scope=SCOPE), stage3.issue(scope=SCOPE)
    tokens = Tokens(good.token_hash, doomed.token_hash, doomed.token.token_id)
    disk = FaultyDisk()
    store = home / "stage3" / STORE_FILE
    names = (STORE_FILE, f"{STORE_FILE}-wal")
    told: list[tuple[int, int]] = []
    with serving(home, disk.name) as (service, stage3, _):
        ledger = service._ledger
        ledger._writer._connection.execute(f"PRAGMA synchronous={synchronous}")
        start = {name: store.with_name(name).read_bytes() for name in names}
        disk.operations.clear()
        tell = ledger._queue.tell

        def noting(jobs: object) -> None:
            told.append((len(disk.operations), ledger.head.size))
            tell(jobs)  # type: ignore[arg-type]

        ledger._queue.tell = noting  # type: ignore[method-assign]
        play(service, stage3, tokens, Told())
        operations = list(disk.operations)
        leaves = ledger.read(lambda reader: reader.rows("SELECT leaf FROM events ORDER BY seq"))
    frontier = Frontier()
    roots = [frontier.root()]
    for (leaf,) in leaves:
        assert isinstance(leaf, bytes)
        frontier = frontier.append(leaf_hash(leaf))
        roots.append(frontier.root())
    # The write-ahead log is allocated in advance; zeros behind the last write are no part of it.
    wal = f"{STORE_FILE}-wal"
    used = max(op.offset + len(op.data) for op in operations if op.file.endswith(wal))
    start[wal] = start[wal][:used]
    return Recorded(Trace(start, operations, told), roots)


@dataclass(slots=True)
class Count:
    """Count states, and those in which something that was told is gone."""

    states: int = 0
    distinct: int = 0
    lost: int = 0


def judge(recorded: Recorded, folder: Path, *, subsets: int, every: int = 1) -> Count:
    """Open every state; each verifies, is a prefix of the log, and holds what was told."""
    count = Count()
    sizes: dict[bytes, int] = {}
    for cut, files in states(recorded.trace, subsets=subsets, every=every):
        count.states += 1
        digest = hashlib.sha256(b"".join(files[name] for name in sorted(files))).digest()
        if digest not in sizes:
            sizes[digest] = reopened(folder, files, recorded.roots)
        count.lost += sizes[digest] < recorded.trace.told_by(cut)
    count.distinct = len(sizes)
    return count


def reopened(folder: Path, files: Files, roots: list[bytes]) -> int:
    """Recover the files as a restart would, expect them whole, and return how many entries."""
    target = folder / "state"
    target.mkdir()
    try:
        for name, content in files.items():
            (target / name).write_bytes(content)
        connection = open_writer(target / STORE_FILE)
        try:
            verdict, _ = inspect(connection)
            assert verdict.problem is None, verdict
            assert verdict.root == roots[verdict.size]
            assert connection.pragma("integrity_check") == "ok"
        finally:
            connection.close()
    finally:
        shutil.rmtree(target)
    return verdict.size


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a directory in memory where there is one: a state is not to be synced itself."""
    shared = Path("/dev/shm")  # noqa: S108 - a file system in memory
    folder = shared / f"stagegate-{os.getpid()}" if os.access(shared, os.W_OK) else tmp_path / "m"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def figure(count: Count, synchronous: str) -> str:
    """Return the figure of one run."""
    return (
        f"power loss, synchronous={synchronous}: {count.states} states, "
        f"{count.distinct} distinct, something told is gone in {count.lost}"
    )


@pytest.mark.slow
def test_no_state_after_a_power_cut_lacks_what_was_told(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each opens, verifies, is a beginning of the log, and holds all that anybody was told of."""
    count = judge(record(tmp_path, synchronous="FULL"), memory, subsets=FEW, every=SAMPLE)
    record_property("figure", figure(count, "FULL"))
    assert count.distinct > 200
    assert count.lost == 0


@pytest.mark.slow
def test_control_without_full_synchronous_what_was_told_is_gone(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """The control: with synchronous=NORMAL the same states lack entries, though each verifies."""
    count = judge(record(tmp_path, synchronous="NORMAL"), memory, subsets=0, every=SAMPLE)
    record_property("figure", figure(count, "NORMAL"))
    assert count.lost > 0


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_many_more_states_lack_nothing(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """At every operation, with sixteen further subsets of the unsynced writes."""
    count = judge(record(tmp_path, synchronous="FULL"), memory, subsets=MANY)
    record_property("figure", figure(count, "FULL"))
    assert count.lost == 0


@pytest.mark.long
def test_all_states_of_up_to_twelve_writes_lack_nothing(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """All subsets of up to twelve unsynced writes, and 4,096 of more."""
    count = judge(record(tmp_path, synchronous="FULL"), memory, subsets=ALL)
    record_property("figure", figure(count, "FULL"))
    assert count.lost == 0


def test_a_torn_header_is_no_store(memory: Path) -> None:
    """What is judged here can be judged: a damaged file is not taken for a whole one."""
    with pytest.raises((apsw.Error, StoreError, AssertionError)):
        reopened(memory, {STORE_FILE: b"SQLite format 3\0" + bytes(4_080)}, [b""])
