"""What a hand that edits the file leaves behind: something that verification finds, and names."""

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from servicekit.store.errors import StoreCorrupt
from servicekit.store.leaf_check import check_leaf
from servicekit.store.ledger import SqlValue, TreeHead, Turn, verify_log
from servicekit.store.schema import LEDGER_STATEMENTS
from servicekit.tlog.tree import Frontier, leaf_hash
from tests.component.servicekit.ledger_world import create_ledger, open_ledger
from tests.fakes.manual_clock import ManualClock

_SIZE = 11
_TRIGGERS = [statement for statement in LEDGER_STATEMENTS if "TRIGGER" in statement]


def append_event(turn: Turn) -> None:
    """Append one event whose leaf says what its row says."""
    seq = turn.next_seq
    members = {
        "event_type": "TESTED",
        "plan_id": f"plan_{seq}",
        "seq": seq,
        "timestamp": f"2026-01-01T00:00:00.{turn.now_us % 1_000_000:06d}Z",
        "token_id": None if seq % 2 else "tok_1",
    }
    leaf = json.dumps(members, separators=(",", ":")).encode()
    turn.append(
        leaf,
        event_type="TESTED",
        plan_id=f"plan_{seq}",
        token_id=None if seq % 2 else "tok_1",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Hold a closed store with a small log."""
    store = create_ledger(tmp_path)
    clock = ManualClock()
    ledger = open_ledger(store, clock=clock)
    for _ in range(_SIZE):
        clock.advance(0.001)
        ledger.commit(append_event)
    ledger.close()
    assert verify_log(store, check=check_leaf).problem is None
    return store


def edit(path: Path, *statements: tuple[str, Sequence[SqlValue]]) -> None:
    """Change the file as somebody with write access can, leaving the triggers as they were."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TRIGGER events_never_change; DROP TRIGGER events_never_go")
        for sql, parameters in statements:
            connection.execute(sql, parameters)
        for trigger in _TRIGGERS:
            connection.execute(trigger)


def expect_found(path: Path, first_bad_seq: int | None) -> None:
    """Expect both verification and opening to refuse, and to name the same first bad entry."""
    verdict = verify_log(path)
    assert verdict.problem is not None
    assert verdict.first_bad_seq == first_bad_seq
    with pytest.raises(StoreCorrupt) as refusal:
        open_ledger(path)
    assert refusal.value.first_bad_seq == first_bad_seq


def test_every_flipped_byte_of_every_leaf_is_found_and_named(path: Path) -> None:
    """Each byte of the log in turn: verification names exactly the entry it belongs to."""
    leaves = read(path, "SELECT seq, leaf FROM events")
    flipped = 0
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("DROP TRIGGER events_never_change")
        for seq, leaf in leaves:
            assert isinstance(leaf, bytes)
            for at in range(len(leaf)):
                bad = leaf[:at] + bytes([leaf[at] ^ 0x01]) + leaf[at + 1 :]
                connection.execute("UPDATE events SET leaf = ? WHERE seq = ?", (bad, seq))
                connection.execute(_TRIGGERS[0])
                verdict = verify_log(path)
                assert (verdict.first_bad_seq, verdict.problem is None) == (seq, False)
                connection.execute("DROP TRIGGER events_never_change")
                connection.execute("UPDATE events SET leaf = ? WHERE seq = ?", (leaf, seq))
                flipped += 1
    assert flipped > 1_000


@pytest.mark.parametrize("seq", range(_SIZE))
def test_every_flipped_byte_of_the_stored_hashes_is_found(path: Path, seq: int) -> None:
    """The stored tree is evidence, too."""
    ((hashes,),) = read(path, "SELECT hashes FROM events WHERE seq = ?", (seq,))
    assert isinstance(hashes, bytes)
    for at in range(0, len(hashes), 7):
        bad = hashes[:at] + bytes([hashes[at] ^ 0x80]) + hashes[at + 1 :]
        edit(path, ("UPDATE events SET hashes = ? WHERE seq = ?", (bad, seq)))
        assert verify_log(path).first_bad_seq == seq
    expect_found(path, seq)


@pytest.mark.parametrize("seq", range(_SIZE))
def test_a_dropped_row_is_found_and_named(path: Path, seq: int) -> None:
    """A gap is named at the entry that is missing, at the end as well."""
    edit(path, ("DELETE FROM events WHERE seq = ?", (seq,)))
    expect_found(path, seq)


