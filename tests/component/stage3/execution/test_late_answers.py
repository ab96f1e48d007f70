"""An answer that comes after its step was given up is recorded once, and changes nothing told."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from servicekit.invariant import InvariantBroken
from stage3_service.domains.port import MethodFailed, Output
from stage3_service.execution.late_answers import LateAnswers
from tests.fakes.domains import trial_domain
from tests.harness.stage3 import TIMEOUT_S, running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    from stage3_service.domains.port import Answer, Invocation
    from tests.harness.stage3 import Stage3UnderTest


def in_doubt(stage3: Stage3UnderTest) -> str:
    """Return the idempotency key of a step that was given up."""
    token = stage3.issue(scope={"trial": ("silent",)})
    request = stage3.request(token.token_hash, [step("trial", "silent")])
    assert stage3.send(request).kind == "in_doubt"
    return f"{request.plan_id}/0"


@pytest.mark.parametrize(
    ("answer", "status", "reason", "committed"),
    [
        (Output(b"{}"), "success", None, "output"),
        (Output(b"{not JSON"), "failed", "ANSWER_INVALID", "output"),
        (MethodFailed("no"), "failed", "DOMAIN_FAILED", "failure"),
    ],
)
def test_a_late_answer_is_recorded_as_it_came(
    stage3: Stage3UnderTest, answer: Answer, status: str, reason: str | None, committed: str
) -> None:
    """Its bytes are committed to, and the plan keeps its one terminal event."""
    key = in_doubt(stage3)

    LateAnswers(stage3.service._journal, os.urandom).deliver(key, answer)

    events = stage3.events(plan_id=key.removesuffix("/0"))
    (late,) = (event for event in events if event["event_type"] == "LATE_OUTCOME")
    assert (late["status"], late["step"], late["reason"]) == (status, 0, reason)
    assert set(late["additional_data"]) == {f"{committed}_bytes", f"{committed}_commitment"}
    assert sum("terminal" in event["additional_data"] for event in events) == 1


def test_an_answer_that_is_told_and_looked_for_at_once_is_recorded_once(
    stage3: Stage3UnderTest,
) -> None:
    """Whoever comes first takes it; the other finds nothing."""
    key = in_doubt(stage3)
    late = LateAnswers(stage3.service._journal, os.urandom)
    threads = [
        threading.Thread(target=late.deliver, args=(key, Output(b"{}"))),
        *(threading.Thread(target=late.record, args=(key,)) for _ in range(4)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    late.record(key)

    assert len(stage3.events(event_type="LATE_OUTCOME")) == 1


def test_an_answer_before_the_end_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not recorded while the step may still be recorded as something else."""
    extra, domain = trial_domain(max_duration_s=60.0)
    entered = threading.Event()

    def silent_in_the_end(invocation: Invocation) -> Answer:
        entered.set()
        domain.release.wait()
        return domain.silent(invocation)

    monkeypatch.setattr(domain, "invoke", silent_in_the_end)
    with running_stage3(tmp_path, extra_domains=[extra]) as stage3:
        token = stage3.issue(scope={"trial": ("hang",)})
        request = stage3.request(token.token_hash, [step("trial", "hang")])
        client = threading.Thread(target=stage3.send, args=(request,))
        client.start()
        assert entered.wait(TIMEOUT_S)
        late = LateAnswers(stage3.service._journal, os.urandom)

        late.deliver(f"{request.plan_id}/0", Output(b"{}"))

        assert stage3.events(event_type="LATE_OUTCOME") == []
        domain.release.set()
        client.join(TIMEOUT_S)
        late.record(f"{request.plan_id}/0")
        assert len(stage3.events(event_type="LATE_OUTCOME")) == 1


def test_an_answer_to_a_plan_that_was_never_admitted_is_a_contradiction(
    stage3: Stage3UnderTest,
) -> None:
    """No domain was ever given that key."""
    with pytest.raises(InvariantBroken):
        LateAnswers(stage3.service._journal, os.urandom).deliver("plan-x/0", Output(b"{}"))
