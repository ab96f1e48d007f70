"""The three listeners of Stage-3: separate servers, pools and doors.

Revoke, Halt and probes never wait behind plans. Deliberately absent: a listener that serves two
kinds of caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stagegate.stage3.v1 import (
    audit_service_pb2_grpc,
    operator_service_pb2_grpc,
    plan_execution_service_pb2_grpc,
    token_service_pb2_grpc,
)

from servicekit.computing import AT_ONCE
from servicekit.serving.admission import Bounds
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.policy import AccessPolicy, CallPolicy
from servicekit.serving.rotation import rotating_server_credentials
from servicekit.serving.server import RunningServer, build_server
from stage3_service.authorization.authority import violation_for_method
from stage3_service.errors import Reason
from stage3_service.execution.record_violation import record_violation
from stage3_service.settings import Role
from stage3_service.wire import method_tables
from stage3_service.wire.operator_servicers import (
    AuditServicer,
    OperatorDesk,
    OperatorServicer,
    TokenServicer,
)
from stage3_service.wire.plan_servicer import PlanExecutionServicer
from stage3_service.wire.status import STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc
    from structlog.typing import FilteringBoundLogger

    from servicekit.clock import Clock
    from servicekit.serving.health import HealthBoard
    from servicekit.serving.method_table import MethodTable
    from servicekit.serving.rotation import Rotation
    from stage3_service.audit.journal import Journal
    from stage3_service.authorization.denial_budget import DenialBudget
    from stage3_service.execution.execute_plan import PlanExecutor
    from stage3_service.settings import Stage3Settings
    from stage3_service.wire.plan_tally import PlanTally

# One operator who reads the log without a pause holds half of what runs, and Revoke has the rest.
_OPERATOR_BOUNDS: Final = Bounds(pool_size=8, max_in_flight=16, share=4)
_PROBE_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Listeners:
    """Bind the listeners, all subject to the same settings and clocks."""

    settings: Stage3Settings
    clock: Clock
    entropy: Callable[[int], bytes]
    journal: Journal
    budget: DenialBudget
    log: FilteringBoundLogger
    certificate: Rotation | None

    def plans(self, executor: PlanExecutor, health: HealthBoard, tally: PlanTally) -> RunningServer:
        """Bind the listener of the one RPC."""
        bounds = self.settings.plans
        return build_server(
            name="plans",
            address=self.settings.listen.plans,
            credentials=self._credentials(),
            policy=self._policy(
                method_tables.plan_methods(reflection=self.settings.reflection),
                Identity(IdentityKind.STAGE4, "", self._uri("stage4")),
                Reason.PLAN_INVALID,
            ),
            services=(
                lambda server: (
                    plan_execution_service_pb2_grpc.add_PlanExecutionServiceServicer_to_server(
                        PlanExecutionServicer(executor, tally), server
                    )
                ),
                health.register,
            ),
            bounds=Bounds(bounds.threads, bounds.max_in_flight, computing=AT_ONCE),
            reflection=(method_tables.PLAN_SERVICE,) if self.settings.reflection else (),
        )

    def operators(self, desk: OperatorDesk, health: HealthBoard) -> RunningServer:
        """Bind the operators' listener: its calls never wait behind plans."""
        return build_server(
            name="operators",
            address=self.settings.listen.operators,
            credentials=self._credentials(),
            policy=self._policy(
                method_tables.operator_methods(reflection=self.settings.reflection),
                Identity(IdentityKind.OPERATOR, "loopback", self._uri("operator/loopback")),
                Reason.REQUEST_INVALID,
            ),
            services=(
                lambda server: token_service_pb2_grpc.add_TokenServiceServicer_to_server(
                    TokenServicer(desk), server
                ),
                lambda server: audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
                    AuditServicer(desk), server
                ),
                lambda server: operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(
                    OperatorServicer(desk), server
                ),
                health.register,
            ),
            bounds=_OPERATOR_BOUNDS,
            reflection=(
                (
                    method_tables.TOKEN_SERVICE,
                    method_tables.AUDIT_SERVICE,
                    method_tables.OPERATOR_SERVICE,
                )
                if self.settings.reflection
                else ()
            ),
        )

    def probes(self, health: HealthBoard) -> RunningServer:
        """Bind the probes' listener: health and nothing else, on loopback, asking nobody."""
        return build_server(
            name="probes",
            address=self.settings.listen.probes,
            credentials=None,
            policy=self._call_policy(None, Reason.REQUEST_INVALID),
            services=(health.register,),
            bounds=Bounds(_PROBE_THREADS, 4 * _PROBE_THREADS),
        )

    def _credentials(self) -> grpc.ServerCredentials | None:
        return None if self.certificate is None else rotating_server_credentials(self.certificate)

    def _policy(self, methods: MethodTable, assumed: Identity, malformed: Reason) -> CallPolicy:
        settings = self.settings
        return self._call_policy(
            AccessPolicy(
                trust_domain=settings.trust_domain,
                methods=methods,
                now_us=self.clock.now_us,
                roles_of=self._roles_of,
                on_refused=self._record_refused,
                assumed_identity=assumed if settings.insecure_loopback else None,
            ),
            malformed,
        )

    def _call_policy(self, access: AccessPolicy | None, malformed: Reason) -> CallPolicy:
        return CallPolicy(
            statuses=STATUSES,
            access=access,
            logger=self.log,
            monotonic_s=self.clock.monotonic_s,
            incident_id=lambda: self.entropy(8).hex(),
            deadline_max_s=self.settings.plans.max_deadline_s,
            malformed_reason=malformed,
        )

    def _uri(self, path: str) -> str:
        return f"spiffe://{self.settings.trust_domain}/{path}"

    def _roles_of(self, identity: Identity) -> frozenset[str]:
        if self.settings.insecure_loopback:
            return frozenset(Role)
        return frozenset(self.settings.operators.get(identity.name, ()))

    def _record_refused(self, identity: Identity | None, method: str, _reason: str) -> None:
        """Record a domain that calls back: it holds a certificate, and no door is its own."""
        if identity is not None and identity.kind is IdentityKind.DOMAIN:
            record_violation(
                self.journal,
                self.budget,
                caller=identity.uri,
                violation=violation_for_method(method),
                attempted=method,
            )