@pytest.mark.parametrize("seq", range(_SIZE))
def test_a_dropped_row_with_the_rest_moved_up_is_found(path: Path, seq: int) -> None:
    """Closing the gap by renumbering does not help."""
    edit(
        path,
        ("DELETE FROM events WHERE seq = ?", (seq,)),
        ("UPDATE events SET seq = -seq WHERE seq > ?", (seq,)),
        ("UPDATE events SET seq = -seq - 1 WHERE seq < 0", ()),
    )
    verdict = verify_log(path, check=check_leaf)
    assert verdict.problem is not None
    assert verdict.first_bad_seq is not None
    assert verify_log(path).problem is not None


@pytest.mark.parametrize("pair", [(0, 1), (2, 4), (4, 5), (3, 7), (0, 10), (8, 10)])
def test_reordered_rows_are_found_and_named(path: Path, pair: tuple[int, int]) -> None:
    """Two rows that change places whole: the leaves' own numbers name the first of them."""
    first, second = pair
    edit(
        path,
        ("UPDATE events SET seq = 1000 WHERE seq = ?", (first,)),
        ("UPDATE events SET seq = ? WHERE seq = ?", (first, second)),
        ("UPDATE events SET seq = ? WHERE seq = 1000", (second,)),
    )
    with pytest.raises(StoreCorrupt):
        open_ledger(path)
    verdict = verify_log(path, check=check_leaf)
    assert verdict.problem is not None
    assert verdict.first_bad_seq == first


def test_an_added_row_is_found_and_named(path: Path) -> None:
    """A row beyond the head, and one before the beginning."""
    shutil.copy(path, path.with_name("other.db"))
    insert = (
        "INSERT INTO events SELECT ?, leaf, hashes, event_type, NULL, NULL, 0 FROM events LIMIT 1"
    )
    edit(path, (insert, (_SIZE,)))
    expect_found(path, _SIZE)
    edit(path.with_name("other.db"), (insert, (-1,)))
    expect_found(path.with_name("other.db"), -1)


@pytest.mark.parametrize("kept", range(_SIZE))
def test_a_truncated_tail_is_found_and_named(path: Path, kept: int) -> None:
    """Events that the head still counts are missed at the first that is gone."""
    edit(path, ("DELETE FROM events WHERE seq >= ?", (kept,)))
    expect_found(path, kept)


@pytest.mark.parametrize("size", range(_SIZE))
def test_a_head_rolled_back_alone_is_found(path: Path, size: int) -> None:
    """An older head does not cover the events beyond it."""
    leaves = read(path, "SELECT leaf FROM events ORDER BY seq LIMIT ?", (size,))
    roll_head(path, [leaf for (leaf,) in leaves if isinstance(leaf, bytes)])
    expect_found(path, size)


@pytest.mark.parametrize("size", range(_SIZE))
def test_a_log_rolled_back_whole_is_found_by_a_head_kept_elsewhere(path: Path, size: int) -> None:
    """Events and head of an earlier day agree; only a head from outside tells."""
    kept = TreeHead(_SIZE, verify_log(path).root)
    leaves = read(path, "SELECT leaf FROM events ORDER BY seq LIMIT ?", (size,))
    edit(path, ("DELETE FROM events WHERE seq >= ?", (size,)))
    roll_head(path, [leaf for (leaf,) in leaves if isinstance(leaf, bytes)])
    assert verify_log(path).problem is None
    verdict = verify_log(path, at_least=kept)
    assert verdict.problem is not None
    assert verdict.first_bad_seq == size
    with pytest.raises(StoreCorrupt):
        open_ledger(path, at_least=kept)


def test_a_log_rewritten_whole_is_found_by_a_head_kept_elsewhere(path: Path) -> None:
    """Leaf, hashes and head made to fit one another: a head from outside, at any size, tells."""
    kept = TreeHead(7, root_of(path, 7))
    rows = read(path, "SELECT leaf FROM events ORDER BY seq")
    leaves = [leaf for (leaf,) in rows if isinstance(leaf, bytes)]
    leaves[3] = leaves[3].replace(b"TESTED", b"FORGED")
    _, settled = Frontier().extend(map(leaf_hash, leaves))
    edit(
        path,
        *(
            ("UPDATE events SET leaf = ?, hashes = ? WHERE seq = ?", (leaf, hashes, seq))
            for seq, (leaf, hashes) in enumerate(zip(leaves, settled, strict=True))
        ),
    )
    roll_head(path, leaves)
    assert verify_log(path).problem is None
    problem = verify_log(path, at_least=kept).problem
    assert problem is not None
    assert "kept elsewhere" in problem
    with pytest.raises(StoreCorrupt):
        open_ledger(path, at_least=kept)


