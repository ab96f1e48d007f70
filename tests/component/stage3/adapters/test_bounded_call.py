"""The time limit: the caller always gets an outcome in time, and hanging calls are capped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import pytest

from stage3_service.adapters.bounded_call import GIVEN_UP, BoundedCall
from stage3_service.adapters.shielded_call import RAISED, UNREADABLE, RaisedError
from stage3_service.domains.port import (
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)
from tests.fakes.domains import TrialDomain, TrialError, trial_declaration

SOON_S = 0.05
PATIENCE_S = 30.0

_numbers = count(1)


@dataclass
class _Bench:
    name: str
    trial: TrialDomain
    bounded: BoundedCall
    late: list[tuple[str, Answer]]
    late_came: threading.Semaphore
    raised: list[RaisedError]

    def call(
        self,
        method: str,
        *,
        deadline_s: float = PATIENCE_S,
        key: str = "plan/0",
        raw: bytes = b"{}",
    ) -> Answer:
        return self.bounded.invoke(Invocation(method, raw, deadline_s, key))

    def workers(self) -> int:
        """Count the living threads of this domain."""
        mine = f"domain-{self.name}-"
        return sum(thread.name.startswith(mine) for thread in threading.enumerate())

    def abandon(self, count: int) -> None:
        """Leave `count` calls behind."""
        for number in range(count):
            with pytest.raises(DomainSilent):
                self.call("hang", deadline_s=SOON_S, key=f"hung/{number}")


def _made(max_abandoned: int = 8, max_idle: int = 32, max_duration_s: float = 60.0) -> _Bench:
    name = f"trial{next(_numbers)}"
    trial = TrialDomain()
    late: list[tuple[str, Answer]] = []
    late_came = threading.Semaphore(0)
    raised: list[RaisedError] = []

    def on_late(key: str, answer: Answer) -> None:
        late.append((key, answer))
        late_came.release()

    bounded = BoundedCall(
        trial_declaration(name, max_duration_s=max_duration_s),
        trial,
        on_late=on_late,
        on_raised=raised.append,
        max_abandoned=max_abandoned,
        max_idle=max_idle,
    )
    return _Bench(name, trial, bounded, late, late_came, raised)


@pytest.fixture
def bench() -> Iterator[_Bench]:
    """A bounded trial domain, released and closed afterwards."""
    made = _made()
    yield made
    made.trial.release.set()
    made.bounded.close()


def test_an_answer_in_time_is_returned_as_it_came(bench: _Bench) -> None:
    """The wrapper adds nothing to the bytes."""
    assert bench.call("echo", raw=b' {"a": 1} ') == Output(b' {"a": 1} ')


def test_a_failed_method_is_an_answer(bench: _Bench) -> None:
    """A failure is the domain's word, not the wrapper's."""
    assert bench.call("fail") == MethodFailed("the trial failed as asked")


def test_a_hanging_method_leaves_its_caller_after_the_plans_deadline(bench: _Bench) -> None:
    """The outcome is that nobody knows, and the call is counted."""
    with pytest.raises(DomainSilent, match=r"no answer within 0\.05 seconds"):
        bench.call("hang", deadline_s=SOON_S)
    assert bench.bounded.abandoned == 1


def test_a_hanging_method_leaves_its_caller_after_the_methods_maximum() -> None:
    """The shorter of the two limits holds."""
    bench = _made(max_duration_s=SOON_S)
    with pytest.raises(DomainSilent, match=r"no answer within 0\.05 seconds"):
        bench.call("hang", deadline_s=PATIENCE_S)
    bench.trial.release.set()


def test_the_domain_is_told_the_time_it_really_has() -> None:
    """`deadline_s` of what it is handed is the smaller of plan and method."""
    bench = _made(max_duration_s=2.0)
    bench.call("echo", deadline_s=5.0)
    bench.call("echo", deadline_s=1.5)
    assert [handed.deadline_s for handed in bench.trial.received] == [2.0, 1.5]


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("nan"), float("-inf")])
def test_without_time_left_nothing_is_started(bench: _Bench, deadline_s: float) -> None:
    """A call that cannot be awaited must not have an effect."""
    with pytest.raises(DomainUnreachable, match="no time was left"):
        bench.call("effect", deadline_s=deadline_s)
    assert bench.trial.received == []


def test_an_endless_deadline_is_still_bounded_by_the_method() -> None:
    """Infinity is no way around the declaration."""
    bench = _made(max_duration_s=SOON_S)
    with pytest.raises(DomainSilent):
        bench.call("hang", deadline_s=float("inf"))
    bench.trial.release.set()


@pytest.mark.parametrize("method", ["undeclared", "Echo", "echo ", "__init__", ""])
def test_an_undeclared_method_is_not_started(bench: _Bench, method: str) -> None:
    """The adapter may do only what its domain declares, whatever a gate let through."""
    with pytest.raises(DomainUnreachable, match="does not declare"):
        bench.call(method)
    assert bench.trial.received == []


def test_a_late_answer_is_delivered_once_with_its_key(bench: _Bench) -> None:
    """What comes after the caller left is not lost, and the call no longer counts."""
    bench.abandon(2)
    bench.trial.release.set()
    for _ in range(2):
        assert bench.late_came.acquire(timeout=PATIENCE_S)
    answer = Output(b'{"released":true}')
    assert sorted(bench.late, key=lambda item: item[0]) == [("hung/0", answer), ("hung/1", answer)]
    assert bench.call("echo") == Output(b"{}")
    bench.bounded.close()


def test_an_answer_in_time_is_never_delivered_late(bench: _Bench) -> None:
    """Otherwise one effect would be recorded with two outcomes."""
    for _ in range(20):
        bench.call("echo")
    assert bench.late == []


def test_with_too_many_calls_left_behind_nothing_is_started() -> None:
    """At the cap new calls are unreachable, with neither thread nor effect, until one returns."""
    bench = _made(max_abandoned=3)
    bench.abandon(3)
    with pytest.raises(DomainUnreachable, match="3 earlier calls have not returned"):
        bench.call("effect")
    assert bench.trial.effects == []
    bench.trial.release.set()
    for _ in range(3):
        assert bench.late_came.acquire(timeout=PATIENCE_S)
    _wait_until(lambda: bench.bounded.abandoned == 0)
    assert bench.call("effect") == Output(b'{"effects":1}')


def test_a_hanging_call_does_not_stop_others(bench: _Bench) -> None:
    """Each call has a worker of its own."""
    bench.abandon(4)
    assert bench.call("echo") == Output(b"{}")


def test_calls_one_after_another_share_one_thread(bench: _Bench) -> None:
    """Threads are not made per call."""
    for _ in range(200):
        bench.call("echo")
    assert bench.workers() == 1


def test_many_callers_get_each_their_own_answer(bench: _Bench) -> None:
    """No answer goes to another caller, whatever the interleaving."""
    raws = [b'{"n":%d}' % number for number in range(400)]
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda raw: bench.call("echo", raw=raw), raws))
    assert answers == [Output(raw) for raw in raws]
    assert bench.bounded.abandoned == 0


def test_no_more_workers_rest_than_allowed() -> None:
    """A burst does not leave its threads behind."""
    bench = _made(max_idle=2)
    with ThreadPoolExecutor(8) as callers:
        calls = [callers.submit(bench.call, "hang") for _ in range(8)]
        for _ in range(8):
            assert bench.trial.entered.acquire(timeout=PATIENCE_S)
        assert bench.workers() == 8
        bench.trial.release.set()
        assert {call.result(PATIENCE_S) for call in calls} == {Output(b'{"released":true}')}
    _wait_until(lambda: bench.workers() == 2)
    bench.bounded.close()
    _wait_until(lambda: bench.workers() == 0)


@pytest.mark.parametrize("method", ["raise_error", "exit_process"])
def test_a_raising_method_fails_with_a_fixed_message(bench: _Bench, method: str) -> None:
    """The error's text stays out of the answer; the operator's callback gets the error itself."""
    answer = bench.call(method, raw=b'{"password":"hunter2"}', key="plan/7")
    assert answer == RAISED
    assert "hunter2" not in RAISED.message
    (raised,) = bench.raised
    assert (raised.domain, raised.method, raised.idempotency_key) == (bench.name, method, "plan/7")
    assert isinstance(raised.error, TrialError | SystemExit)
    assert bench.call("echo") == Output(b"{}")


@pytest.mark.parametrize("method", ["long_message", "mutable_output"])
def test_an_answer_that_cannot_be_made_is_a_raised_error(bench: _Bench, method: str) -> None:
    """The port's own values refuse what could not be recorded or could still change."""
    assert bench.call(method) == RAISED


