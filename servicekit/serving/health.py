"""`grpc.health.v1` per service name: not serving until told otherwise.

Whoever asks can make nobody else wait: a watcher that takes no message holds up one thread of its
own, never the board, so no caller can keep a probe from its answer or a service from stopping.

Deliberately absent: probing. The board says what its service has told it, nothing is measured here.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore, Condition
from typing import Any, Final

import grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health_pb2,
    health_pb2_grpc,
)

WHOLE_SERVER: Final = ""
"""The name under which a probe asks for the server as a whole: serving when every service is."""

WATCHES_MAX: Final = 32
"""How many callers may watch one server at a time; each takes a thread of its own."""

_Status: Final = health_pb2.HealthCheckResponse

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
HEALTH_METHODS: Final = (f"/{HEALTH_SERVICE}/Check", f"/{HEALTH_SERVICE}/Watch")
"""What a server with a method table must permit for its callers to ask."""


class HealthBoard:
    """The readiness of the named services of one process; safe to share between servers."""

    def __init__(self, services: Sequence[str]) -> None:
        """Post every service, and the whole server, as not serving."""
        self._changed = Condition()
        self._ready = dict.fromkeys(services, False)
        self._closed = False

    def set_serving(self, service: str, *, serving: bool) -> None:
        """Post one service as serving or not.

        Raises:
            KeyError: the service was not named when the board was made.
        """
        with self._changed:
            if service not in self._ready:
                raise KeyError(service)
            if not self._closed:
                self._ready[service] = serving
                self._changed.notify_all()

    def set_all_serving(self) -> None:
        """Post every service as serving."""
        for service in tuple(self._ready):
            self.set_serving(service, serving=True)

    def is_serving(self, service: str = WHOLE_SERVER) -> bool:
        """Say what a probe would be told."""
        with self._changed:
            serving = self._serving(service)
        if serving is None:
            raise KeyError(service)
        return serving

    def close(self) -> None:
        """Post everything as not serving, for good: the first act of a drain.

        Every watcher is told and its call ended, so that none of them is waited for.
        """
        with self._changed:
            self._closed = True
            self._ready = dict.fromkeys(self._ready, False)
            self._changed.notify_all()

    def register(self, server: grpc.Server) -> None:
        """Answer probes on this server."""
        health_pb2_grpc.add_HealthServicer_to_server(_HealthServicer(self), server)

    def status(self, service: str) -> int | None:
        """Return the protocol's word for the readiness of a service, None for an unknown one."""
        with self._changed:
            return self._status(service)

    def changes(self, service: str, context: grpc.ServicerContext) -> Iterator[int]:
        """Yield the status now and after each change, until the call or the board ends."""
        left = False

        def leave() -> None:
            nonlocal left
            with self._changed:
                left = True
                self._changed.notify_all()

        if not context.add_callback(leave):
            return
        told: int | None = None

        def has_news() -> bool:
            return left or self._closed or self._said(service) != told

        while True:
            with self._changed:
                self._changed.wait_for(has_news)
                status, closed = self._said(service), self._closed
            if left:
                return
            if status != told:
                yield status
            if closed:
                return
            told = status

    def _said(self, service: str) -> int:
        status = self._status(service)
        return int(_Status.SERVICE_UNKNOWN) if status is None else status

    def _status(self, service: str) -> int | None:
        serving = self._serving(service)
        if serving is None:
            return None
        return int(_Status.SERVING if serving else _Status.NOT_SERVING)

    def _serving(self, service: str) -> bool | None:
        if service == WHOLE_SERVER:
            return bool(self._ready) and all(self._ready.values())
        return self._ready.get(service)


class _HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped base
    """The board as one server's callers see it, and the threads that its watchers take."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board
        self._places = BoundedSemaphore(WATCHES_MAX)
        # One thread more than there are places: it is the one that says no.
        pool = ThreadPoolExecutor(WATCHES_MAX + 1, thread_name_prefix="health-watch")
        # Not a method: gRPC reads the pool off the function, and each server has its own.
        self.Watch: Any = self._watch_in(pool)

    def Check(  # noqa: N802 - the protocol's name
        self,
        request: Any,  # noqa: ANN401 - untyped
        context: grpc.ServicerContext,
    ) -> object:
        """Say how a service is now."""
        status = self._board.status(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return _Status(status=status)

    def _watch_in(self, pool: ThreadPoolExecutor) -> object:
        def watch(request: Any, context: grpc.ServicerContext) -> Iterator[object]:  # noqa: ANN401 - untyped
            if not self._places.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many callers watch")
            try:
                for status in self._board.changes(request.service, context):
                    yield _Status(status=status)
            finally:
                self._places.release()

        behavior: Any = watch
        behavior.experimental_thread_pool = pool
        return behavior
