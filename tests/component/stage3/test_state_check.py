"""The tables that the gates read are held against the log before anything is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest
from stagegate.stage3.v1.operator_service_pb2 import HaltRequest, ResumeRequest

from servicekit.store.errors import StoreCorrupt
from servicekit.store.ledger import read_store, verify_log
from stage3_service.settings import STORE_FILE
from stage3_service.store.state_check import state_problem
from tests.fakes.manual_clock import ManualClock
from tests.harness.stage3 import running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.fixtures import Trial

UPPER = step("text", "upper", text="a")

EDITS = {
    "a-tombstone-removed": "DELETE FROM revocations",
    "a-tombstone-moved": "UPDATE revocations SET token_key = zeroblob(32)",
    "a-tombstone-forged": (
        "INSERT INTO revocations SELECT token_key, token_id, 1 FROM tokens "
        "WHERE token_key NOT IN (SELECT token_key FROM revocations) LIMIT 1"
    ),
    "a-scope-widened": (
        "UPDATE tokens SET document = CAST(replace(CAST(document AS TEXT), "
        '\'"upper"\', \'"upper", "sha256"\') AS BLOB)'
    ),
    "a-user-changed": (
        "UPDATE tokens SET document = CAST(replace(CAST(document AS TEXT), "
        "'\"ada\"', '\"eve\"') AS BLOB)"
    ),
    "a-life-prolonged": (
        "UPDATE tokens SET document = CAST(json_set(CAST(document AS TEXT), "
        "'$.expires_us', json_extract(CAST(document AS TEXT), '$.expires_us') + 1) AS BLOB)"
    ),
    "no-document-at-all": "UPDATE tokens SET document = x'7b7d'",
    "another-credential": (
        "UPDATE tokens SET token_key = randomblob(32) "
        "WHERE token_key NOT IN (SELECT token_key FROM revocations)"
    ),
    "a-token-forged": (
        "INSERT INTO tokens (token_id, token_key, document, issued_us) "
        "SELECT 'tok_00000000000000000000000000000000', zeroblob(32), document, issued_us "
        "FROM tokens LIMIT 1"
    ),
    "a-token-removed": "DELETE FROM tokens WHERE invocations = 0",
    "charges-given-back": "UPDATE tokens SET invocations = 0",
    "a-first-use-forgotten": "UPDATE tokens SET first_used_us = NULL",
    "an-expiry-forgotten": "UPDATE tokens SET expiry_recorded = 0",
    "a-halt-forged": "INSERT INTO halt VALUES (1, 'operator', 1)",
}


@pytest.fixture
def store(tmp_path: Path, trial: Trial) -> Path:
    """Return the store of a Stage-3 with a used, a revoked and an expired token."""
    clock = ManualClock(_now())
    with running_stage3(tmp_path, clock=clock, extra_domains=[trial.extra]) as stage3:
        used = stage3.issue(scope={"text": ("upper",)})
        stage3.run(used.token_hash, UPPER)
        revoked = stage3.issue(scope={"text": ("upper",)})
        stage3.revoke(revoked.token.token_id)
        expired = stage3.issue(scope={"text": ("upper",)}, lifetime_seconds=1)
        clock.advance(2)
        stage3.run(expired.token_hash, UPPER)
        stage3.operator().Halt(HaltRequest(reason="drill"), timeout=5)
        stage3.operator().Resume(ResumeRequest(reason="over"), timeout=5)
    return tmp_path / "stage3" / STORE_FILE


def _now() -> int:
    from servicekit.clock import SystemClock

    return SystemClock().now_us()


def test_an_untouched_store_has_no_problem(store: Path) -> None:
    """The control: every kind of state is there, and agrees with the log."""
    assert read_store(store, state_problem) is None


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_table_is_found_and_not_served_from(store: Path, edit: str) -> None:
    """The log still verifies: it is the tables that contradict it."""
    connection = apsw.Connection(str(store))
    connection.execute(EDITS[edit])
    assert connection.changes() > 0
    connection.close()
    assert verify_log(store).problem is None
    assert read_store(store, state_problem) is not None
    with (
        pytest.raises(StoreCorrupt),
        running_stage3(store.parent.parent, create=False),
    ):
        raise AssertionError


def test_a_halted_store_that_was_unlocked_is_found(tmp_path: Path) -> None:
    """Deleting the halt does not resume a service."""
    with running_stage3(tmp_path) as stage3:
        stage3.operator().Halt(HaltRequest(reason="drill"), timeout=5)
    store = tmp_path / "stage3" / STORE_FILE
    assert read_store(store, state_problem) is None
    connection = apsw.Connection(str(store))
    connection.execute("DELETE FROM halt")
    connection.close()
    assert read_store(store, state_problem) is not None