def test_something_that_is_no_answer_fails_the_method(bench: _Bench) -> None:
    """The step is failed, not in doubt: the method did return."""
    assert bench.call("no_answer") == UNREADABLE
    assert [type(raised.error) for raised in bench.raised] == [TypeError]


def test_the_domains_own_word_about_reachability_is_passed_on(bench: _Bench) -> None:
    """An adapter behind the wrapper may know more than the wrapper."""
    with pytest.raises(DomainUnreachable, match="was not started"):
        bench.call("unreachable")
    with pytest.raises(DomainSilent, match="lost its connection"):
        bench.call("silent")
    assert bench.raised == []


def test_a_failing_log_does_not_turn_an_outcome_into_silence() -> None:
    """The outcome is known; only the line about it is lost."""

    def on_raised(raised: RaisedError) -> None:
        raise OSError("the log is gone")

    trial = TrialDomain()
    bounded = BoundedCall(
        trial_declaration(), trial, on_late=lambda key, answer: None, on_raised=on_raised
    )
    assert bounded.invoke(Invocation("raise_error", b"{}", PATIENCE_S, "p/0")) == RAISED
    bounded.close()


class _Scripted:
    """Does one thing after being released, or at once when it already is."""

    def __init__(self, outcome: Exception | Answer) -> None:
        self.release = threading.Event()
        self.outcome = outcome

    def invoke(self, invocation: Invocation) -> Answer:
        self.release.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "delivered"),
    [
        (MethodFailed("too late"), [("p/0", MethodFailed("too late"))]),
        (ValueError("late"), [("p/0", RAISED)]),
        (DomainUnreachable("busy"), [("p/0", GIVEN_UP)]),
        (DomainSilent("lost"), []),
    ],
)
def test_every_late_outcome_is_told_as_what_it_means(
    outcome: Exception | Answer, delivered: list[tuple[str, Answer]]
) -> None:
    """A late failure is an answer; a call that never began says so; silence adds nothing."""
    domain = _Scripted(outcome)
    late: list[tuple[str, Answer]] = []
    bounded = BoundedCall(
        trial_declaration(),
        domain,
        on_late=lambda key, answer: late.append((key, answer)),
        on_raised=lambda raised: None,
    )
    with pytest.raises(DomainSilent):
        bounded.invoke(Invocation("echo", b"{}", SOON_S, "p/0"))
    domain.release.set()
    _wait_until(lambda: bounded.abandoned == 0)
    assert late == delivered
    bounded.close()


