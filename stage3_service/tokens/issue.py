"""Issuing a token: an operator's words, held to every rule, become a grant.

Only the operator listener calls this, with the name of the operator's certificate. Deliberately
absent: reissue, renewal, delegation, and a clock or a source of entropy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from stage3_service.tokens.credential import credential_key, encode_credential
from stage3_service.tokens.fields import check_client_identities
from stage3_service.tokens.frequency import parse_frequency
from stage3_service.tokens.method_scope import MethodScope
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.resource_limits import ResourceLimits
from stage3_service.tokens.token import CapabilityToken
from stage3_service.tokens.trigger_type import parse_trigger_types

TOKEN_ID_ENTROPY_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class IssuePolicy:
    """Bound the life of new tokens, in seconds, and name whose clients may use them.

    `max_bound_lifetime_s` holds for a token that is bound to one plan and to a number of
    invocations, which the token gate then holds equal to the plan's steps. `trust_domain` is the
    deployment's; None accepts client identities of any.
    """

    max_lifetime_s: int = 1_800
    max_bound_lifetime_s: int = 86_400
    trust_domain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRequest:
    """Hold what an operator asks for, as it arrived.

    `method_scope` is pairs, so that a domain named twice is seen and refused.
    """

    user_id: str
    capability: str
    domain_scope: tuple[str, ...]
    method_scope: tuple[tuple[str, tuple[str, ...]], ...]
    allowed_trigger_types: tuple[str, ...]
    lifetime_s: int
    max_invocations: int | None = None
    max_frequency: str | None = None
    max_response_bytes: int | None = None
    max_total_response_bytes: int | None = None
    client_identities: tuple[str, ...] = ()
    bearer: bool = False
    plan_digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """Hold a new token beside its credential, which leaves this value once and is kept nowhere."""

    token: CapabilityToken
    credential: str = field(repr=False)


def issue_token(
    request: IssueRequest,
    *,
    issued_by: str,
    now: datetime,
    credential_entropy: bytes,
    id_entropy: bytes,
    policy: IssuePolicy,
) -> IssuedToken:
    """Return the token an operator asked for, or refuse all of it.

    `issued_by` is the name in the operator's certificate, `now` an aware instant in UTC,
    `credential_entropy` 32 and `id_entropy` 16 bytes that nobody else has seen.

    Raises:
        IssueRefused: a field breaks its rule. The first one found is named.
        ValueError: the entropy has the wrong length.
    """
    if len(id_entropy) != TOKEN_ID_ENTROPY_BYTES:
        raise ValueError(f"a token's reference takes {TOKEN_ID_ENTROPY_BYTES} bytes of entropy")
    credential = encode_credential(credential_entropy)
    limits = _parse_limits(request)
    _check_lifetime(request, policy)
    check_client_identities(request.client_identities, trust_domain=policy.trust_domain)
    token = CapabilityToken(
        token_key=credential_key(credential),
        token_id=f"tok_{id_entropy.hex()}",
        user_id=request.user_id,
        capability=request.capability,
        domain_scope=tuple(request.domain_scope),
        method_scope=_parse_method_scope(request),
        resource_limits=limits,
        allowed_trigger_types=parse_trigger_types(request.allowed_trigger_types),
        issued_by=issued_by,
        issued_at=now,
        expires_at=now + timedelta(seconds=request.lifetime_s),
        client_identities=tuple(request.client_identities),
        bearer=request.bearer,
        plan_digest=request.plan_digest,
    )
    return IssuedToken(token, credential)


def _parse_limits(request: IssueRequest) -> ResourceLimits:
    frequency = request.max_frequency
    return ResourceLimits(
        max_invocations=request.max_invocations,
        max_frequency=None if frequency is None else parse_frequency(frequency),
        max_response_bytes=request.max_response_bytes,
        max_total_response_bytes=request.max_total_response_bytes,
    )


def _parse_method_scope(request: IssueRequest) -> MethodScope:
    try:
        return MethodScope(request.method_scope)
    except ValueError as error:
        raise IssueRefused("method_scope", str(error)) from None


def _check_lifetime(request: IssueRequest, policy: IssuePolicy) -> None:
    bound = request.plan_digest is not None and request.max_invocations is not None
    most = policy.max_bound_lifetime_s if bound else policy.max_lifetime_s
    # `True` is an int to Python and to nobody else.
    if type(request.lifetime_s) is not int or not 1 <= request.lifetime_s <= most:
        advice = "" if bound else "; bind it to a plan and its number of steps for longer"
        raise IssueRefused("lifetime_seconds", f"must be an integer from 1 to {most}{advice}")
