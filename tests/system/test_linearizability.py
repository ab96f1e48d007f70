"""Histories of submit, revoke and get against the running pair could have happened one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import pytest
from stagegate.stage3.v1 import token_service_pb2
from stagegate.stage4.v1 import plan_service_pb2

from tests.harness.pair import Pair, plan_document, running_pair
from tests.harness.slices import slice_of_long_run
from tests.harness.stage3 import TIMEOUT_S, step
from tests.system.linearizability import Operation, first_wrong_key, is_linearizable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stagegate.stage3.v1.token_service_pb2_grpc import TokenServiceStub

CLIENTS, OPERATIONS, REQUESTS = 6, 12, 3
HISTORIES_FAST, HISTORIES_CI, HISTORIES_LONG = 10, 150, 20_000


class Pencil:
    """Write down what clients ask and hear. `stale` answers reads with what it read before."""

    def __init__(self, pair: Pair, *, stale: bool = False) -> None:
        self._pair = pair
        # Two of them, because one alone may not have as many calls in flight as there are clients.
        self._tokens = [pair.stage3.tokens(operator) for operator in ("oona", "revoker")]
        self._ticks = count(1)
        self._stale = stale
        self._read: dict[str, str] = {}

    def record(self, key: str, name: str, argument: str, ask: Callable[[], str]) -> Operation:
        """Ask, and return the operation."""
        began = next(self._ticks)
        answer = ask()
        return Operation(key, began, next(self._ticks), name, argument, answer)

    def submit(self, key: str, token_hash: str, request: str) -> tuple[Operation, str]:
        """Submit a plan of one step under a request; return its plan_id, if it completed."""
        plan_id = ""

        def ask() -> str:
            nonlocal plan_id
            answer = self._pair.stage4.execute(
                plan_document(token_hash, step("trial", "effect")), request_id=f"{key}.{request}"
            )
            if answer.response is not None:
                plan_id = answer.response.plan_id
                return answer.response.original_plan_id or plan_id
            refused = {"TOKEN_NOT_ACCEPTED": "refused", "REQUEST_IN_PROGRESS": "in progress"}
            return refused[answer.reason]

        return self.record(key, "submit", request, ask), plan_id

    def revoke(self, key: str, token_id: str, client: int = 0) -> Operation:
        """Revoke as this client's operator; the answer says whether it had been before."""

        def ask() -> str:
            request = token_service_pb2.RevokeTokenRequest(token_id=token_id, reason="a history")
            return str(
                self._operator(client).RevokeToken(request, timeout=TIMEOUT_S).already_revoked
            )

        return self.record(key, "revoke", "", ask)

    def get_token(self, key: str, token_id: str, client: int = 0) -> Operation:
        """Read as this client's operator whether the token is revoked."""

        def ask() -> str:
            request = token_service_pb2.GetTokenRequest(token_id=token_id)
            token = self._operator(client).GetToken(request, timeout=TIMEOUT_S).token
            revoked = str(token.HasField("revoke_time"))
            return self._read.setdefault(token_id, revoked) if self._stale else revoked

        return self.record(key, "get token", "", ask)

    def get_plan(self, key: str, request: str, plan_id: str) -> Operation:
        """Read what became of a plan whose completion was told."""

        def ask() -> str:
            state = self._pair.stage4.plan(plan_id).state
            return "completed" if state == plan_service_pb2.PLAN_STATE_COMPLETED else str(state)

        return self.record(key, "get plan", request, ask)

    def _operator(self, client: int) -> TokenServiceStub:
        return self._tokens[client % len(self._tokens)]


