"""How operators issue and revoke tokens. Stage-3 itself issues none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from servicekit.tlog.commitment import commitment
from stage3_service.audit.changes import TokenIssued, TokenRevoked
from stage3_service.audit.event import EventType, NewEvent, Status, format_timestamp
from stage3_service.audit.journal import Writes
from stage3_service.errors import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from servicekit.ijson import JsonValue
    from stage3_service.audit.journal import Journal, Snapshot
    from stage3_service.audit.records import PlanRecord, TokenRecord
    from stage3_service.tokens.issue import IssuedToken
    from stage3_service.tokens.token import CapabilityToken

CREDENTIAL_SALT = "credential"
"""Name of the salt of TOKEN_ISSUED's `credential_commitment`."""


def issue(journal: Journal, make: Callable[[datetime], IssuedToken], *, salt: bytes) -> IssuedToken:
    """Record the token that `make` returns for the log's own time, and return it.

    The gates judge its life by that time, which a wall clock that was set back does not show. The
    token is valid once this returns, and its credential is shown after that. `salt` is 32
    unpredictable bytes.

    Raises:
        Refusal: SERVICE_HALTED, the disk is nearly full; no token was issued.
        JournalUnavailable: the record could not be made durable; the token is not valid.
        Exception: whatever `make` raises; no token was issued.
    """
    return journal.record(partial(_issue, make=make, salt=salt), urgent=True).answer


def _issue(
    snapshot: Snapshot, make: Callable[[datetime], IssuedToken], salt: bytes
) -> Writes[IssuedToken]:
    if snapshot.disk_is_low:
        raise Refusal(
            Reason.SERVICE_HALTED,
            "the disk is nearly full, and what is left is for revocations and for steps under way",
        )
    issued = make(snapshot.now)
    token = issued.token
    event = NewEvent(
        EventType.TOKEN_ISSUED,
        Status.SUCCESS,
        user_id=token.user_id,
        token_id=token.token_id,
        additional_data=issue_facts(token, salt),
        salts=((CREDENTIAL_SALT, salt),),
    )
    return Writes(issued, (event,), (TokenIssued(token),))


def issue_facts(token: CapabilityToken, salt: bytes) -> dict[str, JsonValue]:
    """Return all that TOKEN_ISSUED says of a token, which is all that it grants.

    The credential's key enters as a commitment: whoever rewrites the token's row, to let another
    credential open it, has to find one for the same commitment.
    """
    limits = token.resource_limits
    return {
        "allowed_trigger_types": [str(trigger) for trigger in sorted(token.allowed_trigger_types)],
        "bearer": token.bearer,
        "capability": token.capability,
        "client_identities": list(token.client_identities),
        "credential_commitment": commitment(salt, token.token_key).hex(),
        "domain_scope": list(token.domain_scope),
        "expires_at": format_timestamp(token.expires_at),
        "issued_by": token.issued_by,
        "method_scope": {domain: list(methods) for domain, methods in token.method_scope.items()},
        "plan_digest": None if token.plan_digest is None else token.plan_digest.hex(),
        # Gate 3's own question: without it nobody could replay the gates over the log.
        "resource_limits": {
            "max_frequency": None if limits.max_frequency is None else str(limits.max_frequency),
            "max_invocations": limits.max_invocations,
            "max_response_bytes": limits.max_response_bytes,
            "max_total_response_bytes": limits.max_total_response_bytes,
        },
    }


@dataclass(frozen=True, slots=True)
class Revoked:
    """Answer a revocation: the token, and the steps whose effect may still happen."""

    record: TokenRecord
    already: bool
    in_flight: tuple[PlanRecord, ...]


def revoke(journal: Journal, token_id: str, *, revoked_by: str, reason: str) -> Revoked:
    """Revoke a token for good, ahead of every waiting plan. Idempotent: one append.

    No EXECUTION_STARTED of this token follows its TOKEN_REVOKED. An effect that had started does
    not stop; the answer names its step.

    Raises:
        Refusal: TOKEN_NOT_FOUND, no token has this reference.
        JournalUnavailable: the record could not be made durable.
    """
    work = partial(_revoke, token_id=token_id, revoked_by=revoked_by, reason=reason)
    return journal.record(work, urgent=True).answer


def _revoke(snapshot: Snapshot, token_id: str, revoked_by: str, reason: str) -> Writes[Revoked]:
    record = snapshot.token_by_id(token_id)
    if record is None:
        raise Refusal(
            Reason.TOKEN_NOT_FOUND,
            # Not repeated: who mistakes a credential for a reference must not find it in a log.
            "no token has this reference; list them with `stage3 token list`",
        )
    in_flight = tuple(snapshot.running_plans(token_id))
    if record.revoked_at is not None:
        return Writes(Revoked(record, already=True, in_flight=in_flight))
    token = record.token
    event = NewEvent(
        EventType.TOKEN_REVOKED,
        Status.SUCCESS,
        user_id=token.user_id,
        token_id=token_id,
        reason=reason,
        additional_data={
            "revoked_by": revoked_by,
            "steps_in_flight": [f"{plan.plan_id}/{plan.running_step}" for plan in in_flight],
        },
    )
    return Writes(
        Revoked(record, already=False, in_flight=in_flight),
        (event,),
        (TokenRevoked(token_id, token.token_key, snapshot.now),),
    )
