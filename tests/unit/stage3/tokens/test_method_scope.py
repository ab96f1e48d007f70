"""The scope is a mapping that nobody can change and no dict is behind."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage3_service.tokens.method_scope import MethodScope

GRANTS = st.dictionaries(
    st.text("abc", max_size=2), st.lists(st.text("xy", max_size=2), max_size=3).map(tuple)
)


@given(GRANTS, st.text("abc", max_size=2), st.text("xy", max_size=2))
def test_it_is_the_mapping_it_was_made_from(
    grants: dict[str, tuple[str, ...]], domain: str, method: str
) -> None:
    """Every way of reading agrees with a dict's."""
    scope = MethodScope(tuple(grants.items()))
    assert isinstance(scope, Mapping)
    assert dict(scope) == grants
    assert scope == grants
    assert list(scope) == list(grants)
    assert len(scope) == len(grants)
    assert (domain in scope) == (domain in grants)
    assert scope.get(domain) == grants.get(domain)
    assert scope.permits(domain, method) == (method in grants.get(domain, ()))
    assert bool(scope) == bool(grants)


@given(GRANTS)
def test_equal_scopes_hash_alike(grants: dict[str, tuple[str, ...]]) -> None:
    """Whatever the order in which the domains were granted."""
    scope = MethodScope(tuple(grants.items()))
    other = MethodScope(tuple(reversed(grants.items())))
    assert scope == other
    assert hash(scope) == hash(other)


def test_a_domain_that_is_not_granted_is_a_missing_key() -> None:
    """As with any mapping."""
    with pytest.raises(KeyError, match="b"):
        MethodScope((("a", ("x",)),))["b"]


def test_a_domain_granted_twice_is_refused() -> None:
    """Which of the two would hold?"""
    with pytest.raises(ValueError, match="granted twice"):
        MethodScope((("a", ("x",)), ("a", ("y",))))
