"""The trial domain as a service elsewhere: real gRPC, real certificates, and what no library sends.

It answers in bytes, so that it can answer what is no message at all. Beside the trial domain's own
methods it knows `status_<CODE>`, `forged_unsent`, `malformed`, `empty_answer`, `huge`,
`huge_compressed` and `long_failure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Any

import grpc
from stagegate.domain.v1.domain_service_pb2 import (
    DescribeResponse,
    InvokeRequest,
    InvokeResponse,
    MethodDescription,
    MethodFailure,
)

from stage3_service.domains.port import Invocation, MethodFailed
from tests.fakes.domains import METHODS, TrialDomain
from tests.harness.pki import Pki, pki

HUGE_BYTES = 50_000_000
FURTHER_METHODS = (
    *("forged_unsent", "malformed", "empty_answer", "huge", "huge_compressed", "long_failure"),
    *("status_internal", "status_unavailable", "status_permission_denied"),
)
STATUS_METHODS = tuple(
    f"status_{code.name.lower()}" for code in grpc.StatusCode if code is not grpc.StatusCode.OK
)
FORGED_UNSENT = "failed to connect to all addresses; last error: UNKNOWN: Connection refused"


@dataclass(slots=True)
class Received:
    """What one call brought: method, key, the seconds it said were left, whose certificate."""

    method: str
    idempotency_key: str
    parameters_json: bytes
    remaining_s: float | None
    metadata: dict[str, Any]
    certificate: bytes


def described() -> dict[str, MethodDescription]:
    """Return what the trial service says of its methods, by name."""
    names = dict.fromkeys((*METHODS, *FURTHER_METHODS, *STATUS_METHODS))
    return {
        name: MethodDescription(name=name, description=f"Behaves as its name says: {name}.")
        for name in names
    }


@dataclass(slots=True)
class RemoteDomain:
    """A running service around a trial domain. `received` and `entered` tell of its calls."""

    trial: TrialDomain
    server: grpc.Server
    address: str
    received: list[Received] = field(default_factory=list)
    entered: Semaphore = field(default_factory=lambda: Semaphore(0))
    on_call: Callable[[], None] = lambda: None
    descriptions: dict[str, MethodDescription] = field(default_factory=described)
    times_described: int = 0

    def describe(self, _raw: bytes, _context: grpc.ServicerContext) -> bytes:
        """Say what `descriptions` holds at the moment."""
        self.times_described += 1
        return DescribeResponse(methods=self.descriptions.values()).SerializeToString()

    def answer(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        """Do what the method's name says."""
        request = InvokeRequest.FromString(raw)
        peer: Any = context.auth_context()
        self.received.append(
            Received(
                request.method,
                request.idempotency_key,
                request.parameters_json,
                context.time_remaining(),
                dict(context.invocation_metadata()),
                peer["x509_pem_cert"][0],
            )
        )
        self.entered.release()
        self.on_call()
        match request.method:
            case "malformed":
                return b"\x0a\xff\xff\xff\xff\x0f"
            case "empty_answer":
                return b""
            case "huge":
                return InvokeResponse(output_json=b"0" * HUGE_BYTES).SerializeToString()
            case "huge_compressed":
                context.set_compression(grpc.Compression.Gzip)
                return InvokeResponse(output_json=b"0" * HUGE_BYTES).SerializeToString()
            case "long_failure":
                failure = MethodFailure(message="é" * 2_000)
                return InvokeResponse(failure=failure).SerializeToString()
            case "forged_unsent":
                context.abort(grpc.StatusCode.UNAVAILABLE, FORGED_UNSENT)
            case _:
                pass
        if request.method.startswith("status_"):
            code = grpc.StatusCode[request.method.removeprefix("status_").upper()]
            context.abort(code, "the domain says so")
        invocation = Invocation(
            request.method,
            request.parameters_json,
            context.time_remaining() or 0.0,
            request.idempotency_key,
        )
        answer = METHODS[request.method](self.trial, invocation)
        if isinstance(answer, MethodFailed):
            failure = MethodFailure(message=answer.message)
            return InvokeResponse(failure=failure).SerializeToString()
        return InvokeResponse(output_json=answer.json_bytes).SerializeToString()

    def stop(self) -> None:
        """Let go of what hangs, then end."""
        self.trial.release.set()
        self.server.stop(0).wait()


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self.domain: RemoteDomain | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        assert self.domain is not None
        if handler_call_details.method.endswith("/Describe"):
            return grpc.unary_unary_rpc_method_handler(self.domain.describe)
        return grpc.unary_unary_rpc_method_handler(self.domain.answer)


def serve_remote_domain(
    keys: Pki, trial: TrialDomain, *, address: str = "127.0.0.1:0", server: str = "trial"
) -> RemoteDomain:
    """Serve a trial domain with the certificate of this server, demanding one of the caller."""
    handler = _AnyMethod()
    made = grpc.server(
        ThreadPoolExecutor(16),
        handlers=[handler],
        options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)],
    )
    pair = tuple(keys.file(f"{server}-server.{kind}").read_bytes() for kind in ("key", "crt"))
    credentials = grpc.ssl_server_credentials(
        [(pair[0], pair[1])], keys.file("ca.crt").read_bytes(), require_client_auth=True
    )
    port = made.add_secure_port(address, credentials)
    handler.domain = RemoteDomain(trial, made, f"127.0.0.1:{port}")
    made.start()
    return handler.domain


@contextmanager
def running_remote_domain(server: str = "trial") -> Iterator[RemoteDomain]:
    """Serve a trial domain in this process, on a port that the system chooses."""
    running = serve_remote_domain(pki(), TrialDomain(), server=server)
    try:
        yield running
    finally:
        running.stop()
