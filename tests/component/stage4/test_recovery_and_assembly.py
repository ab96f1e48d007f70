"""What a restart says, and how an assembly that cannot work is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health_pb2,
    health_pb2_grpc,
)
from pydantic import ValidationError
from stagegate.stage4.v1 import plan_service_pb2 as pb

from servicekit.clock import SystemClock
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.server import ListenRefused, PortUnavailable
from servicekit.serving.tls import CredentialRefused
from servicekit.settings import SettingsRefused, load_settings
from servicekit.store.errors import StoreError, StoreLocked, StoreMissing
from stage4_service.audit import (
    EventType,
    NewEvent,
    PlanOpened,
    SecurityRecord,
    SecurityRecordType,
)
from stage4_service.bootstrap import build_stage4, init_store, results_of
from stage4_service.errors import JournalUnavailable, Reason
from stage4_service.settings import STORE_FILE, Limits, Stage4Settings
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.fakes.stage3_service import FakeStage3
from tests.fakes.trial_plans import trial_plan
from tests.harness.held_writer import held_writer
from tests.harness.pki import uri
from tests.harness.stage4 import running_stage4, stage4_settings


def _ids() -> str:
    return "id"


def _call(channel: grpc.Channel, method: str) -> None:
    call: Any = channel.unary_unary(method)
    call(b"", timeout=5)


def _leave_running(settings: Stage4Settings, *plan_ids: str) -> None:
    """Leave a store as a process does that dies between its two commits."""
    init_store(settings, clock=SystemClock())
    journal = SqliteJournal.open(
        settings.state_dir / STORE_FILE,
        clock=SystemClock(),
        commit_timeout_s=5.0,
        results=results_of(settings),
    )
    for plan_id in plan_ids:
        journal.record(
            [
                NewEvent(EventType.PLAN_RECEIVED, "ada", plan_id, {}),
                NewEvent(EventType.EXECUTION_STARTED, "ada", plan_id, {}),
            ],
            opened=PlanOpened(plan_id, f"request-{plan_id}", uri("cli"), "ada", bytes(32), 1),
        )
    journal.close()


def test_a_restart_closes_what_was_running_and_calls_nobody(
    tmp_path: Path, stage3_address: str, fake: FakeStage3
) -> None:
    """Expect execution_failed{outcome: unknown, recovered: true}, one record of the recovery."""
    _leave_running(stage4_settings(tmp_path, stage3_address), "plan_a", "plan_b")
    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        for plan_id in ("plan_a", "plan_b"):
            plan = stage4.plan(plan_id)
            assert (plan.state, plan.reason) == (pb.PLAN_STATE_UNKNOWN, "OUTCOME_UNKNOWN")
            last = stage4.events(plan_id=plan_id)[-1]
            assert last["event_type"] == "execution_failed"
            assert last["details"]["recovered"] is True
        records = [e for e in stage4.events("reader") if "record_type" in e]
        assert [r["details"] for r in records] == [{"closed": 2}]
        size = stage4.service.journal.head.size
    assert fake.received == []
    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        assert stage4.service.journal.head.size == size
        resubmitted = stage4.execute(trial_plan(), request_id="request-plan_a").completed
        first = stage4.events(plan_id=resubmitted.plan_id)[0]
        assert first["details"]["replay"] is True


def test_health_says_serving_only_between_start_and_stop(
    tmp_path: Path, stage3_address: str
) -> None:
    """Expect a probe without a certificate to be answered, on its own address."""
    with running_stage4(tmp_path, stage3_address) as stage4:
        with grpc.insecure_channel(stage4.service.addresses.probes) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            service = "stagegate.stage4.v1.PlanService"
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as refused:
                _call(channel, f"/{service}/ListPlans")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_missing_a_locked_and_an_existing_store_are_told_apart(tmp_path: Path) -> None:
    """Expect an error for two, nothing made beside the third, and nothing half open afterwards."""
    settings = stage4_settings(tmp_path, "127.0.0.1:1")
    with pytest.raises(StoreMissing):
        build_stage4(settings, clock=SystemClock(), ids=_ids)
    with running_stage4(tmp_path, "127.0.0.1:1"):
        with pytest.raises(StoreLocked):
            build_stage4(settings, clock=SystemClock(), ids=_ids)
        assert init_store(settings, clock=SystemClock()) == ()
    build_stage4(settings, clock=SystemClock(), ids=_ids).stop(0)


def test_a_busy_port_is_named_and_everything_is_closed_again(tmp_path: Path) -> None:
    """Expect the address in the error, and the store free for the next attempt."""
    with running_stage4(tmp_path / "first", "127.0.0.1:1") as stage4:
        taken = stage4.service.addresses.clients
        settings = stage4_settings(tmp_path / "second", "127.0.0.1:1")
        init_store(settings, clock=SystemClock())
        busy = settings.model_copy(
            update={"listen": settings.listen.model_copy(update={"clients": taken})}
        )
        with pytest.raises(PortUnavailable, match=taken):
            build_stage4(busy, clock=SystemClock(), ids=_ids)
        build_stage4(settings, clock=SystemClock(), ids=_ids).stop(0)


def test_certificates_are_required_and_checked(tmp_path: Path) -> None:
    """Expect no listener without certificates unless asked for, and a missing file to be named."""
    settings = stage4_settings(tmp_path, "127.0.0.1:1")
    init_store(settings, clock=SystemClock())
    for absent in ({"tls": None}, {"stage3": settings.stage3.model_copy(update={"tls": None})}):
        with pytest.raises(ListenRefused, match="certificates"):
            build_stage4(settings.model_copy(update=absent), clock=SystemClock(), ids=_ids)
    assert settings.tls is not None
    lost = settings.tls.model_copy(update={"key_file": tmp_path / "lost.key"})
    with pytest.raises(CredentialRefused, match=r"lost\.key"):
        build_stage4(settings.model_copy(update={"tls": lost}), clock=SystemClock(), ids=_ids)


def test_an_insecure_pair_of_listeners_works_on_loopback_only(tmp_path: Path) -> None:
    """Expect one assumed client on loopback, reflection if set, and a refusal anywhere else."""
    settings = stage4_settings(tmp_path, "127.0.0.1:1", connect_timeout_s=0.2).model_copy(
        update={"tls": None, "insecure_loopback": True, "reflection": True}
    )
    init_store(settings, clock=SystemClock())
    service = build_stage4(settings, clock=SystemClock(), ids=iter(map(str, range(99))).__next__)
    service.start()
    with grpc.insecure_channel(service.addresses.clients) as channel:
        call: Any = channel.unary_unary(
            "/stagegate.stage4.v1.PlanService/ExecutePlan",
            request_serializer=pb.ExecutePlanRequest.SerializeToString,
        )
        plan_json = json.dumps(trial_plan()).encode()
        with pytest.raises(grpc.RpcError) as refused:
            call(pb.ExecutePlanRequest(plan_json=plan_json), timeout=10)
    assert decode_rpc_error(refused.value).reason == "STAGE3_UNREACHABLE"
    assert service.journal.plans(caller=None, before=None, limit=1)[0].caller.endswith("/local")
    service.stop(1)
    everywhere = settings.model_copy(
        update={"listen": settings.listen.model_copy(update={"clients": "0.0.0.0:0"})}
    )
    with pytest.raises(ValueError, match="loopback"):
        build_stage4(everywhere, clock=SystemClock(), ids=_ids)


def test_settings_are_typed_complete_and_refused_when_misspelled(tmp_path: Path) -> None:
    """Expect environment names to work, unknown ones to be refused, limits to reach the rooms."""
    environ = {
        "STAGE4_STATE_DIR": str(tmp_path),
        "STAGE4_TRUST_DOMAIN": "stagegate.test",
        "STAGE4_OUTCOME_KEY_FILE": str(tmp_path / "keys"),
        "STAGE4_LIMITS__MAX_STEPS": "7",
    }
    settings = load_settings(Stage4Settings, file=None, environ=environ, env_prefix="STAGE4_")
    assert settings.limits.as_plan_limits() == replace(Limits().as_plan_limits(), max_steps=7)
    with pytest.raises(SettingsRefused, match="MAX_STEPS"):
        load_settings(
            Stage4Settings,
            file=None,
            environ={**environ, "STAGE4_LIMITS__MAX_STEP": "7"},
            env_prefix="STAGE4_",
        )
    with pytest.raises(ValidationError):
        Limits(max_steps=0)


def test_a_sealed_log_takes_the_service_out_of_rotation(
    tmp_path: Path, stage3_address: str
) -> None:
    """Expect AUDIT_UNAVAILABLE, probes that say so, one word to the process, and a poor ending."""
    settings = stage4_settings(tmp_path, stage3_address)
    init_store(settings, clock=SystemClock())
    sealed: list[StoreError] = []
    service = build_stage4(settings, clock=SystemClock(), ids=_ids, on_sealed=sealed.append)
    service.start()
    journal: Any = service.journal
    service._refusals.charge("somebody", Reason.PLAN_INVALID)
    service._refusals._budget.suppress("somebody")
    with held_writer(journal._ledger), pytest.raises(JournalUnavailable):
        service.journal.record_security(
            SecurityRecord(SecurityRecordType.CALLER_REFUSED, "somebody", {})
        )
    with pytest.raises(JournalUnavailable):
        service.journal.record_security(
            SecurityRecord(SecurityRecordType.CALLER_REFUSED, "somebody", {})
        )
    with grpc.insecure_channel(service.addresses.probes) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert len(sealed) == 1
    assert service.stop(1) is False


def test_a_store_that_cannot_recover_is_let_go_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expect a failed recovery to leave the store to the next process."""
    settings = stage4_settings(tmp_path, "127.0.0.1:1")
    _leave_running(settings, "plan_a")

    def fail(_turn: object, _results: object) -> None:
        raise RuntimeError("the recovery is broken")

    with monkeypatch.context() as broken:
        broken.setattr("stage4_service.store.sqlite_journal._recover", fail)
        with pytest.raises(RuntimeError, match="broken"):
            build_stage4(settings, clock=SystemClock(), ids=_ids)
    build_stage4(settings, clock=SystemClock(), ids=_ids).stop(0)
