"""A disk that fails at any one operation of a plan, a revocation or a checkpoint.

The real Stage-3 meets the fault through its own SQLite, over a disk that counts its writes,
truncations and syncs; then it is started again on the disk as it was left.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servicekit.store.ledger import verify_log
from stage3_service.bootstrap import create_state
from stage3_service.settings import STORE_FILE
from tests.crash.store_scenario import EFFECT, REFUSED, Tokens, Told, play, serving
from tests.crash.store_scenario import SCOPE as TRIAL
from tests.fakes.faulty_disk import Fault, FaultyDisk
from tests.harness.stage3 import running_stage3, stage3_settings
from tests.system.invariants import verify_invariants

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = (
    (Fault.EIO, False),
    (Fault.EIO, True),
    (Fault.ENOSPC, True),
    (Fault.SHORT, False),
    (Fault.HANG, False),
)
HANG_TIMEOUT_S = 0.5
"""How long a commit may take where the disk hangs: little more than a healthy one takes."""
MOST_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tokens]:
    """Return a home with two tokens, to be copied for every point."""
    home = tmp_path_factory.mktemp("template")
    with running_stage3(home) as stage3:
        good, doomed = stage3.issue(scope=TRIAL), stage3.issue(scope=TRIAL)
    return home, Tokens(good.token_hash, doomed.token_hash, doomed.token.token_id)


@pytest.fixture(scope="module")
def operations(template: tuple[Path, Tokens], tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many operations the scenario has on a disk without a fault."""
    home, tokens = copy(template, tmp_path_factory.mktemp("dry") / "home")
    disk = FaultyDisk()
    told = Told()
    with serving(home, disk.name) as (service, stage3, _):
        disk.arm(None, Fault.EIO)
        play(service, stage3, tokens, told)
        count = len(disk.operations)
    assert told.revoked
    assert told.outcomes == {
        "plan-a": "completed",
        "plan-b": "completed",
        "plan-c": REFUSED,
        "plan-d": "failed",
    }
    return count


def copy(template: tuple[Path, Tokens], home: Path) -> tuple[Path, Tokens]:
    """Return a home of its own with the same state."""
    shutil.copytree(template[0], home)
    return home, template[1]


def run_point(
    template: tuple[Path, Tokens],
    home: Path,
    kind: tuple[Fault, bool],
    at: int,
    *,
    timeout_s: float = HANG_TIMEOUT_S,
) -> bool:
    """Fail at one operation, start again, and hold everything against what was told.

    Return whether the fault was met. `timeout_s` is how long a commit may take if the disk hangs.
    """
    fault, forever = kind
    home, tokens = copy(template, home)
    disk, told = FaultyDisk(), Told()
    timeout_s = timeout_s if fault is Fault.HANG else MOST_TIMEOUT_S
    with serving(home, disk.name, commit_timeout_s=timeout_s) as (service, stage3, domain):
        disk.arm(at, fault, forever=forever)
        play(service, stage3, tokens, told)
        disk.release.set()
        disk.armed = False
    met = disk.failed
    assert verify_log(home / "stage3" / STORE_FILE).problem is None  # I7
    with serving(home, None) as (_, again, fresh):
        events = again.events()
        verify_invariants(events, domain.effects)  # I1 to I6, I9
        # I8: what a client was told is what the log and a resubmission say.
        for plan_id, kind_told in told.outcomes.items():
            if kind_told in {"completed", "failed"}:
                terminal = [
                    event["event_type"]
                    for event in events
                    if event["plan_id"] == plan_id and event["additional_data"].get("terminal")
                ]
                assert terminal == ["EXECUTION_COMPLETED"], (plan_id, terminal)
                assert again.send(told.requests[plan_id]).kind == kind_told
        if told.revoked:
            assert "TOKEN_REVOKED" in {event["event_type"] for event in events}
            refused = again.run(tokens.doomed, EFFECT, plan_id="plan-e", request_id="request-e")
            assert refused.reason == "TOKEN_NOT_ACCEPTED"
        assert fresh.effects == []
    shutil.rmtree(home)
    return met


def sweep(
    template: tuple[Path, Tokens],
    tmp_path: Path,
    points: list[tuple[tuple[Fault, bool], int]],
    record_property: Callable[[str, object], None],
    operations: int,
) -> None:
    """Run these points, every one until its fault was met, and print how many there were."""
    for kind, at in points:
        home, timeout_s = tmp_path / f"{kind[0]}-{kind[1]}-{at}", HANG_TIMEOUT_S
        while not run_point(template, home, kind, at, timeout_s=timeout_s):
            # On a machine that stood still a healthy commit or call was overdue, and was given up
            # before the disk failed. What was to be looked at has not happened yet.
            timeout_s *= 4
            assert timeout_s < MOST_TIMEOUT_S, (kind, at)
    record_property(
        "figure",
        f"disk faults: met at {len(points)} of {operations * len(KINDS)} points "
        f"({operations} operations, {len(KINDS)} kinds): 0 violations, 0 told and lost",
    )


@pytest.mark.slow
def test_a_sample_of_faults_loses_nothing_that_was_told(
    template: tuple[Path, Tokens],
    operations: int,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each kind of fault at places spread over the whole sequence."""
    points = [
        (kind, at)
        for index, kind in enumerate(KINDS)
        for at in range(index * operations // 10, operations, max(1, operations // 2))
    ]
    sweep(template, tmp_path, points, record_property, operations)


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_tenth_of_all_faults_loses_nothing_that_was_told(
    template: tuple[Path, Tokens],
    operations: int,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Every tenth operation, another tenth for each kind."""
    points = [
        (kind, at) for index, kind in enumerate(KINDS) for at in range(2 * index, operations, 10)
    ]
    sweep(template, tmp_path, points, record_property, operations)


@pytest.mark.long
def test_every_fault_at_every_operation_loses_nothing_that_was_told(
    template: tuple[Path, Tokens],
    operations: int,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """All of them."""
    points = [(kind, at) for kind in KINDS for at in range(operations)]
    sweep(template, tmp_path, points, record_property, operations)


def test_control_a_store_that_tells_before_it_syncs_is_noticed(
    template: tuple[Path, Tokens], operations: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a writer that takes a failed commit for a good one tells what is not there."""

    def believe(self: object, error: BaseException, jobs: object = ()) -> None:
        self._connection_error = error  # type: ignore[attr-defined]
        self.tell(jobs)  # type: ignore[attr-defined]

    violations = 0
    monkeypatch.setattr("servicekit.store.queue.WorkQueue.fail", believe)
    for at in range(0, operations, max(1, operations // 6)):
        try:
            run_point(template, tmp_path / str(at), (Fault.EIO, True), at)
        except (AssertionError, KeyError):
            violations += 1
    assert violations > 0


def test_the_settings_of_the_template_are_those_of_the_points(tmp_path: Path) -> None:
    """A copied home is found where it is: nothing in it names its old place."""
    settings = stage3_settings(tmp_path)
    create_state(settings)
    for file in settings.state_dir.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
