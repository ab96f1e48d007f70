"""What a refusal says, where limits lie, and what parsing may never do."""

import json
import random
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servicekit.ijson import JsonLimits, JsonRefused, parse
from tests.unit.servicekit.json_texts import DOCUMENTS

LIMITS = JsonLimits()


def refusal(data: bytes, limits: JsonLimits = LIMITS, *, span_depth: int = 0) -> tuple[str, str]:
    """Give path and description of a refusal."""
    with pytest.raises(JsonRefused) as caught:
        parse(data, limits, span_depth=span_depth)
    return caught.value.path, caught.value.description


@pytest.mark.parametrize("span_depth", [0, 1, 3, 32])
@pytest.mark.parametrize(
    ("data", "path", "description"),
    [
        (b'{"a":1,"a":2}', "a", "a key that occurs twice"),
        (b'{"steps":[{},{"p":{"x":1,"x":1}}]}', "steps[1].p.x", "a key that occurs twice"),
        (b'{"steps":[{"n":1,"p":{"n":-0}}]}', "steps[0].p.n", "minus zero"),
        (b"[1,[2,-0.0]]", "[1][1]", "minus zero"),
        (b'{"a":[9007199254740992]}', "a[0]", "an integer beyond 2^53-1"),
        (b'{"a":[1e300]}', "a[0]", "an integer beyond 2^53-1"),
        (b'{"a":NaN}', "a", "NaN or Infinity"),
        (b"[0,-Infinity]", "[1]", "NaN or Infinity"),
        (b'{"a":{"b":"\\ud800"}}', "a.b", "a lone surrogate in a string"),
        (b'{"a":{"\\ud800":1}}', "a", "a lone surrogate in a key"),
        (b'{"a":["\\u0000"]}', "a[0]", "U+0000 in a string"),
        (b'{"a":[{"\\u0000":1}]}', "a[0]", "U+0000 in a key"),
        (b'{"a":[{"' + b"k" * 129 + b'":1}]}', "a[0]", "a key longer than 128 bytes"),
        (b'{"a":["' + b"s" * 65537 + b'"]}', "a[0]", "a string longer than 65536 bytes"),
        (
            b'{"a":[1e-400]}',
            "a[0]",
            "a number that a double does not hold exactly as written",
        ),
    ],
)
def test_a_refused_value_is_named_by_its_path(
    data: bytes, path: str, description: str, span_depth: int
) -> None:
    """The path is exact, whichever part of the parser met the value."""
    assert refusal(data, span_depth=span_depth) == (path, description)


