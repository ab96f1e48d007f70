"""Paths into JSON values, as data bindings spell them.

A path is dot-separated segments; a segment is the key of an object, or a decimal index where the
value is an array; a segment in backticks is always a key, with each backtick inside it doubled
(in the manner of AIP-161). Deliberately absent: wildcards, slices, negative indexes, expressions,
and a path that means the whole value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from servicekit.ijson import JsonValue

_QUOTE: Final = "`"
_SEPARATOR: Final = "."
# Exactly one spelling per index: no sign, no leading zero, no digit outside ASCII.
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


class PathInvalid(ValueError):
    """Say why a text is not a path."""


class PathUnresolved(LookupError):
    """Say why a path leads nowhere in a value. Holds segments of the path, never a value."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Name one member. A quoted segment is a key; an unquoted one may also be an array's index."""

    name: str
    quoted: bool = False

    @property
    def index(self) -> int | None:
        """Return the array index this segment spells, if it spells one."""
        if self.quoted or _INDEX.fullmatch(self.name) is None:
            return None
        return int(self.name)


@dataclass(frozen=True, slots=True)
class Path:
    """Hold a parsed path: at least one segment, and the text it was parsed from."""

    text: str
    segments: tuple[Segment, ...]

    def __str__(self) -> str:
        return self.text


def parse_path(text: str) -> Path:
    """Parse a path.

    Raises:
        PathInvalid: the path or a segment is empty, or a backtick is out of place.
    """
    if not text:
        raise PathInvalid("must name at least one segment")
    segments: list[Segment] = []
    position = 0
    while True:
        segment, position = _parse_segment(text, position)
        segments.append(segment)
        if position == len(text):
            return Path(text, tuple(segments))
        position += len(_SEPARATOR)


def _parse_segment(text: str, start: int) -> tuple[Segment, int]:
    """Return the segment at `start` and the position behind it: a separator's, or the end."""
    if text.startswith(_QUOTE, start):
        return _parse_quoted(text, start + 1)
    end = text.find(_SEPARATOR, start)
    end = len(text) if end < 0 else end
    name = text[start:end]
    if not name:
        raise PathInvalid("has an empty segment")
    if _QUOTE in name:
        raise PathInvalid("has a backtick inside an unquoted segment")
    return Segment(name), end


def _parse_quoted(text: str, start: int) -> tuple[Segment, int]:
    """Return the segment whose opening backtick is just before `start`."""
    parts: list[str] = []
    position = start
    while True:
        end = text.find(_QUOTE, position)
        if end < 0:
            raise PathInvalid("has a backtick that is not closed")
        parts.append(text[position:end])
        if not text.startswith(_QUOTE, end + 1):
            break
        parts.append(_QUOTE)
        position = end + 2
    end += 1
    if end < len(text) and text[end] != _SEPARATOR:
        raise PathInvalid("has text behind a closing backtick")
    return Segment("".join(parts), quoted=True), end


def read_path(value: JsonValue, path: Path) -> JsonValue:
    """Return the value a path leads to, not a copy of it.

    Raises:
        PathUnresolved: a member is missing, or a value on the way has no members.
    """
    for position, segment in enumerate(path.segments):
        value = _member(value, path, position, segment)
    return value


def write_path(parameters: dict[str, JsonValue], path: Path, value: JsonValue) -> None:
    """Put a copy of `value` where a path leads in `parameters`, which are the caller's own.

    A missing object on the way is created. An element of an array may be replaced or written into;
    an array never grows.

    Raises:
        PathUnresolved: something that is neither object nor array is in the way, an index is out
            of range, or an array is addressed by a key.
    """
    container: JsonValue = parameters
    last = len(path.segments) - 1
    for position, segment in enumerate(path.segments[:last]):
        if isinstance(container, dict) and segment.name not in container:
            container[segment.name] = {}
        container = _member(container, path, position, segment)
    segment = path.segments[last]
    if isinstance(container, dict):
        container[segment.name] = copy_json(value)
    elif isinstance(container, list):
        container[_position_in(container, path, last, segment)] = copy_json(value)
    else:
        raise _unresolved(path, last, "the value before it is neither an object nor an array")


def copy_json(value: JsonValue) -> JsonValue:
    """Return a value that shares no container with `value`."""
    if isinstance(value, dict):
        return {key: copy_json(member) for key, member in value.items()}
    if isinstance(value, list):
        return [copy_json(member) for member in value]
    return value


def _member(value: JsonValue, path: Path, position: int, segment: Segment) -> JsonValue:
    if isinstance(value, dict):
        if segment.name not in value:
            raise _unresolved(path, position, "there is no such key")
        return value[segment.name]
    if isinstance(value, list):
        return value[_position_in(value, path, position, segment)]
    raise _unresolved(path, position, "the value before it is neither an object nor an array")


def _position_in(array: list[JsonValue], path: Path, position: int, segment: Segment) -> int:
    index = segment.index
    if index is None:
        raise _unresolved(path, position, "the value before it is an array, and this is no index")
    if index >= len(array):
        raise _unresolved(path, position, "the index is beyond the end of the array")
    return index


def _unresolved(path: Path, position: int, description: str) -> PathUnresolved:
    return PathUnresolved(f"segment {position + 1} of {len(path.segments)}: {description}")
