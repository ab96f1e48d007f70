"""The builtin domain `text`: pure functions of strings.

Guards nothing and needs no guarding: no method has an effect, reads anything but its parameters,
or waits. Each takes time linear in parameters that a plan bounds to 256 KiB. Deliberately absent:
patterns (a regular expression can take exponential time) and anything that depends on a locale.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from pydantic import Field

from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import MethodRefused, Parameters, example
from stage3_service.adapters.builtin.pure_domain import PureDomain, pure_method

MAX_TEXT_CHARACTERS = 65_536
MAX_RESULT_BYTES = 262_144
"""A text result is at most what fits into the parameters of a further step."""

MAX_PARTS = 1024
"""Bound of a list of strings, taken or returned."""

_SMALL_RESULT_BYTES = 128

_Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
_NonEmptyText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


class TextParameters(Parameters):
    """Parameters of the methods that take one text."""

    text: _Text


class ConcatParameters(Parameters):
    """Parameters of `concat`."""

    parts: Annotated[list[_Text], Field(max_length=MAX_PARTS)]
    separator: _Text


class ReplaceParameters(Parameters):
    """Parameters of `replace`."""

    text: _Text
    old: _NonEmptyText
    new: _Text


class SplitParameters(Parameters):
    """Parameters of `split`."""

    text: _Text
    separator: _NonEmptyText


def upper(parameters: TextParameters) -> JsonValue:
    """Return the text in upper case, by Unicode's full case mapping."""
    return {"text": parameters.text.upper()}


def lower(parameters: TextParameters) -> JsonValue:
    """Return the text in lower case, by Unicode's full case mapping."""
    return {"text": parameters.text.lower()}


def trim(parameters: TextParameters) -> JsonValue:
    """Return the text without Unicode white space at its ends."""
    return {"text": parameters.text.strip()}


def concat(parameters: ConcatParameters) -> JsonValue:
    """Return the parts in order with the separator between them.

    Raises:
        MethodRefused: the result would be too long; nothing that large is built.

    """
    gaps = max(len(parameters.parts) - 1, 0)
    _refuse_longer(sum(map(len, parameters.parts)) + gaps * len(parameters.separator))
    return {"text": parameters.separator.join(parameters.parts)}


def replace(parameters: ReplaceParameters) -> JsonValue:
    """Return the text with every occurrence of `old`, from the left, replaced by `new`.

    Raises:
        MethodRefused: the result would be too long; nothing that large is built.

    """
    found = parameters.text.count(parameters.old)
    growth = len(parameters.new) - len(parameters.old)
    _refuse_longer(len(parameters.text) + found * growth)
    return {"text": parameters.text.replace(parameters.old, parameters.new)}


def split(parameters: SplitParameters) -> JsonValue:
    """Return the parts of the text between the separators, empty ones included.

    Raises:
        MethodRefused: there would be too many parts.

    """
    parts = parameters.text.count(parameters.separator) + 1
    if parts > MAX_PARTS:
        raise MethodRefused(f"the text has {parts} parts, {MAX_PARTS} are allowed")
    return {"parts": list(parameters.text.split(parameters.separator))}


def word_count(parameters: TextParameters) -> JsonValue:
    """Return the number of words: maximal runs without Unicode white space."""
    return {"words": len(parameters.text.split())}


def sha256(parameters: TextParameters) -> JsonValue:
    """Return the SHA-256 of the text's UTF-8 bytes in lower-case hexadecimal."""
    return {"sha256": hashlib.sha256(parameters.text.encode()).hexdigest()}


def _refuse_longer(characters: int) -> None:
    # A character is at least one byte, so this refuses only what the bound on bytes would refuse
    # too, but before a short plan has grown into gigabytes.
    if characters > MAX_RESULT_BYTES:
        raise MethodRefused(f"the result would have {characters} characters")


_ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
TEXT: Final = PureDomain(
    "text",
    pure_method(
        upper,
        TextParameters,
        "Turns a text into upper case.",
        MAX_RESULT_BYTES,
        example({"text": "hello"}, {"text": "HELLO"}),
    ),
    pure_method(
        lower,
        TextParameters,
        "Turns a text into lower case.",
        MAX_RESULT_BYTES,
        example({"text": "Hello"}, {"text": "hello"}),
    ),
    pure_method(
        trim,
        TextParameters,
        "Removes white space at both ends.",
        MAX_RESULT_BYTES,
        example({"text": "  hello "}, {"text": "hello"}),
    ),
    pure_method(
        concat,
        ConcatParameters,
        "Joins texts with a separator.",
        MAX_RESULT_BYTES,
        example({"parts": ["a", "b"], "separator": "-"}, {"text": "a-b"}),
    ),
    pure_method(
        replace,
        ReplaceParameters,
        "Replaces every occurrence.",
        MAX_RESULT_BYTES,
        example({"text": "a b", "old": " ", "new": "_"}, {"text": "a_b"}),
    ),
    pure_method(
        split,
        SplitParameters,
        "Splits a text at a separator.",
        MAX_RESULT_BYTES,
        example({"text": "a,b", "separator": ","}, {"parts": ["a", "b"]}),
    ),
    pure_method(
        word_count,
        TextParameters,
        "Counts the words.",
        _SMALL_RESULT_BYTES,
        example({"text": "two words"}, {"words": 2}),
    ),
    pure_method(
        sha256,
        TextParameters,
        "Hashes the UTF-8 of a text.",
        _SMALL_RESULT_BYTES,
        example({"text": "abc"}, {"sha256": _ABC_SHA256}),
    ),
)
