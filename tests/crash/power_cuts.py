"""Record what a service writes to its disk, cut the power anywhere in it, and open what is left.

What is judged of a state is the same for both services; what each was asked to do, and what more a
restart of it must still know, is the test's own. Deliberately absent: the states themselves, which
are `power_loss.py`'s.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servicekit.store.connection import open_writer
from servicekit.store.verification import inspect
from servicekit.tlog.tree import Frontier, leaf_hash
from tests.crash.power_loss import Files, Trace, states
from tests.harness.slices import WHOLE, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import apsw

    from servicekit.store.ledger import Ledger
    from tests.fakes.faulty_disk import FaultyDisk

FEW, MANY, ALL = 0, 16, 4_096
SAMPLE = 9
"""The quick runs cut the power after every ninth operation: no period of a commit's own."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Hold what a restart must say of a plan if the power goes after so many operations.

    Without a `fate` it must know the plan, whatever it says of it.
    """

    after: int
    plan_id: str
    fate: str | None

    def is_kept(self, fates: Mapping[str, str]) -> bool:
        """Return whether a restart that says this of each plan keeps it."""
        said = fates.get(self.plan_id)
        return said is not None and self.fate in (None, said)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Hold a trace, the root over each number of entries of its log, and what was promised."""

    trace: Trace
    roots: list[bytes]
    promises: list[Promise] = field(default_factory=list)

    def is_forgotten(self, cut: int, found: Found) -> bool:
        """Return whether a restart does not say what it must of a plan, had the power gone then."""
        due = (promise for promise in self.promises if promise.after <= cut)
        return not all(promise.is_kept(found.fates) for promise in due)


@dataclass(frozen=True, slots=True)
class Found:
    """Hold the entries of the log of a state, and what a restart on it says of each plan."""

    size: int
    fates: Mapping[str, str]


def recorded(
    disk: FaultyDisk,
    store: Path,
    ledger: Ledger,
    play: Callable[[], list[Promise]],
    *,
    synchronous: str,
) -> Recorded:
    """Run `play` once and note each operation, and which head was told after how many."""
    wal = f"{store.name}-wal"
    told: list[tuple[int, int]] = []
    ledger._writer._connection.execute(f"PRAGMA synchronous={synchronous}")
    start = {name: store.with_name(name).read_bytes() for name in (store.name, wal)}
    disk.operations.clear()
    tell = ledger._queue.tell

    def noting(jobs: object) -> None:
        told.append((len(disk.operations), ledger.head.size))
        tell(jobs)  # type: ignore[arg-type]

    ledger._queue.tell = noting  # type: ignore[method-assign]
    promises = play()
    operations = list(disk.operations)
    leaves = ledger.read(lambda reader: reader.rows("SELECT leaf FROM events ORDER BY seq"))
    frontier = Frontier()
    roots = [frontier.root()]
    for (leaf,) in leaves:
        assert isinstance(leaf, bytes)
        frontier = frontier.append(leaf_hash(leaf))
        roots.append(frontier.root())
    # The write-ahead log is allocated in advance; zeros behind the last write are no part of it.
    used = max(op.offset + len(op.data) for op in operations if op.file.endswith(wal))
    start[wal] = start[wal][:used]
    return Recorded(Trace(start, operations, told), roots, promises)


@dataclass(slots=True)
class Count:
    """Count states: those whose log lacks what was told, those that forgot the fate of a plan."""

    states: int = 0
    distinct: int = 0
    lost: int = 0
    forgotten: int = 0

    def figure(self, service: str, synchronous: str) -> str:
        """Say it in a line."""
        return (
            f"power loss, {service}, synchronous={synchronous}: {self.states} states, "
            f"{self.distinct} distinct, something told is gone in {self.lost}"
        )


def judge(
    trial: Recorded,
    folder: Path,
    store: str,
    *,
    subsets: int,
    every: int = 1,
    part: Slice = WHOLE,
    restart: Callable[[Path], Mapping[str, str]] = lambda _store: {},
) -> Count:
    """Open every state; each verifies, is a prefix of the log, and holds what was told.

    `restart` starts on the store at a path, and returns what it says of each plan.
    """
    count = Count()
    judged: dict[bytes, Found] = {}
    opening = Opening(folder, store, trial.roots, restart)
    for cut, files in states(trial.trace, subsets=subsets, every=every, part=part):
        count.states += 1
        digest = hashlib.sha256(b"".join(files[name] for name in sorted(files))).digest()
        if digest not in judged:
            judged[digest] = opening.found(files)
        count.lost += judged[digest].size < trial.trace.told_by(cut)
        count.forgotten += trial.is_forgotten(cut, judged[digest])
    count.distinct = len(judged)
    return count


class Opening:
    """Open one state after the other as a restart would.

    SQLite opens each of them anew, because what it makes of a torn log is what is asked. Of half a
    million states it makes a few dozen stores, byte for byte, and each of these is judged once.
    """

    def __init__(
        self,
        folder: Path,
        store: str,
        roots: list[bytes],
        restart: Callable[[Path], Mapping[str, str]] = lambda _store: {},
    ) -> None:
        """Open in `folder`; `roots` are those over each number of entries, `restart` as above."""
        self._directory = folder / "state"
        self._store = self._directory / store
        self._roots = roots
        self._restart = restart
        self._known: dict[bytes, Found] = {}

    def found(self, files: Files) -> Found:
        """Expect the files to be whole once they are recovered, and return what they hold.

        Raises:
            AssertionError: they are not.
            apsw.Error, StoreError: they are no store.
        """
        self._directory.mkdir()
        try:
            for name, content in files.items():
                (self._directory / name).write_bytes(content)
            return self._opened()
        finally:
            shutil.rmtree(self._directory)

    def _opened(self) -> Found:
        connection = open_writer(self._store)
        try:
            recovered = connection.serialize("main")
            digest = hashlib.sha256(recovered).digest()
            known = self._known.get(digest)
            size = self._verified(connection) if known is None else known.size
        finally:
            connection.close()
        # Nothing but what was read is left to a restart, so that one store has one fate.
        assert [path.name for path in self._directory.iterdir()] == [self._store.name]
        assert self._store.read_bytes() == recovered
        if known is None:
            known = self._known[digest] = Found(size, self._restart(self._store))
        return known

    def _verified(self, connection: apsw.Connection) -> int:
        verdict, _ = inspect(connection)
        assert verdict.problem is None, verdict
        assert verdict.root == self._roots[verdict.size]
        assert connection.pragma("integrity_check") == "ok"
        return verdict.size
