"""A Stage-3 whose store is a backup brought back: refused, or accepted, recorded and halted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from stagegate.stage3.v1.operator_service_pb2 import GetStatusRequest, ResumeRequest

from servicekit.store.errors import NothingToAccept, StoreBehind, StoreExists
from stage3_service.bootstrap import create_state
from tests.harness.stage3 import TIMEOUT_S, running_stage3, stage3_settings, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.manual_clock import ManualClock
    from tests.harness.fixtures import Trial

UPPER = step("text", "upper", text="a")


@pytest.fixture
def restored(tmp_path: Path, clock: ManualClock, trial: Trial) -> tuple[Path, str, str, int]:
    """Return a home whose store is of before a revocation; the token and the size that was lost."""
    state, backup = tmp_path / "stage3", tmp_path / "backup"
    with running_stage3(tmp_path, clock=clock) as stage3:
        issued = stage3.issue()
        assert stage3.run(issued.token_hash, UPPER).kind == "completed"
    shutil.copytree(state, backup)
    with running_stage3(tmp_path, clock=clock, create=False) as stage3:
        stage3.revoke(issued.token.token_id)
        lost = len(stage3.events())
    shutil.rmtree(state)
    shutil.copytree(backup, state)
    return tmp_path, issued.token_hash, issued.token.token_id, lost


def test_it_is_refused_unless_somebody_says_so(
    restored: tuple[Path, str, str, int], clock: ManualClock
) -> None:
    """In it the revoked token is good: serving from it unasked would break what was promised."""
    home, _, _, lost = restored
    with (
        pytest.raises(StoreBehind, match=rf"before the {lost} .*stage3-checkpoint"),
        running_stage3(home, clock=clock, create=False),
    ):
        pass


def test_it_is_recorded_and_halted_until_tokens_are_revoked_again(
    restored: tuple[Path, str, str, int], clock: ManualClock
) -> None:
    """The log says who lost what; Revoke works while nothing runs; then the service goes on."""
    home, token_hash, token_id, lost = restored
    root = (home / "stage3-checkpoint" / "stage3.checkpoint").read_bytes()
    with running_stage3(
        home, clock=clock, create=False, accept_restored="the disk died, ticket 7"
    ) as stage3:
        recorded, halted = stage3.events()[-2:]
        assert (recorded["event_type"], recorded["reason"]) == (
            "STORE_RESTORED",
            "the disk died, ticket 7",
        )
        facts = recorded["additional_data"]
        assert (facts["cause"], facts["checkpoint_size"]) == ("behind", lost)
        assert halted["event_type"] == "SERVICE_HALTED"
        new = {"plan_id": "plan-new", "request_id": "request-new"}
        assert stage3.run(token_hash, UPPER, **new).reason == "SERVICE_HALTED"
        status = stage3.operator().GetStatus(GetStatusRequest(), timeout=TIMEOUT_S)
        assert (status.serving, status.halt_reason) == (False, "operator")

        stage3.revoke(token_id)
        stage3.operator().Resume(ResumeRequest(reason="revoked again"), timeout=TIMEOUT_S)
        assert stage3.run(token_hash, UPPER, **new).reason == "TOKEN_NOT_ACCEPTED"
        fresh = stage3.issue().token_hash
        assert stage3.run(fresh, UPPER).kind == "completed"
    kept = home / "stage3-checkpoint" / "stage3.checkpoint.kept-1"
    assert kept.read_bytes() == root
    with running_stage3(home, clock=clock, create=False) as stage3:
        assert stage3.run(fresh, UPPER, plan_id="p", request_id="r").kind == "completed"


def test_without_the_checkpoint_a_revoked_token_would_run_again(
    restored: tuple[Path, str, str, int], clock: ManualClock
) -> None:
    """The control: a restore that also brings back the checkpoint hides itself."""
    home, token_hash, _, _ = restored
    settings = stage3_settings(home)
    (home / "stage3-checkpoint" / "stage3.checkpoint").unlink()
    store = settings.state_dir / "stage3.sqlite3"
    store.rename(home / "aside")
    create_state(settings, clock=clock)
    (home / "aside").rename(store)
    with running_stage3(home, clock=clock, create=False) as stage3:
        again = stage3.run(token_hash, UPPER, plan_id="plan-new", request_id="request-new")
        assert again.kind == "completed"


def test_the_option_is_refused_where_nothing_was_restored(
    tmp_path: Path, clock: ManualClock
) -> None:
    """And nothing is recorded."""
    with running_stage3(tmp_path, clock=clock) as stage3:
        before = len(stage3.events())
    with (
        pytest.raises(NothingToAccept),
        running_stage3(tmp_path, clock=clock, create=False, accept_restored="left on"),
    ):
        pass
    with running_stage3(tmp_path, clock=clock, create=False) as stage3:
        assert len(stage3.events()) == before


def test_a_store_that_is_gone_is_not_made_anew_by_init(tmp_path: Path, clock: ManualClock) -> None:
    """The checkpoint remembers that there was one."""
    settings = stage3_settings(tmp_path)
    with running_stage3(tmp_path, clock=clock) as stage3:
        stage3.issue()
    (settings.state_dir / "stage3.sqlite3").unlink()
    with pytest.raises(StoreExists, match="whose store is gone"):
        create_state(settings, clock=clock)
