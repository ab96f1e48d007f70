"""Where a process is killed: at the entry of its n-th system call, or of its n-th of one name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class KillPoint:
    """Name a system call of a window by its number, from 1; of any name where `name` is None."""

    number: int
    name: str | None = None

    def __str__(self) -> str:
        """Return it as a person says it."""
        return f"{self.name or 'system call'} {self.number}"

    def is_reached(self, trail: Sequence[str]) -> bool:
        """Return whether the last call of the trail is this one."""
        if self.name is None:
            return len(trail) == self.number
        return trail[-1] == self.name and trail.count(self.name) == self.number


AFTER_THE_ANSWER: Final = KillPoint(1_000_000)
"""No window is as long: whoever waits for it is killed once the answer is there."""
