"""The ledger against a model of it: any sequence of works, failures, reads and restarts."""

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from servicekit.store.ledger import TreeHead, Turn, Urgency, verify_log
from tests.component.servicekit.ledger_world import append, create_ledger, leaves_of, open_ledger
from tests.fakes.manual_clock import ManualClock

_LEAVES = st.lists(st.binary(max_size=5), max_size=4)
_NAMES = st.sampled_from("abcdef")


class _Undo(Exception):
    """Raised by a work to be undone."""


class LedgerMachine(RuleBasedStateMachine):
    """Keep a list of leaves and a set of names beside the ledger, and compare."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = create_ledger(Path(self.folder.name))
        self.clock = ManualClock()
        self.ledger = open_ledger(self.path, clock=self.clock)
        self.leaves: list[bytes] = []
        self.names: set[str] = set()

    @rule(leaves=_LEAVES, urgency=st.sampled_from(Urgency), seconds=st.integers(0, 1000))
    def commit(self, leaves: list[bytes], urgency: Urgency, seconds: int) -> None:
        """Append leaves."""
        self.clock.advance(seconds)
        start = len(self.leaves)
        expected = list(range(start, start + len(leaves)))
        assert self.ledger.commit(append(*leaves), urgency=urgency) == expected
        self.leaves += leaves

    @rule(leaves=_LEAVES, name=_NAMES)
    def keep(self, leaves: list[bytes], name: str) -> None:
        """Append leaves beside a row that may exist already."""
        try:
            self.ledger.commit(append(*leaves, kept=name))
        except Exception:  # noqa: BLE001 - the duplicate is what is expected
            assert name in self.names
        else:
            assert name not in self.names
            self.names.add(name)
            self.leaves += leaves

    @rule(leaves=_LEAVES, look=st.booleans())
    def undo(self, leaves: list[bytes], look: bool) -> None:
        """Append leaves and a row, perhaps look at them, and raise."""

        def work(turn: Turn) -> None:
            append(*leaves)(turn)
            turn.run("INSERT OR IGNORE INTO kept VALUES ('undone', 0)")
            if look:
                count = len(self.leaves) + len(leaves)
                assert turn.rows("SELECT count(*) FROM events") == [(count,)]
            raise _Undo

        with pytest.raises(_Undo):
            self.ledger.commit(work)

    @rule()
    def restart(self) -> None:
        """Close and open again, expecting the head that was."""
        head = self.ledger.head
        self.ledger.close()
        self.ledger = open_ledger(self.path, clock=self.clock, at_least=head)
        assert self.ledger.head == head

    @invariant()
    def agrees(self) -> None:
        """The log, the rows and the head are the model's."""
        assert leaves_of(self.ledger) == self.leaves
        assert self.ledger.head == TreeHead(len(self.leaves), tree_hash(self.leaves))
        rows = self.ledger.read(lambda reader: reader.rows("SELECT name FROM kept"))
        assert {row[0] for row in rows} == self.names

    def teardown(self) -> None:
        """Verify what is left."""
        self.ledger.close()
        verdict = verify_log(self.path)
        assert (verdict.problem, verdict.size) == (None, len(self.leaves))
        self.folder.cleanup()


def tree_hash(leaves: list[bytes]) -> bytes:
    """Return the root by the recursive definition."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    both = tree_hash(leaves[:split]) + tree_hash(leaves[split:])
    return hashlib.sha256(b"\x01" + both).digest()


LedgerMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
test_the_ledger_behaves_like_its_model = LedgerMachine.TestCase
