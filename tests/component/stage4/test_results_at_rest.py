"""What Stage-4 keeps of an answer: sealed, bound to its request, told for its time, then gone."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import apsw
import grpc
import pytest
from stagegate.stage4.v1 import plan_service_pb2 as pb

from servicekit.clock import SystemClock
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.settings import SettingsRefused, load_settings
from servicekit.store.errors import KeyRefused
from servicekit.store.key_ring import KeyRing
from servicekit.store.key_ring_file import add_key
from servicekit.store.ledger import read_store
from stage4_service.bootstrap import build_stage4
from stage4_service.settings import STORE_FILE, Stage4Settings
from tests.fakes.manual_clock import ManualClock
from tests.fakes.stage3_service import FakeStage3, completed
from tests.fakes.trial_plans import trial_plan, trial_step
from tests.harness.pki import uri
from tests.harness.stage4 import Stage4UnderTest, running_stage4, stage4_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CANARY = "canary-77ad02e9"
SWAP = "UPDATE plans SET sealed = (SELECT sealed FROM kept WHERE kept.plan_id <> plans.plan_id)"
RETENTION_S = 172_800


def raw_hits(directory: Path) -> int:
    """Count the canary in every file of the store as it lies on the disk, WAL included."""
    files = sorted((directory / "stage4").iterdir())
    assert f"{STORE_FILE}-wal" in [file.name for file in files]
    return sum(file.read_bytes().count(CANARY.encode()) for file in files)


def run_canaries(stage4: Stage4UnderTest) -> str:
    """Put the canary into parameters, results, and a document that is no plan."""
    plan_id = stage4.execute(trial_plan(trial_step(said=CANARY))).completed.plan_id
    assert CANARY in str(stage4.plan(plan_id).result_json)
    assert stage4.execute({"steps": CANARY}).reason == "PLAN_INVALID"
    failed = stage4.execute(trial_plan(trial_step(said=CANARY), trial_step("fail")))
    assert failed.reason == "DOMAIN_FAILED"
    return plan_id


def test_no_result_and_no_parameter_is_readable_in_the_files_of_the_store(
    tmp_path: Path, stage3_address: str, record_property: Callable[[str, object], None]
) -> None:
    """Database and write-ahead log, while serving and after the stop: no canary in any of them."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        run_canaries(stage4)
        serving = raw_hits(tmp_path)
    at_rest = (tmp_path / "stage4" / STORE_FILE).read_bytes().count(CANARY.encode())

    record_property("figure", f"canaries readable in the raw files of Stage-4's store: {serving}")
    assert (serving, at_rest) == (0, 0)