def test_a_failing_late_callback_is_reported_and_frees_the_call() -> None:
    """The store may be gone by then; the worker is needed and the error must not vanish."""

    def on_late(key: str, answer: Answer) -> None:
        raise RuntimeError("the store is gone")

    trial = TrialDomain()
    raised: list[RaisedError] = []
    bounded = BoundedCall(trial_declaration(), trial, on_late=on_late, on_raised=raised.append)
    with pytest.raises(DomainSilent):
        bounded.invoke(Invocation("hang", b"{}", SOON_S, "p/3"))
    trial.release.set()
    _wait_until(lambda: bounded.abandoned == 0)
    assert [(item.idempotency_key, str(item.error)) for item in raised] == [
        ("p/3", "the store is gone")
    ]
    assert bounded.invoke(Invocation("echo", b"{}", PATIENCE_S, "p/4")) == Output(b"{}")
    bounded.close()


def test_an_answer_between_the_timeout_and_its_recording_is_in_time(bench: _Bench) -> None:
    """Whoever takes the lock first decides: the call is answered or abandoned, never both."""
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(bench.call, "slow", deadline_s=0.4, raw=b'{"seconds":0.1}')
        assert bench.trial.entered.acquire(timeout=PATIENCE_S)
        with bench.bounded._lock:
            threading.Event().wait(0.8)  # the answer and then the timeout arrive at this lock
        try:
            outcome: Answer | str = call.result(PATIENCE_S)
        except DomainSilent:
            outcome = "silent"
    # Answered or delivered late, the call has returned: it must not count against the cap for ever.
    _wait_until(lambda: bench.bounded.abandoned == 0)
    if outcome == "silent":
        assert bench.late_came.acquire(timeout=PATIENCE_S)
        assert len(bench.late) == 1
    else:
        assert outcome == Output(b'{"slow":true}')
        assert bench.late == []


def test_a_closed_domain_starts_nothing(bench: _Bench) -> None:
    """After close every call is unreachable, and a call in flight still ends."""
    bench.call("echo")
    bench.bounded.close()
    with pytest.raises(DomainUnreachable, match="closed"):
        bench.call("effect")
    assert bench.trial.effects == []


def test_a_call_in_flight_survives_the_close() -> None:
    """Draining must not change an outcome, and its worker ends afterwards."""
    bench = _made()
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(bench.call, "hang")
        assert bench.trial.entered.acquire(timeout=PATIENCE_S)
        bench.bounded.close()
        bench.trial.release.set()
        assert call.result(PATIENCE_S) == Output(b'{"released":true}')
    _wait_until(lambda: bench.workers() == 0)


def test_without_a_thread_nothing_is_started(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine out of threads is a failed step without an effect, not one in doubt."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(DomainUnreachable, match="no thread could be started"):
        bench.call("effect")
    assert bench.trial.received == []


def test_a_resting_worker_keeps_no_parameters_alive(bench: _Bench) -> None:
    """Parameters may be secrets; they must not stay in memory until the next call."""
    import gc

    def is_alive() -> bool:
        return any(
            isinstance(item, Invocation) and b"resting worker" in item.parameters_json
            for item in gc.get_objects()
        )

    bench.call("echo", raw=b'{"password":"hunter2 in a resting worker"}')
    assert is_alive()
    bench.trial.received.clear()
    # The worker tells its caller a moment before it lets go, and then it rests.
    _wait_until(lambda: not is_alive())


def _wait_until(condition: object) -> None:
    assert callable(condition)
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("the condition never became true")
