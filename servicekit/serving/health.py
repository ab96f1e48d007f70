"""`grpc.health.v1` per service name: not serving until told otherwise.

Deliberately absent: probing. The board says what its service has told it, nothing is measured here.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Final

import grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health,
    health_pb2,
    health_pb2_grpc,
)

WHOLE_SERVER: Final = ""
"""The name under which a probe asks for the server as a whole: serving when every service is."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
HEALTH_METHODS: Final = (f"/{HEALTH_SERVICE}/Check", f"/{HEALTH_SERVICE}/Watch")
"""What a server with a method table must permit for its callers to ask."""


class HealthBoard:
    """The readiness of the named services of one process; safe to share between servers."""

    def __init__(self, services: Sequence[str]) -> None:
        """Post every service, and the whole server, as not serving."""
        self._lock = Lock()
        self._ready = dict.fromkeys(services, False)
        self._closed = False
        self._servicer = health.HealthServicer()
        for service in (WHOLE_SERVER, *services):
            self._servicer.set(service, _NOT_SERVING)

    def set_serving(self, service: str, *, serving: bool) -> None:
        """Post one service as serving or not.

        Raises:
            KeyError: the service was not named when the board was made.
        """
        with self._lock:
            if service not in self._ready:
                raise KeyError(service)
            if self._closed:
                return
            self._ready[service] = serving
            self._servicer.set(service, _SERVING if serving else _NOT_SERVING)
            whole = all(self._ready.values())
            self._servicer.set(WHOLE_SERVER, _SERVING if whole else _NOT_SERVING)

    def set_all_serving(self) -> None:
        """Post every service as serving."""
        for service in tuple(self._ready):
            self.set_serving(service, serving=True)

    def is_serving(self, service: str = WHOLE_SERVER) -> bool:
        """Say what a probe would be told."""
        with self._lock:
            if service == WHOLE_SERVER:
                return bool(self._ready) and all(self._ready.values())
            return self._ready[service]

    def close(self) -> None:
        """Post everything as not serving, for good: the first act of a drain."""
        with self._lock:
            self._closed = True
            self._ready = dict.fromkeys(self._ready, False)
            self._servicer.enter_graceful_shutdown()

    def register(self, server: grpc.Server) -> None:
        """Answer probes on this server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
