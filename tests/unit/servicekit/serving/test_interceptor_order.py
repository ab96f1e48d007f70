"""The order of the door, and that a wrong one does not start."""

import io
import itertools
from collections.abc import Sequence

import grpc
import pytest
import structlog

from servicekit.serving.admission import Bounds, CallPool
from servicekit.serving.interceptor_order import (
    OrderedInterceptor,
    OrderError,
    assert_order,
)
from servicekit.serving.interceptors import build_interceptors
from servicekit.serving.method_table import MethodTable
from servicekit.serving.policy import REQUIRED_REASONS, AccessPolicy, CallPolicy
from servicekit.serving.read_watch import ReadWatch
from servicekit.serving.status import StatusTable

FULL = ("shield", "access_log", "identity", "method", "deadline", "admission", "request", "turn")
STATUSES = StatusTable("d", dict.fromkeys(REQUIRED_REASONS, grpc.StatusCode.INTERNAL))


def door(*, access: bool = True) -> Sequence[OrderedInterceptor]:
    """Build a door as a server would."""
    policy = CallPolicy(
        statuses=STATUSES,
        access=AccessPolicy("stagegate.test", MethodTable({}), lambda: 0) if access else None,
        logger=structlog.wrap_logger(structlog.WriteLogger(io.StringIO())),
        monotonic_s=lambda: 0.0,
        incident_id=lambda: "incident",
    )
    return build_interceptors(policy, CallPool("test", Bounds(1, 1)), ReadWatch(lambda: 0.0))


BY_NAME = {interceptor.name: interceptor for interceptor in door()}


def named(names: Sequence[str]) -> list[OrderedInterceptor]:
    """Return the interceptors of a real door in this order."""
    return [BY_NAME[name] for name in names]


def starts(names: Sequence[str]) -> bool:
    """Say whether a door in this order would start."""
    try:
        assert_order(named(names))
    except OrderError:
        return False
    return True


def test_a_door_stands_in_the_documented_order() -> None:
    """Identity before method, both before anything that spends time or room."""
    assert tuple(interceptor.name for interceptor in door()) == FULL


def test_a_door_that_asks_nobody_lacks_only_the_two_questions() -> None:
    """Probes are shielded, logged and bounded like every call."""
    assert tuple(interceptor.name for interceptor in door(access=False)) == tuple(
        name for name in FULL if name not in {"identity", "method"}
    )


def test_every_other_order_is_refused() -> None:
    """Of all the ways to arrange the eight, exactly one starts."""
    assert [names for names in itertools.permutations(FULL) if starts(names)] == [FULL]


@pytest.mark.parametrize("left_out", ["shield", "access_log", "identity", "deadline", "admission"])
def test_a_door_without_a_required_predecessor_is_refused(left_out: str) -> None:
    """What must have happened before must be there at all."""
    with pytest.raises(OrderError):
        assert_order(named([name for name in FULL if name != left_out]))


def test_a_doubled_interceptor_is_refused() -> None:
    """Twice the same question means that somebody believes in two doors."""
    with pytest.raises(OrderError, match="more than once"):
        assert_order(named([*FULL, "request"]))


def test_an_empty_door_is_refused() -> None:
    """A server without a door does not start."""
    with pytest.raises(OrderError):
        assert_order([])


@pytest.mark.parametrize("reason", sorted(REQUIRED_REASONS))
def test_a_status_table_without_one_of_the_door_s_reasons_is_refused(reason: str) -> None:
    """A refusal that could not be told is found before the first call."""
    codes = dict.fromkeys(REQUIRED_REASONS - {reason}, grpc.StatusCode.INTERNAL)
    with pytest.raises(ValueError, match=reason):
        CallPolicy(
            statuses=StatusTable("d", codes),
            access=None,
            logger=structlog.wrap_logger(structlog.WriteLogger(io.StringIO())),
            monotonic_s=lambda: 0.0,
            incident_id=lambda: "incident",
        )
