"""Gate 1: may this credential be used for this plan, by this caller, now?

Seven questions, always in the same order, the first failing one is the answer. Deliberately
absent: how the token was found, and any difference that a caller could see between a token that is
revoked, unknown, somebody else's or not for this caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stage3_service.authorization.gate import Denial, DenialReason
from stage3_service.tokens.credential import keys_match

if TYPE_CHECKING:
    from datetime import datetime

    from stage3_service.tokens.token import CapabilityToken


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """Hold what gate 1 needs to know, all of it as of one instant.

    `token` is what the store has under `presented_key`, `revoked` whether a tombstone exists under
    that key, also where the token does not. `caller` is the verified client. `ordinary_lifetime_s`
    is the longest life of a token that is not held to its plan's number of steps.
    """

    token: CapabilityToken | None
    presented_key: bytes = field(repr=False)
    revoked: bool
    user_id: str
    caller: str
    trigger_type: str
    plan_digest: bytes
    steps: int
    now: datetime
    ordinary_lifetime_s: int


def decide_token(facts: TokenFacts, *, step: int | None = None) -> Denial | None:
    """Ask gate 1, at admission (`step` is None) or again before a step."""
    reason = _first_reason(facts)
    return None if reason is None else Denial(reason, step)


def _first_reason(facts: TokenFacts) -> DenialReason | None:
    # 1. Revoked? First, because a tombstone outlives its token.
    if facts.revoked:
        return DenialReason.TOKEN_REVOKED
    # 2. Does it exist? A store that answers with another token's record has not found this one.
    token = facts.token
    if token is None or not keys_match(token.token_key, facts.presented_key):
        return DenialReason.TOKEN_UNKNOWN
    # 3. Is it this user's, and may this caller use it?
    if token.user_id != facts.user_id:
        return DenialReason.USER_MISMATCH
    if not token.bearer and facts.caller not in token.client_identities:
        return DenialReason.CALLER_MISMATCH
    # 4. Expired? At `expires_at` itself it is.
    if facts.now >= token.expires_at:
        return DenialReason.TOKEN_EXPIRED
    # 5. Is the trigger allowed?
    if facts.trigger_type not in token.allowed_trigger_types:
        return DenialReason.TRIGGER_NOT_ALLOWED
    # 6. Is it bound to another plan, or to another number of steps than its long life allows?
    if not _is_bound_to(token, facts):
        return DenialReason.PLAN_NOT_BOUND
    return None


def _is_bound_to(token: CapabilityToken, facts: TokenFacts) -> bool:
    if token.plan_digest is not None and not keys_match(token.plan_digest, facts.plan_digest):
        return False
    # A long life is the price of a single use: it buys exactly the steps of its plan, once.
    if token.lifetime_s <= facts.ordinary_lifetime_s:
        return True
    return token.plan_digest is not None and token.resource_limits.max_invocations == facts.steps
