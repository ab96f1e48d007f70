"""Reading JSON text: by hand near the root, where byte ranges matter, by the scanner below it.

It guards the grammar (RFC 8259), one meaning per key, and the length of keys; numbers go through
servicekit.ijson_number.

Deliberately absent: limits on depth and counts. They are checked before this code runs, which
recurses as deep as the text does.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, TypeAlias, cast

from servicekit.ijson_number import Flaw, read_float, read_integer

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonPath: TypeAlias = tuple[str | int, ...]


class Walk:
    """Read one document, by hand down to the depth `by_hand`.

    `here` is the path of the value being read, so that a refusal can name it. `spans` are the
    values read by hand, in characters. With `seek`, a flaw that the same text already gave, the
    values read mean nothing; only the place of the flaw is found.
    """

    __slots__ = ("_by_hand", "_max_key_bytes", "_read", "_text", "here", "spans")

    def __init__(
        self, text: str, *, max_key_bytes: int, by_hand: int, seek: Flaw | None = None
    ) -> None:
        self._text = text
        self._max_key_bytes = max_key_bytes
        self._by_hand = by_hand
        decoder = _seeker(max_key_bytes, seek) if seek else _decoder(max_key_bytes)
        self._read = decoder.raw_decode
        self.here: JsonPath = ()
        self.spans: list[tuple[JsonPath, int, int]] = []

    def document(self) -> JsonValue:
        """Read the document.

        Raises: Flaw for a value that is refused, JSONDecodeError for text that is not JSON.
        """
        value, end = self._value(_SPACE(self._text, 0).end(), (), 0)
        end = _SPACE(self._text, end).end()
        if end != len(self._text):
            raise JSONDecodeError("text after the document", self._text, end)
        return value

    def _value(self, start: int, path: JsonPath, depth: int) -> tuple[JsonValue, int]:
        if depth < self._by_hand:
            first = self._text[start : start + 1]
            if first == "{":
                return self._object(start, path, depth + 1)
            if first == "[":
                return self._array(start, path, depth + 1)
        self.here = path
        return self._read(self._text, start)

    def _object(self, start: int, path: JsonPath, depth: int) -> tuple[JsonValue, int]:
        text = self._text
        members: dict[str, JsonValue] = {}
        position = _SPACE(text, start + 1).end()
        if text[position : position + 1] == "}":
            return members, position + 1
        while True:
            key, position = self._key(position, path)
            here = (*path, key)
            if key in members:
                self.here = here
                raise Flaw(_DUPLICATE)
            members[key], end = self._value(position, here, depth)
            self.spans.append((here, position, end))
            separator = _SEPARATOR(text, end)
            if separator is None or separator[1] == "]":
                raise JSONDecodeError("neither , nor }", text, end)
            if separator[1] == "}":
                return members, separator.end(1)
            position = separator.end()

    def _key(self, start: int, path: JsonPath) -> tuple[str, int]:
        text = self._text
        if (plain := _PLAIN_KEY(text, start)) is not None:
            key, position = plain[1], plain.end()
        else:
            self.here = path
            if text[start : start + 1] != '"':
                raise JSONDecodeError("no key", text, start)
            key, end = self._read(text, start)
            if (colon := _COLON(text, end)) is None:
                raise JSONDecodeError("no colon", text, end)
            position = colon.end()
        if len(key) * _LONGEST_CHARACTER > self._max_key_bytes:
            self.here = path
            _refuse_long_keys((key,), self._max_key_bytes)
        return key, position

    def _array(self, start: int, path: JsonPath, depth: int) -> tuple[JsonValue, int]:
        text = self._text
        elements: list[JsonValue] = []
        position = _SPACE(text, start + 1).end()
        if text[position : position + 1] == "]":
            return elements, position + 1
        while True:
            here = (*path, len(elements))
            element, end = self._value(position, here, depth)
            elements.append(element)
            self.spans.append((here, position, end))
            separator = _SEPARATOR(text, end)
            if separator is None or separator[1] == "}":
                raise JSONDecodeError("neither , nor ]", text, end)
            if separator[1] == "]":
                return elements, separator.end(1)
            position = separator.end()


# Matches everywhere, if only nothing: never None.
_SPACE: Final = cast("Callable[[str, int], re.Match[str]]", re.compile(r"[ \t\n\r]*").match)
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*").match
_SEPARATOR: Final = re.compile(r"[ \t\n\r]*([,\]}])[ \t\n\r]*").match
_PLAIN_KEY: Final = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*').match
_LONGEST_CHARACTER: Final = 4
_DUPLICATE: Final = "a key that occurs twice"


@lru_cache(maxsize=8)
def _decoder(max_key_bytes: int) -> JSONDecoder:
    return JSONDecoder(
        object_pairs_hook=_object_reader(max_key_bytes),
        parse_float=read_float,
        parse_int=read_integer,
        parse_constant=_refuse_constant,
    )


def _seeker(max_key_bytes: int, flaw: Flaw) -> JSONDecoder:
    """Find the number of a flaw by its spelling, which costs less than judging each again."""

    def read_number(text: str) -> int:
        if text == flaw.number:
            raise flaw
        return 0

    return JSONDecoder(
        object_pairs_hook=_object_reader(max_key_bytes),
        parse_float=read_number,
        parse_int=read_number,
        parse_constant=_refuse_constant,
    )


def _refuse_constant(_text: str) -> float:
    raise Flaw("NaN or Infinity")


def _object_reader(max_key_bytes: int) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    certainly_short = max_key_bytes // _LONGEST_CHARACTER

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise Flaw(_DUPLICATE)
        for key in members:
            if len(key) > certainly_short:
                _refuse_long_keys(members, max_key_bytes)
                break
        return members

    return read_object


def _refuse_long_keys(keys: Iterable[str], max_key_bytes: int) -> None:
    for key in keys:
        if len(key.encode("utf-8", "surrogatepass")) > max_key_bytes:
            raise Flaw(f"a key longer than {max_key_bytes} bytes")
