"""A plan as it arrives at Stage-3, and the answer it leaves with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stage3_service.audit.outcome import PlanOutcome
    from stage3_service.plan.parse import RawPlan

_IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_CALLER = re.compile(r"spiffe://[a-z0-9.-]{1,253}/client/[A-Za-z0-9._-]{1,128}", re.ASCII)
DIGEST_BYTES = 32


def is_identifier(text: str) -> bool:
    """Return whether `text` is 1 to 128 characters of `[A-Za-z0-9._-]`."""
    return _IDENTIFIER.fullmatch(text) is not None


def is_client(text: str) -> bool:
    """Return whether `text` names a client, `spiffe://<trust domain>/client/<name>`."""
    return _CALLER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Submission:
    """Hold one submission. `token_key` is the SHA-256 of the presented credential, never itself."""

    plan: RawPlan
    token_key: bytes = field(repr=False)
    plan_id: str
    request_id: str
    caller: str
    claimed_digest: bytes

    def first_violation(self) -> tuple[str, str] | None:
        """Return the first field that Stage-4 should not have sent, and what is wrong with it."""
        for path, text in (("plan_id", self.plan_id), ("request_id", self.request_id)):
            if not is_identifier(text):
                return path, "must be 1 to 128 characters of [A-Za-z0-9._-]"
        if not is_client(self.caller):
            return "caller", "must be spiffe://<trust domain>/client/<name>"
        if len(self.claimed_digest) != DIGEST_BYTES:
            return "plan_digest", f"must be {DIGEST_BYTES} bytes"
        return None


class Call(Protocol):
    """Show how the client's call stands while its plan is executed."""

    def time_left_s(self) -> float:
        """Return the seconds until the client stops waiting; negative once it has."""

    def cancelled(self) -> bool:
        """Return whether the client gave up or its connection is gone."""


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """Hold what is told about an admitted plan: the same for its first submission and a replay."""

    plan_id: str
    request_id: str
    replay: bool
    outcome: PlanOutcome
