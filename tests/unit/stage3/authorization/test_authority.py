"""Every way of crossing the authority boundary has a door where it is seen, or no door at all."""

from __future__ import annotations

import pytest
from stagegate.stage3.v1 import (
    audit_service_pb2,
    operator_service_pb2,
    plan_execution_service_pb2,
    token_service_pb2,
)

from stage3_service.authorization.authority import (
    OBSERVABLE_AT,
    Door,
    violation_for_method,
)
from stage3_service.authorization.gate import Denial, GateName
from stage3_service.authorization.violation import ViolationType

CONTRACT = """
token_grant, token_request, token_modify, token_revoke, token_registry_query, token_enumeration,
trigger_schedule, cron_register, batch_schedule, stage3_recursive_invoke, stage2_direct_invoke,
execution_fork, thread_spawn, daemon_thread_spawn, process_spawn, multiprocessing_use,
audit_logs_read, audit_logs_filter, audit_logs_modify, audit_logs_delete, audit_logging_suppress,
config_modify, domain_config_modify, resource_limits_modify, safety_checks_disable,
background_loop_maintain, callback_register, autonomous_continuation, continuation_hook_register,
delayed_work_enqueue, context_inspection, system_state_access, scheduled_jobs_enumeration,
network_access, filesystem_access
"""
METHODS = [
    f"/{service.full_name}/{method.name}"
    for module in (
        plan_execution_service_pb2,
        token_service_pb2,
        audit_service_pb2,
        operator_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def test_the_list_is_closed_and_the_contracts() -> None:
    """35 types, in the contract's order."""
    listed = CONTRACT.replace("\n", " ").split(",")
    assert [violation.value for violation in ViolationType] == [each.strip() for each in listed]
    assert len(ViolationType) == 35


def test_every_type_has_a_door_or_none() -> None:
    """Nothing is left open."""
    assert set(OBSERVABLE_AT) == set(ViolationType)


def test_every_method_of_stage3_is_a_violation_by_its_own_name() -> None:
    """A new RPC must be placed: falling back to the general name would fail here."""
    general = {m for m in METHODS if violation_for_method(m) is ViolationType.SYSTEM_STATE_ACCESS}
    assert len(METHODS) == 15
    assert general == {"/stagegate.stage3.v1.OperatorService/GetStatus"}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_recorded_at_a_door_is_observable_there(method: str) -> None:
    """The table of doors and the table of methods tell the same story."""
    door = OBSERVABLE_AT[violation_for_method(method)]
    at_plans = method.startswith("/stagegate.stage3.v1.PlanExecutionService/")
    assert door is (Door.STAGE3_PLANS if at_plans else Door.STAGE3_OPERATORS)


def test_what_is_observable_is_recorded_by_some_method() -> None:
    """Except the filter, which travels in a request that is refused unread."""
    observable = {v for v, door in OBSERVABLE_AT.items() if door is not Door.STRUCTURALLY_ABSENT}
    recorded = {violation_for_method(method) for method in METHODS}
    assert observable - recorded == {ViolationType.AUDIT_LOGS_FILTER}
    assert recorded <= observable


@pytest.mark.parametrize(
    "method",
    ["", "/", "/grpc.health.v1.Health/Check", "/stagegate.stage3.v1.TokenService/Grant", "x"],
)
def test_any_other_method_is_a_look_at_the_system(method: str) -> None:
    """Probing has a name too."""
    assert violation_for_method(method) is ViolationType.SYSTEM_STATE_ACCESS


def test_the_tables_cannot_be_changed() -> None:
    """They are read-only mappings."""
    with pytest.raises(TypeError):
        OBSERVABLE_AT[ViolationType.TOKEN_GRANT] = Door.STAGE3_PLANS  # type: ignore[index]


@pytest.mark.parametrize("step", [None, 0, 5])
def test_a_violation_is_denied_by_gate_five(step: int | None) -> None:
    """With the step, where it happened inside a plan."""
    denial = Denial(ViolationType.NETWORK_ACCESS, step)
    assert denial.gate is GateName.AUTHORITY_BOUNDARY
    assert denial.reason is ViolationType.NETWORK_ACCESS
    assert denial.step == step
