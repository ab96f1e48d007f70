"""Invokes the methods of one domain that is a service elsewhere, over mTLS, once per call.

Guards the difference between three things that look alike on a network: nothing was sent
(`DomainUnreachable`), the domain answered (an output, a failure, or an answer that is none), and
nobody knows (`DomainSilent`). In doubt it is the last. And guards what was accepted: each new
connection is asked to describe itself before it carries a call. Deliberately absent: retries, a
second address, late answers (gRPC ends the call at its deadline and tells the domain so), and
belief in anything a status says about what did not happen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from stagegate.domain.v1.domain_service_pb2 import (
    DescribeRequest,
    DescribeResponse,
    InvokeRequest,
    InvokeResponse,
    MethodDescription,
)

from servicekit.computing import elsewhere
from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from servicekit.serving.channel import open_channel
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.connection import Connection
from servicekit.serving.rotating_connection import keep_connected
from servicekit.serving.rotation import Rotation
from stage3_service.adapters.time_allowed import allotted
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.definition import (
    MAX_DEFINITION_BYTES,
    AcceptedDefinitions,
    Definition,
    DefinitionUnavailable,
)
from stage3_service.domains.port import (
    MAX_FAILURE_MESSAGE_BYTES,
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)

INVOKE: Final = "/stagegate.domain.v1.DomainService/Invoke"
DESCRIBE: Final = "/stagegate.domain.v1.DomainService/Describe"

DESCRIBE_TIMEOUT_S: Final = 5.0
"""A domain describes itself from memory; one that cannot in so long is not there."""

ENVELOPE_MAX_BYTES: Final = 65_536
"""What a message may hold beside the largest declared answer: field headers, a failure's text,
and an answer a little over its bound, whose commitment is then worth having."""

_SCHEMA_LIMITS: Final = JsonLimits()
"""A schema is at most as large and as deep as the parameters it describes."""

# Transports, proxies and stopping servers speak in these codes, and so may a method: whoever it
# was, it did not say what the method did.
_TELLS_NOTHING: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
# gRPC's own words for a call that ended without a status of the domain: a reset, a broken frame,
# a page of a proxy.
_NO_STATUS: Final = re.compile(r"Stream removed \(|.*RST_STREAM|Received http2 header")
# gRPC's own words for a message over the receive limit, as it came or once decompressed. A domain
# that merely says so has answered as well, and nothing that could be handed on.
_OVER_LIMIT: Final = re.compile(r"(Received|Decompressed) message larger than max")


@dataclass(frozen=True, slots=True)
class Dialer:
    """What all domains elsewhere are reached with.

    `certificate` is None only where Stage-3 itself serves without certificates; the endpoint must
    then be loopback. `connect_timeout_s` is how long a call waits for a connection. `on_connected`
    takes a domain's name at each new connection to it, and may not wait.
    """

    certificate: Rotation | None
    connect_timeout_s: float
    monotonic_s: Callable[[], float]
    accepted: AcceptedDefinitions
    on_connected: Callable[[str], None]

    def open(self, declaration: DomainDeclaration) -> GrpcDomain:
        """Begin to connect to a domain, whether or not it is there yet.

        Raises:
            AddressRefused: there are no credentials and the endpoint is not loopback.

        """
        return GrpcDomain(declaration, self)


class GrpcDomain:
    """One domain elsewhere, callable from any thread, over one connection that is kept.

    Concurrency: calls share the connection and are otherwise independent; each ends at its
    deadline, so none is left behind. Memory: a response of more than the domain's largest bound is
    refused by gRPC before it is read.
    """

    def __init__(self, declaration: DomainDeclaration, dialer: Dialer) -> None:
        self._declaration = declaration
        self._dialer = dialer
        largest = max(method.max_response_bytes for method in declaration.methods.values())
        # What each connection has shown of the domain: it is asked once, and then believed.
        self._shown: tuple[Connection, int, Definition] | None = None

        def connect(credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
            return open_channel(
                declaration.endpoint or "",
                credentials,
                declaration.server_name or "",
                receive_max_bytes=max(largest, MAX_DEFINITION_BYTES) + ENVELOPE_MAX_BYTES,
            )

        self._connections = keep_connected(
            dialer.certificate, connect, lambda: dialer.on_connected(declaration.name)
        )
        self._closed = False

    def invoke(self, invocation: Invocation) -> Answer:
        """Send one call on a standing connection, and read what came of it.

        Raises:
            DomainUnreachable: nothing was sent: the method is not declared, no time was left, or
                there was no connection, or the domain does not show what was accepted.
            DomainSilent: the call was sent, or may have been, and no answer to it arrived.
            AnswerInvalid: an answer arrived that is too large to be read or no `InvokeResponse`.

        """
        handed = allotted(self._declaration, invocation)
        request = InvokeRequest(
            method=handed.method,
            parameters_json=handed.parameters_json,
            idempotency_key=handed.idempotency_key,
        )
        with self._connections.using() as connection:
            timeout_s = self._connect(connection, handed.deadline_s)
            timeout_s = self._verify(connection, timeout_s)
            # From here on bytes may have left.
            try:
                with elsewhere():
                    response = _invoke_on(connection)(request, timeout=timeout_s)
            except grpc.RpcError as error:
                return _read_error(error)
        return _read_response(response)

    def describe(self) -> Definition:
        """Ask the domain what it is, on the connection that carries its calls.

        Raises:
            DefinitionUnavailable: it is not reached, lacks a declared method, or shows what is no
                definition.

        """
        with self._connections.using() as connection:
            try:
                self._connect(connection, DESCRIBE_TIMEOUT_S)
            except DomainUnreachable as unreachable:
                raise DefinitionUnavailable(str(unreachable)) from unreachable
            return self._ask(connection, DESCRIBE_TIMEOUT_S)

    def close(self) -> None:
        """Refuse new calls; calls in flight end as they would."""
        self._closed = True
        self._connections.close()

    def _connect(self, connection: Connection, deadline_s: float) -> float:
        """Wait for the connection, and return the seconds that are left for the call itself."""
        if self._closed:
            raise DomainUnreachable("the domain is closed")
        started_s = self._dialer.monotonic_s()
        if not connection.wait_until_ready(min(self._dialer.connect_timeout_s, deadline_s)):
            raise DomainUnreachable("no connection to the domain; nothing was sent")
        left_s = deadline_s - (self._dialer.monotonic_s() - started_s)
        if left_s <= 0:
            raise DomainUnreachable("no time was left once the connection stood")
        return left_s

    def _verify(self, connection: Connection, timeout_s: float) -> float:
        """Refuse a call to what nobody accepted, and return the seconds left for the call."""
        shown, left_s = self._shown, timeout_s
        if shown is not None and shown[:2] == (connection, connection.session):
            definition = shown[2]
        else:
            started_s = self._dialer.monotonic_s()
            try:
                definition = self._ask(connection, min(timeout_s, DESCRIBE_TIMEOUT_S))
            except DefinitionUnavailable as unavailable:
                raise DomainUnreachable(f"{unavailable}; nothing was invoked") from unavailable
            left_s -= self._dialer.monotonic_s() - started_s
        if not self._dialer.accepted.is_accepted(self._declaration.name, definition.digest):
            raise DomainUnreachable("the domain does not show what was accepted")
        if left_s <= 0:
            raise DomainUnreachable("no time was left once the domain had described itself")
        return left_s

    def _ask(self, connection: Connection, timeout_s: float) -> Definition:
        # Read before the call: a connection that is lost meanwhile makes the answer count for less.
        session = connection.session
        describe: Callable[..., bytes | None] = connection.channel.unary_unary(
            DESCRIBE, request_serializer=DescribeRequest.SerializeToString
        )
        try:
            response = describe(DescribeRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            failed = decode_rpc_error(error)
            raise DefinitionUnavailable(
                f"Describe ended with {failed.code}: {_cut(failed.message)}"
            ) from None
        definition = _read_description(response, self._declaration)
        self._shown = (connection, session, definition)
        return definition


def _read_description(response: bytes | None, declaration: DomainDeclaration) -> Definition:
    """Return what the domain says of the methods that are declared; of others nothing is called.

    Raises:
        DefinitionUnavailable: see `GrpcDomain.describe`.

    """
    try:
        described = DescribeResponse.FromString(response or b"").methods
    except DecodeError:
        raise DefinitionUnavailable("what Describe answers is no DescribeResponse") from None
    by_name = {method.name: method for method in described}
    if len(by_name) != len(described):
        raise DefinitionUnavailable("Describe names a method twice")
    missing = [name for name in declaration.methods if name not in by_name]
    if missing:
        raise DefinitionUnavailable(f"Describe does not name {', '.join(missing)}")
    return Definition.of(
        {"methods": {name: _description(by_name[name]) for name in declaration.methods}}
    )


def _description(method: MethodDescription) -> JsonValue:
    schema: JsonValue = None
    if method.parameters_schema_json:
        try:
            schema = parse(method.parameters_schema_json.encode(), _SCHEMA_LIMITS).value
        except JsonRefused as refused:
            raise DefinitionUnavailable(
                f"the schema of {method.name} is not strict JSON: {refused.description}"
            ) from None
    return {
        "description": method.description,
        "max_duration": method.max_duration.ToJsonString(),
        "max_response_bytes": str(method.max_response_bytes),
        "parameters_schema": schema,
    }


def _invoke_on(connection: Connection) -> Callable[..., bytes | None]:
    # Without a deserializer: a message that is none is an answer, not an error of the library.
    invoke: Callable[..., bytes | None] = connection.channel.unary_unary(
        INVOKE, request_serializer=InvokeRequest.SerializeToString, response_deserializer=None
    )
    return invoke


def _read_error(error: grpc.RpcError) -> MethodFailed:
    failed = decode_rpc_error(error)
    if failed.code == "RESOURCE_EXHAUSTED" and _OVER_LIMIT.search(failed.message):
        raise AnswerInvalid("the answer is larger than any that the domain declares") from None
    if failed.code in _TELLS_NOTHING or _NO_STATUS.match(failed.message):
        raise DomainSilent(f"the call ended without an answer ({failed.code})") from None
    return MethodFailed(_cut(f"{failed.code}: {failed.message}"))


def _read_response(response: bytes | None) -> Answer:
    if response is None:
        raise AnswerInvalid("the answer has no message")
    try:
        message = InvokeResponse.FromString(response)
    except DecodeError:
        raise AnswerInvalid("the answer is not an InvokeResponse") from None
    match message.WhichOneof("answer"):
        case "output_json":
            return Output(message.output_json)
        case "failure":
            return MethodFailed(_cut(message.failure.message))
        case _:
            raise AnswerInvalid("the answer holds neither an output nor a failure")


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:MAX_FAILURE_MESSAGE_BYTES].decode("utf-8", "ignore")
