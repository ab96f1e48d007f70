"""Canonical JSON: equal to the reference library, and read back as the same value."""

import enum
import json
import random
import subprocess
import sys

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonValue, parse
from tests.unit.servicekit.json_texts import TEXTS, VALUES

LIMITS = JsonLimits()
ANY_TEXT = st.text(max_size=8)
ANY_VALUE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        ANY_TEXT,
        st.text(alphabet=st.characters(categories=["Cs"]), min_size=1, max_size=2),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.tuples(children, children),
        st.dictionaries(ANY_TEXT, children, max_size=4),
    ),
    max_leaves=12,
)


class Word(enum.StrEnum):
    """A word that is an enumeration member."""

    STARTED = "started"


@settings(max_examples=max(300, settings().max_examples))
@given(ANY_VALUE)
def test_it_spells_and_refuses_exactly_as_the_reference_library(value: JsonValue) -> None:
    """For every value of JSON's types the bytes are equal, and so are the refusals."""
    try:
        expected = rfc8785.dumps(value)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            canonicalize(value)
        return
    assert canonicalize(value) == expected


@settings(max_examples=max(300, settings().max_examples))
@given(VALUES)
def test_what_was_accepted_survives_its_canonical_form(value: JsonValue) -> None:
    """Parsing the canonical form gives an equal value, whose canonical form is the same."""
    accepted = parse(json.dumps(value).encode(), LIMITS).value
    canonical = canonicalize(accepted)
    again = parse(canonical, LIMITS).value
    assert again == accepted == value
    assert canonicalize(again) == canonical


@given(st.dictionaries(TEXTS, st.integers(0, 9), max_size=6), st.randoms())
def test_the_order_in_which_members_came_makes_no_difference(
    members: dict[str, int], order: random.Random
) -> None:
    """Two objects that are equal have one spelling."""
    shuffled = list(members.items())
    order.shuffle(shuffled)
    assert canonicalize(dict(shuffled)) == canonicalize(dict(members))


def test_keys_are_ordered_by_utf16_unit() -> None:
    """A key beyond the Basic Multilingual Plane sorts before U+E000, as RFC 8785 asks."""
    assert canonicalize({"\ue000": 1, "\U0001f600": 2, "a": 3}) == (
        '{"a":3,"\U0001f600":2,"\ue000":1}'.encode()
    )


@pytest.mark.parametrize(
    ("number", "spelling"),
    [
        (1.0, b"1"),
        (-0.0, b"0"),
        (0.1, b"0.1"),
        (1e-6, b"0.000001"),
        (1e-7, b"1e-7"),
        (1e20, b"100000000000000000000"),
        (1e21, b"1e+21"),
        (5e-324, b"5e-324"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (9007199254740991, b"9007199254740991"),
        (-9007199254740991, b"-9007199254740991"),
        (333333333.33333329, b"333333333.3333333"),
    ],
)
def test_numbers_are_spelled_as_ecmascript_spells_them(number: float, spelling: bytes) -> None:
    """The boundaries of ECMAScript's Number::toString."""
    assert canonicalize([number]) == b"[" + spelling + b"]"


def test_escapes_are_the_shortest() -> None:
    """Two-letter escapes where they exist, lower-case hexadecimal for other controls, else raw."""
    assert canonicalize('"\\/\b\f\n\r\t\x01\x1f\x7fé\u2028') == (
        '"\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7fé\u2028"'.encode()
    )


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [-float("inf")],
        2**53,
        {"a": -(2**53)},
        "\ud800",
        {"\udc00": 1},
        {1: 2},
        {None: 1},
        {True: 1},
        [b"bytes"],
        {1, 2},
        object(),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: JsonValue) -> None:
    """Nothing is coerced: not a key, not a number, not an object that could be written somehow."""
    with pytest.raises(ValueError, match=r"."):
        canonicalize(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """Endless nesting ends in a refusal, not in the interpreter's."""
    endless: list[JsonValue] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested too deeply"):
        canonicalize(endless)


def test_enumeration_members_and_tuples_are_what_they_hold() -> None:
    """Events are built from enumerations; their leaves hold plain words."""
    event = {"status": Word.STARTED, "steps": (1, 2)}
    assert canonicalize(event) == b'{"status":"started","steps":[1,2]}'  # type: ignore[arg-type]


def test_the_library_is_loaded_only_when_a_value_needs_it() -> None:
    """A process that never meets a float or a rare key does without the library."""
    program = (
        "import sys; from servicekit.canonical_json import canonicalize;"
        "canonicalize({'a': ['é', 1, None, True]}); print('rfc8785' in sys.modules);"
        "canonicalize(0.5); print('rfc8785' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert ran.stdout.split() == ["False", "True"]
