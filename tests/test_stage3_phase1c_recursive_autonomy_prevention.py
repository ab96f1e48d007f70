"""Phase 1c: the machinery holds no token, and no token reaches the machinery."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from stagegate.stage3.v1 import token_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.authorization.authority import violation_for_method
from stage3_service.authorization.gate import Denial, DenialReason
from stage3_service.authorization.scope_gate import decide_scope
from stage3_service.authorization.violation import ViolationType
from stage3_service.errors import Reason
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.reserved_names import is_reserved_domain, is_reserved_identity
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage3 import step as plan_step
from tests.unit.stage3.grants import catalogue, issue, step, token

MACHINERY = ["stage3", "planner", "scheduler", "executor", "orchestrator", "agent", "stage4"]
KIN = [
    *("Stage3", "STAGE-3", "stage_3", "stage.3", "stage3-service", "stage3.executor"),
    *("Planner", "planner2", "planner-01", "plan-executor", "executor_service", "execution.agent"),
    *("task-scheduler", "job_scheduler", "background.scheduler", "cron", "cron-daemon"),
    *("ai-agent", "ai.agent", "AutonomousAgent", "agent-007", "agents", "sub-agent", "llm_agent"),
    *("multi.domain.orchestrator", "master-orchestrator", "system", "root", "worker-3", "daemon"),
    *("stagegate", "stage2", "autopilot", "e-x-e-c-u-t-o-r", "self.orchestrator"),
]
NOT_KIN = [
    *("alice", "bob", "travel_agent", "agent.smith", "planetary", "systematic", "rooted"),
    *("executorium", "stagecoach", "worker.bee", "schedule", "opal", "ci", "release-bot"),
]
TOKEN_OPERATIONS = [
    *("token_grant", "token_request", "token_modify", "token_revoke", "token_registry_query"),
    *("token_enumeration", "issue_token", "revoke_token", "get_token", "list_tokens"),
    "execute_multi_domain_plan",
]


class TestReservedIdentities:
    """The machinery and its kin are neither user nor issuer."""

    @pytest.mark.parametrize("name", [*MACHINERY, *KIN])
    def test_the_machinery_is_no_issuer(self, name: str) -> None:
        """Nothing that executes plans issues tokens."""
        with pytest.raises(IssueRefused, match="reserved") as caught:
            issue(issued_by=name)
        assert caught.value.field == "issued_by"

    @pytest.mark.parametrize("name", [*MACHINERY, *KIN])
    def test_the_machinery_is_no_user(self, name: str) -> None:
        """Nothing that executes plans has plans executed for it."""
        with pytest.raises(IssueRefused, match="reserved") as caught:
            issue(user_id=name)
        assert caught.value.field == "user_id"

    @pytest.mark.parametrize("name", NOT_KIN)
    def test_names_that_merely_resemble_are_people(self, name: str) -> None:
        """Only a name made of nothing else is reserved."""
        assert not is_reserved_identity(name)
        assert issue(user_id=name, issued_by=name).token.user_id == name

    def test_asking_about_a_long_name_takes_no_time(self) -> None:
        """The longest lawful name of repeated trimmings is decided, not searched."""
        assert is_reserved_identity("a" * 128) is False
        assert is_reserved_identity("auto" * 30 + "agent") is True
        assert is_reserved_identity("aiauto" * 20 + "x") is False


class TestReservedDomains:
    """No token reaches the machinery or the authority over tokens."""

    @pytest.mark.parametrize(
        "name",
        [
            *MACHINERY,
            *("stage_3", "stage3_service", "executor_2", "ai_agent", "system"),
            *("token", "tokens", "token_service", "token_registry", "audit", "audit_log"),
            "operator",
        ],
    )
    def test_reserved_domains_are_refused(self, name: str) -> None:
        """A domain with such a name can be granted by nobody."""
        assert is_reserved_domain(name)
        changes: dict[str, Any] = {"domain_scope": (name,), "method_scope": ((name, ("run",)),)}
        with pytest.raises(IssueRefused, match="reserved") as caught:
            issue(**changes)
        assert caught.value.field == "domain_scope"

    @pytest.mark.parametrize(
        "name", ["text", "notebook", "token_ring", "audited_books", "agents_fees"]
    )
    def test_other_domains_are_free(self, name: str) -> None:
        """A name that merely contains a reserved word is a domain like others."""
        assert not is_reserved_domain(name)

    @pytest.mark.parametrize("domain", ["stage3", "stage4", "orchestrator", "token_service"])
    def test_a_plan_that_names_the_machinery_is_outside_every_scope(self, domain: str) -> None:
        """Recursion through a step is refused by the widest lawful token."""
        denial = decide_scope(token(), step(domain, "execute"), catalogue())
        assert denial == Denial(DenialReason.DOMAIN_NOT_IN_SCOPE, 0)


class TestNoTokenGrantsTokenOperations:
    """A token is not a key to tokens."""

    @pytest.mark.parametrize("method", TOKEN_OPERATIONS)
    def test_token_operations_are_granted_in_no_domain(self, method: str) -> None:
        """Whatever the domain is called, the operation is refused."""
        with pytest.raises(IssueRefused, match="no token grants token operations") as caught:
            issue(method_scope=(("text", (method,)),))
        assert caught.value.field == "method_scope.text"

    @pytest.mark.parametrize("method", TOKEN_OPERATIONS)
    def test_a_step_that_asks_for_a_token_operation_is_outside_every_scope(
        self, method: str
    ) -> None:
        """Even if a domain declared it."""
        denial = decide_scope(token(), step("text", method), catalogue(text=(method,)))
        assert denial == Denial(DenialReason.METHOD_NOT_IN_SCOPE, 0)

    def test_no_capability_label_grants_anything(self) -> None:
        """A label that says otherwise is still a label."""
        granted = token(capability="token_grant")
        assert not granted.method_scope.permits("text", "token_grant")
        assert granted.method_scope == token().method_scope


class TestRecursionFromOutside:
    """A domain that calls back with its own certificate is seen for what it does."""

    @pytest.mark.parametrize(
        ("method", "violation"),
        [
            ("PlanExecutionService/ExecuteMultiDomainPlan", ViolationType.STAGE3_RECURSIVE_INVOKE),
            ("TokenService/IssueToken", ViolationType.TOKEN_GRANT),
            ("TokenService/RevokeToken", ViolationType.TOKEN_REVOKE),
            ("TokenService/ListTokens", ViolationType.TOKEN_ENUMERATION),
            ("TokenService/GetToken", ViolationType.TOKEN_REGISTRY_QUERY),
        ],
    )
    def test_calling_back_is_a_violation_by_name(
        self, method: str, violation: ViolationType
    ) -> None:
        """Each door of the authority has the name of what is attempted there."""
        assert violation_for_method(f"/stagegate.stage3.v1.{method}") is violation

    def test_a_violation_is_told_as_one_public_reason(self) -> None:
        """Outside, a crossing is a crossing."""
        denial = Denial(ViolationType.STAGE3_RECURSIVE_INVOKE, 0)
        assert denial.public is Reason.BOUNDARY_VIOLATION


class TestAtTheDoors:
    """The same, of a running service."""

    @pytest.mark.parametrize("user_id", ["stage3", "planner", "AI-Agent", "executor_2"])
    def test_no_operator_can_issue_a_token_for_the_machinery(
        self, stage3: Stage3UnderTest, user_id: str
    ) -> None:
        """Not even one with every role."""
        with pytest.raises(grpc.RpcError) as caught:
            stage3.issue(user_id=user_id)
        error = decode_rpc_error(caught.value)
        assert (error.code, error.violations[0][0]) == ("INVALID_ARGUMENT", "user_id")
        assert stage3.events(event_type="TOKEN_ISSUED") == []

    @pytest.mark.parametrize("domain", ["stage3", "stage4", "orchestrator", "token_service"])
    def test_a_plan_cannot_recurse_through_a_step(
        self, stage3: Stage3UnderTest, domain: str
    ) -> None:
        """Nothing starts."""
        step = plan_step(domain, "execute_multi_domain_plan")
        answer = stage3.run(stage3.issue().token_hash, step)
        assert answer.reason == "DOMAIN_NOT_IN_SCOPE"
        assert stage3.events(event_type="EXECUTION_STARTED") == []

    @pytest.mark.parametrize("caller", ["stage4", "domain", "cli"])
    def test_whoever_executes_or_is_executed_issues_no_token(
        self, stage3: Stage3UnderTest, caller: str
    ) -> None:
        """Stage-4, a domain and a client are refused at the operators' door."""
        with pytest.raises(grpc.RpcError) as caught:
            stage3.tokens(caller).IssueToken(token_service_pb2.IssueTokenRequest(), timeout=20)
        assert decode_rpc_error(caught.value).reason == "METHOD_NOT_PERMITTED"
        assert stage3.events(event_type="TOKEN_ISSUED") == []

    def test_a_domain_that_executes_a_plan_is_refused_and_recorded(
        self, stage3: Stage3UnderTest
    ) -> None:
        """With the very token that Stage-4 could use."""
        request = stage3.request(stage3.issue().token_hash, [plan_step("text", "upper", text="a")])
        answer = stage3.send(request, caller="domain")
        assert answer.kind == "refused"
        (event,) = stage3.events(event_type="BOUNDARY_VIOLATION")
        assert ViolationType.STAGE3_RECURSIVE_INVOKE.value in str(event)
        assert stage3.events(event_type="EXECUTION_STARTED") == []
