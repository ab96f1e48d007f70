"""What a plan is told once its domain has left as many calls hanging as it may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from stagegate.error.v1 import plan_outcome_pb2

from stage3_service.adapters.bounded_call import DEFAULT_MAX_ABANDONED
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from tests.harness.fixtures import Trial
    from tests.harness.stage3 import Stage3UnderTest

SCOPE = {"trial": ("stall", "effect")}


def test_a_step_for_a_domain_that_hangs_too_often_fails_without_an_effect(
    stage3: Stage3UnderTest, trial: Trial
) -> None:
    """One below the bound it is still called; at the bound the start is recorded and nobody called.

    Once the calls return, each is a LATE_OUTCOME, and the domain is called again.
    """
    token = stage3.issue(scope=SCOPE).token_hash
    effect, stall = step("trial", "effect"), step("trial", "stall")

    def stall_at_once(count: int) -> None:
        requests = [stage3.request(token, [stall]) for _ in range(count)]
        with ThreadPoolExecutor(count) as callers:
            assert {answer.kind for answer in callers.map(stage3.send, requests)} == {"in_doubt"}

    stage3.plans()
    stall_at_once(DEFAULT_MAX_ABANDONED - 1)
    assert stage3.run(token, effect).kind == "completed"
    stall_at_once(1)
    called = len(trial.domain.received)
    request = stage3.request(token, [effect])
    refused = stage3.send(request)
    assert (refused.kind, refused.reason) == ("failed", "DOMAIN_UNREACHABLE")
    assert refused.ended.effects == plan_outcome_pb2.EFFECTS_NONE
    assert stage3.trail(request.plan_id)[-2:] == [
        ("EXECUTION_STARTED", "started", 0),
        ("EXECUTION_COMPLETED", "failed", 0),
    ]
    assert len(trial.domain.received) == called

    trial.domain.release.set()
    while len(stage3.events(event_type="LATE_OUTCOME")) < DEFAULT_MAX_ABANDONED:
        pass
    while stage3.run(token, effect).reason == "DOMAIN_UNREACHABLE":
        pass  # the worker that recorded last has yet to say that it returned
    assert len(stage3.events(event_type="LATE_OUTCOME")) == DEFAULT_MAX_ABANDONED
