"""A name is the machinery's when nothing else is left of it."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stage3_service.tokens import reserved_names
from stage3_service.tokens.reserved_names import (
    is_reserved_domain,
    is_reserved_identity,
    is_token_operation,
)

MACHINERY = sorted(reserved_names._MACHINERY)
TRIMMINGS = sorted(reserved_names._TRIMMINGS)
AUTHORITY = sorted(reserved_names._TOKEN_AUTHORITY)


def naive(name: str, words: list[str]) -> bool:
    """Try every way of cutting the name into words, trimmings and digits."""
    text = "".join(c for c in name.lower() if c in "abcdefghijklmnopqrstuvwxyz0123456789")

    @cache
    def cut(start: int, has_word: bool) -> bool:
        if start == len(text):
            return has_word
        return (
            (text[start].isdigit() and cut(start + 1, has_word))
            or any(cut(start + len(t), has_word) for t in TRIMMINGS if text.startswith(t, start))
            or any(cut(start + len(w), True) for w in words if text.startswith(w, start))
        )

    return cut(0, False)


@given(
    st.lists(
        st.sampled_from([*MACHINERY, *TRIMMINGS, *AUTHORITY]) | st.text("aegnt3_-.S", max_size=3),
        max_size=4,
    ).flatmap(lambda parts: st.sampled_from(["", "_", "-", "."]).map(lambda j: j.join(parts)))
)
@example("agentsystem")
@example("v3stage3v")
@example("my")
@example("3")
def test_deciding_agrees_with_trying_every_way(name: str) -> None:
    """For identities and for domains."""
    assert is_reserved_identity(name) == naive(name, MACHINERY)
    assert is_reserved_domain(name) == naive(name, [*MACHINERY, *AUTHORITY])


@pytest.mark.parametrize("word", MACHINERY)
def test_every_word_of_the_machinery_is_reserved_in_every_dress(word: str) -> None:
    """Case, separators, numbers and trimmings do not make it another name."""
    for name in (word, word.upper(), f"{word}2", f"ai-{word}", f"{word}_service", f"my.{word}.v2"):
        assert is_reserved_identity(name)
        assert is_reserved_domain(name)
    assert is_reserved_identity("-".join(word))


@pytest.mark.parametrize("word", TRIMMINGS)
def test_a_trimming_alone_is_a_name_like_others(word: str) -> None:
    """Nothing of the machinery is in it."""
    assert not is_reserved_identity(word)
    assert not is_reserved_identity(f"{word}7")


@pytest.mark.parametrize("word", AUTHORITY)
def test_the_subject_of_token_operations_is_no_domain(word: str) -> None:
    """But it may be a person's name."""
    assert is_reserved_domain(word)
    assert is_reserved_domain(f"{word}_service")
    assert not is_reserved_identity(word)


@pytest.mark.parametrize("name", ["", "-", "...", "7", "42_1"])
def test_a_name_without_words_is_not_reserved(name: str) -> None:
    """Whether it is a name at all is another rule's question."""
    assert not is_reserved_identity(name)
    assert not is_reserved_domain(name)


@pytest.mark.parametrize(
    ("method", "reserved"),
    [
        ("token_grant", True),
        ("revoke_token", True),
        ("execute_multi_domain_plan", True),
        ("token_grants", False),
        ("grant", False),
        ("tokenize", False),
        ("", False),
    ],
)
def test_token_operations_are_exact_names(method: str, reserved: bool) -> None:
    """A method that merely sounds like one is the domain's own."""
    assert is_token_operation(method) is reserved
