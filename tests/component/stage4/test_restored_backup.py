"""A Stage-4 whose store was brought back from a backup: refused, or accepted and recorded."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from servicekit.clock import SystemClock
from servicekit.store.errors import StoreBehind
from servicekit.store.ledger import read_store
from stage4_service.audit import SecurityRecord, SecurityRecordType
from stage4_service.bootstrap import build_stage4, init_store
from tests.harness.stage4 import stage4_settings

if TYPE_CHECKING:
    from pathlib import Path

RECORD = SecurityRecord(SecurityRecordType.CALLER_REFUSED, "", {"method": "/m", "reason": "r"})


def test_it_is_refused_and_accepted_by_decision(tmp_path: Path) -> None:
    """The log of the accepted one says what was lost and why it was accepted."""
    settings = stage4_settings(tmp_path, "127.0.0.1:1")
    init_store(settings, clock=SystemClock())
    store = settings.state_dir / "stage4.sqlite3"

    def start(accept_restored: str | None = None) -> None:
        service = build_stage4(
            settings, clock=SystemClock(), ids=lambda: "id", accept_restored=accept_restored
        )
        service.journal.record_security(RECORD)
        service.stop(0)

    start()
    shutil.copy(store, tmp_path / "backup")
    start()
    shutil.copy(tmp_path / "backup", store)
    with pytest.raises(StoreBehind):
        start()
    start("the disk died")
    start()

    leaves = read_store(store, lambda reader: reader.rows("SELECT leaf FROM events ORDER BY seq"))
    restored = bytes(leaves[1][0]).decode()  # type: ignore[arg-type]
    assert len(leaves) == 4
    assert '"record_type":"store_restored"' in restored
    assert '"cause":"behind"' in restored
    assert '"checkpoint_size":2' in restored
    assert '"reason":"the disk died"' in restored
