"""Puts a server's chain of interceptors together once for each method, not once for each call.

What the chain makes of a method depends on the method and on whether there is room, and on nothing
else of a call; every question about the call is asked when the handler runs. One call passes the
chain by: where there is no room and enough are being refused, it is refused without a question,
with the same answer each time, so that no refusal waits for another. Deliberately absent: an entry
for a method that no servicer implements, whose name the caller chooses.
"""

from collections.abc import Callable, Sequence

import grpc

from servicekit.serving.admission import CallPool
from servicekit.serving.call_scope import Continuation, Handler
from servicekit.serving.interceptor_order import OrderedInterceptor


class Door(grpc.ServerInterceptor):
    """Stands for the whole chain before gRPC, which asks it from one thread at a time."""

    def __init__(
        self,
        chain: Sequence[OrderedInterceptor],
        pool: CallPool,
        at_once: Handler,
        monotonic_s: Callable[[], float],
    ) -> None:
        """Keep the chain, and what refuses a call of any method in the thread that takes it."""
        self._chain = tuple(chain)
        self._pool = pool
        self._at_once = at_once
        self._monotonic_s = monotonic_s
        self._made: dict[str, Handler] = {}
        self._refusing: dict[str, Handler] = {}

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the handler of a method behind every interceptor.

        Where there is no room, the chain is made while there is none, and refuses; or the call is
        refused at once, if the threads that refuse are busy or have refused enough. Where there was
        some room a moment ago there still is: calls leave at any time, but they enter in this
        thread.
        """
        full = self._pool.full
        if full:
            self._pool.note_overload()
            if not self._pool.refusals.takes_one(self._monotonic_s()):
                return self._at_once
        method = handler_call_details.method
        known = self._refusing if full else self._made
        handler = known.get(method)
        if handler is not None:
            return handler
        implemented = False

        def innermost(details: grpc.HandlerCallDetails) -> "Handler | None":
            nonlocal implemented
            found = continuation(details)
            implemented = found is not None
            return found

        handler = self._pass(0, innermost, handler_call_details)
        # A refusal never asks who implements the method: it is known if it was served before.
        if handler is not None and (method in self._made if full else implemented):
            known[method] = handler
        return handler

    def _pass(
        self, position: int, innermost: Continuation, details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        if position == len(self._chain):
            return innermost(details)
        return self._chain[position].intercept_service(
            lambda passed: self._pass(position + 1, innermost, passed), details
        )
