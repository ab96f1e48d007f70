"""Whoever may not use a token cannot tell why: not by the answer, not by what it took to find."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import apsw

from servicekit.store.turn import Turn
from stage3_service.settings import STORE_FILE
from tests.harness.pki import uri
from tests.harness.stage3 import Stage3UnderTest, running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.fakes.manual_clock import ManualClock

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


def test_a_tombstone_outlives_its_token(tmp_path: Path, clock: ManualClock) -> None:
    """A token whose row is gone is still revoked, and is still asked about that first."""
    with running_stage3(tmp_path, clock=clock) as stage3:
        token = stage3.issue()
        stage3.revoke(token.token.token_id)
    connection = apsw.Connection(str(tmp_path / "stage3" / STORE_FILE))
    connection.execute("DELETE FROM tokens")
    connection.close()

    with running_stage3(tmp_path, clock=clock, create=False) as stage3:
        request = stage3.request(token.token_hash, [step("text", "upper", text="a")])
        answer = stage3.send(request)

        assert answer.reason == "TOKEN_NOT_ACCEPTED"
        denied, _ = stage3.events(plan_id=request.plan_id)
        assert (denied["reason"], denied["token_id"]) == ("token_revoked", None)
