"""Run Stage-3 on a file system that is really full, in a process with mounts of its own.

`tests.harness.full_disk.on_a_full_disk` runs it as a module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stagegate.stage3.v1.operator_service_pb2 import GetStatusRequest, HaltRequest

from servicekit.store.errors import StoreError
from servicekit.store.ledger import verify_log
from stage3_service.adapters.builtin.notebook_file import NotebookRefused
from tests.fakes.domains import trial_domain
from tests.harness.full_disk import fill, report_of
from tests.harness.stage3 import TIMEOUT_S, Stage3UnderTest, running_stage3, step

if TYPE_CHECKING:
    from pathlib import Path

RESERVE_BYTES = 4_194_304
SCOPE = {"trial": ("echo", "hang", "effect_then_hang")}


@dataclass
class Report:
    """Say what a plan, a revocation, a restart and the log did on a full disk."""

    filled_bytes: int = 0
    in_flight: str = ""
    second_step: str = ""
    new_plan: str = ""
    issue: str = ""
    halted_for: list[str] = field(default_factory=list)
    revoked: bool = False
    halt_recorded: bool = False
    listed: int = 0
    restart: str = ""
    after_free: str = ""
    problem: str | None = None
    types: list[str] = field(default_factory=list)


def status(stage3: Stage3UnderTest) -> str:
    """Return for which reason no step may start."""
    answer = stage3.operator().GetStatus(GetStatusRequest(), timeout=TIMEOUT_S)
    return str(answer.halt_reason)


def refusal_of(stage3: Stage3UnderTest) -> str:
    """Return how issuing a token is answered."""
    import grpc

    from servicekit.serving.client_errors import decode_rpc_error

    try:
        stage3.issue(scope=SCOPE)
    except grpc.RpcError as error:
        return decode_rpc_error(error).reason
    return "issued"


def run(directory: Path, reserve_bytes: int) -> Report:
    """Fill the disk under a plan that runs, restart on the full disk, then free it."""
    report = Report()
    extra, domain = trial_domain(max_duration_s=60)
    store = directory / "stage3" / "stage3.sqlite3"
    settings: dict[str, Any] = {"extra_domains": [extra], "disk_reserve_bytes": reserve_bytes}
    with running_stage3(directory, **settings) as stage3:
        token, other = stage3.issue(scope=SCOPE), stage3.issue(scope=SCOPE)
        request = stage3.request(token.token_hash, [step("trial", "hang"), step("trial", "echo")])
        call = stage3.plans().ExecuteMultiDomainPlan.future(request, timeout=60)
        domain.entered.acquire(timeout=20)
        report.filled_bytes = fill(directory)
        # Nothing was asked of the store since: it meets the full disk with the end of this step.
        domain.release.set()
        answer = call.result()
        report.in_flight = str(answer.WhichOneof("outcome"))
        report.second_step = str(answer.aborted.reason) if report.in_flight == "aborted" else ""
        report.halted_for.append(status(stage3))
        report.new_plan = stage3.run(token.token_hash, step("trial", "echo")).reason
        report.issue = refusal_of(stage3)
        stage3.revoke(other.token.token_id)
        report.revoked = True
        stage3.operator().Halt(HaltRequest(reason="disk full"), timeout=TIMEOUT_S)
        report.halt_recorded = True
        report.listed = len(stage3.events())
        report.types = [event["event_type"] for event in stage3.events()]
    try:
        with running_stage3(directory, create=False, **settings) as stage3:
            report.restart = status(stage3)
            stage3.revoke(token.token.token_id)
            (directory / "other.log").unlink()
            stage3.operator().Resume(_resume(), timeout=TIMEOUT_S)
            fresh = stage3.issue(scope=SCOPE)
            report.after_free = stage3.run(
                fresh.token_hash, step("trial", "echo"), plan_id="p", request_id="r"
            ).kind
            report.types = [event["event_type"] for event in stage3.events()]
    except (StoreError, NotebookRefused) as error:
        report.restart = f"{type(error).__name__}: {error}"
    report.problem = verify_log(store).problem
    return report


def _resume() -> Any:
    from stagegate.stage3.v1.operator_service_pb2 import ResumeRequest

    return ResumeRequest(reason="there is room again")


if __name__ == "__main__":
    report_of(run, RESERVE_BYTES)
