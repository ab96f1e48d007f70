"""Guard who waits for what: works go in by urgency, answers come out only when they may be told.

Every decision about an answer is taken under one lock, so a caller who runs out of patience and
a writer who has just finished agree on what happened. After the first failure no answer says
"done" again, not even to works whose batch became durable: whoever was told so would go on.
Deliberately absent: the writing, and a second chance for anything that failed.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum, auto
from typing import Any, TypeVar

from servicekit.computing import Pause
from servicekit.store.errors import CommitOverdue, StoreClosed, StoreError, StorePoisoned
from servicekit.store.turn import Turn

__all__ = ["Errand", "Job", "Urgency", "WorkQueue"]

T = TypeVar("T")

_AFTER_POISON = "Start the service again: it reads the log anew and says what was kept."


class Urgency(IntEnum):
    """Say whose work goes first: OPERATOR work never waits behind a queue of PLAN work."""

    OPERATOR = 0
    PLAN = 1


class Errand(Enum):
    """Say what the writer does next."""

    COMMIT = auto()
    CHECKPOINT = auto()
    END = auto()


class Job:
    """One work on its way. `done` ends when `result` or `error` may be told."""

    __slots__ = ("done", "error", "queued_s", "result", "sees_clock", "settled", "work")

    def __init__(self, work: Callable[[Turn], Any], *, sees_clock: bool, queued_s: float) -> None:
        """Take a work that nobody has begun, and when it came (monotonic seconds)."""
        self.work = work
        self.queued_s = queued_s
        self.sees_clock = sees_clock
        self.result: Any = None
        self.error: BaseException | None = None
        self.settled = False
        self.done = Pause()


class WorkQueue:
    """Stand between any number of callers and one writer."""

    def __init__(self, *, on_poison: Callable[[StoreError], None] | None) -> None:
        """Begin empty. `on_poison` is called once, from the thread that found the failure."""
        self.poison: StoreError | None = None
        self._on_poison = on_poison
        self._operator: deque[Job] = deque()
        self._plan: deque[Job] = deque()
        self._condition = threading.Condition(threading.Lock())
        self._idle = False
        self._closing = False

    @property
    def depth(self) -> int:
        """Return how many works wait, without the batch under way."""
        return len(self._operator) + len(self._plan)

    # For callers.

    def submit(
        self,
        work: Callable[[Turn], T],
        urgency: Urgency,
        timeout_s: float,
        *,
        sees_clock: bool,
        queued_s: float,
    ) -> T:
        """Return what the work returned, once it may be told.

        Raises:
            CommitOverdue: `timeout_s` passed first. Nothing more is written.
            StorePoisoned: something failed to be written, now or earlier.
            StoreClosed: the store was closed.
            BaseException: whatever the work raised.
        """
        job = Job(work, sees_clock=sees_clock or urgency is Urgency.OPERATOR, queued_s=queued_s)
        with self._condition:
            if self.poison is not None:
                raise self._poisoned()
            if self._closing:
                raise StoreClosed("the store is closed", advice="Start the service again.")
            (self._plan if urgency else self._operator).append(job)
            if self._idle:
                self._condition.notify()
        if not job.done.wait(timeout_s):
            self._overdue(job, timeout_s)
        if job.error is None:
            result: T = job.result
            return result
        try:
            raise job.error
        finally:
            del job  # else its error's traceback and this frame would keep each other alive

    def close(self) -> None:
        """Take no more work; what is queued is still done."""
        with self._condition:
            self._closing = True
            self._condition.notify()

    # For the writer.

    def await_errand(self, wal_pages: int, *, calm_pages: int, full_pages: int) -> Errand:
        """Wait until there is something to do, and say what.

        A checkpoint is due from `calm_pages` on when nobody waits, from `full_pages` on in any
        case.
        """
        with self._condition:
            while True:
                if self.poison is not None:
                    return Errand.END
                if wal_pages >= full_pages:
                    return Errand.CHECKPOINT
                if self._operator or self._plan:
                    return Errand.COMMIT
                if self._closing:
                    return Errand.END
                if wal_pages >= calm_pages:
                    return Errand.CHECKPOINT
                self._idle = True
                self._condition.wait()
                self._idle = False

    def take(self) -> Job | None:
        """Return the next job, OPERATOR before PLAN, or None. Never waits."""
        # Only deques' own atomic operations: a caller that refuses the queue may pop at the same
        # time.
        for queue in (self._operator, self._plan):
            if queue:
                try:
                    return queue.popleft()
                except IndexError:
                    continue
        return None

    def tell(self, jobs: Sequence[Job]) -> None:
        """Let the answers of a finished batch go; after a failure, all of them say so."""
        with self._condition:
            poisoned = self.poison is not None
            for job in jobs:
                if poisoned and not job.settled:
                    job.error = self._poisoned()
                job.settled = True
        for job in jobs:
            job.done.end()

    def fail(self, cause: BaseException, jobs: Sequence[Job] = ()) -> None:
        """Poison the store, and refuse these jobs and all that wait."""
        error = StorePoisoned(
            f"the store failed: {type(cause).__name__}: {cause}", advice=_AFTER_POISON
        )
        error.__cause__ = cause
        with self._condition:
            first = self._set_poison(error)
        self.tell(jobs)
        self._refuse_and_announce(error if first else None)

    def _overdue(self, job: Job, timeout_s: float) -> None:
        error = CommitOverdue(
            f"a commit was not durable within {timeout_s:g} s", advice=_AFTER_POISON
        )
        with self._condition:
            if job.settled:
                return
            job.error = error
            job.settled = True
            first = self._set_poison(error)
        self._refuse_and_announce(error if first else None)

    def _set_poison(self, error: StoreError) -> bool:
        if self.poison is not None:
            return False
        self.poison = error
        self._condition.notify()
        return True

    def _refuse_and_announce(self, first: StoreError | None) -> None:
        while (job := self.take()) is not None:
            self.tell((job,))
        if first is not None and self._on_poison is not None:
            self._on_poison(first)

    def _poisoned(self) -> StorePoisoned:
        error = StorePoisoned(f"nothing is written any more: {self.poison}", advice=_AFTER_POISON)
        error.__cause__ = self.poison
        return error
