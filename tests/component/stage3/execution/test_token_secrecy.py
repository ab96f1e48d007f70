"""Whoever may not use a token cannot tell why: not by the answer, not by what it took to find."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from servicekit.store.turn import Turn
from tests.harness.pki import uri
from tests.harness.stage3 import Stage3UnderTest, step

if TYPE_CHECKING:
    import pytest

NEVER_ISSUED = "token_" + "A" * 43


def test_no_refused_token_takes_more_questions_than_another(
    stage3: Stage3UnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, revoked, another user's, another caller's: one answer, and one amount of work."""
    revoked = stage3.issue()
    stage3.revoke(revoked.token.token_id)
    credentials = {
        "unknown": NEVER_ISSUED,
        "revoked": revoked.token_hash,
        "another user's": stage3.issue(user_id="bob").token_hash,
        "another caller's": stage3.issue(client_identities=[uri("other")]).token_hash,
    }
    asked: Counter[str] = Counter()
    asking = ""
    for name in ("rows", "run"):
        original: Any = getattr(Turn, name)

        def counted(
            turn: Turn, sql: str, parameters: tuple[Any, ...] = (), original: Any = original
        ) -> Any:
            asked[asking] += 1
            return original(turn, sql, parameters)

        monkeypatch.setattr(Turn, name, counted)

    errors = set()
    for name, credential in credentials.items():
        asking = name
        answer = stage3.run(credential, step("text", "upper", text="a"))
        errors.add(str(answer.error))

    assert len(errors) == 1
    assert len(set(asked.values())) == 1, asked
