"""The wire between the services, and the calls at their doors, without a socket.

What is said crosses as bytes of protobuf and as statuses of gRPC; what is lost is lost where the
world says. Deliberately absent: time. A call is answered before it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc


class Aborted(Exception):
    """Carry the status that a servicer ended its call with."""

    def __init__(self, status: Any) -> None:
        super().__init__(status.details)
        self.status = status


class WireError(grpc.RpcError):
    """What a client's library raises: a service's status, or the transport's own word."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        super().__init__(details)
        self._facts = code, details, trailing

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        return self._facts[0]

    def details(self) -> str:
        """Return the message."""
        return self._facts[1]

    def trailing_metadata(self) -> Any:
        """Return what the service said in detail."""
        return self._facts[2]


class Context:
    """One call at a servicer. `gone` says that its client left."""

    def __init__(self, gone: Callable[[], bool]) -> None:
        self._gone = gone

    def is_active(self) -> bool:
        """Return whether anybody waits."""
        return not self._gone()

    def add_callback(self, _callback: Callable[[], None]) -> bool:
        """Promise to say when the call ends; the wire itself notices a client that left."""
        return True

    def abort_with_status(self, status: Any) -> None:
        """End the call."""
        raise Aborted(status)


@dataclass(slots=True)
class Client:
    """The client of the call that is under way."""

    gone: bool = False


class Wire:
    """The way from Stage-4 to Stage-3: `Connections`, connection, channel and call in one."""

    def __init__(self, is_up: Callable[[], bool], deliver: Callable[[bytes], bytes]) -> None:
        self._is_up = is_up
        self._deliver = deliver
        self.channel = self

    @contextmanager
    def using(self) -> Iterator[Wire]:
        """Hand out the connection."""
        yield self

    def close(self) -> None:
        """Hold nothing."""

    @property
    def is_ready(self) -> bool:
        """Return whether Stage-3 answers."""
        return self._is_up()

    def wait_until_ready(self, _timeout_s: float) -> bool:
        """Return whether Stage-3 answers."""
        return self.is_ready

    def unary_unary(
        self, _path: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Any:
        """Return the stub's method."""
        self._codec = request_serializer, response_deserializer
        return self

    def future(self, request: Any, timeout: float) -> Wire:
        """Put a request on the wire."""
        self._request: bytes = self._codec[0](request)
        return self

    def cancel(self) -> None:
        """Do nothing: the wire asks whether the client left."""

    def result(self) -> Any:
        """Return the response, or raise what gRPC would."""
        return self._codec[1](self._deliver(self._request))
