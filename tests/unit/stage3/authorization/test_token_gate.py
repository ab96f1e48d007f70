"""Gate 1 against the plainest possible reading of the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stage3_service.authorization.token_gate import TokenFacts, decide_token
from tests.unit.stage3.grants import CLIENT, DIGEST, NOW, OTHER_CLIENT, OTHER_DIGEST, facts, token

TOKENS = [
    token(),
    token(plan_digest=DIGEST),
    token(client_identities=(), bearer=True),
    token(client_identities=(CLIENT, OTHER_CLIENT), user_id="bob"),
    token(allowed_trigger_types=("scheduled",), lifetime_s=1),
    token(plan_digest=DIGEST, max_invocations=2, lifetime_s=86_400),
    token(plan_digest=DIGEST, max_invocations=3, lifetime_s=1_801),
]


def naive(facts: TokenFacts) -> str | None:
    """Ask the contract's questions as a list of sentences."""
    granted: Any = facts.token
    known = granted is not None and granted.token_key == facts.presented_key
    life = (granted.expires_at - granted.issued_at).total_seconds() if known else 0
    sentences = [
        ("token_revoked", facts.revoked),
        ("token_unknown", not known),
        ("user_mismatch", known and granted.user_id != facts.user_id),
        (
            "caller_mismatch",
            known and not granted.bearer and facts.caller not in list(granted.client_identities),
        ),
        ("token_expired", known and not facts.now < granted.expires_at),
        (
            "trigger_not_allowed",
            known and facts.trigger_type not in [str(t) for t in granted.allowed_trigger_types],
        ),
        (
            "plan_not_bound",
            known and granted.plan_digest is not None and granted.plan_digest != facts.plan_digest,
        ),
        (
            "plan_not_bound",
            known
            and life > facts.ordinary_lifetime_s
            and (
                granted.plan_digest is None
                or granted.resource_limits.max_invocations != facts.steps
            ),
        ),
    ]
    return next((reason for reason, fails in sentences if fails), None)


@given(
    granted=st.sampled_from([*TOKENS, None]),
    key=st.sampled_from([TOKENS[0].token_key, bytes(32)]),
    revoked=st.booleans(),
    user_id=st.sampled_from(["alice", "bob"]),
    caller=st.sampled_from([CLIENT, OTHER_CLIENT, ""]),
    trigger_type=st.sampled_from(["manual", "scheduled", "cron"]),
    plan_digest=st.sampled_from([DIGEST, OTHER_DIGEST]),
    steps=st.integers(1, 3),
    elapsed_us=st.sampled_from([0, 999_999, 1_000_000, 599_999_999, 600_000_000, 10**12]),
    ordinary_lifetime_s=st.sampled_from([1_800, 599, 600]),
)
def test_every_combination_is_decided_as_the_contract_reads(
    granted: Any, key: bytes, elapsed_us: int, **changes: Any
) -> None:
    """The precise reason is the first sentence that holds."""
    asked = replace(
        facts(TOKENS[0], **changes),
        token=granted,
        presented_key=key,
        now=NOW + timedelta(microseconds=elapsed_us),
    )
    denial = decide_token(asked)
    assert (None if denial is None else denial.reason.value) == naive(asked)


def test_a_passing_token_is_no_denial() -> None:
    """The control: without it every test above could pass on a gate that is always shut."""
    assert decide_token(facts()) is None
    assert decide_token(facts(), step=1) is None
