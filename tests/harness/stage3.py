"""A real Stage-3 in this process, spoken to over mTLS like anybody else."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc
from stagegate.plan.v1 import plan_pb2
from stagegate.stage3.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    plan_execution_service_pb2,
    plan_execution_service_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
)

from servicekit.serving.client_errors import ClientError, decode_rpc_error
from stage3_service.bootstrap import Stage3, build_stage3, create_state
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import RawBinding, RawPlan, RawStep, parse_plan
from stage3_service.settings import Denials, Listen, Role, Stage3Settings, Tls
from tests.harness.pki import TRUST_DOMAIN, Pki, pki, uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from servicekit.clock import Clock
    from stage3_service.adapters.registry import ExtraDomain

TIMEOUT_S = 20.0
DEFAULT_SCOPE: Mapping[str, Sequence[str]] = {
    "text": ("upper", "lower", "concat", "sha256"),
    "notebook": ("append_note", "list_notes", "read_note"),
}


def stage3_settings(directory: Path, **changes: Any) -> Stage3Settings:
    """Return settings for a Stage-3 below `directory`, on ports that the system chooses."""
    keys = pki()
    return Stage3Settings(
        **{
            "state_dir": directory / "stage3",
            "outcome_key_file": directory / "outcome.keys",
            "trust_domain": TRUST_DOMAIN,
            "listen": Listen(
                plans="127.0.0.1:0",
                operators="127.0.0.1:0",
                probes="127.0.0.1:0",
                metrics="127.0.0.1:0",
            ),
            "tls": Tls(
                certificate_file=keys.file("stage3-server.crt"),
                key_file=keys.file("stage3-server.key"),
                client_authority_file=keys.file("ca.crt"),
            ),
            "operators": {
                "oona": list(Role),
                "issuer": [Role.ISSUER],
                "revoker": [Role.REVOKER],
                "auditor": [Role.AUDITOR],
                "halter": [Role.HALTER],
                "curator": [Role.CURATOR],
            },
            # Tests deny much more than a healthy caller is denied.
            "disk_reserve_bytes": 1_048_576,
            "denials": Denials(burst=100_000, per_second=0),
            **changes,
        }
    )


def nobody_looks() -> bool:
    """Say whether no Stage-3 of this process asks a domain, beside the plans, what it shows.

    A step that is refused begins to look before it is answered.
    """
    return not any(thread.name.startswith("look-") for thread in threading.enumerate())


def step(domain: str, method: str, **parameters: Any) -> dict[str, Any]:
    """Return a step as a plan document spells it."""
    return {"domain": domain, "method": method, "parameters": parameters}


@dataclass(slots=True)
class Answer:
    """Hold what the one RPC answered: a response, or the error it ended with."""

    response: plan_execution_service_pb2.ExecuteMultiDomainPlanResponse | None
    error: ClientError | None

    @property
    def kind(self) -> str:
        """Return which outcome it is, or `refused`."""
        return "refused" if self.response is None else str(self.response.WhichOneof("outcome"))

    @property
    def reason(self) -> str:
        """Return the reason of the closed taxonomy; empty for a completed plan."""
        if self.error is not None:
            return self.error.reason
        return "" if self.kind == "completed" else str(self.ended.reason)

    @property
    def ended(self) -> Any:
        """Return the outcome's message."""
        assert self.response is not None, self.error
        return getattr(self.response, self.kind)

    @property
    def outputs(self) -> list[Any]:
        """Return the outputs of a completed plan, by step."""
        assert self.kind == "completed", self
        return [item["output"] for item in json.loads(self.ended.result_json)["results"]]


