"""A method's handler is put together once, and still every call is asked every question."""

from __future__ import annotations

from concurrent.futures import wait
from dataclasses import dataclass
from threading import Event
from time import sleep
from typing import TYPE_CHECKING, Any, ClassVar, cast

import grpc
import pytest

from servicekit.serving.admission import ASKED_BURST, REFUSAL_THREADS, Bounds, CallPool
from servicekit.serving.call_scope import refuse_with
from servicekit.serving.door import Door
from servicekit.serving.interceptor_order import OrderedInterceptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servicekit.serving.call_scope import Continuation, Handler


@dataclass(frozen=True)
class _Details:
    method: str
    invocation_metadata: tuple[()] = ()


class _Passing(OrderedInterceptor):
    """Count how often it is asked, and change nothing."""

    name: ClassVar[str] = "passing"

    def __init__(self) -> None:
        self.asked = 0

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        self.asked += 1
        return continuation(handler_call_details)


class _Refusing(_Passing):
    """Refuse where there is no room, as the admission does."""

    def __init__(self, pool: CallPool) -> None:
        super().__init__()
        self._pool = pool
        self.refusal = refuse_with(_refuse)

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        if self._pool.full:
            return self.refusal
        return super().intercept_service(continuation, handler_call_details)


def _refuse(_context: grpc.ServicerContext) -> Any:
    raise AssertionError


_NO_ROOM: Handler = refuse_with(_refuse)
HANDLER: Handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


def innermost(details: grpc.HandlerCallDetails) -> Handler | None:
    """Know one method."""
    return HANDLER if details.method == "/a.B/Known" else None


@pytest.fixture
def pool() -> Iterator[CallPool]:
    """Hold a pool with room for one call."""
    made = CallPool("test", Bounds(1, 1))
    yield made
    made.close()


def asked(door: Door, method: str = "/a.B/Known") -> Handler | None:
    """Ask as gRPC does."""
    return door.intercept_service(innermost, cast("Any", _Details(method)))


def test_the_chain_is_asked_once_for_a_method(pool: CallPool) -> None:
    """Every later call gets the same handler."""
    passing = _Passing()
    door = Door([passing], pool, _NO_ROOM, lambda: 0.0)

    assert [asked(door) for _ in range(3)] == [HANDLER] * 3
    assert passing.asked == 1


def test_a_method_that_nobody_implements_is_never_remembered(pool: CallPool) -> None:
    """Its name is the caller's choice: a list of them would grow without end."""
    passing = _Passing()
    door = Door([passing], pool, _NO_ROOM, lambda: 0.0)

    assert [asked(door, f"/a.B/Unknown{number}") for number in range(3)] == [None] * 3
    assert passing.asked == 3
    assert door._made == {}


def test_a_full_server_refuses_a_method_that_it_served_before(pool: CallPool) -> None:
    """And serves it again afterwards: what was put together with room says nothing without."""
    refusing = _Refusing(pool)
    door = Door([_Passing(), refusing], pool, _NO_ROOM, lambda: 0.0)
    assert asked(door) is HANDLER

    pool._in_flight = 1
    assert asked(door) is refusing.refusal
    pool._in_flight = 0

    assert asked(door) is HANDLER


def test_a_refusal_of_a_full_server_is_not_remembered(pool: CallPool) -> None:
    """The first call of a method may come when there is no room."""
    refusing = _Refusing(pool)
    door = Door([refusing], pool, _NO_ROOM, lambda: 0.0)

    pool._in_flight = 1
    assert asked(door) is refusing.refusal
    pool._in_flight = 0

    assert asked(door) is HANDLER


def test_a_call_passes_the_chain_by_only_while_those_who_refuse_are_busy(pool: CallPool) -> None:
    """And only where there is no room; the next one is refused by a thread again."""
    refusing = _Refusing(pool)
    door = Door([refusing], pool, _NO_ROOM, lambda: 0.0)
    until = Event()
    busy = [pool.refusals.submit(until.wait, 10) for _ in range(REFUSAL_THREADS)]

    assert asked(door) is HANDLER
    pool._in_flight = 1
    assert asked(door) is _NO_ROOM
    until.set()
    wait(busy)
    while pool.refusals.in_flight:
        sleep(0)

    assert asked(door) is refusing.refusal
    assert pool.overloaded == 2


def test_what_a_flood_is_asked_is_bounded_and_comes_back_with_time(pool: CallPool) -> None:
    """After a burst ten a second are refused by the chain, and everybody else at once."""
    refusing = _Refusing(pool)
    now_s = [0.0]
    door = Door([refusing], pool, _NO_ROOM, lambda: now_s[0])
    pool._in_flight = 1

    told = [asked(door) for _ in range(100)]
    assert told == [refusing.refusal] * ASKED_BURST + [_NO_ROOM] * (100 - ASKED_BURST)
    for _ in range(1_000):
        now_s[0] += 0.01
        told.append(asked(door))
    assert told[100:].count(refusing.refusal) in {99, 100}
    now_s[0] += 3_600
    told = [asked(door) for _ in range(100)]
    assert told.count(refusing.refusal) == ASKED_BURST
