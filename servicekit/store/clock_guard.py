"""Guard the log's time: it never decreases, and follows the wall only while that is believable.

A clock that went back would let an expired credential live again; one that leapt ahead would poison
the high-water mark for good. Either stops PLAN work until a person has looked. Deliberately absent:
reading a clock, and repairing one.
"""

__all__ = ["MAX_AHEAD_US", "MAX_BEHIND_US", "ClockGuard"]

MAX_BEHIND_US = 2_000_000
"""How far the wall may lie behind the high-water mark: small corrections by NTP are normal."""

MAX_AHEAD_US = 300_000_000
"""How much more than the monotonic clock the wall may advance between two readings."""


class ClockGuard:
    """Turn readings of two clocks into the log's time. One thread uses it."""

    __slots__ = ("_last_monotonic_s", "_last_wall_us", "_offset_us", "high_water_us", "problem")

    def __init__(self, high_water_us: int, wall_us: int, monotonic_s: float) -> None:
        """Start from the mark that the log has reached and the clocks as they are now."""
        self.high_water_us = high_water_us
        self.problem: str | None = None
        self._offset_us = 0
        self._last_wall_us = wall_us
        self._last_monotonic_s = monotonic_s

    def read(self, wall_us: int, monotonic_s: float) -> int:
        """Return the log's time for these readings; it stands still while there is a `problem`."""
        leap_us = wall_us - self._last_wall_us - (monotonic_s - self._last_monotonic_s) * 1e6
        self._last_wall_us = wall_us
        self._last_monotonic_s = monotonic_s
        if self._offset_us:
            if wall_us >= self.high_water_us:
                self._offset_us = 0
            wall_us += self._offset_us
        if self.problem is None:
            if wall_us < self.high_water_us - MAX_BEHIND_US:
                behind_s = (self.high_water_us - wall_us) / 1e6
                self.problem = f"the wall clock is {behind_s:.1f} s behind the log"
            elif leap_us > MAX_AHEAD_US:
                self.problem = f"the wall clock leapt {leap_us / 1e6:.1f} s ahead"
        if self.problem is None and wall_us > self.high_water_us:
            self.high_water_us = wall_us
        return self.high_water_us

    def acknowledge(self, wall_us: int, monotonic_s: float) -> None:
        """Believe the clocks as they are now.

        If the wall is behind the mark, the log's time goes on from the mark at the wall's pace
        rather than stand still: nothing that expires lives longer for it.
        """
        self.problem = None
        self._offset_us = max(0, self.high_water_us - wall_us)
        self._last_wall_us = wall_us
        self._last_monotonic_s = monotonic_s
