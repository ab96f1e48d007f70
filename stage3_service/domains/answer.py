"""Reads what a domain answered, as what it is: untrusted input.

Guards everything behind it (results, bindings, the log) from an answer that is not strict I-JSON
or is larger than its method declared. Deliberately absent: repair of any kind. An answer is taken
as it came or not at all.
"""

from __future__ import annotations

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse

MAX_ANSWER_DEPTH = 32
"""As deep as a plan's own parameters, so that any part of an answer may be bound into one."""

MAX_ANSWER_VALUES = 100_000
"""Ten times a plan's bound: a mebibyte of small numbers is legitimate, its cost stays linear."""

MAX_ANSWER_KEY_BYTES = 1024
"""Foreign services use long keys (URLs, paths); a plan's own 128 bytes would refuse honest ones."""


class AnswerInvalid(ValueError):
    """The bytes are not an acceptable answer; `description` says why without quoting them."""

    def __init__(self, description: str) -> None:
        """Keep the description as the text of the error."""
        super().__init__(description)
        self.description = description


def read_answer(output: bytes, max_bytes: int) -> JsonValue:
    """Return the JSON value of an answer of at most `max_bytes` bytes.

    Raises:
        AnswerInvalid: it is too large, not UTF-8, not strict I-JSON (RFC 7493), or too deep.

    """
    # Asked before parsing: an oversized answer must cost a comparison, whatever it contains.
    if len(output) > max_bytes:
        description = f"the answer has {len(output)} bytes, {max_bytes} are allowed"
        raise AnswerInvalid(description)
    limits = JsonLimits(
        max_bytes=max_bytes,
        max_depth=MAX_ANSWER_DEPTH,
        max_values=MAX_ANSWER_VALUES,
        max_key_bytes=MAX_ANSWER_KEY_BYTES,
        max_string_bytes=max_bytes,
    )
    try:
        return parse(output, limits).value
    except JsonRefused as refused:
        description = f"the answer is not strict JSON: {refused.description}"
        raise AnswerInvalid(description) from refused
