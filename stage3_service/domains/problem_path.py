"""The path of a value as a problem of a domains file names it, taken apart again."""

from __future__ import annotations

import re
from typing import Final

_SEGMENT: Final = re.compile(r"`((?:[^`]|``)*)`|([^.`\[]+)|\[(\d+)\]")


def problem_segments(path: str) -> list[str | int]:
    """Return the keys of `path`, and the indices of its arrays as numbers."""
    return [
        int(index) if index else quoted.replace("``", "`") if quoted else plain
        for quoted, plain, index in _SEGMENT.findall(path)
    ]
