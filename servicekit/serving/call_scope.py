"""How an interceptor wraps a handler without changing what gRPC reads from it.

Deliberately absent: any decision. A scope is entered before the handler and left after its last
response, so a streamed answer is inside it too.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TypeAlias, cast

import grpc

# As text: gRPC's class takes type arguments in its stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], "Handler | None"]
Scope = Callable[[grpc.ServicerContext], AbstractContextManager[None]]

_POOL = "experimental_thread_pool"
_NON_BLOCKING = "experimental_non_blocking"


def within(handler: Handler, scope: Scope) -> Handler:
    """Return the handler with every call inside `scope`, in the same pool and of the same shape.

    The two attributes by which gRPC finds a handler's own thread pool and its callback form are
    carried over; losing the first would put an overload refusal behind the very calls it sheds.
    """
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _streaming(handler.stream_stream, scope),
            handler.request_deserializer,
            handler.response_serializer,
        )
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(
            _unary(handler.stream_unary, scope),
            handler.request_deserializer,
            handler.response_serializer,
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _streaming(handler.unary_stream, scope),
            handler.request_deserializer,
            handler.response_serializer,
        )
    return grpc.unary_unary_rpc_method_handler(
        _unary(handler.unary_unary, scope),
        handler.request_deserializer,
        handler.response_serializer,
    )


def _unary(behavior: Any, scope: Scope) -> Any:  # noqa: ANN401 - generic over every message type
    def call(request: object, context: grpc.ServicerContext) -> object:
        with scope(context):
            return behavior(request, context)

    return carry(behavior, call)


def _streaming(behavior: Any, scope: Scope) -> Any:  # noqa: ANN401 - as above
    if getattr(behavior, _NON_BLOCKING, False):

        def register(request: object, context: grpc.ServicerContext, send: object) -> object:
            with scope(context):
                return behavior(request, context, send)

        return carry(behavior, register)

    def call(request: object, context: grpc.ServicerContext) -> Iterator[object]:
        with scope(context):
            yield from behavior(request, context)

    return carry(behavior, call)


def carry(behavior: Any, call: Any) -> Any:  # noqa: ANN401 - as above
    """Copy what gRPC reads off a behavior onto its replacement, and return the replacement."""
    for name in (_POOL, _NON_BLOCKING):
        value = getattr(behavior, name, None)
        if value is not None:
            setattr(call, name, value)
    return call


def has_own_pool(handler: Handler) -> bool:
    """Say whether a handler runs in threads that are not its server's."""
    forms = (
        handler.unary_unary,
        handler.unary_stream,
        handler.stream_unary,
        handler.stream_stream,
    )
    return any(getattr(behavior, _POOL, None) is not None for behavior in forms)


def refuse_with(
    refuse: Callable[[grpc.ServicerContext], NoReturn], pool: ThreadPoolExecutor | None = None
) -> Handler:
    """Return a handler of any method that reads no request and only refuses, in `pool` if given."""

    def call(_messages: object, context: grpc.ServicerContext) -> NoReturn:
        refuse(context)

    behavior: Any = call
    if pool is not None:
        setattr(behavior, _POOL, pool)
    return grpc.stream_unary_rpc_method_handler(behavior)


def status_code(context: grpc.ServicerContext) -> grpc.StatusCode | None:
    """Return the code a call has been given so far, None for none."""
    # gRPC's own method, which its type stubs leave out.
    return cast("grpc.StatusCode | None", cast("Any", context).code())
