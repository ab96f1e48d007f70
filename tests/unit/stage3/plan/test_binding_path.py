"""A path leads to exactly one place, in every value, or is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.plan.binding_path import (
    PathInvalid,
    PathUnresolved,
    Segment,
    copy_json,
    parse_path,
    read_path,
    write_path,
)

KEYS = st.text("ab0 .`é", max_size=3)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.sampled_from(["0", "1", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)
SEGMENTS = st.lists(
    st.tuples(KEYS | st.sampled_from(["0", "1", "2", "00", "a"]), st.booleans()),
    min_size=1,
    max_size=4,
)


def spell(segments: list[tuple[str, bool]]) -> tuple[str, list[tuple[str, bool]]]:
    """Spell segments as a path, quoting what must be quoted; return what it then says."""
    said = [(name, quoted or not name or "." in name or "`" in name) for name, quoted in segments]
    text = ".".join("`" + n.replace("`", "``") + "`" if quoted else n for n, quoted in said)
    return text, said


def naive_places(value: Any, name: str, quoted: bool) -> list[Any]:
    """Return the key or index under which a segment finds a member: none, or one."""
    if type(value) is dict:
        return [key for key in value if key == name]
    if type(value) is list and not quoted:
        return [index for index in range(len(value)) if str(index) == name]
    return []


def naive_read(value: Any, segments: list[tuple[str, bool]]) -> list[Any]:
    """Follow segments the plainest way: a list of no or one value."""
    for name, quoted in segments:
        places = naive_places(value, name, quoted)
        if not places:
            return []
        value = value[places[0]]
    return [value]


def naive_write(value: Any, segments: list[tuple[str, bool]], new: Any) -> list[Any]:
    """Rebuild the value with a member replaced or added: a list of no or one result."""
    (name, quoted), rest = segments[0], segments[1:]
    places = naive_places(value, name, quoted)
    if not places:
        if type(value) is not dict:
            return []
        member = naive_write({}, rest, new) if rest else [new]
        return [{**value, name: each} for each in member]
    place = places[0]
    member = naive_write(value[place], rest, new) if rest else [new]
    if type(value) is dict:
        return [{**value, place: each} for each in member]
    return [[*value[:place], each, *value[place + 1 :]] for each in member]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a", [Segment("a")]),
        ("a.b", [Segment("a"), Segment("b")]),
        ("0.10.007", [Segment("0"), Segment("10"), Segment("007")]),
        ("`a.b`.c", [Segment("a.b", quoted=True), Segment("c")]),
        ("`a``b`", [Segment("a`b", quoted=True)]),
        ("``", [Segment("", quoted=True)]),
        ("````", [Segment("`", quoted=True)]),
        ("``.``", [Segment("", quoted=True), Segment("", quoted=True)]),
        ("a b.-1.*", [Segment("a b"), Segment("-1"), Segment("*")]),
        ("é.😀", [Segment("é"), Segment("😀")]),
    ],
)
def test_a_path_is_its_segments(text: str, segments: list[Segment]) -> None:
    """Dots separate, backticks quote, a doubled backtick is one, and nothing else is special."""
    path = parse_path(text)
    assert list(path.segments) == segments
    assert str(path) == path.text == text


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("", "at least one segment"),
        (".", "empty segment"),
        (".a", "empty segment"),
        ("a.", "empty segment"),
        ("a..b", "empty segment"),
        ("`", "not closed"),
        ("`a", "not closed"),
        ("```", "not closed"),
        ("a.`b", "not closed"),
        ("``a", "behind a closing backtick"),
        ("`a`b.c", "behind a closing backtick"),
        ("`a` .b", "behind a closing backtick"),
        ("`a`.", "empty segment"),
        ("a`b", "inside an unquoted segment"),
        ("a`.b`", "inside an unquoted segment"),
    ],
)
def test_what_is_no_path_is_refused(text: str, description: str) -> None:
    """There is no second way to read it."""
    with pytest.raises(PathInvalid, match=description):
        parse_path(text)


@given(SEGMENTS)
def test_every_list_of_keys_has_a_spelling(segments: list[tuple[str, bool]]) -> None:
    """Spelling segments and parsing the text gives the segments back."""
    text, said = spell(segments)
    assert [(each.name, each.quoted) for each in parse_path(text).segments] == said


@given(st.text("a.`0 ", max_size=8))
def test_parsing_any_text_gives_a_path_or_a_refusal(text: str) -> None:
    """And a path that was accepted is spelled by its own segments."""
    try:
        path = parse_path(text)
    except PathInvalid:
        return
    assert spell([(each.name, each.quoted) for each in path.segments])[0] == text


@pytest.mark.parametrize(
    "name", ["-1", "+1", "01", "1.0", "1e0", " 1", "1 ", "1_0", "١", "１", "0x1", "", "99999999999"]
)
def test_an_index_has_one_spelling(name: str) -> None:
    """A sign, a zero in front, a foreign digit: a key, perhaps, but no index."""
    assert Segment(name).index is None
    with pytest.raises(PathUnresolved):
        read_path([1, 2, 3], parse_path(spell([(name, False)])[0]))


def test_a_quoted_segment_is_never_an_index() -> None:
    """Quoting says that it is a key."""
    assert Segment("0", quoted=True).index is None
    assert read_path({"0": "key"}, parse_path("`0`")) == "key"
    with pytest.raises(PathUnresolved, match="this is no index"):
        read_path(["element"], parse_path("`0`"))


@pytest.mark.parametrize(
    ("value", "text", "description"),
    [
        ({}, "a", "segment 1 of 1: there is no such key"),
        ({"a": {}}, "a.b", "segment 2 of 2: there is no such key"),
        ({"a": "b"}, "a.b", "segment 2 of 2: .* neither an object nor an array"),
        ({"a": None}, "a.b", "neither an object nor an array"),
        ([1], "1", "beyond the end"),
        ([], "0", "beyond the end"),
        ([1], "a", "no index"),
        ("text", "0", "neither an object nor an array"),
        (None, "a", "neither an object nor an array"),
    ],
)
def test_a_missing_source_is_refused(value: Any, text: str, description: str) -> None:
    """The refusal counts segments and quotes nothing."""
    with pytest.raises(PathUnresolved, match=description):
        read_path(value, parse_path(text))


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        ({}, "a", {"a": 7}),
        ({}, "a.b.c", {"a": {"b": {"c": 7}}}),
        ({}, "a.0", {"a": {"0": 7}}),
        ({"a": 1}, "a", {"a": 7}),
        ({"a": {"b": 1}}, "a.c", {"a": {"b": 1, "c": 7}}),
        ({"a": [1, 2]}, "a.1", {"a": [1, 7]}),
        ({"a": [{}]}, "a.0.b", {"a": [{"b": 7}]}),
        ({"a": [[0]]}, "a.0.0", {"a": [[7]]}),
        ({"a": None}, "a", {"a": 7}),
    ],
)
def test_writing_replaces_or_adds_one_member(before: Any, text: str, after: Any) -> None:
    """A missing object is created; everything beside stays."""
    write_path(before, parse_path(text), 7)
    assert before == after


@pytest.mark.parametrize(
    ("before", "text", "description"),
    [
        ({"a": 1}, "a.b", "neither an object nor an array"),
        ({"a": None}, "a.b", "neither an object nor an array"),
        ({"a": "x"}, "a.b.c", "neither an object nor an array"),
        ({"a": []}, "a.0", "beyond the end"),
        ({"a": [1]}, "a.1", "beyond the end"),
        ({"a": [1]}, "a.b", "no index"),
        ({"a": [1]}, "a.`0`", "no index"),
        ({"a": [1]}, "a.0.b", "neither an object nor an array"),
        ({"a": [1]}, "a.5.b", "beyond the end"),
    ],
)
def test_what_is_in_the_way_is_refused(before: Any, text: str, description: str) -> None:
    """Nothing is overwritten to make room, and no array grows."""
    with pytest.raises(PathUnresolved, match=description):
        write_path(before, parse_path(text), 7)


def test_a_written_value_is_a_copy() -> None:
    """Writing into it later does not change where it came from."""
    source: Any = {"list": [1]}
    target: Any = {}
    write_path(target, parse_path("a"), source)
    write_path(target, parse_path("a.list.0"), 2)
    assert source == {"list": [1]}
    assert target == {"a": {"list": [2]}}


@given(JSON, SEGMENTS)
def test_reading_agrees_with_the_plainest_reading(
    value: Any, segments: list[tuple[str, bool]]
) -> None:
    """Found and not found alike, and the value is left as it was."""
    text, said = spell(segments)
    before = copy.deepcopy(value)
    expected = naive_read(value, said)
    try:
        found = [read_path(value, parse_path(text))]
    except PathUnresolved:
        found = []
    assert found == expected
    assert value == before


@given(st.dictionaries(KEYS | st.sampled_from(["0", "a"]), JSON, max_size=3), SEGMENTS, JSON)
def test_writing_agrees_with_the_plainest_writing(
    value: Any, segments: list[tuple[str, bool]], new: Any
) -> None:
    """Written and refused alike, and what was written can be read back."""
    text, said = spell(segments)
    expected = naive_write(value, said, new)
    target = copy.deepcopy(value)
    try:
        write_path(target, parse_path(text), new)
    except PathUnresolved:
        assert expected == []
    else:
        assert [target] == expected
        assert read_path(target, parse_path(text)) == new


@given(JSON)
def test_a_copy_is_equal_and_shares_no_container(value: Any) -> None:
    """Whatever is done to one is not done to the other."""

    def containers(part: Any) -> list[int]:
        members = part.values() if isinstance(part, dict) else part
        own = isinstance(part, dict | list)
        return [id(part), *(i for m in members for i in containers(m))] if own else []

    copied = copy_json(value)
    assert copied == value
    assert not set(containers(copied)) & set(containers(value))


@pytest.mark.parametrize("text", [".a", ".", "..", ".`a`", "a..b", "a."])
def test_a_segment_that_is_empty_is_refused_wherever_it_stands(text: str) -> None:
    """Also where the path begins with its separator."""
    with pytest.raises(PathInvalid, match="empty segment"):
        parse_path(text)
