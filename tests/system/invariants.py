"""What must be true of every log, whatever happened to the service that wrote it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def verify_invariants(events: Sequence[dict[str, Any]], effects: Sequence[str]) -> None:
    """Assert I1 to I7 and I9 over a whole log and the effects that happened in the world.

    `effects` holds one idempotency key, `plan_id/step`, per effect.
    """
    # I1: at most one effect per (plan, step).
    assert max(Counter(effects).values(), default=0) <= 1, effects
    started = [
        (event["plan_id"], event["step"])
        for event in events
        if event["event_type"] == "EXECUTION_STARTED"
    ]
    # I2: no effect without an earlier durable STARTED.
    assert set(effects) <= {f"{plan}/{step}" for plan, step in started}
    # I3: no STARTED after REVOKED.
    revoked: set[str] = set()
    for event in events:
        if event["event_type"] == "TOKEN_REVOKED":
            revoked.add(event["token_id"])
        assert event["event_type"] != "EXECUTION_STARTED" or event["token_id"] not in revoked
    # I4: one STARTED per (plan, step).
    assert max(Counter(started).values(), default=0) <= 1
    # I7: the sequence has no gap.
    assert [event["seq"] for event in events] == list(range(len(events)))
    for plan_id in {event["plan_id"] for event in events} - {None}:
        _verify_plan([event for event in events if event["plan_id"] == plan_id])


def _verify_plan(events: Sequence[dict[str, Any]]) -> None:
    ends = [
        index
        for index, event in enumerate(events)
        if event["additional_data"].get("terminal") is True
    ]
    # I5: at most one terminal event per plan; a plan that still runs has none.
    assert len(ends) <= 1, events
    # I6: nothing but LATE_OUTCOME after it.
    if ends:
        assert {event["event_type"] for event in events[ends[0] + 1 :]} <= {"LATE_OUTCOME"}
    # I9: steps in order, and none starts before the one before it is completed.
    marks = [
        (event["event_type"], event["step"])
        for event in events
        if event["event_type"] in {"EXECUTION_STARTED", "EXECUTION_COMPLETED"}
    ]
    expected = [
        (event_type, step)
        for step in range(len(marks))
        for event_type in ("EXECUTION_STARTED", "EXECUTION_COMPLETED")
    ]
    assert marks == expected[: len(marks)], marks
