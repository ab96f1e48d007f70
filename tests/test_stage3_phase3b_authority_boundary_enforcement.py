"""Gate 5: what a domain must never do is refused and recorded at a door, or cannot be said at all.

For each of the closed list of violation types: where it is observable, a domain's certificate tries
it at the real door; where it is structurally absent, what a domain is handed and what the doors
speak are shown to hold no way to say it.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

import grpc
import pytest
from stagegate.domain.v1 import domain_service_pb2
from stagegate.stage3.v1 import (
    audit_service_pb2,
    operator_service_pb2,
    plan_execution_service_pb2,
    token_service_pb2,
)

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.adapters import builtin
from stage3_service.authorization.authority import OBSERVABLE_AT, Door
from stage3_service.authorization.violation import ViolationType
from stage3_service.domains.port import Domain, Invocation
from tests.harness.pki import uri
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import FileDescriptor

    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

ATTEMPTS: dict[str, tuple[Callable[[Stage3UnderTest], Any], ViolationType]] = {
    "IssueToken": (
        lambda s: s.tokens("domain").IssueToken(token_service_pb2.IssueTokenRequest(), timeout=5),
        ViolationType.TOKEN_GRANT,
    ),
    "GetToken": (
        lambda s: s.tokens("domain").GetToken(token_service_pb2.GetTokenRequest(), timeout=5),
        ViolationType.TOKEN_REGISTRY_QUERY,
    ),
    "ListTokens": (
        lambda s: s.tokens("domain").ListTokens(token_service_pb2.ListTokensRequest(), timeout=5),
        ViolationType.TOKEN_ENUMERATION,
    ),
    "RevokeToken": (
        lambda s: s.tokens("domain").RevokeToken(token_service_pb2.RevokeTokenRequest(), timeout=5),
        ViolationType.TOKEN_REVOKE,
    ),
    "ListEvents": (
        lambda s: s.audit("domain").ListEvents(audit_service_pb2.ListEventsRequest(), timeout=5),
        ViolationType.AUDIT_LOGS_READ,
    ),
    "ListEvents-filtered": (
        lambda s: s.audit("domain").ListEvents(
            audit_service_pb2.ListEventsRequest(plan_id="plan-1"), timeout=5
        ),
        ViolationType.AUDIT_LOGS_READ,
    ),
    "GetCheckpoint": (
        lambda s: s.audit("domain").GetCheckpoint(
            audit_service_pb2.GetCheckpointRequest(), timeout=5
        ),
        ViolationType.AUDIT_LOGS_READ,
    ),
    "GetStatus": (
        lambda s: s.operator("domain").GetStatus(
            operator_service_pb2.GetStatusRequest(), timeout=5
        ),
        ViolationType.SYSTEM_STATE_ACCESS,
    ),
    "ListDomains": (
        lambda s: s.operator("domain").ListDomains(
            operator_service_pb2.ListDomainsRequest(), timeout=5
        ),
        ViolationType.CONTEXT_INSPECTION,
    ),
    "DescribeDomain": (
        lambda s: s.operator("domain").DescribeDomain(
            operator_service_pb2.DescribeDomainRequest(), timeout=5
        ),
        ViolationType.CONTEXT_INSPECTION,
    ),
    "AcceptDomain": (
        lambda s: s.operator("domain").AcceptDomain(
            operator_service_pb2.AcceptDomainRequest(), timeout=5
        ),
        ViolationType.DOMAIN_CONFIG_MODIFY,
    ),
    "ReloadDomains": (
        lambda s: s.operator("domain").ReloadDomains(
            operator_service_pb2.ReloadDomainsRequest(), timeout=5
        ),
        ViolationType.DOMAIN_CONFIG_MODIFY,
    ),
    "ExportDomains": (
        lambda s: s.operator("domain").ExportDomains(
            operator_service_pb2.ExportDomainsRequest(), timeout=5
        ),
        ViolationType.CONTEXT_INSPECTION,
    ),
    "Halt": (
        lambda s: s.operator("domain").Halt(operator_service_pb2.HaltRequest(), timeout=5),
        ViolationType.CONFIG_MODIFY,
    ),
    "Resume": (
        lambda s: s.operator("domain").Resume(operator_service_pb2.ResumeRequest(), timeout=5),
        ViolationType.SAFETY_CHECKS_DISABLE,
    ),
    "ExecuteMultiDomainPlan": (
        lambda s: s.plans("domain").ExecuteMultiDomainPlan(
            plan_execution_service_pb2.ExecuteMultiDomainPlanRequest(), timeout=5
        ),
        ViolationType.STAGE3_RECURSIVE_INVOKE,
    ),
}


class TestObservableAtADoor:
    """A domain that calls back holds a valid certificate, and still no door is its own."""

    @pytest.mark.parametrize("attempt", ATTEMPTS)
    def test_it_is_refused_and_recorded(self, stage3: Stage3UnderTest, attempt: str) -> None:
        """PERMISSION_DENIED, and BOUNDARY_VIOLATION outside any plan names type and method."""
        call, violation = ATTEMPTS[attempt]
        with pytest.raises(grpc.RpcError) as refused:
            call(stage3)
        assert decode_rpc_error(refused.value).reason == "METHOD_NOT_PERMITTED"
        recorded = stage3.events(event_type="BOUNDARY_VIOLATION")
        assert [(event["reason"], event["plan_id"]) for event in recorded] == [
            (violation.value, None)
        ]
        assert recorded[0]["additional_data"]["caller"] == uri("domain")
        assert recorded[0]["additional_data"]["attempted"].endswith("/" + attempt.partition("-")[0])

    def test_the_same_calls_succeed_for_whom_they_are_meant(self, stage3: Stage3UnderTest) -> None:
        """The positive control: the doors do open for an operator."""
        assert stage3.issue().token_hash.startswith("token_")
        status = stage3.operator().GetStatus(operator_service_pb2.GetStatusRequest(), timeout=5)
        assert status.serving is True
        assert stage3.events(event_type="BOUNDARY_VIOLATION") == []

    def test_a_domain_that_keeps_calling_does_not_fill_the_log(
        self, stage3: Stage3UnderTest
    ) -> None:
        """A violation is a denial and has the denials' budget."""
        budget = stage3.service._budget
        now = _now()
        while budget.spend(uri("domain"), now):
            pass
        size = len(stage3.events())
        for _ in range(5):
            with pytest.raises(grpc.RpcError):
                ATTEMPTS["Halt"][0](stage3)
        assert len(stage3.events()) == size


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def vocabulary() -> set[str]:
    """Return every name that a message or method of Stage-3's doors and of a domain can say."""

    def names(file: FileDescriptor) -> set[str]:
        said: set[str] = set()
        for message in file.message_types_by_name.values():
            said.add(message.name)
            said.update(field.name for field in message.fields)
        for service in file.services_by_name.values():
            said.update(method.name for method in service.methods)
        return {name.lower() for name in said}

    return set().union(
        *(
            names(module.DESCRIPTOR)
            for module in (
                domain_service_pb2,
                plan_execution_service_pb2,
                token_service_pb2,
                audit_service_pb2,
                operator_service_pb2,
            )
        )
    )


