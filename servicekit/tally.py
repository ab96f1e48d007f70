"""Guard what a service may count: a closed set of names, each there from the start at zero.

A counter that appears with its first event hides that event from every rate. What is counted under
a name outside its set is put under OTHER, so that no caller can choose a label. Deliberately
absent: a format, a clock, and any registry; whoever reads a tally asks it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final

__all__ = ["OTHER", "Counts", "Durations", "Key", "Spread"]

Key = tuple[str, ...]

OTHER: Final = "other"
"""Stands for every name outside a closed set."""


class Counts:
    """Count events by name; safe for any number of threads. A name is a tuple of label values."""

    __slots__ = ("_counts", "_lock", "_other")

    def __init__(self, keys: Iterable[Key]) -> None:
        """Begin every key at zero."""
        self._counts: dict[Key, int] = dict.fromkeys(keys, 0)
        self._other: Key = tuple(OTHER for _ in next(iter(self._counts), ()))
        self._lock = Lock()

    def add(self, *key: str, count: int = 1) -> None:
        """Count `count` events; never raises, whatever the key."""
        with self._lock:
            counts = self._counts
            known = key if key in counts else self._other
            counts[known] = counts.get(known, 0) + count

    def extend(self, keys: Iterable[Key]) -> None:
        """Begin further keys at zero; those that are there keep their counts."""
        with self._lock:
            for key in keys:
                self._counts.setdefault(key, 0)

    def read(self) -> Mapping[Key, int]:
        """Return the counts as they are at one moment."""
        with self._lock:
            return dict(self._counts)


@dataclass(frozen=True, slots=True)
class Spread:
    """Observations of one name: how many up to each bound and beyond the last, and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Durations:
    """Spread observations (seconds, or any amount) over fixed bounds; safe for any threads."""

    __slots__ = ("_bounds", "_counts", "_lock", "_totals")

    def __init__(self, keys: Iterable[Key], bounds: tuple[float, ...]) -> None:
        """Begin every key empty. A bound is inclusive, and bounds ascend."""
        self._bounds = bounds
        self._counts: dict[Key, list[int]] = {key: [0] * (len(bounds) + 1) for key in keys}
        self._totals: dict[Key, float] = dict.fromkeys(self._counts, 0.0)
        self._lock = Lock()

    def extend(self, keys: Iterable[Key]) -> None:
        """Begin further keys empty; those that are there keep what they have."""
        with self._lock:
            for key in keys:
                self._totals.setdefault(key, 0.0)
                self._counts.setdefault(key, [0] * (len(self._bounds) + 1))

    def observe(self, amount: float, *key: str) -> None:
        """Take one observation; one of an unknown name is dropped."""
        counts = self._counts.get(key)
        if counts is None:
            return
        position = bisect_left(self._bounds, amount)
        with self._lock:
            counts[position] += 1
            self._totals[key] += amount

    def read(self) -> Mapping[Key, Spread]:
        """Return every spread as it is at one moment."""
        with self._lock:
            return {
                key: Spread(self._bounds, tuple(counts), self._totals[key])
                for key, counts in self._counts.items()
            }
