"""A disk that hangs in a sync: nothing runs on its word, and the process ends all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from servicekit.process import ExitCode
from servicekit.store.ledger import verify_log
from stage3_service.bootstrap import create_state
from tests.harness.pki import pki
from tests.harness.stage3 import Stage3UnderTest, running_stage3, stage3_settings, step

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SCOPE = {"trial": ("effect",)}
EFFECT = step("trial", "effect")
COMMIT_S = 5.0
"""What the first commits need on a disk that is only busy, several times over."""


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Stage3UnderTest]]:
    """Return a process that serves below `tmp_path`, and the way to speak to it."""
    settings = stage3_settings(tmp_path, commit_timeout_s=COMMIT_S)
    create_state(settings)
    (tmp_path / "stage3.json").write_text(settings.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.harness.serve_on_faulty_disk", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    listeners = {
        name: SimpleNamespace(address=address)
        for name, address in json.loads(process.stdout.readline()).items()
    }
    under_test = Stage3UnderTest(SimpleNamespace(**listeners), pki())  # type: ignore[arg-type]  # the parts of a service that a client sees
    yield process, under_test
    under_test.close()
    process.kill()
    process.wait(30)
    process.stdout.close()


@pytest.mark.slow
def test_a_sync_that_hangs_ends_the_process_with_74(
    serving: tuple[subprocess.Popen[str], Stage3UnderTest], tmp_path: Path
) -> None:
    """The caller is told AUDIT_UNAVAILABLE, no domain is called, and the writer that hangs in the
    kernel does not keep the process; a restart says what was kept.
    """
    process, stage3 = serving
    token = stage3.issue(scope=SCOPE)
    assert stage3.run(token.token_hash, EFFECT).kind == "completed"
    (tmp_path / "hang").touch()

    refused = stage3.run(token.token_hash, EFFECT)

    assert refused.reason == "AUDIT_UNAVAILABLE"
    assert process.wait(60) == ExitCode.STORE_FAILED
    assert (tmp_path / "effects").read_text().split() == ["plan-1/0"]
    (tmp_path / "hang").unlink()
    assert verify_log(tmp_path / "stage3" / "stage3.sqlite3").problem is None
    with running_stage3(tmp_path, create=False) as again:
        told = {event["plan_id"] for event in again.events(event_type="EXECUTION_STARTED")}
        # Whether the commit that hung is there is not known before; if it is, its step is in doubt.
        assert again.service.recovered_plans == len(told - {"plan-1"})
