"""The power goes at any moment of Stage-4's whole life: a plan that left is known, an answer kept.

The trace is that of the real Stage-4 on its real store, in front of a Stage-3 that answers to
order. Each state is opened and recovered as a restart does it, and asked what became of each plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from servicekit.clock import SystemClock
from stage4_service.audit import PlanState
from stage4_service.bootstrap import results_of
from stage4_service.settings import STORE_FILE
from stage4_service.store.results import Results
from stage4_service.store.sqlite_journal import SqliteJournal
from tests.crash.power_cuts import (
    ALL,
    FEW,
    MANY,
    SAMPLE,
    Count,
    Promise,
    Recorded,
    judge,
    recorded,
)
from tests.fakes.faulty_disk import FaultyDisk
from tests.fakes.stage3_service import FakeStage3, serving
from tests.fakes.trial_plans import trial_plan, trial_step
from tests.harness.slices import WHOLE, Slice, slice_of_long_run
from tests.harness.stage4 import Stage4UnderTest, running_stage4, stage4_settings

LOST_ANSWER = "OUTCOME_UNKNOWN"
TWO_STEPS = trial_plan(trial_step(word="one"), trial_step(word="two"))


class Scenario:
    """Every kind of commit that Stage-4 makes while it serves, and what each one promises."""

    def __init__(self, stage4: Stage4UnderTest, fake: FakeStage3, disk: FaultyDisk) -> None:
        """Submit to `stage4`, whose store is on `disk`, and look on at `fake`."""
        self._stage4 = stage4
        self._fake = fake
        self._disk = disk
        self._promises: list[Promise] = []

    def play(self) -> list[Promise]:
        """Do all of it, and return what was promised."""
        told = [
            self._submit("a", TWO_STEPS),
            self._submit("b", trial_plan(trial_step(), trial_step("fail"))),
            self._submit("c", b"this is no plan"),
            self._submit("d", TWO_STEPS, loses_the_answer=True),
            # The same request again: its first submission learns the outcome, too.
            self._submit("d", TWO_STEPS),
        ]
        self._stage4.service.journal.ledger._writer._checkpoint()
        told += [
            self._submit("e", trial_plan(token_hash="of_nobody")),
            # A record about the service, of no plan.
            self._stage4.execute(TWO_STEPS, caller="stage4").reason,
            self._submit("a", TWO_STEPS),
        ]
        assert told == [
            "",
            "DOMAIN_FAILED",
            "PLAN_INVALID",
            LOST_ANSWER,
            "",
            "TOKEN_NOT_ACCEPTED",
            "METHOD_NOT_PERMITTED",
            "",
        ]
        return self._promises

    def _submit(self, request_id: str, document: Any, *, loses_the_answer: bool = False) -> str:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            # The plan has left the house: from here on no restart may not know of it.
            self._promise(request.plan_id, None)
            response = self._fake._execute(request, context)
            if loses_the_answer:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            return response

        self._fake.script = answer
        executed = self._stage4.execute(document, request_id=request_id)
        if executed.error is None:
            result = executed.completed.result_json.decode()
            self._promise(executed.completed.plan_id, result)
        else:
            # What is unknown may be learned by a later submission, and is then no longer unknown.
            reason = executed.reason
            fate = None if reason == LOST_ANSWER else reason
            self._promise(executed.outcome.plan_id, fate)
        return executed.reason

    def _promise(self, plan_id: str, fate: str | None) -> None:
        self._promises.append(Promise(len(self._disk.operations), plan_id, fate))


def record(home: Path, *, synchronous: str) -> Recorded:
    """Run the scenario once."""
    disk, fake = FaultyDisk(), FakeStage3()
    with serving(fake) as address, running_stage4(home, address, vfs=disk.name) as stage4:
        return recorded(
            disk,
            home / "stage4" / STORE_FILE,
            stage4.service.journal.ledger,
            Scenario(stage4, fake, disk).play,
            synchronous=synchronous,
        )


def restart(results: Results, store: Path) -> Mapping[str, str]:
    """Recover the store as a start does; return the result of each plan, or its reason."""
    journal = SqliteJournal.open(store, clock=SystemClock(), commit_timeout_s=20.0, results=results)
    try:
        fates = {}
        for listed in journal.plans(caller=None, before=None, limit=100):
            plan = journal.plan(listed.plan_id, caller=None, with_result=True)
            assert plan is not None
            assert plan.state is not PlanState.RUNNING
            fates[plan.plan_id] = plan.reason or plan.result_json.decode()
        return fates
    finally:
        journal.close()


def cut(
    home: Path,
    memory: Path,
    synchronous: str,
    *,
    subsets: int,
    every: int = 1,
    part: Slice = WHOLE,
) -> Count:
    """Run the scenario, cut the power in it, and recover."""
    trial = record(home, synchronous=synchronous)
    results = results_of(stage4_settings(home, ""))
    return judge(
        trial,
        memory,
        STORE_FILE,
        subsets=subsets,
        every=every,
        part=part,
        restart=partial(restart, results),
    )


def figure(count: Count, synchronous: str) -> str:
    """Say it in a line."""
    return f"{count.figure('Stage-4', synchronous)}, the fate of a plan in {count.forgotten}"


@pytest.mark.slow
def test_no_state_after_a_power_cut_lacks_what_was_told_or_has_left(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each recovers, verifies, and says of every plan what its client was told, or that it left."""
    count = cut(tmp_path, memory, "FULL", subsets=FEW, every=SAMPLE)
    record_property("figure", figure(count, "FULL"))
    assert count.distinct > 100
    assert (count.lost, count.forgotten) == (0, 0)


@pytest.mark.slow
def test_control_without_full_synchronous_plans_that_left_are_not_known(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """The control: with synchronous=NORMAL the same states lack entries, though each verifies."""
    count = cut(tmp_path, memory, "NORMAL", subsets=FEW, every=SAMPLE)
    record_property("figure", figure(count, "NORMAL"))
    assert count.lost > 0
    assert count.forgotten > 0


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_many_more_states_lack_nothing(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """At every operation, with sixteen further subsets of the unsynced writes."""
    count = cut(tmp_path, memory, "FULL", subsets=MANY)
    record_property("figure", figure(count, "FULL"))
    assert (count.lost, count.forgotten) == (0, 0)


@pytest.mark.long
def test_all_states_of_up_to_twelve_writes_lack_nothing(
    tmp_path: Path, memory: Path, record_property: Callable[[str, object], None]
) -> None:
    """All subsets of up to twelve unsynced writes, and 4,096 of more."""
    part = slice_of_long_run()
    count = cut(tmp_path, memory, "FULL", subsets=ALL, part=part)
    record_property("figure", part.label(figure(count, "FULL")))
    assert (count.lost, count.forgotten) == (0, 0)
