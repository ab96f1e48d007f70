"""On which line of a JSON text the value at a path is written.

Guards nothing; it spares a person a search. The parser that decides says where each value stands.
Deliberately absent: columns.
"""

from __future__ import annotations

from servicekit.ijson import JsonLimits, parse
from stage3_service.domains.problem_path import problem_segments


class JsonLines:
    """Line numbers of one text, from 1. The text was parsed by these limits before anybody asks."""

    def __init__(self, text: bytes, limits: JsonLimits) -> None:
        self._text = text
        self._spans = parse(text, limits, span_depth=limits.max_depth).spans

    def line_of(self, path: str) -> int | None:
        """Return the line on which the value at `path` begins, or the nearest one around it."""
        segments = tuple(problem_segments(path))
        while segments:
            if (span := self._spans.get(segments)) is not None:
                return self._text.count(b"\n", 0, span[0]) + 1
            segments = segments[:-1]
        return None
