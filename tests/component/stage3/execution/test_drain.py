"""Ending: a service that is told to stop answers what it can and blames no client."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stage3_service.bootstrap import build_stage3, create_state
from tests.fakes.domains import trial_domain
from tests.harness.pki import pki
from tests.harness.stage3 import (
    TIMEOUT_S,
    Answer,
    Stage3UnderTest,
    running_stage3,
    stage3_settings,
    step,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DRAIN_S = 2.0
"""Steps that run when it ends get as long again, which is never used up here."""


def test_a_plan_that_outlasts_the_drain_is_stopped_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is told what happened, and the log does not say that the client gave up."""
    extra, domain = trial_domain(max_duration_s=60.0)
    settings = stage3_settings(tmp_path)
    create_state(settings)
    service = build_stage3(settings, extra_domains=[extra])
    service.start()
    stage3 = Stage3UnderTest(service, pki())
    token = stage3.issue(scope={"trial": ("hang", "effect")})
    request = stage3.request(token.token_hash, [step("trial", "hang"), step("trial", "effect")])
    answers: list[Answer] = []
    client = threading.Thread(target=lambda: answers.append(stage3.send(request)))
    client.start()
    assert domain.entered.acquire(timeout=TIMEOUT_S)
    stop_starting = service._executor.stop_starting

    def end_of_the_drain() -> None:
        stop_starting()
        domain.release.set()

    # The step outlasts the drain however long either takes: it ends when nothing further starts.
    monkeypatch.setattr(service._executor, "stop_starting", end_of_the_drain)
    assert service.stop(DRAIN_S)

    client.join(TIMEOUT_S)
    stage3.close()
    (answer,) = answers
    assert (answer.kind, answer.reason) == ("aborted", "PLAN_HALTED")
    assert domain.effects == []
    with running_stage3(tmp_path, extra_domains=[extra], create=False) as restarted:
        last = restarted.events(plan_id=request.plan_id)[-1]
        assert (last["event_type"], last["step"], last["reason"]) == (
            "OPERATION_ABORTED",
            1,
            "PLAN_HALTED",
        )


def test_a_service_that_ends_admits_nothing(stage3: Stage3UnderTest) -> None:
    """A plan that arrives while steps are no longer started has no effect and no events."""
    token = stage3.issue()
    request = stage3.request(token.token_hash, [step("text", "upper", text="a")])
    stage3.service._executor.stop_starting()

    assert stage3.send(request).reason == "SERVICE_HALTED"
    assert stage3.events(plan_id=request.plan_id) == []
