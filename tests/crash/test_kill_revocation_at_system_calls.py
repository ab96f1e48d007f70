"""kill -9 of Stage-3 during a revocation: the token is revoked or it is not, never half.

Each point: a fresh store with one token, SIGKILL at a system call between the arrival of the
operator's request and the end of its answer, and a restart.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.crash.shapes import ONE_STEP, SCOPE
from tests.crash.stage3_bench import Stage3Bench
from tests.crash.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.forked import Ended, ForkServer
    from tests.crash.points import KillPoint
    from tests.crash.tally import Experiment
    from tests.crash.world import World


def revocation(server: ForkServer, world: World) -> Experiment:
    """Return what kills a revocation."""

    def experiment(directory: Path, point: KillPoint) -> tuple[Ended, Callable[[], str]]:
        bench = Stage3Bench(directory, server, world)
        bench.create()
        told = None
        with bench.running() as stage3:
            token = stage3.issue(scope=SCOPE)
            server.arm(point)
            try:
                told = stage3.revoke(token.token.token_id)
            except grpc.RpcError as lost:
                assert lost.code() is grpc.StatusCode.UNAVAILABLE, lost  # noqa: PT017 - grpc raises what has a code
            ended = server.kill()
        return ended, partial(judge, bench, token, told)

    def judge(bench: Stage3Bench, token: Any, told: Any) -> str:
        with bench.running(on_real_disk=True) as stage3:
            try:
                return judge_revocation(bench, stage3, token, told)
            finally:
                server.kill()

    return experiment


def judge_revocation(bench: Stage3Bench, stage3: Any, token: Any, told: Any) -> str:
    """Ask the log, a plan and a second revocation, which must agree; return whether it is revoked.

    That the start was not refused says that the tombstone's row agrees with the log.
    """
    events = stage3.events(event_type="TOKEN_REVOKED")
    assert len(events) in {0, 1}
    assert told is None or len(events) == 1, "told, and not in the log (I8)"
    answer = stage3.run(token.token_hash, *ONE_STEP.steps)
    if events:
        assert answer.reason == "TOKEN_NOT_ACCEPTED"
    else:
        assert answer.kind == "completed"
    assert bench.effects() == ([] if events else ["plan-1/0"])
    again = stage3.revoke(token.token.token_id)
    assert again.already_revoked is bool(events)
    assert told is None or again.token == told.token
    assert len(stage3.events(event_type="TOKEN_REVOKED")) == 1
    later = stage3.run(token.token_hash, *ONE_STEP.steps)
    assert later.reason == "TOKEN_NOT_ACCEPTED"
    return "revoked" if events else "not revoked"


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_revocation_is_there_or_not(
    server: ForkServer,
    world: World,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """Every system call of it: what was told holds, and what was not told is one or the other."""
    tally = Tally(tmp_path)
    tally.run_all(revocation(server, world))
    assert tally.violations == []
    assert set(tally.rows) == {"revoked", "not revoked"}
    record_property("figure", tally.figure("Stage-3, revoking"))


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_revocation_told_too_early_is_noticed(
    careless_server: ForkServer,
    world: World,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The control: on a disk that is one sync behind, a revoked token comes back to life."""
    tally = Tally(tmp_path)
    tally.run_all(revocation(careless_server, world), every=16)
    assert any("(I8)" in violation for violation in tally.violations)
    record_property("figure", tally.figure("control: revoking on a disk that is one sync behind"))
