"""Server reflection, for development on loopback.

Deliberately absent: a way to turn it on by accident. It is a service like any other: without rules
in the method table nobody may call it.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # ships no types
    reflection,
    reflection_pb2,
)

from servicekit.serving.identity import IdentityKind
from servicekit.serving.method_table import Rule

_METHOD: Final = "ServerReflectionInfo"
# A stream of questions holds its thread until the caller ends it: none of the server's own.
_THREADS: Final = 2
# Both names of one protocol: the messages are the same bytes, and current tools ask for v1 first.
_SERVICES: Final = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)


def reflection_rules(kinds: frozenset[IdentityKind]) -> Mapping[str, Rule]:
    """Return the rules that let these kinds of caller reflect, to be merged into a table."""
    return {f"/{service}/{_METHOD}": Rule(kinds) for service in _SERVICES}


def register_reflection(server: grpc.Server, services: Sequence[str]) -> None:
    """Describe these services, and reflection itself, to whoever the table lets ask."""
    servicer: Any = reflection.ReflectionServicer((*services, *_SERVICES))

    def describe(questions: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        yield from servicer.ServerReflectionInfo(questions, context)

    behavior: Any = describe
    behavior.experimental_thread_pool = ThreadPoolExecutor(
        _THREADS, thread_name_prefix="reflection"
    )
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        behavior,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, {_METHOD: handler})
            for service in _SERVICES
        )
    )
