"""One audit event: its closed vocabulary and its bytes.

The bytes are final: they are the leaves of the log's Merkle tree, specified in `docs/spec/log.md`
and held by vectors. Deliberately absent: free text, secrets and anything derived from a credential
that was not accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring
from types import MappingProxyType
from typing import TYPE_CHECKING

from servicekit.canonical_json import canonicalize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from servicekit.ijson import JsonValue

EVENT_VERSION = 1


class EventType(StrEnum):
    """Name what happened. The list is closed and every member is emitted by a real path."""

    TOKEN_ISSUED = "TOKEN_ISSUED"
    TOKEN_FIRST_USED = "TOKEN_FIRST_USED"
    TOKEN_VALIDATION = "TOKEN_VALIDATION"
    AUTHORIZATION_SCOPE_CHECK = "AUTHORIZATION_SCOPE_CHECK"
    RESOURCE_LIMIT_CHECK = "RESOURCE_LIMIT_CHECK"
    DATA_BOUNDARY_CHECK = "DATA_BOUNDARY_CHECK"
    EXECUTION_STARTED = "EXECUTION_STARTED"
    EXECUTION_COMPLETED = "EXECUTION_COMPLETED"
    EXECUTION_DENIED = "EXECUTION_DENIED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    BOUNDARY_VIOLATION = "BOUNDARY_VIOLATION"
    OPERATION_ABORTED = "OPERATION_ABORTED"
    SERVICE_HALTED = "SERVICE_HALTED"
    SERVICE_RESUMED = "SERVICE_RESUMED"
    STORE_RESTORED = "STORE_RESTORED"
    LATE_OUTCOME = "LATE_OUTCOME"
    DENIALS_SUPPRESSED = "DENIALS_SUPPRESSED"
    KEY_ROTATED = "KEY_ROTATED"
    DOMAIN_ACCEPTED = "DOMAIN_ACCEPTED"
    DOMAINS_RELOADED = "DOMAINS_RELOADED"
    DOMAIN_UNCONFINED = "DOMAIN_UNCONFINED"


class Status(StrEnum):
    """Say how it went."""

    SUCCESS = "success"
    DENIED = "denied"
    FAILED = "failed"
    STARTED = "started"
    EXPIRED = "expired"
    ABORTED = "aborted"


_NO_DATA: Mapping[str, JsonValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Hold an event before the log has given it a position and a time.

    `salts` are pairs of a commitment's name and its 32-byte salt. They are stored beside the log,
    never in it, so that a committed value can be disclosed alone and erased without touching the
    tree. A denied event names its reason.
    """

    event_type: EventType
    status: Status
    user_id: str | None = None
    token_id: str | None = None
    plan_id: str | None = None
    step: int | None = None
    domain: str | None = None
    method: str | None = None
    reason: str | None = None
    additional_data: Mapping[str, JsonValue] = field(default_factory=lambda: _NO_DATA)
    salts: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse a denial without a reason: it could not be explained afterwards."""
        if self.status is Status.DENIED and not self.reason:
            message = f"a denied {self.event_type} needs a reason"
            raise ValueError(message)


def encode_event(event: NewEvent, seq: int, timestamp: str) -> bytes:
    """Return the RFC 8785 bytes of an event at position `seq`, recorded at `timestamp`.

    The names are written here in the order that RFC 8785 puts them in, and every value but
    `additional_data` is a text, a small integer or null: only that one needs the general encoder.

    Raises:
        ValueError: a text has a lone surrogate, or `additional_data` has no canonical form.
    """
    data = canonicalize(dict(event.additional_data)).decode() if event.additional_data else "{}"
    step = "null" if event.step is None else event.step
    return (
        f'{{"additional_data":{data},"domain":{_text(event.domain)},'
        f'"event_type":"{event.event_type}","method":{_text(event.method)},'
        f'"plan_id":{_text(event.plan_id)},"reason":{_text(event.reason)},"seq":{seq},'
        f'"status":"{event.status}","step":{step},"timestamp":"{timestamp}",'
        f'"token_id":{_text(event.token_id)},"user_id":{_text(event.user_id)},'
        f'"v":{EVENT_VERSION}}}'
    ).encode()


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def format_timestamp(instant: datetime) -> str:
    """Return RFC 3339 with microseconds and `Z`. The instant is aware and in UTC."""
    return instant.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
