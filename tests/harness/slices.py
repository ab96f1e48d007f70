"""Which part of a long run this is: all of it, or one of so many equal parts.

`STAGEGATE_LONG_SLICE=3/20` in the environment runs the third of twenty parts of every long test
that is made of numbered cases; each case keeps its number, so that the parts together are the
whole. A figure says which part it is of. Deliberately absent: any memory of which parts have run.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

VARIABLE = "STAGEGATE_LONG_SLICE"


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold one of `of` equal parts, counted from 1."""

    number: int = 1
    of: int = 1

    def cases(self, count: int) -> range:
        """Return the cases of this part, of so many that are counted from 0."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)

    def label(self, figure: str) -> str:
        """Say before a figure that it is of a part, if it is."""
        return figure if self.of == 1 else f"part {self.number} of {self.of}: {figure}"


WHOLE = Slice()


def slice_of_long_run() -> Slice:
    """Return the part that the environment asks for.

    Raises:
        ValueError: it is not spelled as one of so many, as in `3/20`.
    """
    spelled = os.environ.get(VARIABLE, "1/1")
    match = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", spelled)
    if match is None or int(match[1]) > int(match[2]):
        message = f"{VARIABLE}: {spelled!r} is no part of a run; write it as in 3/20"
        raise ValueError(message)
    return Slice(int(match[1]), int(match[2]))
