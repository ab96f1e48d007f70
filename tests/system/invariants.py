"""What must be true of every log, whatever happened to the service that wrote it.

A log is followed event by event, so that asking after each of thousands of commits costs no more
than asking once. Deliberately absent: I8, I10 and I11, which need more than one log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_OF_A_STEP = ("EXECUTION_STARTED", "EXECUTION_COMPLETED")


@dataclass(slots=True)
class _Plan:
    """How far a plan is: the starts and completions of its steps, and whether it has ended."""

    marks: int = 0
    ended: bool = False

    def follow(self, event: dict[str, Any]) -> None:
        """Assert that this event of the plan may come next."""
        event_type = event["event_type"]
        # I5: at most one terminal event per plan; a plan that still runs has none.
        # I6: nothing but LATE_OUTCOME after it.
        terminal = event["additional_data"].get("terminal") is True
        assert not self.ended or (event_type == "LATE_OUTCOME" and not terminal), event
        self.ended = self.ended or terminal
        # I4 and I9: each step starts once, in order, after the one before it is completed.
        if event_type in _OF_A_STEP:
            assert (event_type, event["step"]) == (_OF_A_STEP[self.marks % 2], self.marks // 2), (
                event
            )
            self.marks += 1


class LogInvariants:
    """I1 to I7 and I9 over a log as it grows, and over what happened in the world meanwhile."""

    def __init__(self) -> None:
        self._size = 0
        self._started: set[str] = set()
        self._revoked: set[str] = set()
        self._plans: dict[str, _Plan] = {}

    def follow(self, events: Iterable[dict[str, Any]]) -> None:
        """Assert that these events may come next."""
        for event in events:
            # I7: the sequence has no gap.
            assert event["seq"] == self._size, event
            self._size += 1
            if event["event_type"] == "TOKEN_REVOKED":
                self._revoked.add(event["token_id"])
            if event["event_type"] == "EXECUTION_STARTED":
                # I3: no STARTED after REVOKED.
                assert event["token_id"] not in self._revoked, event
                self._started.add(f"{event['plan_id']}/{event['step']}")
            if event["plan_id"] is not None:
                self._plans.setdefault(event["plan_id"], _Plan()).follow(event)

    def verify_effects(self, effects: Sequence[str]) -> None:
        """Assert that the log followed so far allows all effects that ever happened.

        `effects` holds one idempotency key, `plan_id/step`, per effect.
        """
        # I1: at most one effect per (plan, step).
        happened = set(effects)
        assert len(happened) == len(effects), effects
        # I2: no effect without an earlier durable STARTED.
        assert happened <= self._started, happened - self._started


def verify_invariants(events: Iterable[dict[str, Any]], effects: Sequence[str]) -> None:
    """Assert I1 to I7 and I9 over a whole log and the effects that happened in the world."""
    invariants = LogInvariants()
    invariants.follow(events)
    invariants.verify_effects(effects)
