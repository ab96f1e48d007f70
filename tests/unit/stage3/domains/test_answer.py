"""Reading an answer: strict, bounded, and never quoting what was answered."""

from __future__ import annotations

import pytest

from stage3_service.domains.answer import (
    MAX_ANSWER_DEPTH,
    MAX_ANSWER_KEY_BYTES,
    MAX_ANSWER_VALUES,
    AnswerInvalid,
    read_answer,
)
from tests.fakes.domains import RAW_ANSWERS, TRIAL_MAX_RESPONSE_BYTES


@pytest.mark.parametrize("name", RAW_ANSWERS)
def test_an_answer_that_is_not_strict_json_is_invalid(name: str) -> None:
    """Every kind of malformed answer is refused, with a description."""
    with pytest.raises(AnswerInvalid) as caught:
        read_answer(RAW_ANSWERS[name], TRIAL_MAX_RESPONSE_BYTES)
    assert caught.value.description


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b" [1, 2.5, null, true] ", [1, 2.5, None, True]),
        (b'"text"', "text"),
        (b"0", 0),
        (b'{"n":9007199254740991}', {"n": 2**53 - 1}),
        ('{"ключ":"値😀"}'.encode(), {"ключ": "値😀"}),
    ],
)
def test_a_strict_answer_is_read_as_it_is(raw: bytes, value: object) -> None:
    """Any JSON value may be an answer, and nothing is converted."""
    assert read_answer(raw, 100) == value


def test_the_bound_on_bytes_is_inclusive() -> None:
    """An answer of exactly the allowed size is read; one byte more is not even parsed."""
    assert read_answer(b'"xxxx"', 6) == "xxxx"
    with pytest.raises(AnswerInvalid, match="has 6 bytes, 5 are allowed"):
        read_answer(b'"xxxx"', 5)


def test_a_string_may_fill_the_whole_answer() -> None:
    """The plan's 64 KiB bound on strings is not a bound on answers."""
    raw = b'"' + b"x" * 200_000 + b'"'
    assert read_answer(raw, len(raw)) == "x" * 200_000


def test_depth_values_and_keys_are_bounded_inclusively() -> None:
    """At the bound an answer is read; beyond it it is invalid."""
    deep = b"[" * MAX_ANSWER_DEPTH + b"]" * MAX_ANSWER_DEPTH
    many = b"[" + b",".join([b"1"] * (MAX_ANSWER_VALUES - 1)) + b"]"
    long_key = b'{"' + b"k" * MAX_ANSWER_KEY_BYTES + b'":1}'
    for raw in (deep, many, long_key):
        read_answer(raw, 1_000_000)
    more = b"[" + b",".join([b"1"] * MAX_ANSWER_VALUES) + b"]"
    longer_key = b'{"' + b"k" * (MAX_ANSWER_KEY_BYTES + 1) + b'":1}'
    for raw in (b"[" + deep + b"]", more, longer_key):
        with pytest.raises(AnswerInvalid):
            read_answer(raw, 1_000_000)


def test_the_description_quotes_nothing_of_the_answer() -> None:
    """An answer may hold secrets, and descriptions go into the log."""
    with pytest.raises(AnswerInvalid) as caught:
        read_answer(b'{"password":"hunter2", "password":"hunter3"}', 1000)
    assert "hunter" not in str(caught.value)
