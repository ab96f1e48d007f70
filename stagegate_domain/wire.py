"""The listeners of a domain: `DomainService` for Stage-3 alone, and health for probes.

Deliberately absent: a method table to edit. One identity, `spiffe://<trust domain>/stage3`, may
call; whoever else holds a certificate of the same authority is refused before a byte is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from stagegate.domain.v1 import domain_service_pb2 as messages
from stagegate.domain.v1 import domain_service_pb2_grpc as stubs
from structlog.typing import FilteringBoundLogger

from servicekit.clock import Clock
from servicekit.serving.admission import Bounds
from servicekit.serving.call_facts import call_facts
from servicekit.serving.health import HEALTH_METHODS, HealthBoard
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.method_table import MethodTable, Rule
from servicekit.serving.policy import AccessPolicy, CallPolicy
from servicekit.serving.rotation import Rotation, rotating_server_credentials
from servicekit.serving.server import RunningServer, build_server
from servicekit.serving.status import StatusTable
from servicekit.serving.tls import CredentialFiles, read_server_credential
from stagegate_domain.service import DomainService, MethodFailed
from stagegate_domain.settings import DomainSettings

SERVICE: Final = "stagegate.domain.v1.DomainService"
REQUEST_MAX_BYTES: Final = 1_048_576
FAILURE_MAX_BYTES: Final = 1_024
_PROBES: Final = Bounds(2, 8)

STATUSES: Final = StatusTable(
    "stagegate-domain",
    {
        "REQUEST_INVALID": StatusCode.INVALID_ARGUMENT,
        "CLIENT_UNAUTHENTICATED": StatusCode.UNAUTHENTICATED,
        "METHOD_NOT_PERMITTED": StatusCode.PERMISSION_DENIED,
        "DEADLINE_EXCEEDED": StatusCode.DEADLINE_EXCEEDED,
        "OVERLOADED": StatusCode.RESOURCE_EXHAUSTED,
        "INTERNAL": StatusCode.INTERNAL,
    },
)


class DomainServicer(stubs.DomainServiceServicer):
    """Answers with what was declared, and runs one method per call."""

    def __init__(self, domain: DomainService) -> None:
        self._domain = domain

    def Describe(
        self, request: messages.DescribeRequest, context: grpc.ServicerContext
    ) -> messages.DescribeResponse:
        """Return every declared method."""
        response = messages.DescribeResponse()
        for method in self._domain.methods.values():
            duration = Duration()
            duration.FromMilliseconds(round(method.max_duration_s * 1000))
            response.methods.add(
                name=method.name,
                description=method.description,
                parameters_schema_json=method.parameters_schema_json,
                max_duration=duration,
                max_response_bytes=method.max_response_bytes,
            )
        return response

    def Invoke(
        self, request: messages.InvokeRequest, context: grpc.ServicerContext
    ) -> messages.InvokeResponse:
        """Run one method. What it raises beside `MethodFailed` ends in the crash shield."""
        method = self._domain.methods.get(request.method)
        if method is None:
            return _failure("the domain has no method of this name")
        facts = call_facts(context)
        try:
            output = method.invoke(
                request.parameters_json, request.idempotency_key, facts.remaining_s
            )
        except MethodFailed as failed:
            return _failure(str(failed))
        return messages.InvokeResponse(output_json=output)


@dataclass(frozen=True, slots=True)
class RunningDomain:
    """A domain that holds its ports. `start` lets it answer.

    `certificates` holds the one in use, `server`; nothing on an insecure loopback.
    """

    calls: RunningServer
    probes: RunningServer
    certificates: Mapping[str, Rotation]
    _health: HealthBoard

    def start(self) -> None:
        """Answer on both listeners; ready from here on."""
        self.probes.start()
        self.calls.start()
        self._health.set_all_serving()

    def stop(self, drain_s: float, /) -> bool:
        """Take no new calls, let those under way end; return whether all of them have."""
        self._health.close()
        drained = self.calls.stop(drain_s)
        self.probes.stop(0.0)
        return drained


def build_domain(
    domain: DomainService,
    settings: DomainSettings,
    *,
    clock: Clock,
    entropy: Callable[[int], bytes],
    log: FilteringBoundLogger,
) -> RunningDomain:
    """Bind the listeners of a domain.

    Raises:
        CredentialRefused, ListenRefused, AddressRefused: a listener cannot be opened.

    """
    caller = Identity(IdentityKind.STAGE3, "", f"spiffe://{settings.trust_domain}/stage3")
    stage3 = Rule(frozenset({IdentityKind.STAGE3}))
    methods = (f"/{SERVICE}/Describe", f"/{SERVICE}/Invoke", *HEALTH_METHODS)
    access = AccessPolicy(
        trust_domain=settings.trust_domain,
        methods=MethodTable(dict.fromkeys(methods, stage3)),
        now_us=clock.now_us,
        assumed_identity=caller if settings.insecure_loopback else None,
    )

    def policy(access: AccessPolicy | None) -> CallPolicy:
        return CallPolicy(
            statuses=STATUSES,
            access=access,
            logger=log,
            monotonic_s=clock.monotonic_s,
            incident_id=lambda: entropy(8).hex(),
            malformed_reason="REQUEST_INVALID",
        )

    certificates = {}
    credentials = None
    if settings.tls is not None and not settings.insecure_loopback:
        tls = settings.tls
        files = CredentialFiles(tls.certificate_file, tls.key_file, tls.client_authority_file)
        certificates["server"] = Rotation(files, read_server_credential, clock=clock, log=log)
        credentials = rotating_server_credentials(certificates["server"])
    health = HealthBoard((SERVICE,))
    servicer = DomainServicer(domain)
    calls = build_server(
        name=domain.name,
        address=settings.listen,
        credentials=credentials,
        policy=policy(access),
        services=(
            lambda server: stubs.add_DomainServiceServicer_to_server(servicer, server),
            health.register,
        ),
        bounds=Bounds(settings.threads, 2 * settings.threads),
        message_max_bytes=REQUEST_MAX_BYTES + FAILURE_MAX_BYTES,
    )
    try:
        probes = build_server(
            name="probes",
            address=settings.probes,
            credentials=None,
            policy=policy(None),
            services=(health.register,),
            bounds=_PROBES,
        )
    except BaseException:
        calls.stop(0.0)
        raise
    return RunningDomain(calls, probes, certificates, health)


def _failure(message: str) -> messages.InvokeResponse:
    text = message.encode("utf-8", "replace")[:FAILURE_MAX_BYTES].decode("utf-8", "ignore")
    return messages.InvokeResponse(failure=messages.MethodFailure(message=text))
