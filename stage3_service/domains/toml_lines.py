"""On which line of a TOML text the value at a path is written.

Guards nothing; it spares a person a search. The standard library's parser keeps no positions, and
a second parser could read the text otherwise than the one that decides. So the same parser is
asked: a path stands on the first statement after which the text before it holds the path.
Deliberately absent: columns, and a guess where the text cannot be cut.
"""

from __future__ import annotations

import re
import tomllib
from typing import Final

from stage3_service.domains.problem_path import problem_segments

_STATEMENT: Final = re.compile(rb"""[ \t]*(\[|[A-Za-z0-9_"'-])""")


class TomlLines:
    """Line numbers of one text, from 1. The text is TOML: it was parsed before anybody asks."""

    def __init__(self, text: bytes) -> None:
        self._lines = text.splitlines(keepends=True)
        # Where a statement may begin, and the end of the text. A line inside a value that spans
        # several looks like one too; the text before it does not parse.
        self._cuts = [
            number for number, line in enumerate(self._lines) if _STATEMENT.match(line)
        ] + [len(self._lines)]

    def line_of(self, path: str) -> int | None:
        """Return the line on which the value at `path` begins, or the nearest table above it."""
        segments = [str(segment) for segment in problem_segments(path)]
        while segments:
            if self._holds(len(self._cuts) - 1, segments):
                return self._first(segments)
            segments.pop()
        return None

    def _first(self, segments: list[str]) -> int:
        """Find the first cut with the path before it; the statement is the one that ends there."""
        low, high = 0, len(self._cuts) - 1
        while low < high:
            middle = (low + high) // 2
            # Backwards to a cut that is one; none holds what the ones before it do not.
            while middle > low and self._parsed(middle) is None:
                middle -= 1
            if self._holds(middle, segments):
                high = middle
            elif middle == low:
                low = self._next_cut(low, high)
            else:
                low = self._next_cut(middle, high)
        begin = high - 1
        while begin > 0 and self._parsed(begin) is None:
            begin -= 1
        return self._cuts[max(begin, 0)] + 1

    def _next_cut(self, cut: int, last: int) -> int:
        after = cut + 1
        while after < last and self._parsed(after) is None:
            after += 1
        return after

    def _holds(self, cut: int, segments: list[str]) -> bool:
        value: object = self._parsed(cut)
        for segment in segments:
            match value:
                case dict() if segment in value:
                    value = value[segment]
                case list() if segment.isdecimal() and int(segment) < len(value):
                    value = value[int(segment)]
                case _:
                    return False
        return True

    def _parsed(self, cut: int) -> object:
        text = b"".join(self._lines[: self._cuts[cut]])
        try:
            return tomllib.loads(text.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
            return None
