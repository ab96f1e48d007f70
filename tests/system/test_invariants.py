"""The control of all that is held to the invariants: a log that breaks one is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.invariants import LogInvariants, verify_invariants


def log(*events: tuple[str, str | None, int | None]) -> list[dict[str, Any]]:
    """Return a log of one token: type, plan and step of each event; the last of a plan says so."""
    return [
        {
            "seq": seq,
            "event_type": event_type.removesuffix("."),
            "token_id": "token",
            "plan_id": plan_id,
            "step": step,
            "additional_data": {"terminal": True} if event_type.endswith(".") else {},
        }
        for seq, (event_type, plan_id, step) in enumerate(events)
    ]


STARTED, COMPLETED = "EXECUTION_STARTED", "EXECUTION_COMPLETED"
FIRST, FIRST_DONE = (STARTED, "a", 0), (COMPLETED, "a", 0)
LAWFUL = log(
    ("TOKEN_ISSUED", None, None),
    ("TOKEN_VALIDATION", "a", None),
    FIRST,
    (STARTED, "b", 0),
    FIRST_DONE,
    (STARTED, "a", 1),
    ("OPERATION_ABORTED.", "b", 0),
    ("TOKEN_REVOKED", None, None),
    ("LATE_OUTCOME", "b", 0),
    (f"{COMPLETED}.", "a", 1),
)


def test_a_lawful_log_keeps_them_whole_and_piece_by_piece() -> None:
    """Two plans at once, a revocation, a late answer: followed at once or as it grows."""
    effects = ["a/0", "b/0", "a/1"]
    verify_invariants(LAWFUL, effects)
    growing = LogInvariants()
    for event in LAWFUL:
        growing.follow([event])
    growing.verify_effects(effects)


@pytest.mark.parametrize(
    ("events", "effects"),
    [
        pytest.param(log(FIRST), ["a/0", "a/0"], id="I1: two effects of a step"),
        pytest.param(log(FIRST), ["a/1"], id="I2: an effect of a step that nobody started"),
        pytest.param(
            log(("TOKEN_REVOKED", None, None), FIRST), [], id="I3: a start after the revocation"
        ),
        pytest.param(log(FIRST, FIRST), [], id="I4: two starts of a step"),
        pytest.param(
            log(FIRST, FIRST_DONE, (STARTED, "a", 1), FIRST), [], id="I4: an earlier step again"
        ),
        pytest.param(
            log(FIRST, ("OPERATION_ABORTED.", "a", 0), ("OPERATION_ABORTED.", "a", 0)),
            [],
            id="I5: two ends",
        ),
        pytest.param(
            log(FIRST, ("OPERATION_ABORTED.", "a", 0), ("LATE_OUTCOME.", "a", 0)),
            [],
            id="I5: a late answer that is an end",
        ),
        pytest.param(
            log(("OPERATION_ABORTED.", "a", None), FIRST), [], id="I6: a start after the end"
        ),
        pytest.param(LAWFUL[1:], [], id="I7: a log without its first event"),
        pytest.param(LAWFUL[:3] + LAWFUL[4:], [], id="I7: a log with a gap"),
        pytest.param(log((STARTED, "a", 1)), [], id="I9: the second step first"),
        pytest.param(
            log(FIRST, (STARTED, "a", 1)), [], id="I9: the next step before this one is completed"
        ),
        pytest.param(log(FIRST_DONE), [], id="I9: a completion of what nobody started"),
    ],
)
def test_a_log_that_breaks_one_is_refused(events: list[dict[str, Any]], effects: list[str]) -> None:
    """Each invariant, broken in each way that a log can break it."""
    with pytest.raises(AssertionError):
        verify_invariants(events, effects)