def test_control_without_encryption_the_same_search_finds_them(
    tmp_path: Path,
    stage3_address: str,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The search is able to find: a ring that seals nothing leaves the canary to be read."""

    def seal(ring: KeyRing, plaintext: bytes, context: Sequence[bytes]) -> tuple[str, bytes]:
        return ring.current, plaintext

    def unseal(_ring: KeyRing, _key_id: str, sealed: bytes, _context: Sequence[bytes]) -> bytes:
        return sealed

    monkeypatch.setattr(KeyRing, "seal", seal)
    monkeypatch.setattr(KeyRing, "open", unseal)
    with running_stage4(tmp_path, stage3_address) as stage4:
        run_canaries(stage4)
        hits = raw_hits(tmp_path)

    record_property("figure", f"control, stored without encryption: {hits}")
    assert hits > 0


def change_store(directory: Path, *statements: str) -> None:
    """Do with the stopped service's store what a hand with write access can do."""
    connection = apsw.Connection(str(directory / "stage4" / STORE_FILE))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def read_refused(stage4: Stage4UnderTest, plan_id: str) -> tuple[str, str]:
    """Return the code and the reason with which a plan is not told."""
    with pytest.raises(grpc.RpcError) as refused:
        stage4.plan(plan_id)
    error = decode_rpc_error(refused.value)
    return error.code, error.reason


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            [
                "CREATE TEMP TABLE kept AS SELECT plan_id, sealed FROM plans",
                SWAP,
            ],
            id="two rows change places",
        ),
        pytest.param(["UPDATE plans SET plan_digest = zeroblob(32)"], id="another plan"),
        pytest.param(["UPDATE plans SET state = 'failed'"], id="a success becomes a failure"),
        pytest.param(["UPDATE plans SET user_id = 'eve'"], id="somebody else's"),
        pytest.param(["UPDATE plans SET request_id = 'other'"], id="another request's"),
        pytest.param(["UPDATE plans SET executed_plan_id = 'other'"], id="another execution's"),
        pytest.param(["UPDATE plans SET sealed = zeroblob(40)"], id="a result is made up"),
    ],
)
def test_a_result_that_was_changed_in_the_store_is_not_told(
    tmp_path: Path, stage3_address: str, changes: list[str]
) -> None:
    """It is LOG_CORRUPT to its client; lists, the log and auditors, who read none, go on."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        ids = [stage4.execute(trial_plan(trial_step(n=n))).completed.plan_id for n in range(2)]
    change_store(tmp_path, *changes)

    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        assert [read_refused(stage4, plan_id) for plan_id in ids] == [
            ("DATA_LOSS", "LOG_CORRUPT")
        ] * 2
        assert stage4.plan(ids[0], "reader").plan_id == ids[0]
        assert len(stage4.events(plan_id=ids[0])) == 3
        listed = stage4.plans().ListPlans(pb.ListPlansRequest(), timeout=5).plans
        assert [plan.plan_id for plan in listed] == ids[::-1]
        assert stage4.execute(trial_plan()).code == "OK"


def test_a_client_that_writes_its_own_name_into_the_row_is_told_nothing(
    tmp_path: Path, stage3_address: str
) -> None:
    """Write access to the store is no way to read what somebody else was answered."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        plan_id = stage4.execute(trial_plan(trial_step(said="secret"))).completed.plan_id
        assert stage4.plan(plan_id).caller == uri("cli")
    change_store(
        tmp_path, "UPDATE plans SET caller = replace(caller, '/client/cli', '/client/other')"
    )

    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        with pytest.raises(grpc.RpcError) as refused:
            stage4.plan(plan_id, "other")
        assert decode_rpc_error(refused.value).reason == "LOG_CORRUPT"


def test_a_rotated_key_is_recorded_and_old_results_are_still_told(
    tmp_path: Path, stage3_address: str
) -> None:
    """key_rotated names both keys, once; what the old one sealed is told byte for byte."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        old = stage4.execute(trial_plan(trial_step(n=1))).completed
    previous, key_id = add_key(tmp_path / "stage4-outcome.keys", os.urandom)

    for _start in range(2):
        with running_stage4(tmp_path, stage3_address, create=False) as stage4:
            records = [e for e in stage4.events("reader") if e.get("record_type") == "key_rotated"]
            assert [record["details"] for record in records] == [
                {"key_id": key_id, "previous_key_id": previous}
            ]
            assert stage4.plan(old.plan_id).result_json == old.result_json
            assert stage4.execute(trial_plan()).code == "OK"
    names = read_store(
        tmp_path / "stage4" / STORE_FILE,
        lambda reader: reader.rows("SELECT key_id FROM plans ORDER BY number"),
    )
    assert names == [(previous,), (key_id,), (key_id,)]


@pytest.mark.parametrize("results", [0, 1])
def test_another_ring_is_refused_before_anything_is_served(
    tmp_path: Path, stage3_address: str, results: int
) -> None:
    """The sentence names the file and the key that is missing; exit code 78; nothing is written."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        for _ in range(results):
            assert stage4.execute(trial_plan()).code == "OK"
    store = tmp_path / "stage4" / STORE_FILE
    keys = tmp_path / "stage4-outcome.keys"
    keys.write_text("00" * 32 + "\n")
    before = store.read_bytes()

    with pytest.raises(KeyRefused, match="lacks the key") as refused:
        build_stage4(stage4_settings(tmp_path, stage3_address), clock=SystemClock(), ids=str)

    assert refused.value.exit_code == 78
    assert str(keys) in str(refused.value)
    assert store.read_bytes() == before


def test_a_start_without_its_ring_is_refused(tmp_path: Path, stage3_address: str) -> None:
    """The store is there and its keys are not: nothing makes new ones."""
    with running_stage4(tmp_path, stage3_address):
        pass
    (tmp_path / "stage4-outcome.keys").unlink()

    with pytest.raises(KeyRefused, match="no such file"):
        build_stage4(stage4_settings(tmp_path, stage3_address), clock=SystemClock(), ids=str)
    assert not (tmp_path / "stage4-outcome.keys").exists()


