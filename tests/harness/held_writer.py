"""A store whose writer hangs, as in a sync of a dying disk, for tests of what follows from it.

A bound that is merely very short does not do: a commit may be durable before its caller has come to
wait for it, and then it is in time however short the bound is.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from servicekit.clock import SystemClock
from servicekit.store.errors import StoreError
from servicekit.store.ledger import Ledger
from servicekit.store.queue import Urgency

SOON_S = 0.01
HELD_S = 30


@contextmanager
def held_writer(ledger: Ledger) -> Iterator[None]:
    """Keep the writer busy inside, so that each commit there is overdue, and soon."""
    begun, released = Event(), Event()

    def hold(_: object) -> None:
        begun.set()
        released.wait()

    def commit() -> None:
        # Past the ledger, which counts what fails: its own commit is not what a test asks about.
        with suppress(StoreError):
            ledger._queue.submit(
                hold, Urgency.PLAN, HELD_S, sees_clock=True, queued_s=SystemClock().monotonic_s()
            )

    holder = Thread(target=commit)
    holder.start()
    assert begun.wait(5)
    ledger._commit_timeout_s = SOON_S
    try:
        yield
    finally:
        released.set()
        holder.join()