UNSAYABLE = {
    ViolationType.TOKEN_REQUEST: ("requesttoken",),
    ViolationType.TOKEN_MODIFY: ("updatetoken", "modifytoken", "renewtoken", "extendtoken"),
    ViolationType.TRIGGER_SCHEDULE: ("schedule",),
    ViolationType.CRON_REGISTER: ("cron",),
    ViolationType.BATCH_SCHEDULE: ("batch",),
    ViolationType.STAGE2_DIRECT_INVOKE: ("stage2",),
    ViolationType.EXECUTION_FORK: ("fork", "branch"),
    ViolationType.THREAD_SPAWN: ("thread",),
    ViolationType.DAEMON_THREAD_SPAWN: ("daemon",),
    ViolationType.PROCESS_SPAWN: ("spawn", "process"),
    ViolationType.MULTIPROCESSING_USE: ("multiprocess",),
    ViolationType.AUDIT_LOGS_MODIFY: ("updateevent", "modifyevent", "editevent"),
    ViolationType.AUDIT_LOGS_DELETE: ("deleteevent", "purge", "truncate"),
    ViolationType.AUDIT_LOGGING_SUPPRESS: ("suppress", "silence", "disable"),
    ViolationType.RESOURCE_LIMITS_MODIFY: ("setlimit", "updatelimit", "raiselimit"),
    ViolationType.BACKGROUND_LOOP_MAINTAIN: ("loop", "background"),
    ViolationType.CALLBACK_REGISTER: ("callback",),
    ViolationType.AUTONOMOUS_CONTINUATION: ("continue", "continuation"),
    ViolationType.CONTINUATION_HOOK_REGISTER: ("hook",),
    ViolationType.DELAYED_WORK_ENQUEUE: ("enqueue", "delay", "later"),
    ViolationType.SCHEDULED_JOBS_ENUMERATION: ("listjobs", "job"),
    ViolationType.NETWORK_ACCESS: ("url", "socket", "connect"),
    ViolationType.FILESYSTEM_ACCESS: ("file", "directory", "mount"),
}


