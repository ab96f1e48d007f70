"""kill -9 of Stage-4 at the system calls of a plan.

Each point: a fresh store, one plan from a real client, SIGKILL at the entry of one system call
between the arrival of the request and the end of its answer, a restart, and the client's own
resubmission. Stage-3 is never killed. The control is the same sweep on a disk that says "synced"
one commit too early.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.crash.points import AFTER_THE_ANSWER
from tests.crash.shapes import BOUND, OTHERS, SHAPES, Shape
from tests.crash.stage4_bench import (
    Below,
    Stage4Bench,
    interrupt_submission,
    judge_submission,
    running_below,
)
from tests.crash.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.crash.forked import Ended, ForkServer
    from tests.crash.points import KillPoint
    from tests.crash.tally import Experiment
    from tests.crash.world import World

ROWS = {"nothing recorded", "unknown", "ended"}


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Below]:
    """Run the Stage-3 of all sweeps, and hold it to the invariants after each."""
    with running_below(tmp_path_factory.mktemp("below"), world) as running:
        yield running


def plan_experiment(server: ForkServer, below: Below, shape: Shape) -> Experiment:
    """Return what kills a plan of this shape."""

    def experiment(directory: Path, point: KillPoint) -> tuple[Ended, Callable[[], str]]:
        bench = Stage4Bench(directory, server, below)
        left = interrupt_submission(bench, shape, point)
        return left.ended, partial(judge_submission, bench, left)

    return experiment


@pytest.mark.slow
def test_a_sample_of_points(
    server: ForkServer, below: Below, tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    """One in sixteen: each thing that a restart may find is found, and none is contradicted."""
    tally = Tally(tmp_path)
    tally.run_all(plan_experiment(server, below, BOUND), every=16)
    assert tally.violations == []
    below.verify()
    assert set(tally.rows) == ROWS
    record_property("figure", tally.figure("Stage-4, a sample"))


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_call_of_one_plan_and_some_of_the_others(
    server: ForkServer,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
    shape: Shape,
) -> None:
    """Every system call of the plan with bindings, one in eight of the other shapes."""
    tally = Tally(tmp_path)
    tally.run_all(plan_experiment(server, below, shape), every=1 if shape is BOUND else 8)
    assert tally.violations == []
    below.verify()
    assert set(tally.rows) == ROWS
    assert shape is not BOUND or len(tally.points) >= 80
    record_property("figure", tally.figure(f"Stage-4, {shape.name}"))


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_call_of_every_plan(
    server: ForkServer,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
    shape: Shape,
) -> None:
    """Every system call, whatever the shape; prints how many there were."""
    tally = Tally(tmp_path)
    tally.run_all(plan_experiment(server, below, shape))
    assert tally.violations == []
    below.verify()
    assert set(tally.rows) == ROWS
    record_property("figure", tally.figure(f"Stage-4, {shape.name}, every call"))


@pytest.mark.slow
def test_a_sync_that_comes_too_late_is_noticed(
    careless_server: ForkServer,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The control: plans that no log holds and Stage-3 executed, outcomes told and not kept."""
    tally = Tally(tmp_path)
    tally.run_all(plan_experiment(careless_server, below, BOUND), every=16)
    assert any("(I2)" in violation for violation in tally.violations)
    assert any("(I8)" in violation for violation in tally.violations)
    record_property("figure", tally.figure("control: Stage-4 on a disk that is one sync behind"))


@pytest.mark.slow
def test_an_outcome_of_any_shape_that_no_disk_holds_is_noticed(
    careless_server: ForkServer, below: Below, tmp_path: Path
) -> None:
    """The control of the other shapes, a sample: killed once it was told, each outcome is gone."""
    for shape in OTHERS:
        directory = tmp_path / shape.name
        directory.mkdir()
        tally = Tally(directory)
        tally.try_point(plan_experiment(careless_server, below, shape), AFTER_THE_ANSWER)
        assert ["(I8)" in violation for violation in tally.violations] == [True], shape.name


@pytest.mark.ci
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", OTHERS, ids=lambda shape: shape.name)
def test_a_sync_that_comes_too_late_is_noticed_in_the_other_plans(
    careless_server: ForkServer,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
    shape: Shape,
) -> None:
    """The same control for each of them, one call in twelve."""
    tally = Tally(tmp_path)
    tally.run_all(plan_experiment(careless_server, below, shape), every=12)
    assert any("(I2)" in violation for violation in tally.violations)
    assert any("(I8)" in violation for violation in tally.violations)
    record_property(
        "figure", tally.figure(f"control: Stage-4, {shape.name}, on a disk one sync behind")
    )
