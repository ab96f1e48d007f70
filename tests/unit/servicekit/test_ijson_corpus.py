"""The corpus: every class of document that JSON readers disagree about, decided one by one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from servicekit.ijson import JsonLimits, JsonRefused, parse
from tests.unit.servicekit import second_parser

CORPUS = Path(__file__).parents[2] / "vectors" / "ijson_corpus.json"
CASES: list[dict[str, Any]] = json.loads(CORPUS.read_bytes())
LIMITS = JsonLimits()


def document(case: dict[str, Any]) -> bytes:
    """Give the bytes of a case: `hex`, `text`, or `parts`, each repeated so many times."""
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    if "text" in case:
        return str(case["text"]).encode()
    return b"".join(str(part).encode() * count for part, count in case["parts"])


def ours_accepts(data: bytes, span_depth: int = 0) -> bool:
    """Give the verdict of the parser under test."""
    try:
        parse(data, LIMITS, span_depth=span_depth)
    except JsonRefused:
        return False
    return True


def second_accepts(data: bytes) -> bool:
    """Give the verdict of the second parser."""
    try:
        second_parser.read(data)
    except second_parser.Refused:
        return False
    return True


def test_corpus_holds_at_least_150_cases_each_with_a_reason() -> None:
    """A corpus that lost cases, or decides without saying why, is noticed."""
    assert len(CASES) >= 150
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert all(case["why"] and case["verdict"] in {"accept", "refuse"} for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_case_is_decided_as_listed_by_both_parsers(case: dict[str, Any]) -> None:
    """The verdict is the listed one, at every depth of reading by hand, and in both parsers."""
    data = document(case)
    expected = case["verdict"] == "accept"
    assert {depth: ours_accepts(data, depth) for depth in (0, 1, 3, 32)} == {
        0: expected,
        1: expected,
        3: expected,
        32: expected,
    }
    assert second_accepts(data) is expected


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["verdict"] == "accept"], ids=lambda case: case["name"]
)
def test_both_parsers_give_the_same_value_of_the_same_types(case: dict[str, Any]) -> None:
    """Acceptance is not enough: the value and the kind of every number agree."""
    data = document(case)
    assert repr(parse(data, LIMITS).value) == repr(second_parser.read(data))


def rfc8259_accepts(data: bytes) -> bool | None:
    """Say whether the bytes are JSON as RFC 8259 has it; None where the RFC leaves it open."""
    if data.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return None

    def no_constant(name: str) -> float:
        raise ValueError(name)

    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return False
    finally:
        sys.set_int_max_str_digits(digits)
    return True


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_case_is_named_for_what_json_itself_says_of_it(case: dict[str, Any]) -> None:
    """As in JSONTestSuite: y is JSON and accepted, n is not JSON, i is for each reader to decide.

    What is decided here is in `verdict`: every i is refused, which is what makes this I-JSON.
    """
    expected = {"y": (True, "accept"), "n": (False, "refuse"), "i": (..., "refuse")}
    judged, verdict = expected[case["name"][0]]
    assert case["verdict"] == verdict
    if judged is ...:
        assert rfc8259_accepts(document(case)) is not False
    else:
        assert rfc8259_accepts(document(case)) is judged
