"""Guard the log's integrity: recompute the tree from the leaves, compare all that is stored of it.

Every row keeps the hashes that its leaf settled, so damage is named at the first entry whose hashes
no longer follow from the leaves. A hand that rewrites leaves, hashes and head consistently is found
only against a head kept elsewhere, or by a `check` that knows what a leaf says. Deliberately
absent: any repair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from servicekit.store.connection import check_shape, is_at_rest, open_reader
from servicekit.store.errors import StoreCorrupt, StoreUnreadable
from servicekit.store.store_file import check_owner, identify
from servicekit.tlog.tree import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hashes

__all__ = ["Check", "LogVerdict", "StoredEvent", "StoredHead", "TreeHead", "inspect", "verify_log"]

_CHUNK_ROWS = 4096
_UNREADABLE = (
    *(apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.IOError),
    *(apsw.BusyError, apsw.LockedError, apsw.AuthError, apsw.NoMemError),
)


@dataclass(frozen=True, slots=True)
class TreeHead:
    """Name a state of the log: how many events, and the root over them."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Hold one row of the log. The leaf is the evidence; the other fields are an index over it."""

    seq: int
    leaf: bytes
    event_type: str
    plan_id: str | None
    token_id: str | None
    time_us: int


@dataclass(frozen=True, slots=True)
class LogVerdict:
    """Say whether a log agrees with itself. `size` and `root` are those of its head."""

    size: int
    root: bytes
    problem: str | None
    first_bad_seq: int | None


@dataclass(frozen=True, slots=True)
class StoredHead:
    """Hold the head row as read."""

    frontier: Frontier
    root: bytes
    high_water_us: int


Check = Callable[[StoredEvent], str | None]


