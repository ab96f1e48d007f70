"""Byte ranges: what a step sends on is exactly what the client wrote."""

import json

import pytest
from hypothesis import given, settings

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, Parsed, parse
from tests.unit.servicekit.json_texts import DOCUMENTS

LIMITS = JsonLimits()


def at_path(value: JsonValue, path: tuple[str | int, ...]) -> JsonValue:
    """Follow a path into a value."""
    for segment in path:
        if isinstance(value, dict):
            assert isinstance(segment, str)
            value = value[segment]
        else:
            assert isinstance(value, list)
            assert isinstance(segment, int)
            value = value[segment]
    return value


def paths_down_to(value: JsonValue, depth: int) -> set[tuple[str | int, ...]]:
    """List the paths of every value at depth 1 to `depth`."""
    if depth == 0:
        return set()
    members: list[tuple[str | int, JsonValue]] = []
    if isinstance(value, dict):
        members = list(value.items())
    elif isinstance(value, list):
        members = list(enumerate(value))
    return {
        (segment, *rest)
        for segment, member in members
        for rest in [(), *paths_down_to(member, depth - 1)]
    }


@settings(max_examples=max(300, settings().max_examples))
@given(DOCUMENTS)
def test_every_range_alone_is_the_value_at_its_path(data: bytes) -> None:
    """For every value down to the asked depth, and no other, the range parses to that value."""
    for depth in (0, 1, 2, 3, 32):
        try:
            parsed = parse(data, LIMITS, span_depth=depth)
        except JsonRefused:
            return
        assert set(parsed.spans) == paths_down_to(parsed.value, depth)
        for path, (start, end) in parsed.spans.items():
            alone = data[start:end]
            assert alone == alone.strip(b" \t\r\n")
            assert repr(parse(alone, LIMITS).value) == repr(at_path(parsed.value, path))


def test_a_range_keeps_the_clients_white_space_and_spelling() -> None:
    """Inside a range nothing is normalized; around it white space is left out."""
    data = b'{ "steps" : [ { "parameters" :  { "n" : 1.50 , "t":"\\u00e9" }  } ] }'
    start, end = parse(data, LIMITS, span_depth=3).spans["steps", 0, "parameters"]
    assert data[start:end] == b'{ "n" : 1.50 , "t":"\\u00e9" }'


def test_ranges_count_bytes_not_characters() -> None:
    """Characters of one to four bytes before and inside a range move it by their bytes."""
    data = '{"é€😀":"é€😀","z":["😀",7]}'.encode()
    spans = parse(data, LIMITS, span_depth=2).spans
    assert {path: data[start:end] for path, (start, end) in spans.items()} == {
        ("é€😀",): '"é€😀"'.encode(),
        ("z",): '["😀",7]'.encode(),
        ("z", 0): '"😀"'.encode(),
        ("z", 1): b"7",
    }


def test_without_a_depth_there_are_no_ranges() -> None:
    """Ranges cost time; who does not ask for them does not get them."""
    assert parse(b'{"a":[1]}', LIMITS) == Parsed({"a": [1]}, {})


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 32])
def test_the_depth_of_ranges_does_not_change_the_value(depth: int) -> None:
    """Reading by hand and reading by the scanner give one value."""
    value = {"a": [1, 2.5, "x", None, True, {"b": {"c": [[], {}]}}], "": {}, "é": []}
    assert parse(json.dumps(value).encode(), LIMITS, span_depth=depth).value == value
