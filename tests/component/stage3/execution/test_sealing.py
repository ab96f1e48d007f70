"""A defect after an effect seals the service: nobody is told less than what may have happened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.harness.stage3 import running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.fixtures import Trial

SCOPE = {"trial": ("effect", "hang", "garbage")}


@pytest.mark.parametrize("steps", [1, 2])
def test_an_outcome_that_cannot_even_be_drafted_seals_the_service(
    tmp_path: Path, trial: Trial, steps: int
) -> None:
    """OUTCOME_UNRECORDED, no further plan, and after a restart the step is in doubt."""
    with running_stage3(tmp_path, extra_domains=[trial.extra]) as stage3:
        token = stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [step("trial", "effect")] * steps)

        def entropy(size: int) -> bytes:
            if trial.domain.effects:
                raise OSError("the machine has no entropy")
            return os.urandom(size)

        stage3.service._executor._entropy = entropy
        answer = stage3.send(request)
        assert answer.error is not None
        assert (answer.error.code, answer.reason) == ("INTERNAL", "OUTCOME_UNRECORDED")
        assert "entropy" not in answer.error.message
        again = stage3.run(token.token_hash, step("trial", "effect"), plan_id="p", request_id="r")
        assert again.reason == "SERVICE_HALTED"
        assert trial.domain.effects == ["plan-1/0"]
    with running_stage3(tmp_path, extra_domains=[trial.extra], create=False) as restarted:
        assert restarted.service.recovered_plans == 1
        assert restarted.send(request).kind == "in_doubt"
