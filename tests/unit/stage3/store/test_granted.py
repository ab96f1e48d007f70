"""What a row grants is read without making the token, and is what the token grants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stage3_service.execution.token_operations import issue_facts
from stage3_service.store.state_check import granted
from stage3_service.store.token_rows import TokenRows
from stage3_service.tokens.issue import IssuePolicy
from tests.unit.stage3 import grants

if TYPE_CHECKING:
    from servicekit.store.ledger import SqlValue
    from stage3_service.tokens.token import CapabilityToken

SALT = bytes(range(32))
KINDS: dict[str, dict[str, Any]] = {
    "an ordinary one": {},
    "a bearer": {"client_identities": (), "bearer": True},
    "every limit": {
        "max_invocations": 3,
        "max_frequency": "5 per 60 seconds",
        "max_response_bytes": 100,
        "max_total_response_bytes": 200,
    },
    "bound to a plan": {"plan_digest": grants.DIGEST, "max_invocations": 1},
    "triggers out of order": {"allowed_trigger_types": ("manual", "acknowledgment")},
    "one domain": {"domain_scope": ("text",), "method_scope": (("text", ("upper",)),)},
}


class _Turn:
    """Take what would be inserted."""

    def run(self, _sql: str, parameters: tuple[SqlValue, ...]) -> None:
        self.inserted = parameters


def document(token: CapabilityToken) -> bytes:
    """Return the document in the token's row."""
    turn = _Turn()
    TokenRows().insert(turn, token)  # type: ignore[arg-type]
    stored = turn.inserted[2]
    assert isinstance(stored, bytes)
    return stored


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_grants_what_its_token_grants(kind: str) -> None:
    """Member by member what TOKEN_ISSUED says of the token."""
    token = grants.token(policy=IssuePolicy(), **KINDS[kind])

    assert granted(document(token), token.token_key, SALT) == (
        token.user_id,
        issue_facts(token, SALT),
    )


@pytest.mark.parametrize("member", json.loads(document(grants.token())))
def test_no_member_of_a_row_is_overlooked(member: str) -> None:
    """A row in which it is another, or missing, grants something else, or is no token.

    `issued_us` alone is not said: it is the time of the entry itself.
    """
    token = grants.token()
    held = json.loads(document(token))
    lawful = granted(document(token), token.token_key, SALT)
    without = {name: value for name, value in held.items() if name != member}
    changed = {**held, member: [["other", ["x"]]]}

    for forged in (without, changed):
        answer = granted(json.dumps(forged).encode(), token.token_key, SALT)
        assert (answer == lawful) is (member == "issued_us")
