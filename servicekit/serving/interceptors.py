"""The door every call passes, in one order that is asserted when a server is built.

The order, outermost first, and why each stands where it stands:

1. shield: whatever happens further in, the caller learns an incident number and nothing else.
2. access_log: sees the final status of everything below, refusals included.
3. identity: who is calling, before anything depends on it.
4. method: whether this caller may call this method, before a byte of the request is read.
5. deadline: how long anybody waits, so that a call that is already too late starts nothing.
6. admission: whether there is room. The room is measured when the call arrives; the refusal is
   given in a pool of its own, after the questions above, so an overload tells a stranger nothing.
7. request: reads and parses the message, innermost, so a refused caller's bytes are never read
   and cannot hold a thread.

Deliberately absent: retries, metadata as a source of authority, and exception text on the wire.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Final, NoReturn

import grpc

from servicekit.serving.admission import CallPool
from servicekit.serving.call_facts import CallFacts, identity_of, record_facts, record_identity
from servicekit.serving.call_scope import (
    Continuation,
    Handler,
    carry,
    refuse_with,
    status_code,
    within,
)
from servicekit.serving.identity import IdentityRefused, peer_identity
from servicekit.serving.interceptor_order import OrderedInterceptor, assert_order
from servicekit.serving.policy import (
    CLIENT_UNAUTHENTICATED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    METHOD_NOT_PERMITTED,
    OVERLOADED,
    AccessPolicy,
    CallPolicy,
)
from servicekit.serving.read_watch import ReadWatch
from servicekit.serving.status import WireError

METHOD_MAX_CHARS: Final = 256
"""Longest method name kept of an unknown method: the caller chooses it, the log stores it."""


def build_interceptors(
    policy: CallPolicy, pool: CallPool, watch: ReadWatch
) -> tuple[OrderedInterceptor, ...]:
    """Return the door of one server, outermost first, its order already asserted."""
    chain: list[OrderedInterceptor] = [ShieldInterceptor(policy), AccessLogInterceptor(policy)]
    if policy.access is not None:
        chain += [
            IdentityInterceptor(policy, policy.access),
            MethodInterceptor(policy, policy.access, pool),
        ]
    chain += [
        DeadlineInterceptor(policy),
        AdmissionInterceptor(policy, pool),
        RequestInterceptor(policy, watch),
    ]
    assert_order(chain)
    return tuple(chain)


class ShieldInterceptor(OrderedInterceptor):
    """Turns every exception into an opaque INTERNAL with an incident id; its text is logged."""

    name: ClassVar[str] = "shield"

    def __init__(self, policy: CallPolicy) -> None:
        self._policy = policy

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Guard both the making of the handler and every call of it."""
        method = handler_call_details.method[:METHOD_MAX_CHARS]
        try:
            handler = continuation(handler_call_details)
        except Exception as error:  # noqa: BLE001 - gRPC would answer UNKNOWN
            return refuse_with(partial(self._abort, method, error))
        return None if handler is None else within(handler, partial(self._scope, method))

    @contextmanager
    def _scope(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        # BaseException: a SystemExit in a pool thread would leave the caller without any answer.
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException as error:
            if _is_own_end(error, context):
                raise
            self._abort(method, error, context)
        if status_code(context) is grpc.StatusCode.UNKNOWN:
            self._abort(method, None, context)

    def _abort(
        self, method: str, error: BaseException | None, context: grpc.ServicerContext
    ) -> NoReturn:
        incident = self._policy.incident_id()
        self._policy.logger.error(
            "unhandled_exception", incident=incident, method=method, exc_info=error
        )
        self._policy.statuses.abort(
            context, WireError(INTERNAL, f"internal error, incident {incident}")
        )


def _is_own_end(error: BaseException, context: grpc.ServicerContext) -> bool:
    """Say whether the exception is gRPC's own way of ending a call, not a defect.

    `context.abort` raises a bare `Exception()` after it has set the code. Operations on a call
    whose client has gone raise `RpcError`; nobody is left to answer.
    """
    if isinstance(error, grpc.RpcError):
        return not context.is_active()
    code = status_code(context)
    aborted = type(error) is Exception and not error.args and code is not None
    return aborted and code is not grpc.StatusCode.UNKNOWN


class AccessLogInterceptor(OrderedInterceptor):
    """Writes one line per call: method, caller, final code, duration. Never a byte of a message."""

    name: ClassVar[str] = "access_log"
    after: ClassVar[tuple[str, ...]] = ("shield",)

    def __init__(self, policy: CallPolicy) -> None:
        self._policy = policy

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Log the call when its last response has left."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method[:METHOD_MAX_CHARS]
        return None if handler is None else within(handler, partial(self._scope, method))

    @contextmanager
    def _scope(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        started_s = self._policy.monotonic_s()
        ended_by_itself = False
        try:
            yield
            ended_by_itself = True
        finally:
            code = status_code(context)
            if code is None and ended_by_itself:
                code = grpc.StatusCode.OK
            elif code is None:
                gone = not context.is_active()
                code = grpc.StatusCode.CANCELLED if gone else grpc.StatusCode.INTERNAL
            identity = identity_of(context)
            self._policy.logger.info(
                "call",
                method=method,
                caller=None if identity is None else identity.uri,
                code=code.name,
                duration_ms=round((self._policy.monotonic_s() - started_s) * 1000, 3),
            )


class IdentityInterceptor(OrderedInterceptor):
    """Establishes the caller from its certificate, or refuses the call."""

    name: ClassVar[str] = "identity"
    after: ClassVar[tuple[str, ...]] = ("shield", "access_log")

    def __init__(self, policy: CallPolicy, access: AccessPolicy) -> None:
        self._policy = policy
        self._access = access

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Ask every call for its caller, whatever the method."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method[:METHOD_MAX_CHARS]
        return None if handler is None else within(handler, partial(self._scope, method))

    @contextmanager
    def _scope(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        if self._access.assumed_identity is not None:
            record_identity(context, self._access.assumed_identity)
        else:
            try:
                # types-grpcio says bytes; gRPC's values are sequences of bytes.
                peer: Any = context.auth_context()
                record_identity(context, peer_identity(peer, self._access.trust_domain))
            except IdentityRefused as refused:
                self._policy.logger.warning(
                    "caller_refused",
                    method=method,
                    peer=context.peer(),
                    description=refused.description,
                )
                self._access.on_refused(None, method, CLIENT_UNAUTHENTICATED)
                self._policy.statuses.abort(
                    context,
                    WireError(
                        CLIENT_UNAUTHENTICATED,
                        "a client certificate with one accepted identity is required",
                    ),
                )
        yield


class MethodInterceptor(OrderedInterceptor):
    """Asks the method table; a method that no servicer implements is refused like any other."""

    name: ClassVar[str] = "method"
    after: ClassVar[tuple[str, ...]] = ("identity",)

    def __init__(self, policy: CallPolicy, access: AccessPolicy, pool: CallPool) -> None:
        self._policy = policy
        self._access = access
        self._pool = pool

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Put the table before the handler, and a refusal where there is none."""
        method = handler_call_details.method
        handler = continuation(handler_call_details)
        if handler is None:
            handler = refuse_with(_unimplemented, self._pool.refusals)
        return within(handler, partial(self._scope, method))

    @contextmanager
    def _scope(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        identity = identity_of(context)
        if identity is None or not self._access.methods.permits(
            identity, self._access.roles_of, method
        ):
            self._access.on_refused(identity, method[:METHOD_MAX_CHARS], METHOD_NOT_PERMITTED)
            self._policy.statuses.abort(
                context, WireError(METHOD_NOT_PERMITTED, "this caller may not call this method")
            )
        yield


def _unimplemented(context: grpc.ServicerContext) -> NoReturn:
    """Answer a method that is in the table and that no servicer implements."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "method not found")


class DeadlineInterceptor(OrderedInterceptor):
    """Bounds every call in time and tells the servicer how long it has."""

    name: ClassVar[str] = "deadline"
    after: ClassVar[tuple[str, ...]] = ("shield", "access_log")
    after_if_present: ClassVar[tuple[str, ...]] = ("identity", "method")

    def __init__(self, policy: CallPolicy) -> None:
        self._policy = policy

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Fix the deadline when a thread takes the call, from what the client still waits."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        return None if handler is None else within(handler, partial(self._scope, method))

    @contextmanager
    def _scope(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        # No deadline shows as None or as some 10^18 s, depending on gRPC's version.
        told = context.time_remaining()
        remaining_s = self._policy.deadline_max_s
        if told is not None:
            remaining_s = min(told, remaining_s)
        if remaining_s <= 0:
            self._policy.statuses.abort(
                context, WireError(DEADLINE_EXCEEDED, "the deadline passed before anything began")
            )
        identity = identity_of(context)
        if identity is not None:
            monotonic_s = self._policy.monotonic_s
            deadline_s = monotonic_s() + remaining_s
            record_facts(context, CallFacts(identity, method, deadline_s, monotonic_s))
        yield


class AdmissionInterceptor(OrderedInterceptor):
    """Refuses a call at once when the server already holds as many as it may."""

    name: ClassVar[str] = "admission"
    after: ClassVar[tuple[str, ...]] = ("deadline",)

    def __init__(self, policy: CallPolicy, pool: CallPool) -> None:
        self._policy = policy
        self._pool = pool

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Decide on arrival, in gRPC's own thread, before the call takes a place in the pool."""
        if self._pool.full:
            return refuse_with(self._refuse, self._pool.refusals)
        return continuation(handler_call_details)

    def _refuse(self, context: grpc.ServicerContext) -> NoReturn:
        self._policy.statuses.abort(
            context, WireError(OVERLOADED, "too many calls in flight; nothing was done")
        )


class RequestInterceptor(OrderedInterceptor):
    """Reads and parses the one request message, last of all.

    gRPC would read it before any handler runs, so that a stranger who sends headers and then
    nothing holds a thread. Here a unary request is taken as a stream of one, which is the same on
    the wire, and read only when every question is answered.
    """

    name: ClassVar[str] = "request"
    after: ClassVar[tuple[str, ...]] = ("admission",)

    def __init__(self, policy: CallPolicy, watch: ReadWatch) -> None:
        self._policy = policy
        self._watch = watch

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Give a handler of one request the form that reads it itself."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._reading(handler.unary_stream, handler.request_deserializer),
                None,
                handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._reading(handler.unary_unary, handler.request_deserializer),
            None,
            handler.response_serializer,
        )

    def _reading(self, behavior: Any, parse: Any) -> Any:  # noqa: ANN401 - any message type
        def call(messages: Iterator[bytes], context: grpc.ServicerContext, *send: object) -> object:
            return behavior(self._read(messages, parse, context), context, *send)

        return carry(behavior, call)

    def _read(
        self,
        messages: Iterator[bytes],
        parse: Any,  # noqa: ANN401 - any message type
        context: grpc.ServicerContext,
    ) -> object:
        with self._watch.reading(context) as waiting:
            message = next(messages, None)
        if waiting.overdue:
            # The caller has been cancelled and hears none of this; the access log does. A message
            # that came in the same moment is not acted on: its caller was told that it was not.
            context.abort(grpc.StatusCode.CANCELLED, "the request did not arrive in time")
        if message is not None:
            try:
                return message if parse is None else parse(message)
            except Exception as error:  # noqa: BLE001 - whatever it raises, the bytes are at fault
                self._policy.logger.info("malformed_request", error=type(error).__name__)
        return self._policy.statuses.abort(
            context,
            WireError(self._policy.malformed_reason, "the request is not the declared message"),
        )
