"""The bounds of a call at the moments that a real connection seldom hits."""

import io
import threading
from typing import Any, NoReturn

import grpc
import pytest
import structlog

from servicekit.serving.admission import Bounds, CallPool
from servicekit.serving.call_facts import call_facts, record_identity
from servicekit.serving.capacity import DeadlineInterceptor
from servicekit.serving.identity import Identity, IdentityKind
from servicekit.serving.policy import REQUIRED_REASONS, CallPolicy
from servicekit.serving.status import StatusTable

ALICE = Identity(IdentityKind.CLIENT, "alice", "spiffe://stagegate.test/client/alice")


class Aborted(Exception):
    """The call was ended with a status."""


class Context:
    """As much of a call as a deadline needs."""

    def __init__(self, remaining_s: float | None) -> None:
        self._remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        """Return what the client still waits."""
        return self._remaining_s

    def abort_with_status(self, status: Any) -> NoReturn:
        """End the call."""
        raise Aborted(status.code)


def enter(context: Any, ran: list[float]) -> None:
    """Enter the deadline's scope at second 100 and note what the servicer would see."""
    policy = CallPolicy(
        statuses=StatusTable(
            "d", dict.fromkeys(REQUIRED_REASONS, grpc.StatusCode.DEADLINE_EXCEEDED)
        ),
        access=None,
        logger=structlog.wrap_logger(structlog.WriteLogger(io.StringIO())),
        monotonic_s=lambda: 100.0,
        incident_id=lambda: "incident",
        deadline_max_s=300.0,
    )
    record_identity(context, ALICE)
    with DeadlineInterceptor(policy)._scope("/a/b", context):
        ran.append(call_facts(context).deadline_monotonic_s)


@pytest.mark.parametrize(
    ("remaining_s", "deadline_s"),
    [(None, 400.0), (9.2e18, 400.0), (300.0, 400.0), (0.5, 100.5)],
)
def test_no_deadline_and_a_far_one_become_the_maximum(
    remaining_s: float | None, deadline_s: float
) -> None:
    """However the transport says that there is none."""
    ran: list[float] = []
    enter(Context(remaining_s), ran)
    assert ran == [deadline_s]


@pytest.mark.parametrize("remaining_s", [0.0, -1.0])
def test_a_deadline_that_has_passed_starts_nothing(remaining_s: float) -> None:
    """The scope is never entered, whatever the transport has noticed so far."""
    ran: list[float] = []
    with pytest.raises(Aborted) as caught:
        enter(Context(remaining_s), ran)
    assert caught.value.args == (grpc.StatusCode.DEADLINE_EXCEEDED,)
    assert ran == []


def test_a_pool_is_idle_when_its_last_call_has_ended() -> None:
    """Not before, and at once after."""
    pool = CallPool("test", Bounds(1, 2))
    gate = threading.Event()
    running = pool.submit(gate.wait, 30)
    assert pool.in_flight == 1
    assert not pool.full
    assert not pool.wait_until_idle(0)
    gate.set()
    running.result(timeout=10)
    assert pool.wait_until_idle(10)
    assert pool.in_flight == 0
    pool.close()
