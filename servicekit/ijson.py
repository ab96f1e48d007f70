"""Strict I-JSON (RFC 7493): the only door through which JSON from outside becomes a value.

It guards one property: a document that is accepted means the same to every conforming reader. So
whatever two readers could take differently is refused: duplicate keys, numbers that a double does
not hold exactly as written, minus zero, integers beyond 2^53-1, lone surrogates, U+0000, a byte
order mark, any encoding but UTF-8. Whatever could exhaust a reader is bounded.

Deliberately absent: options that loosen a rule, streaming, and any repair of what was received.
The accepted language is specified in docs/spec/plan-json.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from json import JSONDecodeError
from typing import Final

from servicekit.ijson_number import Flaw
from servicekit.ijson_walk import JsonPath, JsonValue, Walk

__all__ = ["JsonLimits", "JsonPath", "JsonRefused", "JsonValue", "Parsed", "parse"]

_DEEPEST_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Bound a document; every limit is inclusive.

    Depth counts open brackets. Values counts every value, the document itself included and keys
    excluded. Keys and strings are measured unescaped, in bytes of UTF-8.

    Raises: ValueError when `max_depth` is outside 1 to 100, beyond which the interpreter's stack
    and not this limit would decide.
    """

    max_bytes: int = 262_144
    max_depth: int = 32
    max_values: int = 10_000
    max_key_bytes: int = 128
    max_string_bytes: int = 65_536

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= _DEEPEST_LIMIT:
            raise ValueError(f"max_depth must be between 1 and {_DEEPEST_LIMIT}")


class JsonRefused(ValueError):
    """Say why a document was refused.

    `path` names the value, such as `steps[1].parameters.x`, or one that contains it; it is empty
    for the document as a whole. `description` repeats nothing of the document.
    """

    def __init__(self, path: str, description: str) -> None:
        super().__init__(f"{path}: {description}" if path else description)
        self.path = path
        self.description = description


@dataclass(frozen=True, slots=True)
class Parsed:
    """Hold an accepted document.

    `spans` maps the path of every value at depth 1 to `span_depth` to the half-open range of bytes
    that spell it, without the white space around it.
    """

    value: JsonValue
    spans: Mapping[JsonPath, tuple[int, int]] = field(default_factory=dict)


def parse(data: bytes, limits: JsonLimits, *, span_depth: int = 0) -> Parsed:
    """Parse one document, or refuse it.

    A number spelled with a fraction or an exponent becomes a float, any other an int. Time grows
    linearly with the size of `data`, whatever it holds.

    Raises: JsonRefused.
    """
    text = _decode(data, limits)
    count_values = _refuse_excess(data, limits)
    walk = Walk(text, max_key_bytes=limits.max_key_bytes, by_hand=span_depth)
    try:
        value = walk.document()
    except Flaw as flaw:
        raise _located(text, limits, flaw) from None
    except JSONDecodeError as error:
        raise _not_json(text, error) from None
    if count_values or len(data) > limits.max_string_bytes or _SUSPECT_ESCAPE.search(text):
        _Inspection(limits).inspect(value, ())
    return Parsed(value, _in_bytes(text, walk.spans))


# A string, or what is left of the text where it has no end. Possessive: no input backtracks.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_NESTING: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
# Only these escapes can spell U+0000 or half a surrogate pair; raw, neither passes the decoding.
_SUSPECT_ESCAPE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def _decode(data: bytes, limits: JsonLimits) -> str:
    if len(data) > limits.max_bytes:
        raise JsonRefused("", f"longer than {limits.max_bytes} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        raise JsonRefused("", "starts with a byte order mark")
    try:
        return data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise JsonRefused("", f"not UTF-8 at byte {error.start}") from None


def _refuse_excess(data: bytes, limits: JsonLimits) -> bool:
    """Refuse what punctuation alone shows to be too much; say whether values must be counted.

    A document has more values than it has commas outside strings, and at most one more than commas
    and opening brackets together. Those inside strings make the first, cheap count too high, never
    too low.
    """
    opening = data.count(b"[") + data.count(b"{")
    count_values = opening + data.count(b",") >= limits.max_values
    if opening > limits.max_depth or count_values:
        outside = _STRING.sub(b"", data)
        if outside.count(b",") >= limits.max_values:
            raise JsonRefused("", f"more than {limits.max_values} values")
        brackets = outside.translate(None, _NOT_BRACKETS)
        if max(accumulate(map(_NESTING.__getitem__, brackets)), default=0) > limits.max_depth:
            raise JsonRefused("", f"nested deeper than {limits.max_depth}")
    return count_values


def _located(text: str, limits: JsonLimits, flaw: Flaw) -> JsonRefused:
    """Read again, all by hand, for the path that the scanner could not tell."""
    walk = Walk(text, max_key_bytes=limits.max_key_bytes, by_hand=limits.max_depth, seek=flaw)
    try:
        walk.document()
    except Flaw as found:
        flaw = found
    return JsonRefused(_dotted(walk.here), flaw.description)


def _not_json(text: str, error: JSONDecodeError) -> JsonRefused:
    return JsonRefused("", f"not JSON at byte {len(text[: error.pos].encode())}")


class _Inspection:
    """Count values and check strings of what was read."""

    def __init__(self, limits: JsonLimits) -> None:
        self._limits = limits
        self._values = 0

    def inspect(self, value: JsonValue, path: JsonPath) -> None:
        self._values += 1
        if self._values > self._limits.max_values:
            raise JsonRefused("", f"more than {self._limits.max_values} values")
        if isinstance(value, str):
            self._text(value, path, "string", self._limits.max_string_bytes)
        elif isinstance(value, dict):
            for key, member in value.items():
                self._text(key, path, "key", self._limits.max_key_bytes)
                self.inspect(member, (*path, key))
        elif isinstance(value, list):
            for index, element in enumerate(value):
                self.inspect(element, (*path, index))

    def _text(self, text: str, path: JsonPath, kind: str, max_bytes: int) -> None:
        try:
            size = len(text.encode("utf-8", "strict"))
        except UnicodeEncodeError:
            raise JsonRefused(_dotted(path), f"a lone surrogate in a {kind}") from None
        if size > max_bytes:
            raise JsonRefused(_dotted(path), f"a {kind} longer than {max_bytes} bytes")
        if "\x00" in text:
            raise JsonRefused(_dotted(path), f"U+0000 in a {kind}")


_NAMEABLE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


def _dotted(path: JsonPath) -> str:
    """Write a path down to the last key that is fit to be shown."""
    written = ""
    for segment in path:
        if isinstance(segment, int):
            written += f"[{segment}]"
        elif _NAMEABLE(segment):
            written += f".{segment}" if written else segment
        else:
            break
    return written


def _in_bytes(text: str, spans: list[tuple[JsonPath, int, int]]) -> dict[JsonPath, tuple[int, int]]:
    """Turn offsets in characters into offsets in bytes, in one pass over the text."""
    if text.isascii():
        return {path: (start, end) for path, start, end in spans}
    offsets: dict[int, int] = {}
    position = offset = 0
    for boundary in sorted({edge for _, start, end in spans for edge in (start, end)}):
        offset += len(text[position:boundary].encode())
        offsets[boundary] = offset
        position = boundary
    return {path: (offsets[start], offsets[end]) for path, start, end in spans}
