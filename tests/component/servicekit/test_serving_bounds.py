"""What a listener does when there is too much, too late, or nothing at all coming."""

import gc
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc._server import _Context

from servicekit.serving import shield
from servicekit.serving.admission import REFUSAL_THREADS, Bounds, CallPool, InPlace, RefusalPool
from servicekit.serving.call_facts import call_facts
from servicekit.serving.channel import open_channel
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.read_watch import ReadWatch
from servicekit.serving.status import WireError
from servicekit.turns import Turns
from tests.adversarial.attacks import DATA, END_STREAM, Peer, frame
from tests.component.servicekit.serving_world import (
    SERVER_NAME,
    STATUSES,
    Gate,
    World,
    call,
    failure,
    full,
)
from tests.fakes.manual_clock import ManualClock

FAST_S = 5.0
"""Longer than any refusal takes, far shorter than a blocked handler would make it wait."""


def start(channel: Any, method: str, timeout: float | None = 30) -> Any:
    """Begin a call and return its future."""
    return channel.unary_unary(full(method)).future(b"", timeout=timeout)


def contexts() -> int:
    """Return how many calls of servers somebody still holds."""
    return sum(isinstance(held, _Context) for held in gc.get_objects())


class FullAndStuck:
    """A server of one place, which is taken, and both of whose threads that refuse are stuck."""

    def __init__(self, world: World) -> None:
        self._gate, self._stuck = Gate(), Gate()

        def record(_who: object, _method: str, _reason: str) -> None:
            self._stuck.entered.release()
            self._stuck.open.wait(30)

        self.server = world.serve(
            {"Get": self._gate}, bounds=Bounds(1, 1), policy=world.policy(on_refused=record)
        )
        self.channel = world.channel(self.server)
        self._held = start(self.channel, "Get")
        self._gate.wait_until_entered(1)
        stranger = world.channel(self.server, world.authority.caller("domain/notes"))
        self._strangers = [start(stranger, "Get") for _ in range(REFUSAL_THREADS)]
        self._stuck.wait_until_entered(REFUSAL_THREADS)

    def let_go(self) -> None:
        """Let all of them go on, and see that each ends as it should."""
        self._stuck.open.set()
        self._gate.open.set()
        assert self._held.result(timeout=10) == b"through"
        assert all(future.exception(timeout=10) is not None for future in self._strangers)


@pytest.mark.parametrize("protected", [True, False], ids=["protected", "control"])
def test_a_refused_call_is_let_go_without_a_search_for_cycles(
    world: World, monkeypatch: pytest.MonkeyPatch, *, protected: bool
) -> None:
    """Its stream counts no longer, though an error behind it is a variable of a frame it passed.

    The control lets nothing go: every call stays until the collector finds it.
    """
    if not protected:
        monkeypatch.setattr(shield, "_let_go", lambda _error: None)

    def get(_request: bytes, context: grpc.ServicerContext) -> bytes:
        refusal = ValueError("held by its own frame")
        try:
            raise refusal
        except ValueError:
            STATUSES.abort(context, WireError("PLAN_INVALID", str(refusal)))

    server = world.serve({"Get": get})
    channel = world.channel(server)
    assert failure(channel, "Get").reason == "PLAN_INVALID"
    gc.collect()
    gc.disable()
    try:
        before = contexts()
        for _ in range(30):
            failure(channel, "Get")
        _wait_for(lambda: server.in_flight == 0)
        if protected:
            _wait_for(lambda: contexts() <= before + 1)
        else:
            assert contexts() >= before + 29
    finally:
        gc.enable()
        gc.collect()


