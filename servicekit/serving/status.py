"""How a reason becomes a gRPC status: the mechanism, fed with one table per service.

Deliberately absent: the reasons of any service, and a fallback. A reason that is not in the table
is a defect and ends in the crash shield, not in a guessed code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)
from grpc_status import rpc_status  # type: ignore[import-untyped]  # ships no types

MESSAGE_MAX_BYTES: Final = 512
VIOLATIONS_MAX: Final = 4
PATH_MAX_BYTES: Final = 256
"""Bounds of one error. Trailing metadata over 8 KiB may be refused by a client, which would turn
a precise refusal into an unreadable one; percent-encoding and base64 are counted in."""

_NEVER_SENT: Final = frozenset({grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN})


@dataclass(frozen=True, slots=True)
class WireError:
    """One refusal or failure as a client may read it; `violations` are (path, description)."""

    reason: str
    message: str
    violations: tuple[tuple[str, str], ...] = ()
    details: tuple[Message, ...] = ()


def _cut(text: str, limit: int) -> str:
    """Shorten to `limit` UTF-8 bytes; a lone surrogate, which protobuf refuses, becomes `?`."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - 3].decode("utf-8", "ignore") + "..."


class StatusTable:
    """The closed map from reason to status code of one service."""

    __slots__ = ("_codes", "_domain")

    def __init__(self, domain: str, codes: Mapping[str, grpc.StatusCode]) -> None:
        """Keep the table; refuse OK and UNKNOWN, which no error may be."""
        for reason, code in codes.items():
            if code in _NEVER_SENT:
                message = f"reason {reason} maps to {code.name}, which no error may be sent as"
                raise ValueError(message)
        self._domain = domain
        self._codes = MappingProxyType(dict(codes))

    @property
    def codes(self) -> Mapping[str, grpc.StatusCode]:
        """Show the table, for the tests that compare it with the taxonomy."""
        return self._codes

    def status(self, error: WireError) -> status_pb2.Status:
        """Encode the error: `ErrorInfo`, then `BadRequest` if there are violations, then details.

        Raises:
            KeyError: the reason is not in the table.
        """
        status = status_pb2.Status(
            code=self._codes[error.reason].value[0],
            message=_cut(error.message, MESSAGE_MAX_BYTES),
        )
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(reason=error.reason, domain=self._domain)
        )
        if error.violations:
            bad_request = error_details_pb2.BadRequest()
            for path, description in error.violations[:VIOLATIONS_MAX]:
                bad_request.field_violations.add(
                    field=_cut(path, PATH_MAX_BYTES),
                    description=_cut(description, MESSAGE_MAX_BYTES),
                )
            status.details.add().Pack(bad_request)
        for detail in error.details:
            status.details.add().Pack(detail)
        return status

    def prepare(self, error: WireError) -> grpc.Status:
        """Return the error in the form that ends a call, for one that is the same each time.

        Raises:
            KeyError: the reason is not in the table.
        """
        prepared: grpc.Status = rpc_status.to_status(self.status(error))
        return prepared

    def abort(self, context: grpc.ServicerContext, error: WireError) -> NoReturn:
        """End the call with this error; never returns."""
        context.abort_with_status(self.prepare(error))
