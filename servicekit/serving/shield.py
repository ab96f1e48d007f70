"""The outermost two interceptors: nothing gets past the one, nothing goes unseen by the other.

Deliberately absent: exception text on the wire, and message bytes in the log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, NoReturn

import grpc

from servicekit.serving.call_facts import identity_of
from servicekit.serving.call_scope import Continuation, Handler, refuse_with, status_code, within
from servicekit.serving.interceptor_order import OrderedInterceptor
from servicekit.serving.policy import INTERNAL, METHOD_MAX_CHARS, CallPolicy
from servicekit.serving.status import WireError


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
                _let_go(error)
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


def _let_go(error: BaseException) -> None:
    """Let go of the frames that the errors behind the end of a call went through.

    Where one of them is a variable of such a frame, the two hold each other, and the frames hold
    the call: its stream would count against its connection until somebody searched for cycles.
    """
    behind: BaseException | None = error
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__context__


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
        # Bound once: a logger that is not would be assembled anew for each line.
        self._logger = policy.logger.bind()

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
            self._logger.info(
                "call",
                method=method,
                caller=None if identity is None else identity.uri,
                code=code.name,
                duration_ms=round((self._policy.monotonic_s() - started_s) * 1000, 3),
            )