@pytest.mark.parametrize(
    ("data", "description"),
    [
        (b"", "not JSON at byte 0"),
        (b"[1,]", "not JSON at byte 3"),
        ('["é",x]'.encode(), "not JSON at byte 6"),
        (b"{} {}", "not JSON at byte 3"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
        (b" " * 262_145, "longer than 262144 bytes"),
        (b"[" * 33 + b"]" * 33, "nested deeper than 32"),
        (b"[" + b"0," * 9_999 + b"0]", "more than 10000 values"),
        (b"[" + b"[[]]," * 4_999 + b"[[]]]", "more than 10000 values"),
    ],
)
def test_a_refused_document_has_no_path_and_its_place_is_counted_in_bytes(
    data: bytes, description: str
) -> None:
    """What is wrong with the document as a whole is said without a path."""
    assert refusal(data) == ("", description)


@pytest.mark.parametrize("key", ["a b", "a.b", "a`b", "a\nb", "é", "", "k" * 65, "\u202e"])
def test_a_path_ends_before_a_key_that_is_not_fit_to_be_shown(key: str) -> None:
    """A key chosen by a stranger never shapes a message; the path then names what contains it."""
    document = json.dumps({"steps": [{key: {"x": [1]}}]}).replace("[1]", "[-0]")
    assert refusal(document.encode()) == ("steps[0]", "minus zero")


def test_a_refusal_repeats_nothing_of_the_document() -> None:
    """A document may hold a credential; no description quotes it."""
    secret = "token_" + "s" * 43
    for broken in (f'{{"a":"{secret}"', f'{{"{secret}":1,"{secret}":2}}', f"[{secret}]"):
        assert secret not in refusal(broken.encode())[1]


def test_numbers_keep_their_kind() -> None:
    """Only a fraction or an exponent makes a float."""
    value = parse(b"[1,1.0,1e0,0,0.0,-5]", LIMITS).value
    assert repr(value) == "[1, 1.0, 1.0, 0, 0.0, -5]"


@pytest.mark.parametrize(
    ("limits", "accepted", "refused"),
    [
        (JsonLimits(max_bytes=4), b"[10]", b"[100]"),
        (JsonLimits(max_depth=1), b"[0]", b"[[]]"),
        (JsonLimits(max_depth=2), b'{"a":[]}', b'{"a":[{}]}'),
        (JsonLimits(max_values=1), b"[]", b"[0]"),
        (JsonLimits(max_values=3), b'{"a":[0]}', b'{"a":[0],"b":0}'),
        (JsonLimits(max_key_bytes=2), '{"é":0}'.encode(), b'{"abc":0}'),
        (JsonLimits(max_key_bytes=0), b'{"":0}', b'{"a":0}'),
        (JsonLimits(max_string_bytes=2), '"é"'.encode(), b'"abc"'),
        (JsonLimits(max_string_bytes=0), b'{"key":""}', b'"a"'),
    ],
)
def test_limits_are_inclusive_at_any_size(
    limits: JsonLimits, accepted: bytes, refused: bytes
) -> None:
    """The limit itself is accepted, one more is not, also far from the defaults."""
    for span_depth in (0, 2):
        parse(accepted, limits, span_depth=span_depth)
        refusal(refused, limits, span_depth=span_depth)


@pytest.mark.parametrize("depth", [0, -1, 101])
def test_a_depth_that_the_stack_could_not_promise_is_refused(depth: int) -> None:
    """The limit, not the interpreter's stack, decides how deep a document may be."""
    with pytest.raises(ValueError, match="max_depth must be between 1 and 100"):
        JsonLimits(max_depth=depth)


@pytest.mark.parametrize("span_depth", [0, 100])
def test_the_deepest_allowed_limit_is_reached_without_exhausting_the_stack(
    span_depth: int,
) -> None:
    """At the largest depth that can be set, the deepest document is still read."""
    limits = JsonLimits(max_depth=100)
    parse(b'{"a":' * 99 + b"[]" + b"}" * 99, limits, span_depth=span_depth)
    refusal(b'{"a":' * 99 + b"[-0]" + b"}" * 99, limits, span_depth=span_depth)


@given(st.one_of(st.binary(max_size=200), DOCUMENTS), st.integers(0, 5))
@example(b"[" * 262_144, 3)
@example(b'{"":' * 60_000, 3)
@example(b"1" * 262_144, 3)
@example(b'"' * 262_144, 3)
@example(b'"' + b"\\" * 262_143, 3)
def test_nothing_but_a_value_or_a_refusal_comes_out(data: bytes, span_depth: int) -> None:
    """No input makes the parser raise anything else."""
    try:
        parse(data, LIMITS, span_depth=span_depth)
    except JsonRefused:
        return


def test_one_parser_serves_many_documents_without_mixing_them() -> None:
    """Nothing of a document, refused or accepted, is left for the next."""
    alphabet = random.Random(7)  # noqa: S311 - test data
    for _ in range(50):
        name = "".join(alphabet.choices(string.ascii_lowercase, k=5))
        refusal(f'{{"{name}":1,"{name}":-0}}'.encode(), span_depth=alphabet.randrange(3))
        assert parse(f'{{"{name}":1}}'.encode(), LIMITS).value == {name: 1}