class TestStructurallyAbsent:
    """What is not observable at a door has no word, no field and no object to be said with."""

    def test_every_type_is_decided(self) -> None:
        """The table covers the closed list, and each type is tested in one of the two ways."""
        assert set(OBSERVABLE_AT) == set(ViolationType)
        absent = {v for v, door in OBSERVABLE_AT.items() if door is Door.STRUCTURALLY_ABSENT}
        assert absent == set(UNSAYABLE)
        attempted = {violation for _, violation in ATTEMPTS.values()}
        # A filter travels in a request that is refused unread.
        assert set(ViolationType) - absent == attempted | {ViolationType.AUDIT_LOGS_FILTER}

    @pytest.mark.parametrize("violation", UNSAYABLE)
    def test_no_door_has_a_word_for_it(self, violation: ViolationType) -> None:
        """No message, field or method of any door a domain could reach names it."""
        for name in vocabulary():
            for word in UNSAYABLE[violation]:
                assert word not in name, (violation, name)

    def test_the_search_would_find_a_word(self) -> None:
        """The control: words that are there are found."""
        assert any("revoketoken" in name for name in vocabulary())
        assert any("halt" in name for name in vocabulary())

    def test_an_invocation_holds_four_plain_values(self) -> None:
        """Strings, bytes and a number: nothing that could be called, opened or followed."""
        hints = get_type_hints(Invocation)
        assert {name: hints[name] for name in (field.name for field in fields(Invocation))} == {
            "method": str,
            "parameters_json": bytes,
            "deadline_s": float,
            "idempotency_key": str,
        }

    def test_the_port_hands_over_nothing_else(self) -> None:
        """`invoke` takes the invocation and nothing beside it."""
        assert list(inspect.signature(Domain.invoke).parameters) == ["self", "invocation"]

    def test_an_invocation_on_the_wire_holds_the_same(self) -> None:
        """The remote port's message has three fields; the deadline is the call's own."""
        request = domain_service_pb2.InvokeRequest.DESCRIPTOR
        assert [field.name for field in request.fields] == [
            "method",
            "parameters_json",
            "idempotency_key",
        ]

    def test_a_domain_cannot_change_what_it_was_handed(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """The value is frozen, and the log's commitment is to the bytes as they were."""
        token = stage3.issue(scope={"trial": ("echo",)})
        stage3.run(token.token_hash, step("trial", "echo", a=1))
        with pytest.raises(AttributeError):
            trial.domain.received[0].method = "other"  # type: ignore[misc]  # the attempt

    def test_builtin_domains_import_nothing_that_could(self) -> None:
        """No builtin module holds the journal, a token, the network, a process or an event loop."""
        forbidden = {"socket", "multiprocessing", "subprocess", "asyncio", "grpc"}
        import importlib
        import pkgutil

        for info in pkgutil.iter_modules(builtin.__path__):
            module = importlib.import_module(f"{builtin.__name__}.{info.name}")
            imported = {
                value.__name__.partition(".")[0]
                for value in vars(module).values()
                if inspect.ismodule(value)
            }
            rooms = {
                getattr(value, "__module__", "")
                for value in vars(module).values()
                if not inspect.ismodule(value)
            }
            assert imported.isdisjoint(forbidden), module
            assert not any(
                name.startswith(("stage3_service.audit", "stage3_service.tokens"))
                for name in rooms
                if isinstance(name, str)
            ), module
