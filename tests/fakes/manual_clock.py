"""A clock that moves only when a test moves it."""

__all__ = ["ManualClock"]


class ManualClock:
    """Stand at one wall time and one monotonic time until advanced; a wall can also be stepped."""

    def __init__(self, now_us: int = 1_767_225_600_000_000) -> None:
        self.wall_us = now_us
        self.elapsed_s = 1_000.0

    def now_us(self) -> int:
        """Return the wall time in microseconds."""
        return self.wall_us

    def monotonic_s(self) -> float:
        """Return the monotonic time in seconds."""
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall_us += round(seconds * 1e6)
        self.elapsed_s += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock by hand; no time passes."""
        self.wall_us += round(seconds * 1e6)
