"""Guard what the writer can say of itself: how long works wait, how long a sync takes, what fails.

Plain numbers, taken where they happen and read by whoever asks. Deliberately absent: a clock, and
any say in what is written.
"""

from typing import Final

from servicekit.tally import Counts, Durations

__all__ = ["Pulse"]

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""From a fast disk's sync to the default time limit of a commit."""

_WORKS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Pulse:
    """The measurements of one writer since it was opened."""

    __slots__ = ("failures", "queue_wait_s", "sync_s", "works")

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self.queue_wait_s = Durations([()], _SECONDS)
        self.sync_s = Durations([()], _SECONDS)
        self.works = Durations([()], _WORKS)
        self.failures = Counts([()])

    def waited(self, seconds: float) -> None:
        """Take how long a work waited for its turn."""
        self.queue_wait_s.observe(seconds)

    def synced(self, seconds: float, *, works: int) -> None:
        """Take how long the commit of so many works took to become durable."""
        self.sync_s.observe(seconds)
        self.works.observe(works)

    def failed(self) -> None:
        """Count a work that was not made durable, or not known to be."""
        self.failures.add()