@dataclass(slots=True)
class Stage3UnderTest:
    """Speak to a running Stage-3 as Stage-4 and as operators do."""

    service: Stage3
    keys: Pki
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _channels: dict[tuple[str, str], grpc.Channel] = field(default_factory=dict)

    def channel(self, caller: str, listener: str = "operators") -> grpc.Channel:
        """Return a channel of this caller to one of the listeners."""
        address = getattr(self.service, listener).address
        key = (caller, address)
        if key not in self._channels:
            self._channels[key] = self.keys.channel(caller, address, "stage3")
        return self._channels[key]

    def tokens(self, caller: str = "oona") -> token_service_pb2_grpc.TokenServiceStub:
        """Return the token service as this operator sees it."""
        return token_service_pb2_grpc.TokenServiceStub(self.channel(caller))

    def audit(self, caller: str = "oona") -> audit_service_pb2_grpc.AuditServiceStub:
        """Return the audit service as this operator sees it."""
        return audit_service_pb2_grpc.AuditServiceStub(self.channel(caller))

    def operator(self, caller: str = "oona") -> operator_service_pb2_grpc.OperatorServiceStub:
        """Return the operator service as this operator sees it."""
        return operator_service_pb2_grpc.OperatorServiceStub(self.channel(caller))

    def plans(
        self, caller: str = "stage4"
    ) -> plan_execution_service_pb2_grpc.PlanExecutionServiceStub:
        """Return the plan service as this caller sees it."""
        return plan_execution_service_pb2_grpc.PlanExecutionServiceStub(
            self.channel(caller, "plans")
        )

    def issue(self, **changes: Any) -> token_service_pb2.IssueTokenResponse:
        """Issue a token for `ada` and the client `cli`, with these fields in place of the usual."""
        scope: Mapping[str, Sequence[str]] = changes.pop("scope", DEFAULT_SCOPE)
        limits = token_service_pb2.ResourceLimits(**changes.pop("limits", {}))
        request = token_service_pb2.IssueTokenRequest(
            **{
                "user_id": "ada",
                "capability": "tests",
                "domain_scope": list(scope),
                "method_scope": [
                    token_service_pb2.MethodScope(domain=domain, methods=methods)
                    for domain, methods in scope.items()
                ],
                "resource_limits": limits,
                "allowed_trigger_types": ["manual"],
                "lifetime_seconds": 600,
                "client_identities": [uri("cli")],
                **changes,
            }
        )
        return self.tokens().IssueToken(request, timeout=TIMEOUT_S)

    def revoke(
        self, token_id: str, reason: str = "a test asked for it"
    ) -> token_service_pb2.RevokeTokenResponse:
        """Revoke a token."""
        return self.tokens().RevokeToken(
            token_service_pb2.RevokeTokenRequest(token_id=token_id, reason=reason),
            timeout=TIMEOUT_S,
        )

    def request(
        self,
        token_hash: str,
        steps: Sequence[Mapping[str, Any]],
        *,
        bindings: Sequence[Mapping[str, Any]] | None = None,
        **changes: Any,
    ) -> plan_execution_service_pb2.ExecuteMultiDomainPlanRequest:
        """Return a request as an honest Stage-4 would send it, with fields replaced afterwards.

        `parameters_json` in a step takes the place of its `parameters`. The digest is computed
        over the plan as given; a plan that has none gets 32 zero bytes.
        """
        number = next(self._numbers)
        plan = {
            "user_id": "ada",
            "trigger_type": "manual",
            **{key: changes.pop(key) for key in ("user_id", "trigger_type") if key in changes},
        }
        wire_steps = [
            plan_pb2.Step(
                domain=item["domain"],
                method=item["method"],
                parameters_json=item.get("parameters_json")
                or json.dumps(item["parameters"]).encode(),
            )
            for item in steps
        ]
        request = plan_execution_service_pb2.ExecuteMultiDomainPlanRequest(
            **plan,
            token_hash=token_hash,
            steps=wire_steps,
            data_bindings=[plan_pb2.DataBinding(**binding) for binding in bindings or ()],
            data_bindings_declared=bindings is not None,
            plan_id=f"plan-{number}",
            request_id=f"request-{number}",
            caller=uri("cli"),
        )
        request.plan_digest = changes.pop("plan_digest", None) or _digest(request)
        for name, value in changes.items():
            setattr(request, name, value)
        return request

    def send(
        self,
        request: plan_execution_service_pb2.ExecuteMultiDomainPlanRequest,
        *,
        caller: str = "stage4",
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Call the one RPC and return what it answered."""
        try:
            response = self.plans(caller).ExecuteMultiDomainPlan(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return Answer(None, decode_rpc_error(error))
        return Answer(response, None)

    def run(self, token_hash: str, *steps: Mapping[str, Any], **changes: Any) -> Answer:
        """Execute a plan of these steps; `timeout_s` bounds the call."""
        timeout_s = changes.pop("timeout_s", TIMEOUT_S)
        return self.send(self.request(token_hash, steps, **changes), timeout_s=timeout_s)

    def events(self, **only: str) -> list[dict[str, Any]]:
        """Return all events that match (`plan_id`, `token_id`, `event_type`), oldest first."""
        events: list[dict[str, Any]] = []
        page_token = ""
        while True:
            page = self.audit().ListEvents(
                audit_service_pb2.ListEventsRequest(page_size=1000, page_token=page_token, **only),
                timeout=TIMEOUT_S,
            )
            events += [json.loads(event.event_json) for event in page.events]
            page_token = page.next_page_token
            if not page_token:
                return events

    def trail(self, plan_id: str) -> list[tuple[str, str, int | None]]:
        """Return a plan's events as (type, status, step)."""
        return [
            (event["event_type"], event["status"], event["step"])
            for event in self.events(plan_id=plan_id)
        ]

    def accept(self, domain: str, timeout_s: float = TIMEOUT_S) -> str:
        """Accept what a domain elsewhere shows now; return its digest."""
        request = operator_service_pb2.DescribeDomainRequest(domain=domain)
        digest = self.operator().DescribeDomain(request, timeout=timeout_s).digest
        accepted = operator_service_pb2.AcceptDomainRequest(domain=domain, digest=digest)
        self.operator().AcceptDomain(accepted, timeout=timeout_s)
        return str(digest)

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


def _digest(request: plan_execution_service_pb2.ExecuteMultiDomainPlanRequest) -> bytes:
    raw = RawPlan(
        user_id=request.user_id,
        token_hash=request.token_hash,
        trigger_type=request.trigger_type,
        steps=tuple(
            RawStep(item.domain, item.method, item.parameters_json) for item in request.steps
        ),
        bindings=tuple(
            RawBinding(
                binding.source_step,
                binding.source_path,
                binding.target_step,
                binding.target_path,
                binding.expected_type if binding.HasField("expected_type") else None,
            )
            for binding in request.data_bindings
        )
        if request.data_bindings_declared
        else None,
    )
    try:
        return parse_plan(raw, PlanLimits()).digest
    except ValueError:
        return bytes(32)


@contextmanager
def running_stage3(
    directory: Path,
    *,
    clock: Clock | None = None,
    extra_domains: Sequence[ExtraDomain] = (),
    create: bool = True,
    vfs: str | None = None,
    accept_restored: str | None = None,
    accept: Sequence[str] = (),
    **changes: Any,
) -> Iterator[Stage3UnderTest]:
    """Run a Stage-3 whose state is below `directory`; `create=False` opens what is there.

    `accept` names the domains elsewhere whose definition is accepted before anything is tried.
    """
    settings = stage3_settings(directory, **changes)
    if create:
        create_state(settings, clock=clock)
    service = build_stage3(
        settings, clock=clock, extra_domains=extra_domains, vfs=vfs, accept_restored=accept_restored
    )
    service.start()
    under_test = Stage3UnderTest(service, pki())
    try:
        for domain in accept:
            under_test.accept(domain)
        yield under_test
    finally:
        under_test.close()
        service.stop(5.0)