def history(pair: Pair, seed: int, *, stale: bool = False) -> list[Operation]:
    """Return what six clients, some of them operators, asked of one token at once."""
    pencil = Pencil(pair, stale=stale)
    issued = pair.stage3.issue(scope={"trial": ("effect",)})
    token_hash, token_id, key = issued.token_hash, issued.token.token_id, f"token-{seed}"
    completed: list[tuple[str, str]] = []

    def act(client: int) -> list[Operation]:
        choose = Random(seed * CLIENTS + client)  # noqa: S311 - a test's dice
        operations = []
        for number in range(OPERATIONS // CLIENTS):
            what = choose.choice(["submit", "submit", "submit", "get token", "get plan", "revoke"])
            if what == "revoke" and number:
                operations.append(pencil.revoke(key, token_id, client))
            elif what == "get plan" and completed:
                operations.append(pencil.get_plan(key, *choose.choice(completed)))
            elif what == "get token" or (stale and number == 0):
                operations.append(pencil.get_token(key, token_id, client))
            else:
                request = f"request-{choose.randrange(REQUESTS)}"
                operation, plan_id = pencil.submit(key, token_hash, request)
                operations.append(operation)
                if plan_id:
                    completed.append((request, plan_id))
        return operations

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = [operation for own in pool.map(act, range(CLIENTS)) for operation in own]
    # Whatever the dice did, the history ends with a revocation and a look at it.
    return [*done, pencil.revoke(key, token_id), pencil.get_token(key, token_id)]


def explain(pair: Pair, histories: int, seed: int = 0) -> int:
    """Assert that so many histories can be explained; return how many operations they had."""
    operations = 0
    for number in range(seed, seed + histories):
        done = history(pair, number)
        assert first_wrong_key(done) is None, sorted(done, key=lambda each: each.began)
        operations += len(done)
    effects = pair.trial.effects
    assert len(set(effects)) == len(effects)
    return operations


@pytest.mark.slow
def test_submit_revoke_and_get_are_linearizable(tmp_path: Path) -> None:
    """Whatever six callers at once were answered, some order of the calls explains."""
    with running_pair(tmp_path) as pair:
        explain(pair, HISTORIES_FAST)


@pytest.mark.ci
@pytest.mark.timeout(600)
def test_submit_revoke_and_get_are_linearizable_for_minutes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same, with more histories."""
    with running_pair(tmp_path) as pair:
        operations = explain(pair, HISTORIES_CI, seed=1_000)
    record_property(
        "figure", f"linearizability: {HISTORIES_CI} histories, {operations} operations, 0 wrong"
    )


@pytest.mark.long
def test_submit_revoke_and_get_are_linearizable_for_long(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same for hours."""
    part = slice_of_long_run()
    histories = part.cases(HISTORIES_LONG)
    with running_pair(tmp_path) as pair:
        operations = explain(pair, len(histories), seed=1_000_000 + histories.start)
    figure = f"linearizability: {len(histories):,} histories, {operations:,} operations, 0 wrong"
    record_property("figure", part.label(figure))


@pytest.mark.slow
def test_stale_reads_are_found(tmp_path: Path) -> None:
    """The control: a reader that answers what it read before is not linearizable."""
    with running_pair(tmp_path) as pair:
        assert any(
            first_wrong_key(history(pair, seed, stale=True)) is not None
            for seed in range(HISTORIES_FAST)
        )


def op(began: int, ended: int, name: str, argument: str = "", answer: str = "") -> Operation:
    """Return an operation of the one key of these histories."""
    return Operation("token", began, ended, name, argument, answer)


@pytest.mark.parametrize(
    "told",
    [
        [op(1, 2, "revoke", answer="False"), op(3, 4, "submit", "r", "plan-1")],
        [op(1, 2, "revoke", answer="False"), op(3, 4, "get token", answer="False")],
        [op(1, 2, "revoke", answer="False"), op(3, 4, "revoke", answer="False")],
        [op(1, 4, "submit", "r", "plan-1"), op(2, 3, "submit", "r", "plan-2")],
        [op(1, 2, "submit", "r", "refused"), op(3, 4, "revoke", answer="False")],
        [op(1, 2, "submit", "r", "in progress"), op(3, 4, "submit", "r", "plan-1")],
        [op(1, 2, "submit", "r", "plan-1"), op(3, 4, "get plan", "r", "2")],
        [
            op(1, 6, "revoke", answer="False"),
            op(2, 3, "get token", answer="True"),
            op(4, 5, "get token", answer="False"),
        ],
    ],
    ids=[
        "a start after the revocation",
        "a stale read",
        "two first revocations",
        "one request, two plans",
        "refused before it was revoked",
        "in progress before it began",
        "a completed plan that is not",
        "revoked and then not",
    ],
)
def test_what_no_order_explains_is_found(told: list[Operation]) -> None:
    """The control of the checker: histories that are wrong, each in its own way."""
    assert not is_linearizable(told)


@pytest.mark.parametrize(
    "told",
    [
        [op(1, 3, "revoke", answer="False"), op(2, 4, "submit", "r", "plan-1")],
        [op(1, 4, "submit", "r", "plan-1"), op(2, 3, "submit", "r", "in progress")],
        [
            op(1, 2, "submit", "r", "plan-1"),
            op(3, 4, "revoke", answer="False"),
            op(5, 6, "submit", "r", "plan-1"),
            op(7, 8, "submit", "s", "refused"),
        ],
    ],
    ids=["a start that the revocation overlaps", "asked again while it runs", "a replay"],
)
def test_what_some_order_explains_passes(told: list[Operation]) -> None:
    """The checker refuses nothing that could have been."""
    assert is_linearizable(told)