def test_rewritten_leaves_and_hashes_under_the_old_head_are_located(path: Path) -> None:
    """Without the head made to fit, the root tells, and the subtree is named."""
    rows = read(path, "SELECT leaf FROM events ORDER BY seq")
    leaves = [leaf for (leaf,) in rows if isinstance(leaf, bytes)]
    leaves[9] = b"forged"
    _, settled = Frontier().extend(map(leaf_hash, leaves))
    edit(
        path,
        *(
            ("UPDATE events SET leaf = ?, hashes = ? WHERE seq = ?", (leaf, hashes, seq))
            for seq, (leaf, hashes) in enumerate(zip(leaves, settled, strict=True))
        ),
    )
    problem = verify_log(path).problem
    assert problem is not None
    assert "entries 8 to 9" in problem
    expect_found(path, None)


@pytest.mark.parametrize(
    "change",
    [
        "event_type = 'OTHER'",
        "plan_id = 'plan_x'",
        "plan_id = NULL",
        "token_id = 'tok_x'",
        "time_us = time_us + 1",
    ],
)
def test_an_edited_column_is_found_by_the_leaf_check(path: Path, change: str) -> None:
    """The columns are no part of the tree; comparing them with the leaf finds the edit."""
    edit(path, (f"UPDATE events SET {change} WHERE seq = 5", ()))  # noqa: S608 - a list above
    verdict = verify_log(path, check=check_leaf)
    assert verdict.problem is not None
    assert verdict.first_bad_seq == 5


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM ledger_head",
        "UPDATE ledger_head SET size = 10",
        "UPDATE ledger_head SET root = zeroblob(32)",
        "UPDATE ledger_head SET root = 'text'",
        "UPDATE ledger_head SET frontier = zeroblob(8)",
        "UPDATE ledger_head SET frontier = x''",
    ],
)
def test_a_damaged_head_is_found(path: Path, change: str) -> None:
    """Size, root and frontier must be of one tree."""
    with contextlib.suppress(apsw.ConstraintError):
        edit(path, (change, ()))
        expect_found(path, None)
        return
    assert "'text'" in change


def test_damaged_pages_are_reported_not_raised(path: Path) -> None:
    """A verdict comes out even where SQLite cannot read a page."""
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    assert verify_log(path).problem is not None


@pytest.mark.parametrize(
    ("leaf", "found"),
    [
        (b"not json", "not an event"),
        (b"[]", "not an event"),
        (b"{}", "not an event"),
        (b'{"seq": 0, "timestamp": "2026-01-01T00:00:00Z"}', "canonical"),
    ],
)
def test_a_leaf_that_is_no_event_is_found(tmp_path: Path, leaf: bytes, found: str) -> None:
    """The tree takes any bytes; the leaf check takes events only."""
    store = create_ledger(tmp_path)
    ledger = open_ledger(store)
    ledger.commit(lambda turn: turn.append(leaf, event_type="X", plan_id=None, token_id=None))
    ledger.close()
    verdict = verify_log(store, check=check_leaf)
    assert found in str(verdict.problem)


def roll_head(path: Path, leaves: Sequence[bytes]) -> None:
    """Make the head row fit these leaves."""
    frontier, _ = Frontier().extend(map(leaf_hash, leaves))
    edit(
        path,
        (
            "UPDATE ledger_head SET size = ?, root = ?, frontier = ?",
            (frontier.size, frontier.root(), frontier.encode()),
        ),
    )


def root_of(path: Path, size: int) -> bytes:
    """Return the root of a prefix of the log."""
    rows = read(path, "SELECT leaf FROM events ORDER BY seq LIMIT ?", (size,))
    frontier, _ = Frontier().extend(leaf_hash(leaf) for (leaf,) in rows if isinstance(leaf, bytes))
    return frontier.root()


def read(path: Path, sql: str, parameters: Sequence[SqlValue] = ()) -> list[tuple[SqlValue, ...]]:
    """Return rows of a closed store."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        return connection.execute(sql, parameters).fetchall()
