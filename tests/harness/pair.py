"""Both services together: a real client's bytes go in at Stage-4, effects come out of a domain.

`running_pair` runs them in this process, where a test can look into the domain and move Stage-3's
clock; `pair_of_processes` runs each as a process, to be killed, stopped and started again.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servicekit.clock import SystemClock
from tests.fakes.domains import trial_domain
from tests.fakes.manual_clock import ManualClock
from tests.harness.processes import Stage3Process, Stage4Process
from tests.harness.stage3 import Stage3UnderTest, running_stage3
from tests.harness.stage4 import Stage4UnderTest, running_stage4

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.fakes.domains import TrialDomain

USER = "ada"
SCOPE: Mapping[str, Sequence[str]] = {
    "text": ("upper", "lower", "concat", "sha256"),
    "notebook": ("append_note", "list_notes", "read_note"),
    "trial": (
        *("echo", "effect", "hang", "stall", "effect_then_hang", "slow", "fail", "raise_error"),
        *("unreachable", "silent", "garbage", "oversized", "huge_integer"),
    ),
}
TRAIL_OF_A_STEP = (
    "AUTHORIZATION_SCOPE_CHECK",
    "RESOURCE_LIMIT_CHECK",
    "DATA_BOUNDARY_CHECK",
    "EXECUTION_STARTED",
    "EXECUTION_COMPLETED",
)


def plan_document(token_hash: str, *steps: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a plan as a client writes it, with fields in place of its own."""
    return {
        "user_id": USER,
        "token_hash": token_hash,
        "trigger_type": "manual",
        "steps": [dict(step) for step in steps],
        **changes,
    }


@dataclass(slots=True)
class Pair:
    """Hold both services of this process, the trial domain, and Stage-3's clock."""

    stage3: Stage3UnderTest
    stage4: Stage4UnderTest
    trial: TrialDomain
    clock: ManualClock

    def token(self, **changes: Any) -> str:
        """Return the credential of a new token for `ada`, used by `cli`."""
        return self.stage3.issue(**{"scope": SCOPE, **changes}).token_hash

    def forget_calls(self) -> None:
        """Forget which calls have entered the domain: the next one is the one to wait for."""
        while self.trial.entered.acquire(blocking=False):
            pass

    def types(self, plan_id: str) -> list[str]:
        """Return the types of Stage-3's events of a plan, in order."""
        return [event["event_type"] for event in self.stage3.events(plan_id=plan_id)]

    def sizes(self) -> tuple[int, int]:
        """Return how many events Stage-3's and Stage-4's logs hold."""
        return self.stage3.service._ledger.head.size, self.stage4.service.journal.head.size


@contextmanager
def running_pair(
    directory: Path,
    *,
    stage3: Mapping[str, Any] | None = None,
    stage4: Mapping[str, Any] | None = None,
    max_duration_s: float = 5.0,
) -> Iterator[Pair]:
    """Run both services in this process. Stage-3's clock stands still until it is advanced."""
    extra, trial = trial_domain(max_duration_s=max_duration_s)
    clock = ManualClock(SystemClock().now_us())
    with ExitStack() as running:
        below = running.enter_context(
            running_stage3(directory, clock=clock, extra_domains=[extra], **(stage3 or {}))
        )
        above = running.enter_context(
            running_stage4(directory, below.service.plans.address, **(stage4 or {}))
        )
        # Whatever still hangs is let go before anybody waits for it.
        running.callback(trial.release.set)
        yield Pair(below, above, trial, clock)


@dataclass(slots=True)
class ProcessPair:
    """Hold both services as processes; each keeps its address over any number of restarts."""

    stage3_process: Stage3Process
    stage4_process: Stage4Process

    @property
    def stage3(self) -> Stage3UnderTest:
        """Return the Stage-3 that runs now."""
        return self.stage3_process.under_test

    @property
    def stage4(self) -> Stage4UnderTest:
        """Return the Stage-4 that runs now."""
        return self.stage4_process.under_test

    def effects(self) -> list[str]:
        """Return the idempotency key of every effect that happened in the world."""
        return self.stage3_process.effects()

    def stage3_started(self, step: int) -> bool:
        """Say whether the start of a step with this index is in Stage-3's log."""
        return any(
            event["step"] == step for event in self.stage3.events(event_type="EXECUTION_STARTED")
        )


@contextmanager
def pair_of_processes(
    directory: Path,
    *,
    stage3: Mapping[str, Any] | None = None,
    stage4: Mapping[str, Any] | None = None,
) -> Iterator[ProcessPair]:
    """Run both services as processes below `directory`, and end them in any case."""
    with ExitStack() as running:
        below = Stage3Process(directory, **(stage3 or {}))
        running.callback(below.end)
        below.start()
        above = Stage4Process(directory, below.addresses["plans"], **(stage4 or {}))
        running.callback(above.end)
        above.start()
        yield ProcessPair(below, above)


def as_bytes(document: Any) -> bytes:
    """Return a document as JSON."""
    return json.dumps(document).encode()
