"""What a failed call said, read once and the same way by every client.

Deliberately absent: guesses. A failure that carries no `google.rpc.Status` has an empty reason,
which tells a transport's own failure from a service's answer. One exception: where gRPC says in the
service's place that there was no room for the call. `grpc` itself is not imported.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

# gRPC's own words for a call that found a server with more refusals to give than it can.
_LIBRARY_REFUSAL: Final = "Concurrent RPC limit exceeded!"
_DETAILS_KEY: Final = "grpc-status-details-bin"

_NO_ROOM: Final = "too many calls in flight; nothing was done"

M = TypeVar("M", bound=Message)


class _Call(Protocol):
    """The part of `grpc.Call` that a raised `RpcError` also has."""

    def code(self) -> "grpc.StatusCode": ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> "Iterable[tuple[str, str | bytes]] | None": ...


@dataclass(frozen=True, slots=True)
class ClientError:
    """One failed call: the code's name, then what the service said, if it was the service.

    `reason` and `domain` are empty when no service answered. `details` holds every detail message
    except `ErrorInfo` and `BadRequest`, which are already read into the other fields.
    """

    code: str
    reason: str
    domain: str
    message: str
    violations: tuple[tuple[str, str], ...]
    details: tuple[AnyMessage, ...]

    def unpack(self, message_type: type[M]) -> M | None:
        """Return the first detail of this type, or None."""
        for detail in self.details:
            message = message_type()
            try:
                if detail.Unpack(message):
                    return message
            except DecodeError:
                continue
        return None


def decode_rpc_error(error: "grpc.RpcError") -> ClientError:
    """Read the status, reason, violations and details of a failed call.

    A details trailer that does not parse, or that contradicts the call's own code, is ignored:
    then only the code and the message are told.
    """
    call = cast("_Call", error)
    code = call.code()
    message = call.details() or ""
    status = _status_of(call)
    if status is None and (code.name, message) == ("RESOURCE_EXHAUSTED", _LIBRARY_REFUSAL):
        return ClientError(code.name, "OVERLOADED", "", _NO_ROOM, (), ())
    if status is None or status.code != code.value[0]:
        return ClientError(code.name, "", "", message, (), ())
    reason = domain = ""
    violations: list[tuple[str, str]] = []
    others: list[AnyMessage] = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        try:
            if detail.Unpack(info):
                reason, domain = info.reason, info.domain
            elif detail.Unpack(bad_request):
                violations += [(v.field, v.description) for v in bad_request.field_violations]
            else:
                others.append(detail)
        except DecodeError:
            others.append(detail)
    return ClientError(code.name, reason, domain, status.message, tuple(violations), tuple(others))


def _status_of(call: _Call) -> status_pb2.Status | None:
    """Return the status in the trailing metadata, or None when absent or unreadable."""
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
