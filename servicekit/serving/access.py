"""The two questions of access: who is calling, and may this caller call this method.

Deliberately absent: metadata as a source of authority, and a third answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, NoReturn

import grpc

from servicekit.serving.admission import CallPool
from servicekit.serving.call_facts import identity_of, record_identity
from servicekit.serving.call_scope import Continuation, Handler, refuse_with, within
from servicekit.serving.identity import IdentityRefused
from servicekit.serving.interceptor_order import OrderedInterceptor
from servicekit.serving.peer_certificates import PeerCertificates
from servicekit.serving.policy import (
    CLIENT_UNAUTHENTICATED,
    METHOD_MAX_CHARS,
    METHOD_NOT_PERMITTED,
    AccessPolicy,
    CallPolicy,
)
from servicekit.serving.status import WireError


class IdentityInterceptor(OrderedInterceptor):
    """Establishes the caller from its certificate, or refuses the call."""

    name: ClassVar[str] = "identity"
    after: ClassVar[tuple[str, ...]] = ("shield", "access_log")

    def __init__(self, policy: CallPolicy, access: AccessPolicy) -> None:
        self._policy = policy
        self._access = access
        self._peers = PeerCertificates(access.trust_domain)

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
                record_identity(context, self._peers.identity(peer, self._access.now_us()))
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