class TestOverload:
    """The bound on calls in flight."""

    def test_one_call_too_many_is_refused_while_all_threads_are_busy(self, world: World) -> None:
        """The refusal does not wait for a thread of the pool, since it has its own."""
        gate = Gate()
        server = world.serve({"Get": gate}, bounds=Bounds(2, 2))
        channel = world.channel(server)
        held = [start(channel, "Get") for _ in range(2)]
        gate.wait_until_entered(2)
        error = failure(channel, "Get", timeout=FAST_S)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert server.in_flight == 2
        gate.open.set()
        assert [future.result(timeout=10) for future in held] == [b"through", b"through"]
        # A caller has its answer a moment before its place is free.
        _wait_for(lambda: server.in_flight == 0)
        assert call(channel, "Get") == b"through"

    def test_a_waiting_call_counts_like_a_running_one(self, world: World) -> None:
        """One thread, three places: one runs, two wait, the fourth is refused, all three finish."""
        gate = Gate()
        server = world.serve({"Get": gate}, bounds=Bounds(1, 3))
        channel = world.channel(server)
        held = [start(channel, "Get") for _ in range(3)]
        gate.wait_until_entered(1)
        _wait_for(lambda: server.in_flight == 3)
        assert failure(channel, "Get", timeout=FAST_S).reason == "OVERLOADED"
        gate.open.set()
        assert [future.result(timeout=10) for future in held] == [b"through"] * 3

    def test_an_overload_tells_a_stranger_nothing(self, world: World) -> None:
        """Who is calling, and whether they may, is asked first, busy or not."""
        gate = Gate()
        server = world.serve({"Get": gate}, bounds=Bounds(1, 1))
        held = start(world.channel(server), "Get")
        gate.wait_until_entered(1)
        stranger = world.channel(server, world.authority.caller("domain/notes"))
        assert failure(stranger, "Get", timeout=FAST_S).reason == "METHOD_NOT_PERMITTED"
        gate.open.set()
        assert held.result(timeout=10) == b"through"

    @pytest.mark.parametrize("protected", [True, False], ids=["protected", "control"])
    def test_refusals_that_are_held_up_hold_up_no_others(
        self, world: World, monkeypatch: pytest.MonkeyPatch, *, protected: bool
    ) -> None:
        """Both threads that refuse are stuck: whoever comes next is refused all the same, at once.

        It is told the same reason. The control has everybody wait for these threads.
        """
        patience_s = FAST_S if protected else 0.5
        if not protected:
            monkeypatch.setattr(RefusalPool, "takes_one", lambda _pool, _now_s: True)
        full = FullAndStuck(world)
        server, channel = full.server, full.channel
        crowd = [start(channel, "Get") for _ in range(20)]
        try:
            refused = [future.exception(timeout=patience_s) for future in crowd]
        except grpc.FutureTimeoutError:
            refused = []
        assert bool(refused) == protected
        for error in refused:
            assert isinstance(error, grpc.RpcError)
            told = decode_rpc_error(error)
            assert (told.code, told.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert told.domain == "stagegate"
        full.let_go()
        assert all(future.exception(timeout=10) is not None for future in crowd)
        assert server.overloaded == len(crowd) + REFUSAL_THREADS
        assert call(channel, "Get") == b"through"

    def test_a_refusal_at_once_takes_no_place_and_leaves_no_line(self, world: World) -> None:
        """A thousand of them, while the threads that refuse are busy: nothing of them is left."""
        full = FullAndStuck(world)
        server, channel = full.server, full.channel
        before = contexts()
        for _ in range(1_000):
            assert failure(channel, "Get").reason == "OVERLOADED"
        assert server.in_flight == 1
        assert world.lines() == []
        gc.disable()
        try:
            _wait_for(lambda: contexts() <= before + 1)
        finally:
            gc.enable()
        full.let_go()

    def test_a_thread_of_grpc_outlives_what_it_runs_in_place(self) -> None:
        """What is raised is kept in the future, as a pool keeps it."""

        def fail() -> None:
            raise SystemExit(1)

        assert isinstance(InPlace().submit(fail).exception(), SystemExit)
        assert InPlace().submit(lambda: 1).result() == 1

    def test_a_call_that_is_cancelled_before_its_handler_gives_its_place_back(
        self, world: World
    ) -> None:
        """Headers and then a reset, more often than there are places: the next call gets in."""
        server = world.serve({"Get": lambda request, _context: request}, bounds=Bounds(1, 2))
        channel = world.channel(server)
        silence = threading.Event()

        def nothing() -> Iterator[bytes]:
            silence.wait(30)
            yield from ()

        for _ in range(6):
            hanging = channel.stream_unary(full("Get")).future(nothing(), timeout=30)
            _wait_for(lambda: server.in_flight == 1)
            hanging.cancel()
            _wait_for(lambda: server.in_flight == 0)
        silence.set()
        assert call(channel, "Get", b"still here") == b"still here"

    def test_a_storm_of_cancelled_calls_leaves_nothing_behind(self, world: World) -> None:
        """Calls cancelled at every moment of their life; afterwards every place is free."""
        server = world.serve({"Get": lambda request, _context: request}, bounds=Bounds(2, 8))
        channel = world.channel(server)
        for number in range(300):
            future = start(channel, "Get")
            if number % 3:
                for _ in range(number % 7):
                    future.done()
                future.cancel()
        # One connection keeps the order: once this call is answered, refused or not, all the
        # others have arrived.
        start(channel, "Get").exception(timeout=10)
        _wait_for(lambda: server.in_flight == 0)
        # Over a connection of their own: the storm's may still count streams that were cancelled
        # against its bound, and refuse the next ones.
        quiet = world.channel(server)
        held = [start(quiet, "Get") for _ in range(2)]
        assert [future.result(timeout=10) for future in held] == [b"", b""]
        assert "unhandled_exception" not in world.log.getvalue()

    def test_a_streamed_answer_holds_its_place_until_its_end(self, world: World) -> None:
        """A stream in flight is a call in flight."""
        gate = Gate()

        def watch(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield b"one"
            yield gate(request, context)

        server = world.serve(
            {"Watch": grpc.unary_stream_rpc_method_handler(watch), "Get": gate},
            bounds=Bounds(1, 1),
        )
        channel = world.channel(server)
        stream = channel.unary_stream(full("Watch"))(b"", timeout=30)
        assert next(stream) == b"one"
        assert failure(channel, "Get", timeout=FAST_S).reason == "OVERLOADED"
        gate.open.set()
        assert list(stream) == [b"through"]

    @pytest.mark.parametrize(("pool_size", "max_in_flight"), [(0, 1), (2, 1), (-1, -1)])
    def test_bounds_that_cannot_work_are_refused(self, pool_size: int, max_in_flight: int) -> None:
        """No thread, or threads that can never have work."""
        with pytest.raises(ValueError, match="pool_size"):
            Bounds(pool_size, max_in_flight)

    def test_a_pool_that_is_closed_counts_nothing(self) -> None:
        """Work that a closed pool refuses is not in flight."""
        pool = CallPool("test", Bounds(1, 1))
        pool.close()
        with pytest.raises(RuntimeError):
            pool.submit(lambda: None)
        assert pool.in_flight == 0


class TestShares:
    """The bound on what one caller has in flight."""

    def test_a_caller_that_takes_all_it_can_leaves_room_for_another(self, world: World) -> None:
        """Its share is taken, on two connections; the next is refused, and another's call runs."""
        gate = Gate()
        server = world.serve(
            {"Get": gate, "Quick": lambda request, _context: request}, bounds=Bounds(4, 6, share=3)
        )
        greedy = [world.channel(server), world.channel(server)]
        held = [start(greedy[number % 2], "Get") for number in range(3)]
        gate.wait_until_entered(3)
        for channel in greedy:
            error = failure(channel, "Quick", timeout=FAST_S)
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert "this caller" in error.message
        other = world.channel(server, world.authority.caller("client/bob"))
        assert call(other, "Quick", b"let in") == b"let in"
        gate.open.set()
        assert [future.result(timeout=10) for future in held] == [b"through"] * 3
        _wait_for(lambda: server.in_flight == 0)
        assert call(greedy[0], "Quick", b"again") == b"again"

    def test_without_a_share_the_same_caller_takes_the_whole_server(self, world: World) -> None:
        """The control: the other caller, who did nothing, is refused."""
        gate = Gate()
        server = world.serve(
            {"Get": gate, "Quick": lambda request, _context: request}, bounds=Bounds(4, 6)
        )
        greedy = world.channel(server)
        held = [start(greedy, "Get") for _ in range(6)]
        _wait_for(lambda: server.in_flight == 6)
        other = world.channel(server, world.authority.caller("client/bob"))
        assert failure(other, "Quick", timeout=FAST_S).reason == "OVERLOADED"
        gate.open.set()
        assert [future.result(timeout=10) for future in held] == [b"through"] * 6

    def test_a_share_is_refused_while_every_turn_is_taken(self, world: World) -> None:
        """Two callers' calls fill what runs; a third of the first is refused, and waits for none.

        A share that were asked behind the running calls would answer when the gate opens, which
        is after this call's patience.
        """
        gate = Gate()
        server = world.serve({"Get": gate}, bounds=Bounds(2, 6, share=2))
        first = world.channel(server)
        second = world.channel(server, world.authority.caller("client/bob"))
        held = [start(channel, "Get") for channel in (first, first, second, second)]
        gate.wait_until_entered(2)
        _wait_for(lambda: server.in_flight == 4)
        assert failure(first, "Get", timeout=FAST_S).reason == "OVERLOADED"
        gate.open.set()
        assert [future.result(timeout=10) for future in held] == [b"through"] * 4

    def test_a_share_is_given_back_however_a_call_ends(self, world: World) -> None:
        """Answered, failed, cancelled: three times as many calls as the share, and room again."""

        def fail(_request: bytes, _context: grpc.ServicerContext) -> bytes:
            raise ValueError("not a refusal")

        gate = Gate()
        server = world.serve(
            {"Fail": fail, "Get": gate, "Quick": lambda request, _context: request},
            bounds=Bounds(2, 4, share=1),
        )
        channel = world.channel(server)
        for _ in range(3):
            assert call(channel, "Quick", b"x") == b"x"
            _wait_for(lambda: server.in_flight == 0)
            assert failure(channel, "Fail").reason == "INTERNAL"
            _wait_for(lambda: server.in_flight == 0)
            leaving = start(channel, "Get")
            gate.wait_until_entered(1)
            leaving.cancel()
            gate.open.set()
            _wait_for(lambda: server.in_flight == 0)
            gate.open.clear()

    @pytest.mark.parametrize("share", [1, None])
    def test_answers_that_nobody_reads_count_until_they_are_read(
        self, world: World, share: int | None
    ) -> None:
        """A caller that leaves no room for its answers is refused, though none of its calls runs.

        gRPC keeps what it cannot send. Others are served, and so is the caller when the answers
        are gone. The control is a server without shares: it keeps as many as anybody likes.
        """
        ran = threading.Semaphore(0)

        def get(request: bytes, _context: grpc.ServicerContext) -> bytes:
            ran.release()
            return request or b"an answer"

        server = world.serve({"Get": get}, bounds=Bounds(2, 8, share))
        peer = Peer(server.address, world.authority.directory, "client", full("Get"))
        no_window = struct.pack(">HI", 4, 0)
        peer.greet(no_window)
        for _ in range(2):
            stream, opened = peer.headers()
            peer.socket.sendall(opened + frame(DATA, END_STREAM, stream, bytes(5)))
            assert ran.acquire(timeout=10)
            _wait_for(lambda: server.in_flight == 0)
        channel = world.channel(server)
        if share is None:
            assert call(channel, "Get", b"more") == b"more"
            peer.close()
            return
        error = failure(channel, "Get", timeout=FAST_S)
        assert error.reason == "OVERLOADED"
        assert "answers to read" in error.message
        other = world.channel(server, world.authority.caller("client/bob"))
        assert call(other, "Get", b"mine") == b"mine"
        peer.close()
        _wait_for(lambda: channel.unary_unary(full("Get")).future(b"x").exception() is None)

    def test_probes_are_one_caller(self, world: World) -> None:
        """A server that asks nobody bounds everybody together."""
        gate = Gate()
        server = world.serve(
            {"Get": gate},
            policy=world.policy(access=None),
            credentials=None,
            bounds=Bounds(2, 4, share=1),
        )
        channel = open_channel(server.address, None, SERVER_NAME)
        world.channels.append(channel)
        held = start(channel, "Get")
        gate.wait_until_entered(1)
        assert failure(channel, "Get", timeout=FAST_S).reason == "OVERLOADED"
        gate.open.set()
        assert held.result(timeout=10) == b"through"

    @pytest.mark.parametrize("share", [0, -1, 9])
    def test_a_share_that_cannot_be_taken_is_refused(self, share: int) -> None:
        """Nothing at all, or more than there is."""
        with pytest.raises(ValueError, match="share"):
            Bounds(4, 8, share)


LEAVING = ("x-case", "leaving")


def _somebody_waits_for_a_turn() -> bool:
    """Say whether a call has read its request and waits; a server shows nobody its turns."""
    return any(isinstance(found, Turns) and found._waiting for found in gc.get_objects())


def _the_server_knows_that_it_left() -> bool:
    """Say whether gRPC has told the waiting call of its cancellation.

    The news and the arrival of a later call are not ordered, and the call's own handler, which
    could be asked, does not run yet: its context is found among all objects.
    """
    return any(
        isinstance(found, _Context)
        and LEAVING in (found.invocation_metadata() or ())
        and not found.is_active()
        for found in gc.get_objects()
    )


class TestTurns:
    """The bound on what runs side by side."""

    def test_a_caller_who_sends_nothing_takes_nobodys_turn(self, world: World) -> None:
        """One turn, and a call that waits for its request: another call runs meanwhile."""
        server = world.serve({"Get": lambda request, _context: request}, bounds=Bounds(1, 2))
        channel = world.channel(server)
        silence = threading.Event()

        def nothing() -> Iterator[bytes]:
            silence.wait(30)
            yield from ()

        silent = channel.stream_unary(full("Get")).future(nothing(), timeout=30)
        _wait_for(lambda: server.in_flight == 1)
        assert call(channel, "Get", b"runs", timeout=FAST_S) == b"runs"
        silence.set()
        silent.cancel()

    def test_a_call_whose_caller_left_while_it_waited_does_not_run(self, world: World) -> None:
        """Its turn goes to the next, and the access log says that it was cancelled."""
        gate = Gate()
        ran: list[bytes] = []

        def note(request: bytes, _context: grpc.ServicerContext) -> bytes:
            ran.append(request)
            return request

        server = world.serve({"Get": gate, "Note": note}, bounds=Bounds(1, 3))
        channel = world.channel(server)
        held = start(channel, "Get")
        gate.wait_until_entered(1)
        leaving = channel.unary_unary(full("Note")).future(b"left", timeout=30, metadata=[LEAVING])
        _wait_for(_somebody_waits_for_a_turn)
        leaving.cancel()
        _wait_for(_the_server_knows_that_it_left)
        staying = channel.unary_unary(full("Note")).future(b"stays", timeout=30)
        _wait_for(lambda: server.in_flight == 3)
        gate.open.set()
        assert held.result(timeout=10) == b"through"
        assert staying.result(timeout=10) == b"stays"
        _wait_for(lambda: server.in_flight == 0)
        assert ran == [b"stays"]
        assert "CANCELLED" in [line["code"] for line in world.lines()]

    def test_turns_are_handed_over_in_the_order_of_arrival(self) -> None:
        """Ten wait; each that leaves lets the oldest in, and a newcomer cannot overtake them."""
        turns = Turns(1)
        assert turns.enter(0)
        order: list[int] = []

        def run(number: int) -> None:
            assert turns.enter(30)
            order.append(number)
            turns.leave()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(10)]
        for number, thread in enumerate(threads):
            thread.start()
            _wait_for(lambda expected=number + 1: len(turns._waiting) == expected)
        assert not turns.enter(0)
        turns.leave()
        for thread in threads:
            thread.join(10)
        assert order == list(range(10))
        assert turns.enter(0)

    def test_a_wait_that_ends_takes_no_turn_with_it(self) -> None:
        """Whoever gave up is passed over."""
        turns = Turns(1)
        assert turns.enter(0)
        assert not turns.enter(0.01)
        turns.leave()
        assert turns.enter(0)


class TestDeadline:
    """How long anybody waits."""

    @pytest.mark.parametrize(
        ("client_s", "server_s", "low_s", "high_s"),
        [
            pytest.param(None, 300.0, 300.0, 300.0, id="no deadline: the server's maximum"),
            pytest.param(1000.0, 300.0, 300.0, 300.0, id="too long: the server's maximum"),
            pytest.param(200.0, 300.0, 100.0, 200.0, id="shorter: the client's"),
            pytest.param(None, 7.0, 7.0, 7.0, id="the maximum is a setting"),
        ],
    )
    def test_a_servicer_learns_the_seconds_left(
        self,
        world: World,
        client_s: float | None,
        server_s: float,
        low_s: float,
        high_s: float,
    ) -> None:
        """The smaller of the client's deadline, which gRPC counts, and the server's maximum."""
        seen: list[float] = []

        def get(_request: bytes, context: grpc.ServicerContext) -> bytes:
            seen.append(call_facts(context).remaining_s())
            return b""

        policy = world.policy(deadline_max_s=server_s, monotonic_s=ManualClock().monotonic_s)
        server = world.serve({"Get": get}, policy=policy)
        call(world.channel(server), "Get", timeout=client_s)
        assert low_s <= seen[0] <= high_s

    def test_a_call_that_waited_past_its_deadline_starts_nothing(self, world: World) -> None:
        """A thread that becomes free too late does not run the handler for nobody."""
        gate = Gate()
        ran: list[bytes] = []

        def late(request: bytes, _context: grpc.ServicerContext) -> bytes:
            ran.append(request)
            return b""

        server = world.serve({"Get": gate, "Late": late}, bounds=Bounds(1, 4))
        channel = world.channel(server)
        held = start(channel, "Get")
        gate.wait_until_entered(1)
        assert failure(channel, "Late", timeout=0.2).code == "DEADLINE_EXCEEDED"
        gate.open.set()
        held.result(timeout=10)
        _wait_for(lambda: server.in_flight == 0)
        assert ran == []

    def test_facts_of_a_call_that_passed_no_door_are_an_error(self) -> None:
        """There is no default identity and no default deadline."""

        class Bare:
            pass

        bare: Any = Bare()
        with pytest.raises(LookupError):
            call_facts(bare)


class TestSilence:
    """A caller that sends headers and then nothing."""

    def test_a_refused_caller_is_answered_without_its_request(self, world: World) -> None:
        """Every question is answered before a byte of the request is waited for."""
        server = world.serve({"Get": lambda request, _context: request}, bounds=Bounds(1, 1))
        stranger = world.channel(server, world.authority.caller("domain/notes"))
        silence = threading.Event()

        def nothing() -> Iterator[bytes]:
            silence.wait(30)
            yield from ()

        refused = stranger.stream_unary(full("Get")).future(nothing(), timeout=FAST_S)
        error: Any = refused.exception(timeout=10)
        silence.set()
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED

    def test_a_refusal_reaches_a_caller_that_is_still_sending(self, world: World) -> None:
        """Not reading megabytes does not turn the answer into a broken connection."""
        gate = Gate()
        server = world.serve({"Get": gate}, bounds=Bounds(1, 1))
        channel = world.channel(server)
        stranger = world.channel(server, world.authority.caller("domain/notes"))
        held = start(channel, "Get")
        gate.wait_until_entered(1)
        large = b"x" * 8_000_000
        reasons = [
            failure(caller, "Get", large).reason for caller in (channel, stranger) for _ in range(5)
        ]
        assert reasons == ["OVERLOADED"] * 5 + ["METHOD_NOT_PERMITTED"] * 5
        gate.open.set()
        assert held.result(timeout=10) == b"through"

    def test_an_admitted_caller_that_stays_silent_loses_its_place(self, world: World) -> None:
        """Without any deadline of its own, the call is ended and the place is free again."""
        clock = ManualClock()
        policy = world.policy(read_max_s=0.2, monotonic_s=clock.monotonic_s)
        server = world.serve(
            {"Get": lambda request, _context: request}, policy=policy, bounds=Bounds(1, 1)
        )
        channel = world.channel(server)
        silence = threading.Event()

        def nothing() -> Iterator[bytes]:
            silence.wait(30)
            yield from ()

        silent = channel.stream_unary(full("Get")).future(nothing())
        _wait_for(lambda: server._watch._waiting)
        clock.advance(0.3)
        error: Any = silent.exception(timeout=10)
        silence.set()
        assert error.code() is grpc.StatusCode.CANCELLED
        _wait_for(lambda: server.in_flight == 0)
        # By a clock that stands still now, this one waits for no time at all.
        assert call(channel, "Get", b"next") == b"next"
        assert [line["code"] for line in world.lines()] == ["CANCELLED", "OK"]

    def test_a_call_within_the_limit_is_left_alone(self) -> None:
        """Only what waited longer than the limit is cancelled, and only while it waits."""

        class Context:
            cancelled = False

            def cancel(self) -> None:
                self.cancelled = True

        now_s = [100.0]
        watch = ReadWatch(lambda: now_s[0], limit_s=10.0)
        early, late, done = Context(), Context(), Context()
        contexts: Any = (early, late, done)
        with watch.reading(contexts[0]):
            with watch.reading(contexts[2]):
                pass
            now_s[0] = 105.0
            with watch.reading(contexts[1]):
                now_s[0] = 110.0
                assert watch.cancel_overdue() == 0
                now_s[0] = 110.1
                assert watch.cancel_overdue() == 1
        assert (early.cancelled, late.cancelled, done.cancelled) == (True, False, False)


def _wait_for(condition: Any) -> None:
    """Return as soon as the condition holds; fail after ten seconds."""
    for _ in range(10_000):
        if condition():
            return
        time.sleep(0.001)
    pytest.fail("the condition never came to hold")
