"""Declarations: what no gate could enforce cannot be declared, and nothing changes afterwards."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import (
    MAX_DURATION_S,
    MAX_RESPONSE_BYTES,
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    Repetition,
)


class _AcceptsAll:
    def first_error(self, value: JsonValue) -> str | None:
        return None


def _method(name: str = "upper", **changes: Any) -> MethodDeclaration:
    declared = MethodDeclaration(name, "A method.", 1.0, 100, Repetition.IDEMPOTENT)
    return dataclasses.replace(declared, **changes)


def _domain(name: str = "text", *methods: MethodDeclaration) -> DomainDeclaration:
    declared = methods or (_method(),)
    return DomainDeclaration(name, "builtin", "text", {method.name: method for method in declared})


@pytest.mark.parametrize(
    "name", ["", "Upper", "1st", "_x", "a-b", "a.b", "a b", "a\n", "ä", "a" * 65, "аbc"]
)
def test_a_malformed_name_is_refused(name: str) -> None:
    """Names are exact ASCII: a look-alike or a line break never becomes one."""
    with pytest.raises(ValueError, match="method name"):
        _method(name)
    with pytest.raises(ValueError, match="domain name"):
        _domain(name)


def test_the_longest_name_is_accepted() -> None:
    """64 characters are allowed, inclusive."""
    assert _method("a" * 64).name == "a" * 64


@pytest.mark.parametrize("duration_s", [0, -1.0, MAX_DURATION_S + 0.001, float("nan")])
def test_a_duration_out_of_range_is_refused(duration_s: float) -> None:
    """A method that may take no time, for ever, or not a number of seconds cannot be enforced."""
    with pytest.raises(ValueError, match="max_duration_s"):
        _method(max_duration_s=duration_s)


@pytest.mark.parametrize("size", [0, -1, MAX_RESPONSE_BYTES + 1])
def test_a_response_size_out_of_range_is_refused(size: int) -> None:
    """One response has at most a mebibyte."""
    with pytest.raises(ValueError, match="max_response_bytes"):
        _method(max_response_bytes=size)


def test_the_largest_limits_are_accepted() -> None:
    """Both bounds are inclusive."""
    method = _method(max_duration_s=MAX_DURATION_S, max_response_bytes=MAX_RESPONSE_BYTES)
    assert (method.max_duration_s, method.max_response_bytes) == (300.0, 1_048_576)


def test_a_schema_never_comes_without_its_validator() -> None:
    """A declared schema that nobody enforces would be a lie, and so would a hidden one."""
    with pytest.raises(ValueError, match="together"):
        _method(parameters_schema_json=b"{}")
    with pytest.raises(ValueError, match="together"):
        _method(validator=_AcceptsAll())
    assert _method(parameters_schema_json=b"{}", validator=_AcceptsAll()).validator is not None


def test_a_domain_without_methods_is_refused() -> None:
    """It could never be called."""
    with pytest.raises(ValueError, match="declares no method"):
        DomainDeclaration("text", "builtin", "text", {})


def test_a_method_is_filed_under_its_own_name() -> None:
    """Otherwise a scope for one name would allow another."""
    with pytest.raises(ValueError, match="filed under"):
        DomainDeclaration("text", "builtin", "text", {"lower": _method("upper")})


def test_methods_cannot_be_added_to_a_domain() -> None:
    """Neither through the declaration nor through the mapping it was made from."""
    source = {"upper": _method()}
    domain = DomainDeclaration("text", "builtin", "text", source)
    source["lower"] = _method("lower")
    assert list(domain.methods) == ["upper"]
    with pytest.raises(TypeError):
        domain.methods["lower"] = _method("lower")  # type: ignore[index]


def test_a_catalogue_finds_exact_names_only() -> None:
    """No prefix, no case folding, no pattern."""
    catalogue = Catalogue([_domain()])
    assert catalogue.method("text", "upper") is not None
    assert catalogue.domain("text") is not None
    for domain, method in [("text", "uppe"), ("text", "UPPER"), ("text", "*"), ("tex", "upper")]:
        assert catalogue.method(domain, method) is None
    assert catalogue.domain("Text") is None


def test_a_catalogue_refuses_two_domains_of_one_name() -> None:
    """Neither may shadow the other."""
    with pytest.raises(ValueError, match="declared twice"):
        Catalogue([_domain(), _domain()])


def test_a_catalogue_cannot_be_changed() -> None:
    """Attributes, items and deletion are all refused."""
    catalogue = Catalogue([_domain()])
    with pytest.raises(AttributeError):
        catalogue._domains = {}
    with pytest.raises(AttributeError):
        del catalogue._domains
    with pytest.raises(TypeError):
        catalogue.domains["x"] = _domain("x")  # type: ignore[index]


def test_an_extended_catalogue_leaves_the_first_as_it_was() -> None:
    """Extension makes a new value, in order, and refuses a taken name."""
    first = Catalogue([_domain("b")])
    both = first.extended([_domain("a")])
    assert list(both.domains) == ["b", "a"]
    assert list(first.domains) == ["b"]
    with pytest.raises(ValueError, match="declared twice"):
        both.extended([_domain("a")])
