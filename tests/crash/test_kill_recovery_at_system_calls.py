"""kill -9 of a service while it recovers from kill -9: the next start finds what that one found.

Each point: a service killed while a domain has a plan's first effect, its next start killed at a
system call between its birth and its first word, and a third start that is judged as the second
would have been.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from stage3_service.settings import STORE_FILE as STAGE3_STORE
from stage4_service.settings import STORE_FILE as STAGE4_STORE
from tests.crash.forked import Ended
from tests.crash.points import KillPoint
from tests.crash.shapes import LOST
from tests.crash.stage3_bench import Interrupted, Stage3Bench, interrupt_plan, judge_plan
from tests.crash.stage4_bench import (
    Below,
    Stage4Bench,
    Unanswered,
    interrupt_submission,
    judge_submission,
    running_below,
)
from tests.crash.tally import Tally
from tests.harness.slices import slice_of_long_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.crash.forked import ForkServer
    from tests.crash.tally import Experiment
    from tests.crash.world import World


AROUND_THE_COPY = [KillPoint(number, "write") for number in range(1, 17)]
"""Where a start has emptied the write-ahead log, and fills it with zeros."""


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Below]:
    """Run the Stage-3 that Stage-4 calls."""
    with running_below(tmp_path_factory.mktemp("below"), world) as running:
        yield running


def stage3_recovery(server: ForkServer, world: World) -> Experiment:
    """Return what kills Stage-3 while it closes a plan."""

    def experiment(directory: Path, point: KillPoint) -> tuple[Ended, Callable[[], str]]:
        bench = Stage3Bench(directory, server, world)
        left = interrupt_plan(bench, LOST, None, by_effect=True)
        return killed(bench, point), partial(judge, bench, left)

    def judge(bench: Stage3Bench, left: Interrupted) -> str:
        row = judge_plan(bench, left)
        assert row == "in doubt"
        return "closed by the last start" if bench.recovered_plans else "closed before the kill"

    return experiment


def stage4_recovery(server: ForkServer, below: Below) -> Experiment:
    """Return what kills Stage-4 while it closes a plan."""

    def experiment(directory: Path, point: KillPoint) -> tuple[Ended, Callable[[], str]]:
        bench = Stage4Bench(directory, server, below)
        left = interrupt_submission(bench, LOST, None, by_effect=True)
        return killed(bench, point), partial(judge, bench, left)

    def judge(bench: Stage4Bench, left: Unanswered) -> str:
        row = judge_submission(bench, left)
        assert row == "unknown"
        return row

    return experiment


def killed(bench: Stage3Bench | Stage4Bench, point: KillPoint) -> Ended:
    """Start a service and kill it at the point, or once it serves."""
    said = bench.start(point=point)
    return said if isinstance(said, Ended) else bench.server.kill()


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_recovery_of_stage3_that_is_killed_is_done_by_the_next_start(
    server: ForkServer,
    world: World,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The plan is closed once, as in doubt, whichever start got as far."""
    tally = Tally(tmp_path)
    tally.run_all(stage3_recovery(server, world), every=8)
    assert tally.violations == []
    assert set(tally.rows) == {"closed by the last start", "closed before the kill"}
    record_property("figure", tally.figure("Stage-3, recovering"))


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_recovery_of_stage4_that_is_killed_is_done_by_the_next_start(
    server: ForkServer,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The plan is closed once, as unknown, whichever start got as far."""
    tally = Tally(tmp_path)
    tally.run_all(stage4_recovery(server, below), every=8)
    assert tally.violations == []
    below.verify()
    record_property("figure", tally.figure("Stage-4, recovering"))


@pytest.mark.long
@pytest.mark.parametrize("service", ["Stage-3", "Stage-4"])
def test_every_call_of_a_recovery(
    server: ForkServer,
    world: World,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
    service: str,
) -> None:
    """Every system call between birth and first word; prints how many there were."""
    part = slice_of_long_run()
    tally = Tally(tmp_path)
    stage3 = service == "Stage-3"
    tally.run_all(
        stage3_recovery(server, world) if stage3 else stage4_recovery(server, below), part=part
    )
    assert tally.violations == []
    record_property("figure", part.label(tally.figure(f"{service}, recovering, every call")))


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("hasty_server", [STAGE3_STORE], indirect=True)
def test_a_log_that_is_dropped_before_it_is_copied_is_noticed(
    hasty_server: ForkServer,
    world: World,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The control: a start that empties the write-ahead log before the store holds it.

    The points are those between that and the next reading of the store.
    """
    tally = Tally(tmp_path)
    tally.run(stage3_recovery(hasty_server, world), AROUND_THE_COPY)
    assert tally.violations != []
    record_property("figure", tally.figure("control: Stage-3 recovering, its store a sync behind"))


@pytest.mark.ci
@pytest.mark.timeout(900)
@pytest.mark.parametrize("hasty_server", [STAGE4_STORE], indirect=True)
def test_a_log_that_stage4_drops_before_it_is_copied_is_noticed(
    hasty_server: ForkServer,
    below: Below,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """The same control: Stage-3 executed a plan that the log of Stage-4 does not know any more."""
    tally = Tally(tmp_path)
    tally.run(stage4_recovery(hasty_server, below), AROUND_THE_COPY)
    assert any("(I2)" in violation for violation in tally.violations)
    record_property("figure", tally.figure("control: Stage-4 recovering, its store a sync behind"))


class TestASample:
    """Two points of each service's start, on a disk as it should be and on the control's."""

    POINTS = AROUND_THE_COPY[::8]

    @pytest.mark.slow
    def test_no_plan_is_lost(
        self, server: ForkServer, world: World, below: Below, tmp_path: Path
    ) -> None:
        """Whichever write it was, the next start closes the plan."""
        tally = Tally(tmp_path)
        tally.run(stage3_recovery(server, world), self.POINTS)
        tally.run(stage4_recovery(server, below), self.POINTS)
        assert tally.violations == []

    @pytest.mark.slow
    @pytest.mark.parametrize("hasty_server", [STAGE3_STORE], indirect=True)
    def test_what_stage3_drops_is_noticed(
        self, hasty_server: ForkServer, world: World, tmp_path: Path
    ) -> None:
        """The control: at each point."""
        tally = Tally(tmp_path)
        tally.run(stage3_recovery(hasty_server, world), self.POINTS)
        assert len(tally.violations) == len(self.POINTS)

    @pytest.mark.slow
    @pytest.mark.parametrize("hasty_server", [STAGE4_STORE], indirect=True)
    def test_what_stage4_drops_is_noticed(
        self, hasty_server: ForkServer, below: Below, tmp_path: Path
    ) -> None:
        """The control: at each point."""
        tally = Tally(tmp_path)
        tally.run(stage4_recovery(hasty_server, below), self.POINTS)
        assert len(tally.violations) == len(self.POINTS)
