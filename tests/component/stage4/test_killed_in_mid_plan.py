"""Stage-4 dies between its two records; the client's own resubmission is the only way to learn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage4.v1 import plan_service_pb2 as pb
from stagegate.stage4.v1.plan_service_pb2_grpc import PlanServiceStub

from servicekit.clock import SystemClock
from stage4_service.bootstrap import init_store
from tests.fakes.stage3_service import FakeStage3, completed
from tests.fakes.trial_plans import trial_plan
from tests.harness.pki import pki
from tests.harness.stage4 import running_stage4, stage4_settings


@pytest.mark.slow
def test_a_killed_stage4_says_unknown_calls_nobody_and_learns_from_the_client(
    tmp_path: Path, stage3_address: str, fake: FakeStage3
) -> None:
    """Expect one unknown plan after the restart, no call of its own, a replay that teaches it."""
    settings = stage4_settings(tmp_path, stage3_address)
    init_store(settings, clock=SystemClock())
    settings_file = tmp_path / "stage4.json"
    settings_file.write_text(settings.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.harness.serve_stage4", str(settings_file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ".:protos/gen"},
    )
    assert process.stdout is not None
    address = json.loads(process.stdout.readline())["clients"]
    entered, release = threading.Event(), threading.Event()
    stored: list[Any] = []

    def hold(request: Any, _context: object) -> Any:
        stored.append(completed(request, [{"n": 1}]))
        entered.set()
        release.wait(20)
        return stored[0]

    fake.script = hold
    request = pb.ExecutePlanRequest(plan_json=json.dumps(trial_plan()).encode(), request_id="r")
    with pki().channel("cli", address, "stage4") as channel:
        call: Any = PlanServiceStub(channel).ExecutePlan.future(request, timeout=20)
        assert entered.wait(10)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with pytest.raises(grpc.RpcError):
            call.result()
    release.set()

    with running_stage4(tmp_path, stage3_address, create=False) as stage4:
        (lost,) = stage4.plans().ListPlans(pb.ListPlansRequest(), timeout=5).plans
        assert (lost.state, lost.reason) == (pb.PLAN_STATE_UNKNOWN, "OUTCOME_UNKNOWN")
        assert stage4.events()[-1]["details"]["recovered"] is True
        assert len(fake.received) == 1

        stored[0].replay = True
        fake.script = lambda _request, _context: stored[0]
        learned = stage4.execute(trial_plan(), request_id="r").completed
        assert learned.replay
        assert json.loads(learned.result_json)["results"][0]["output"] == {"n": 1}
        assert stage4.plan(lost.plan_id).state == pb.PLAN_STATE_COMPLETED
