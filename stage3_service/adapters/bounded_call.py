"""Runs the methods of one in-process domain under a real time limit.

Guards the plan from a domain that hangs: the caller waits for as long as the method may take and
no longer, then leaves the call behind and says that its outcome is not known. Calls left behind
are counted, and when there are too many nothing further is started. Deliberately absent: any way
to stop a running method. Python has none that is safe, so the promise is about the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import assert_never

from servicekit.computing import elsewhere
from stage3_service.adapters.shielded_call import OnRaised, Outcome, RaisedError, outcome_of, report
from stage3_service.adapters.time_allowed import allotted
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import (
    Answer,
    Domain,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)

DEFAULT_MAX_ABANDONED = 8
"""A domain that left eight calls hanging is down; each costs a thread until it returns."""

DEFAULT_MAX_IDLE = 32
"""As many resting workers as plans run at once: fewer would start a thread for each call."""

GIVEN_UP = MethodFailed("the call was given up before it began and had no effect")

OnLate = Callable[[str, Answer], None]
"""Takes the idempotency key and the answer of a call whose caller had left.

It is called on the domain's worker thread and may be called before the caller that left has
finished recording that it did.
"""


class _Call:
    """One call in flight. Its last two fields are guarded by the lock of the domain."""

    __slots__ = ("abandoned", "done", "invocation", "outcome")

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.done = threading.Lock()
        self.done.acquire()
        self.outcome: Outcome | None = None
        self.abandoned = False


class _Worker:
    """A thread that rests until it is handed a call.

    A plain lock is the signal in both directions: an event or a queue would cost twice the time
    on a path that every step of every plan takes.
    """

    __slots__ = ("call", "wake")

    def __init__(self, call: _Call) -> None:
        self.call: _Call | None = call
        self.wake = threading.Lock()
        self.wake.acquire()

    def hand(self, call: _Call | None) -> None:
        """Wake the worker with a call, or with None to end it."""
        self.call = call
        self.wake.release()


class BoundedCall:
    """A domain whose every call ends in time, whatever its code does.

    Concurrency: any number of callers; each call has a worker of its own while it runs. At most
    `max_abandoned` calls may be left behind before new ones are refused; callers already waiting
    at that moment may still add theirs, so threads are bounded by `max_abandoned` plus the
    callers plus `max_idle`.
    """

    def __init__(
        self,
        declaration: DomainDeclaration,
        domain: Domain,
        *,
        on_late: OnLate,
        on_raised: OnRaised,
        max_abandoned: int = DEFAULT_MAX_ABANDONED,
        max_idle: int = DEFAULT_MAX_IDLE,
    ) -> None:
        self._declaration = declaration
        self._domain = domain
        self._on_late = on_late
        self._on_raised = on_raised
        self._max_abandoned = max_abandoned
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._abandoned = 0
        self._closed = False
        self._numbers = count(1)

    @property
    def abandoned(self) -> int:
        """How many calls were left behind and have not returned yet."""
        return self._abandoned

    def invoke(self, invocation: Invocation) -> Answer:
        """Run one method and wait for it, at most for the time it may take.

        Raises:
            DomainUnreachable: nothing was started: the method is not declared, no time was left,
                too many calls hang, no thread could be started, or the domain is closed.
            DomainSilent: it did not answer in time; its answer, if any, goes to `on_late`.

        """
        handed = allotted(self._declaration, invocation)
        call = _Call(handed)
        self._start(call)
        with elsewhere():
            answered = call.done.acquire(timeout=handed.deadline_s)
        if not answered:
            with self._lock:
                # The answer may have come between the timeout and this line: then it is in time.
                if call.outcome is None:
                    call.abandoned = True
                    self._abandoned += 1
        if call.outcome is None:
            raise DomainSilent(f"no answer within {handed.deadline_s:g} seconds")
        if isinstance(call.outcome, Output | MethodFailed):
            return call.outcome
        raise call.outcome

    def close(self) -> None:
        """Refuse new calls and end the resting workers; calls in flight end as they would.

        Workers are daemon threads: one that hangs does not keep the process from ending.
        """
        with self._lock:
            self._closed = True
            resting, self._idle = self._idle, []
        for worker in resting:
            worker.hand(None)

    def _start(self, call: _Call) -> None:
        with self._lock:
            if self._closed:
                raise DomainUnreachable("the domain is closed")
            if self._abandoned >= self._max_abandoned:
                raise DomainUnreachable(f"{self._abandoned} earlier calls have not returned")
            worker = self._idle.pop() if self._idle else None
        if worker is not None:
            worker.hand(call)
            return
        name = f"domain-{self._declaration.name}-{next(self._numbers)}"
        thread = threading.Thread(target=self._work, args=(_Worker(call),), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise DomainUnreachable("no thread could be started for the call") from error

    def _work(self, worker: _Worker) -> None:
        while (call := worker.call) is not None:
            worker.call = None
            if not self._answer(worker, call):
                return
            del call  # a resting worker must not keep parameters and answers alive
            worker.wake.acquire()

    def _answer(self, worker: _Worker, call: _Call) -> bool:
        """Run the call and deliver its outcome; return whether the worker is kept."""
        name = self._declaration.name
        outcome = outcome_of(name, self._domain, call.invocation, self._on_raised)
        with self._lock:
            if not call.abandoned:
                call.outcome = outcome
                # Rest before the caller is told: its next step shall find this worker again.
                kept = self._rest(worker)
                call.done.release()
                return kept
        self._deliver_late(call.invocation, outcome)
        with self._lock:
            self._abandoned -= 1
            return self._rest(worker)

    def _rest(self, worker: _Worker) -> bool:
        if self._closed or len(self._idle) >= self._max_idle:
            return False
        self._idle.append(worker)
        return True

    def _deliver_late(self, invocation: Invocation, outcome: Outcome) -> None:
        match outcome:
            case Output() | MethodFailed():
                answer: Answer = outcome
            case DomainUnreachable():
                answer = GIVEN_UP
            case DomainSilent():
                return  # still no answer: there is nothing to add to what the log says
            case _:
                assert_never(outcome)
        try:
            self._on_late(invocation.idempotency_key, answer)
        except Exception as error:  # noqa: BLE001 - the worker is needed whatever the log's state
            raised = RaisedError(
                self._declaration.name, invocation.method, invocation.idempotency_key, error
            )
            report(self._on_raised, raised)