def sealed_results(directory: Path) -> list[bytes]:
    """Return the results as the store has them, also while the service runs."""
    rows: list[tuple[Any, ...]] = read_store(
        directory / "stage4" / STORE_FILE,
        lambda reader: reader.rows("SELECT sealed FROM plans WHERE length(sealed) > 0"),
    )
    return [bytes(sealed) for (sealed,) in rows]


def test_a_result_is_told_until_its_time_is_over_and_its_plan_for_good(
    tmp_path: Path, stage3_address: str, fake: FakeStage3
) -> None:
    """To the last microsecond; then result_erased, with all else that is known of the plan."""
    clock = ManualClock(SystemClock().now_us())

    def with_receipt(request: Any, _context: object) -> Any:
        response = completed(request, [{"n": 1}])
        response.receipt = b"receipt"
        return response

    fake.script = with_receipt
    with running_stage4(tmp_path, stage3_address, clock=clock) as stage4:
        told = stage4.execute(trial_plan()).completed
        clock.advance(RETENTION_S)
        before = stage4.plan(told.plan_id)
        clock.advance(1e-6)
        after = stage4.plan(told.plan_id)
        (listed,) = stage4.plans().ListPlans(pb.ListPlansRequest(), timeout=5).plans

    assert (before.result_json, before.result_erased) == (told.result_json, False)
    assert (after.result_json, after.result_erased) == (b"", True)
    assert (listed.result_erased, after.receipt) == (True, b"receipt")
    assert (after.state, after.plan_digest) == (pb.PLAN_STATE_COMPLETED, told.plan_digest)


def test_later_plans_erase_what_is_overdue_and_leave_nothing_of_it(
    tmp_path: Path, stage3_address: str
) -> None:
    """Two for each plan, oldest first; rows stay, and the bytes are gone from the file."""
    clock = ManualClock(SystemClock().now_us())
    store = tmp_path / "stage4" / STORE_FILE
    with running_stage4(tmp_path, stage3_address, clock=clock) as stage4:
        ids = [stage4.execute(trial_plan(trial_step(n=n))).completed.plan_id for n in range(5)]
        sealed = sealed_results(tmp_path)
        clock.advance(RETENTION_S + 1)
        left = []
        for _ in range(4):
            assert stage4.execute(trial_plan()).code == "OK"
            left.append(len(sealed_results(tmp_path)))
        erased = [stage4.plan(plan_id) for plan_id in ids]
        refused = stage4.execute({"steps": 1}).outcome.plan_id
        assert not stage4.plan(refused).result_erased
    raw = store.read_bytes()

    assert left == [4, 3, 3, 4]
    assert all(plan.result_erased and plan.state == pb.PLAN_STATE_COMPLETED for plan in erased)
    assert [value in raw for value in sealed] == [False] * 5


def test_control_what_is_not_overdue_is_found_in_the_file(
    tmp_path: Path, stage3_address: str
) -> None:
    """The search for sealed bytes is able to find: a result within its time is there."""
    store = tmp_path / "stage4" / STORE_FILE
    with running_stage4(tmp_path, stage3_address) as stage4:
        for _ in range(2):
            assert stage4.execute(trial_plan()).code == "OK"
        sealed = sealed_results(tmp_path)

    raw = store.read_bytes()
    assert [value in raw for value in sealed] == [True] * 2


@pytest.mark.parametrize(("retention_s", "accepted"), [(172_799, False), (172_800, True)])
def test_a_retention_shorter_than_two_days_is_refused(
    tmp_path: Path, retention_s: int, accepted: bool
) -> None:
    """A day, and the longest life that a token can have."""
    variables = {
        "S_STATE_DIR": str(tmp_path),
        "S_TRUST_DOMAIN": "dev.test",
        "S_OUTCOME_KEY_FILE": str(tmp_path / "keys"),
        "S_OUTCOME_RETENTION_S": json.dumps(retention_s),
    }

    def load() -> Stage4Settings:
        return load_settings(Stage4Settings, file=None, environ=variables, env_prefix="S_")

    if accepted:
        assert load().outcome_retention_s == retention_s
    else:
        with pytest.raises(SettingsRefused, match="outcome_retention_s"):
            load()
