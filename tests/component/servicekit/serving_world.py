"""A real listener and real callers over loopback, with certificates of a real authority.

Deliberately absent: a fake of any part of gRPC or TLS.
"""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import structlog

from servicekit import certificates
from servicekit.clock import SystemClock
from servicekit.log import redact_event
from servicekit.serving.admission import Bounds
from servicekit.serving.channel import open_channel
from servicekit.serving.client_errors import ClientError, decode_rpc_error
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.method_table import MethodTable, Rule
from servicekit.serving.policy import AccessPolicy, CallPolicy
from servicekit.serving.server import RunningServer, build_server
from servicekit.serving.status import StatusTable
from servicekit.serving.tls import channel_credentials, server_credentials

NOW = datetime.now(UTC)
TRUST_DOMAIN = "stagegate.test"
SERVER_NAME = "stage3.stagegate.test"
SERVICE = "test.v1.Echo"

STATUSES = StatusTable(
    "stagegate",
    {
        "CLIENT_UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
        "METHOD_NOT_PERMITTED": grpc.StatusCode.PERMISSION_DENIED,
        "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
        "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "INTERNAL": grpc.StatusCode.INTERNAL,
        "PLAN_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    },
)

Behavior = Callable[[bytes, grpc.ServicerContext], bytes]


def full(method: str) -> str:
    """Return the full name of a method of the test service."""
    return f"/{SERVICE}/{method}"


def uri(path: str) -> str:
    """Return an identity of the test's trust domain."""
    return f"spiffe://{TRUST_DOMAIN}/{path}"


@dataclass
class Authority:
    """A development authority in a directory, with a server's certificate."""

    directory: Path

    def __post_init__(self) -> None:
        certificates.create_authority(self.directory, TRUST_DOMAIN, NOW)
        certificates.issue_server(self.directory, "server", SERVER_NAME, NOW)
        certificates.issue_caller(self.directory, "client", uri("client/alice"), NOW)

    @property
    def file(self) -> Path:
        """Return the authority's certificate."""
        return self.directory / "ca.crt"

    def server(self) -> grpc.ServerCredentials:
        """Return what the listener presents and demands."""
        return server_credentials(
            self.directory / "server.crt", self.directory / "server.key", self.file, now=NOW
        )

    def caller(self, path: str) -> grpc.ChannelCredentials:
        """Issue, once, a certificate for this identity and return what its caller connects with."""
        name = "caller-" + path.replace("/", "-")
        if not (self.directory / f"{name}.crt").exists():
            certificates.issue_caller(self.directory, name, uri(path), NOW)
        return channel_credentials(
            self.file, self.directory / f"{name}.crt", self.directory / f"{name}.key", now=NOW
        )


@dataclass
class World:
    """One listener of the test service, its log, and what its door reported."""

    authority: Authority
    log: io.StringIO = field(default_factory=io.StringIO)
    refused: list[tuple[Identity | None, str, str]] = field(default_factory=list)
    servers: list[RunningServer] = field(default_factory=list)
    channels: list[grpc.Channel] = field(default_factory=list)

    def policy(self, rules: dict[str, Rule] | None = None, **changes: Any) -> CallPolicy:
        """Return a policy in which clients may call every method of `rules`, or `Get`."""
        rules = (
            rules if rules is not None else {full("Get"): Rule(frozenset({IdentityKind.CLIENT}))}
        )
        access: dict[str, Any] = {
            "trust_domain": TRUST_DOMAIN,
            "methods": MethodTable(rules),
            "now_us": SystemClock().now_us,
            "on_refused": lambda *facts: self.refused.append(facts),
        } | {
            key: changes.pop(key) for key in ("roles_of", "on_refused", "now_us") if key in changes
        }
        logger = structlog.wrap_logger(
            structlog.WriteLogger(self.log),
            processors=[
                structlog.processors.format_exc_info,
                redact_event,
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            context_class=dict,
        )
        options: dict[str, Any] = {
            "statuses": STATUSES,
            "access": AccessPolicy(**access),
            "logger": logger,
            "monotonic_s": time.monotonic,
            "incident_id": lambda: "incident-1",
        }
        return CallPolicy(**(options | changes))

    def serve(
        self,
        behaviors: dict[str, Any],
        *,
        policy: CallPolicy | None = None,
        bounds: Bounds | None = None,
        **changes: Any,
    ) -> RunningServer:
        """Serve the behaviors, each a unary method or a ready handler, and return the listener."""
        handlers = {
            name: behavior
            if isinstance(behavior, grpc.RpcMethodHandler)
            else grpc.unary_unary_rpc_method_handler(behavior)
            for name, behavior in behaviors.items()
        }

        def register(server: grpc.Server) -> None:
            server.add_registered_method_handlers(SERVICE, handlers)

        options: dict[str, Any] = {
            "name": "test",
            "address": "127.0.0.1:0",
            "credentials": self.authority.server(),
            "services": [register],
            "bounds": bounds or Bounds(4, 8),
            "policy": policy or self.policy({full(name): _CLIENTS for name in behaviors}),
        }
        server = build_server(**(options | changes))
        server.start()
        self.servers.append(server)
        return server

    def channel(
        self, server: RunningServer, credentials: grpc.ChannelCredentials | None = None
    ) -> Any:  # the stubs of gRPC infer no messages for a method that is named by a string
        """Connect as a client, or with the credentials given."""
        channel = open_channel(
            server.address, credentials or self.authority.caller("client/alice"), SERVER_NAME
        )
        self.channels.append(channel)
        return channel

    def lines(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def close(self) -> None:
        """Close every channel and stop every listener."""
        for channel in self.channels:
            channel.close()
        for server in self.servers:
            server.stop(0)


_CLIENTS = Rule(frozenset({IdentityKind.CLIENT}))


def call(channel: Any, method: str, request: bytes = b"", timeout: float | None = 10) -> bytes:
    """Call a unary method of the test service and return its answer."""
    answer: bytes = channel.unary_unary(full(method))(request, timeout=timeout)
    return answer


def failure(
    channel: Any, method: str, request: bytes = b"", timeout: float | None = 10
) -> ClientError:
    """Call a unary method that must fail, and return how it did."""
    try:
        answer = call(channel, method, request, timeout)
    except grpc.RpcError as error:
        return decode_rpc_error(error)
    message = f"the call succeeded with {answer!r}"
    raise AssertionError(message)


class Gate:
    """A handler that waits inside until it is let go, and tells how many are inside."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        """Wait inside."""
        self.entered.release()
        if not self.open.wait(30):
            message = "the gate was never opened"
            raise TimeoutError(message)
        return b"through"

    def wait_until_entered(self, count: int) -> None:
        """Return when so many more calls are inside."""
        for _ in range(count):
            assert self.entered.acquire(timeout=10), "a handler did not start"


def worlds(directory: Path) -> Iterator[World]:
    """Yield a world and close it."""
    world = World(Authority(directory))
    try:
        yield world
    finally:
        world.close()