class _Bad(Exception):
    def __init__(self, problem: str, seq: int | None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.seq = seq


def verify_log(
    path: Path,
    *,
    check: Check | None = None,
    at_least: TreeHead | None = None,
    schema_name: str | None = None,
) -> LogVerdict:
    """Verify a whole log, read-only; a service may be writing to it meanwhile.

    `check` is asked about every event and returns what is wrong with it, or None. `at_least` is a
    head kept elsewhere: the log must contain it as a prefix. `schema_name` is whose store it must
    be. What could not be read as a store gets no verdict.

    Raises:
        StoreMissing: there is no file at `path`.
        StoreMismatch: it is no store, or not that of `schema_name`.
        StoreUnreadable: the file, or the directory it is in, could not be read.
    """
    identify(path)
    before = _state(path)
    try:
        connection = open_reader(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    except apsw.Error as error:
        return LogVerdict(0, EMPTY_ROOT, f"SQLite cannot open it: {error}", None)
    try:
        if schema_name is not None:
            check_owner(connection, path, schema_name)
        check_shape(connection)
        verdict, _ = inspect(connection, check=check, at_least=at_least)
    except StoreCorrupt as error:
        verdict = LogVerdict(0, EMPTY_ROOT, str(error), error.first_bad_seq)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    except apsw.Error as error:
        verdict = LogVerdict(0, EMPTY_ROOT, f"SQLite cannot read it: {error}", None)
    finally:
        connection.close()
    if before is not None and _state(path) != before:
        raise StoreUnreadable(
            f"a service began to write to {path} while it was read", advice="Verify it again."
        )
    return verdict


def _state(path: Path) -> tuple[int, int] | None:
    """Return what changes when a store at rest is written to; None for one that is open."""
    if not is_at_rest(path):
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _unreadable(path: Path, error: Exception) -> StoreUnreadable:
    return StoreUnreadable(
        f"SQLite cannot read {path}: {error}",
        advice="Check who may read the file and its directory. Evidence with a -wal file beside it "
        "is read where the directory is writable: copy both, and name the copy.",
    )


def inspect(
    connection: apsw.Connection, *, check: Check | None = None, at_least: TreeHead | None = None
) -> tuple[LogVerdict, StoredHead | None]:
    """Return the verdict on the log behind a connection, and its head where that is readable.

    Raises:
        apsw.Error: SQLite could not read a page.
    """
    head: StoredHead | None = None
    try:
        head = _read_head(connection)
        _recompute(connection, head.frontier, check, at_least)
    except _Bad as bad:
        size, root = (head.frontier.size, head.root) if head else (0, EMPTY_ROOT)
        return LogVerdict(size, root, bad.problem, bad.seq), head
    return LogVerdict(head.frontier.size, head.root, None, None), head


def _read_head(connection: apsw.Connection) -> StoredHead:
    # One snapshot for the head and the table's ends: events below the head never change, so the
    # rest may be read chunk by chunk without holding back the writer's checkpoints.
    connection.execute("BEGIN")
    try:
        heads: list[Any] = connection.execute(
            "SELECT size, root, frontier, high_water_us FROM ledger_head"
        ).fetchall()
        ends: list[Any] = connection.execute(
            "SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)"
        ).fetchall()
    finally:
        connection.execute("ROLLBACK")
    ((first, last),) = ends
    if len(heads) != 1:
        raise _Bad(f"there are {len(heads)} heads", None)
    ((size, root, encoded, high_water_us),) = heads
    try:
        frontier = Frontier.decode(encoded)
    except ValueError as error:
        raise _Bad(f"the head's frontier is damaged: {error}", None) from None
    if frontier.size != size or frontier.root() != root:
        raise _Bad(
            "the head contradicts itself: size, root and frontier are of different trees", None
        )
    if first is not None and first < 0:
        raise _Bad(f"entry {first} lies before the first", first)
    if last is not None and last >= size:
        raise _Bad(f"entry {size} lies beyond the head, which counts {size}", size)
    return StoredHead(frontier, root, high_water_us)


def _recompute(
    connection: apsw.Connection, head: Frontier, check: Check | None, at_least: TreeHead | None
) -> None:
    columns = "seq, leaf, hashes" + (", event_type, plan_id, token_id, time_us" if check else "")
    query = f"SELECT {columns} FROM events WHERE seq >= ? AND seq < ? ORDER BY seq"  # noqa: S608 - names of columns
    if at_least is not None and head.size < at_least.size:
        raise _Bad(f"the log ends at {head.size}, before a head kept elsewhere", head.size)
    frontier = Frontier()
    while frontier.size < head.size:
        start = frontier.size
        end = min(start + _CHUNK_ROWS, head.size)
        if at_least is not None and start < at_least.size < end:
            end = at_least.size
        rows: list[Any] = connection.execute(query, (start, end)).fetchall()
        if check is None:
            frontier = _compare(frontier, rows, end)
        else:
            frontier = _compare_and_check(frontier, rows, end, check)
        if at_least is not None and frontier.size == at_least.size:
            _confirm(frontier, at_least)
    if frontier != head:
        raise _Bad(_locate(frontier, head), None)


def _confirm(frontier: Frontier, at_least: TreeHead) -> None:
    if frontier.root() != at_least.root:
        size = at_least.size
        raise _Bad(f"the first {size} entries are not those of a head kept elsewhere", None)


def _compare_and_check(frontier: Frontier, rows: list[Any], end: int, check: Check) -> Frontier:
    # A swapped row may show in the tree only at a later one, but in what its leaf says at once.
    bad: _Bad | None = None
    grown = frontier
    try:
        grown = _compare(frontier, rows, end)
    except _Bad as found:
        bad = found
    for row in rows:
        if bad is not None and bad.seq is not None and row[0] >= bad.seq:
            break
        problem = check(StoredEvent(row[0], row[1], *row[3:]))
        if problem is not None:
            raise _Bad(f"entry {row[0]}: {problem}", row[0])
    if bad is not None:
        raise bad
    return grown


def _compare(frontier: Frontier, rows: list[Any], end: int) -> Frontier:
    start = frontier.size
    for expected, row in enumerate(rows, start):
        if row[0] != expected:
            raise _Bad(f"entry {expected} is missing", expected)
        if type(row[1]) is not bytes:
            raise _Bad(f"entry {expected} is not bytes", expected)
    grown, settled = frontier.extend(leaf_hashes([row[1] for row in rows]))
    if settled != [row[2] for row in rows]:
        for seq, (hashes, row) in enumerate(zip(settled, rows, strict=True), start):
            stored = row[2]
            if stored != hashes:
                same_leaf = type(stored) is bytes and stored[:HASH_BYTES] == hashes[:HASH_BYTES]
                what = "the subtree it completes" if same_leaf else "its bytes"
                raise _Bad(f"entry {seq} does not match the hash of {what}", seq)
    if grown.size != end:
        raise _Bad(f"entry {grown.size} is missing", grown.size)
    return grown


def _locate(found: Frontier, head: Frontier) -> str:
    start = 0
    for bit, (ours, theirs) in zip(
        _subtree_sizes(head.size), zip(found.peaks, head.peaks, strict=True), strict=True
    ):
        if ours != theirs:
            return f"the root differs from the head's: look at entries {start} to {start + bit - 1}"
        start += bit
    return "the root differs from the head's"


def _subtree_sizes(size: int) -> list[int]:
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]
