"""What Stage-4 says happened, and the port of the log that keeps it.

Four types of events tell the life of a plan here; records of another kind tell what concerns the
service and not a plan. Events hold digests, counts and identifiers. Deliberately absent:
parameters, results, `token_hash`, free text, and a journal that may be switched off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from json.encoder import encode_basestring
from typing import Any, Final, Protocol

from servicekit.ijson import JsonValue
from stage4_service.errors import Effects, Reason
from stage4_service.frozen_json import freeze

EVENT_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EventType(StrEnum):
    """The closed list of what can happen to a plan at Stage-4."""

    PLAN_RECEIVED = "plan_received"
    EXECUTION_STARTED = "execution_started"
    EXECUTION_COMPLETED = "execution_completed"
    EXECUTION_FAILED = "execution_failed"


class SecurityRecordType(StrEnum):
    """The closed list of what concerns the service and not one plan."""

    CALLER_REFUSED = "caller_refused"
    DENIALS_SUPPRESSED = "denials_suppressed"
    KEY_ROTATED = "key_rotated"
    RECOVERY_COMPLETED = "recovery_completed"
    STORE_RESTORED = "store_restored"


class PlanState(StrEnum):
    """What became of a submission."""

    REFUSED = "refused"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"


# An earlier submission in one of these states may have consumed its request identifier at Stage-3,
# so a later one with the same identifier is taken for a replay until Stage-3 says otherwise.
MAY_HAVE_BEEN_ADMITTED: Final = (
    PlanState.RUNNING,
    PlanState.COMPLETED,
    PlanState.FAILED,
    PlanState.UNKNOWN,
)


@dataclass(frozen=True, slots=True)
class Stage4AuditEvent:
    """One durable entry of the log; `timestamp` is aware, `details` cannot be changed."""

    timestamp: datetime
    user_id: str
    event_type: EventType
    plan_id: str
    details: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.timestamp.tzinfo is None:
            raise ValueError("timestamp must be aware")
        object.__setattr__(self, "details", freeze(dict(self.details)))


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is not in the log yet; the journal says when it happened."""

    event_type: EventType
    user_id: str
    plan_id: str
    details: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class SecurityRecord:
    """A record that concerns the service; `caller` is a verified identity or empty."""

    record_type: SecurityRecordType
    caller: str
    details: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class PlanOpened:
    """A submission enters the journal's table of plans, in state running."""

    plan_id: str
    request_id: str
    caller: str
    user_id: str
    plan_digest: bytes
    steps: int


@dataclass(frozen=True, slots=True)
class ResultScope:
    """Whose result it is, and of which plan: a stored result is told of nothing else."""

    caller: str
    user_id: str
    request_id: str
    plan_digest: bytes


@dataclass(frozen=True, slots=True)
class PlanEnded:
    """The outcome of a submission: of one that is running, or of the one opened beside it.

    `scope` is set where there is a result to keep.
    """

    plan_id: str
    state: PlanState
    reason: Reason | None = None
    message: str = ""
    step: int | None = None
    effects: Effects | None = None
    result_json: bytes = b""
    scope: ResultScope | None = None
    receipt: bytes = b""
    # The plan that Stage-3 executed under this request identifier; empty if it did not say.
    executed_plan_id: str = ""


class Stage4Journal(Protocol):
    """The log and the table of plans, kept together.

    Safe for concurrent use. Never retries.
    """

    def record(
        self,
        events: Sequence[NewEvent],
        *,
        opened: PlanOpened | None = None,
        ended: PlanEnded | None = None,
    ) -> tuple[Stage4AuditEvent, ...]:
        """Append `events` and change the table in one commit, durable when this returns.

        If an earlier submission of the same (caller, user_id, request_id) may have been admitted,
        the events of a newly opened one carry `replay: true`. An outcome that Stage-3 reported also
        becomes the outcome of earlier submissions of the same request whose answer was lost.

        Raises: JournalUnavailable, also when it is not known whether the commit took place.
        """
        ...

    def events(self) -> list[Stage4AuditEvent]:
        """Return a copy of the log of plans, oldest first."""
        ...


def event_time(time_us: int) -> datetime:
    """Return the aware instant of a count of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=time_us)


def spell_time(time_us: int) -> str:
    """Spell an instant as RFC 3339 with six decimals and Z."""
    # Not by strftime, which costs ten times as much and does not pad years.
    return event_time(time_us).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def marked_as_replay(event: NewEvent) -> NewEvent:
    """Return the event with `replay: true` beside what it says already."""
    return NewEvent(
        event.event_type, event.user_id, event.plan_id, {**event.details, "replay": True}
    )


def encode_event(event: NewEvent, *, seq: int, time_us: int) -> bytes:
    """Return the leaf of the event: RFC 8785 bytes, final for this `v`."""
    # The names are written here in the order that RFC 8785 puts them in, and every value but
    # `details` is a text or a small integer: only that one needs the general encoder.
    details = _canonical(dict(event.details)).decode()
    return (
        f'{{"details":{details},"event_type":"{event.event_type.value}",'
        f'"plan_id":{encode_basestring(event.plan_id)},"seq":{seq},'
        f'"timestamp":"{spell_time(time_us)}","user_id":{encode_basestring(event.user_id)},'
        f'"v":{EVENT_VERSION}}}'
    ).encode()


def encode_security_record(record: SecurityRecord, *, seq: int, time_us: int) -> bytes:
    """Return the leaf of a security record: RFC 8785 bytes, final for this `v`."""
    return _canonical(
        {
            "v": EVENT_VERSION,
            "seq": seq,
            "timestamp": spell_time(time_us),
            "record_type": record.record_type.value,
            "caller": record.caller,
            "details": dict(record.details),
        }
    )


def decode_event(leaf: bytes) -> Stage4AuditEvent:
    """Return the event that a leaf of this service's own log spells."""
    members = json.loads(leaf)
    return Stage4AuditEvent(
        datetime.fromisoformat(members["timestamp"]),
        members["user_id"],
        EventType(members["event_type"]),
        members["plan_id"],
        members["details"],
    )


def _canonical(members: dict[str, JsonValue]) -> bytes:
    # Imported here because `import stage4_service` loads the standard library only.
    from servicekit.canonical_json import canonicalize  # noqa: PLC0415 - see above

    return canonicalize(members)
