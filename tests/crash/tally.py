"""Run an experiment at many points, and count what came of it."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from tests.crash.points import KillPoint
from tests.harness.slices import WHOLE, Slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.crash.forked import Ended

    Experiment = Callable[[Path, KillPoint], tuple[Ended, Callable[[], str]]]
    """Kill at a point, in a directory that is not there yet; return how it ended, and what judges
    it: that returns the row of the crash matrix, or raises AssertionError."""

MISSES_THAT_END_A_WINDOW = 5
"""Windows differ by a few calls from run to run: the longest of so many is as long as they get."""


@dataclass(slots=True)
class Tally:
    """Count the points at which a process was killed, by row of the crash matrix.

    `calls` counts them by the name of the system call that was not made any more. `violations`
    says where a promise was broken, and how.
    """

    directory: Path
    points: set[KillPoint] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    _runs: Iterator[int] = field(default_factory=count)

    def run(self, experiment: Experiment, points: Iterable[KillPoint]) -> None:
        """Run the experiment at each point."""
        for point in points:
            self.try_point(experiment, point)

    def run_all(self, experiment: Experiment, *, every: int = 1, part: Slice = WHOLE) -> None:
        """Run the experiment at every system call of its window, or at every so many-th.

        How long the window is nobody knows before its end: of five parts the second has the second
        call, the seventh, and so on.
        """
        misses = 0
        for number in count(1 + every * (part.number - 1), every * part.of):
            reached = self.try_point(experiment, KillPoint(number))
            misses = 0 if reached else misses + 1
            if misses == MISSES_THAT_END_A_WINDOW:
                return

    def try_point(self, experiment: Experiment, point: KillPoint) -> bool:
        """Run the experiment at one point; return whether the process got as far."""
        directory = self.directory / f"run-{next(self._runs)}"
        ended, judge = experiment(directory, point)
        if ended.killed_at is not None:
            self.points.add(point)
            self.calls[ended.trail[-1]] += 1
        try:
            self.rows[judge()] += 1
        except AssertionError as broken:
            text = "".join(traceback.format_exception(broken))
            self.violations.append(f"{directory.name}, killed at {point}: {text}")
        else:
            shutil.rmtree(directory)
        return ended.killed_at is not None

    def figure(self, what: str) -> str:
        """Say it in a line."""
        rows = ", ".join(f"{number} {row}" for row, number in sorted(self.rows.items()))
        calls = ", ".join(f"{name} {number}" for name, number in self.calls.most_common(6))
        return (
            f"{what}: killed at {len(self.points)} system calls ({calls}); {rows}; "
            f"{len(self.violations)} violations"
        )
