"""The bounds of a call: its time, its place in the server, its request, and its turn.

Deliberately absent: queues without an end, and any wait that the caller could prolong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, NoReturn

import grpc

from servicekit.computing import computing
from servicekit.serving.admission import CallPool, InPlace
from servicekit.serving.call_facts import CallFacts, identity_of, record_facts
from servicekit.serving.call_scope import (
    Continuation,
    Handler,
    carry,
    has_own_pool,
    refuse_with,
    within,
)
from servicekit.serving.caller_shares import CallerShares
from servicekit.serving.interceptor_order import OrderedInterceptor
from servicekit.serving.policy import DEADLINE_EXCEEDED, NO_ROOM, OVERLOADED, CallPolicy
from servicekit.serving.read_watch import ReadWatch
from servicekit.serving.status import WireError
from servicekit.turns import Turns


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
        remaining_s = _patience_s(context, self._policy.deadline_max_s)
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
    """Refuses a call when the server holds as many as it may, or as many of this caller's."""

    name: ClassVar[str] = "admission"
    after: ClassVar[tuple[str, ...]] = ("deadline",)

    def __init__(self, policy: CallPolicy, pool: CallPool) -> None:
        self._policy = policy
        self._pool = pool

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Decide on arrival, in gRPC's own thread, before the call takes a place in the pool.

        Whose call it is, is known in the call's own thread only, and there the share is asked: a
        call over it gives its place back at once, since a place is a thread and waits for nobody.
        """
        if self._pool.full:
            return refuse_with(self._refuse, self._pool.refusals)
        handler = continuation(handler_call_details)
        shares, unread = self._pool.shares, self._pool.unread
        if handler is None or shares is None or unread is None:
            return handler
        return within(handler, partial(self._scope, shares, unread))

    @contextmanager
    def _scope(
        self, shares: CallerShares, unread: CallerShares, context: grpc.ServicerContext
    ) -> Iterator[None]:
        identity = identity_of(context)
        # A server that asks nobody has no callers to tell apart: they are one.
        caller = "" if identity is None else identity.uri
        if not unread.take(caller):
            self._refuse_caller("this caller has as many answers to read as it may", context)
        if not context.add_callback(partial(unread.give_back, caller)):
            unread.give_back(caller)
            context.abort(grpc.StatusCode.CANCELLED, "the caller left before anything began")
        if not shares.take(caller):
            self._refuse_caller("this caller has as many calls in flight as it may", context)
        try:
            yield
        finally:
            shares.give_back(caller)

    def _refuse_caller(self, why: str, context: grpc.ServicerContext) -> NoReturn:
        self._policy.statuses.abort(context, WireError(OVERLOADED, f"{why}; nothing was done"))

    def _refuse(self, context: grpc.ServicerContext) -> NoReturn:
        self._policy.statuses.abort(context, WireError(OVERLOADED, NO_ROOM))


def refuse_at_once(policy: CallPolicy) -> Handler:
    """Return what refuses a call for want of room in the thread that takes it.

    It asks nothing and writes no line: whatever runs there holds up every call of the listener. The
    answer is the one that the admission gives, prepared once.
    """
    no_room = policy.statuses.prepare(WireError(OVERLOADED, NO_ROOM))

    def refuse(context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(no_room)

    return refuse_with(refuse, InPlace())


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


class TurnInterceptor(OrderedInterceptor):
    """Lets a call whose request is here run when it is its turn."""

    name: ClassVar[str] = "turn"
    after: ClassVar[tuple[str, ...]] = ("request",)

    def __init__(self, policy: CallPolicy, turns: Turns, computing_turns: Turns | None) -> None:
        self._policy = policy
        self._turns = turns
        self._computing = computing_turns

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Make a handler wait for its turn, unless it brings threads of its own."""
        handler = continuation(handler_call_details)
        if handler is None or has_own_pool(handler):
            return handler
        return within(handler, self._scope)

    @contextmanager
    def _scope(self, context: grpc.ServicerContext) -> Iterator[None]:
        if not self._turns.enter(_patience_s(context, self._policy.deadline_max_s)):
            self._policy.statuses.abort(
                context, WireError(DEADLINE_EXCEEDED, "the deadline passed before anything began")
            )
        try:
            if not context.is_active():
                context.abort(grpc.StatusCode.CANCELLED, "the caller left before anything began")
            with computing(self._computing):
                yield
        finally:
            self._turns.leave()


def _patience_s(context: grpc.ServicerContext, max_s: float) -> float:
    """Return the seconds that the caller still waits, at most `max_s`, at least none."""
    # No deadline shows as None or as some 10^18 s, depending on gRPC's version.
    told = context.time_remaining()
    remaining_s = max_s
    if told is not None:
        remaining_s = max(0.0, min(told, max_s))
    return remaining_s
