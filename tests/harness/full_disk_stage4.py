"""Run Stage-4 on a file system that is really full, in front of a Stage-3 that answers to order.

`tests.harness.full_disk.on_a_full_disk` runs it as a module. The answer that is awaited while the
disk fills is larger than what a store has allocated in advance.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from stagegate.stage4.v1.plan_service_pb2 import PlanState

from servicekit.store.errors import StoreError
from servicekit.store.ledger import verify_log
from stage4_service.metrics import halt_reasons
from stage4_service.settings import STORE_FILE
from tests.fakes.stage3_service import FakeStage3, completed, serving
from tests.fakes.trial_plans import trial_plan
from tests.harness.full_disk import fill, report_of
from tests.harness.stage4 import Stage4UnderTest, running_stage4

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 16_777_216
RESULT_BYTES = 6_291_456
PATIENCE_S = 60.0


@dataclass
class Report:
    """Say what plans, a refusal, reads, a restart and the log did on a full disk."""

    filled_bytes: int = 0
    in_flight: str = ""
    result_bytes: int = 0
    new_plan: str = ""
    new_plans_that_left: int | None = None
    refused_caller: str = ""
    halted_for: list[list[str]] = field(default_factory=list)
    read_bytes: int = 0
    restart: str = ""
    left_running: str = ""
    read_after_restart_bytes: int = 0
    after_restart: str = ""
    after_free: str = ""
    problem: str | None = None
    types: list[str] = field(default_factory=list)


class HeldStage3(FakeStage3):
    """A Stage-3 that holds each plan until its request is let go."""

    def __init__(self) -> None:
        """Hold plans from now on."""
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.let_go = {"first": threading.Event(), "second": threading.Event()}
        self.script = self._hold

    def _hold(self, request: Any, _context: grpc.ServicerContext) -> Any:
        self.entered.release()
        self.let_go[request.request_id].wait(PATIENCE_S)
        return completed(request, [{"text": "x" * RESULT_BYTES}])


def run(directory: Path, reserve_bytes: int) -> Report:
    """Fill the disk under a plan that runs, restart on the full disk, then free it."""
    report, fake = Report(), HeldStage3()
    settings: dict[str, Any] = {"disk_reserve_bytes": reserve_bytes}
    with serving(fake) as address, ThreadPoolExecutor(2) as callers:
        with running_stage4(directory, address, **settings) as stage4:
            first = callers.submit(stage4.execute, trial_plan(), request_id="first")
            fake.entered.acquire(timeout=PATIENCE_S)
            second = callers.submit(stage4.execute, trial_plan(), request_id="second")
            fake.entered.acquire(timeout=PATIENCE_S)
            report.filled_bytes = fill(directory)
            # Nothing was asked of the store since: it meets the full disk with this outcome.
            fake.let_go["first"].set()
            executed = first.result()
            report.in_flight = executed.reason or "completed"
            if executed.response is not None:
                report.result_bytes = len(executed.response.result_json)
                report.read_bytes = len(stage4.plan(executed.response.plan_id).result_json)
            report.halted_for.append(halted_for(stage4))
            received = len(fake.received)
            fake.script = None
            report.new_plan = stage4.execute(trial_plan()).reason or "completed"
            report.refused_caller = stage4.execute(trial_plan(), caller="stage4").reason
            # As if it were killed: the second plan is still out, and nothing is recorded any more.
            stage4.service.journal.close()
            fake.let_go["second"].set()
            second.result()
        try:
            with running_stage4(directory, address, create=False, **settings) as stage4:
                report.restart = "serving"
                report.halted_for.append(halted_for(stage4))
                _read_after_restart(stage4, report)
                report.after_restart = stage4.execute(trial_plan()).reason or "completed"
                report.new_plans_that_left = len(fake.received) - received
                (directory / "other.log").unlink()
                report.after_free = stage4.execute(trial_plan()).reason or "completed"
                report.types = [
                    str(event.get("event_type") or event.get("record_type"))
                    for event in stage4.events("reader")
                ]
        except StoreError as error:
            report.restart = f"{type(error).__name__}: {error}"
    report.problem = verify_log(directory / "stage4" / STORE_FILE).problem
    return report


def halted_for(stage4: Stage4UnderTest) -> list[str]:
    """Return why no plan may begin, as /metrics says it."""
    return sorted(halt_reasons(stage4.service.journal.ledger))


def _read_after_restart(stage4: Stage4UnderTest, report: Report) -> None:
    ended = {
        plan.request_id: plan
        for plan in stage4.service.journal.plans(caller=None, before=None, limit=10)
    }
    report.left_running = PlanState.Name(stage4.plan(ended["second"].plan_id).state)
    report.read_after_restart_bytes = len(stage4.plan(ended["first"].plan_id).result_json)


if __name__ == "__main__":
    report_of(run, RESERVE_BYTES)
