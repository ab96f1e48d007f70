"""Declaring a domain elsewhere: every limit is stated, every problem is named."""

from __future__ import annotations

import pytest

from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import DomainDeclaration, Repetition
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.parse_declarations import parse_declarations

_METHOD: dict[str, JsonValue] = {
    "description": "Moves cents.",
    "max_duration_s": 2,
    "max_response_bytes": 128,
    "repetition": "fencing",
}


def _domain(methods: JsonValue = None, **changes: JsonValue) -> dict[str, JsonValue]:
    return {
        "adapter": "grpc",
        "endpoint": "ledger:7411",
        "server_name": "ledger.dev.test",
        "methods": {"transfer": dict(_METHOD)} if methods is None else methods,
        **changes,
    }


def _parse(domain: JsonValue) -> DomainDeclaration:
    raw: JsonValue = {"domains": {"ledger": domain}}
    (declared,) = parse_declarations(raw, validators=compile_schema, builtin={})
    return declared


def _problems(domain: JsonValue) -> tuple[str, ...]:
    with pytest.raises(DeclarationsRefused) as caught:
        _parse(domain)
    return caught.value.problems


def test_what_is_declared_is_what_is_known() -> None:
    """Where it listens, the name that is pinned, and each method with all its limits."""
    declared = _parse(_domain())
    assert (declared.adapter, declared.endpoint) == ("grpc", "ledger:7411")
    assert declared.server_name == "ledger.dev.test"
    method = declared.methods["transfer"]
    assert (method.description, method.max_duration_s) == ("Moves cents.", 2.0)
    assert (method.max_response_bytes, method.repetition) == (128, Repetition.FENCING)
    assert (method.parameters_schema_json, method.validator) == (None, None)


def test_a_schema_is_compiled() -> None:
    """Gate 4 asks it before the domain hears of the call."""
    methods: JsonValue = {"transfer": {**_METHOD, "parameters_schema": {"required": ["cents"]}}}
    validator = _parse(_domain(methods)).methods["transfer"].validator
    assert validator is not None
    assert validator.first_error({"cents": 1}) is None
    assert validator.first_error({}) is not None


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("endpoint", "ledger", "must be the host:port"),
        ("endpoint", "ledger:0", "must be the host:port"),
        ("endpoint", "dns:///ledger:7411", "must be the host:port"),
        ("endpoint", "unix:/run/ledger", "must be the host:port"),
        ("endpoint", 7411, "must be the host:port"),
        ("server_name", "Ledger.dev.test", "must be the DNS name"),
        ("server_name", "*.dev.test", "must be the DNS name"),
        ("server_name", "", "must be the DNS name"),
        ("server_name", None, "must be the DNS name"),
        ("methods", {}, "must be a table that names at least one method"),
        ("methods", [], "must be a table that names at least one method"),
        ("retries", 3, "unknown key"),
        ("server_nam", "x", "did you mean server_name?"),
    ],
)
def test_a_wrong_domain_key_is_refused_with_its_path(
    key: str, value: JsonValue, problem: str
) -> None:
    """One wrong value, one problem, naming where it stands."""
    (found,) = _problems(_domain(**{key: value}))
    assert found.startswith(f"domains.ledger.{key}: ")
    assert problem in found


@pytest.mark.parametrize("missing", ["endpoint", "server_name"])
def test_a_domain_without_a_place_or_a_name_is_refused(missing: str) -> None:
    """There is no default for whom to trust."""
    domain = _domain()
    del domain[missing]
    assert _problems(domain) == (f"domains.ledger: lacks {missing}",)


@pytest.mark.parametrize("missing", sorted(_METHOD))
def test_a_method_states_every_limit(missing: str) -> None:
    """There is no code here that a default could be taken from."""
    method = {key: value for key, value in _METHOD.items() if key != missing}
    (found,) = _problems(_domain({"transfer": method}))
    assert found == f"domains.ledger.methods.transfer: lacks {missing}"


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("description", "", "one line of 1 to 500 characters"),
        ("description", "two\nlines", "one line of 1 to 500 characters"),
        ("description", "x" * 501, "one line of 1 to 500 characters"),
        ("description", 1, "one line of 1 to 500 characters"),
        ("max_duration_s", 0, "over 0 and at most 300"),
        ("max_duration_s", 300.1, "over 0 and at most 300"),
        ("max_duration_s", True, "must be a number of seconds"),
        ("max_duration_s", "1", "must be a number of seconds"),
        ("max_response_bytes", 0, "1 to 1048576"),
        ("max_response_bytes", 1_048_577, "1 to 1048576"),
        ("max_response_bytes", 1.0, "must be a whole number of bytes"),
        ("max_response_bytes", True, "must be a whole number of bytes"),
        ("repetition", "always", "must be one of: fencing, idempotent, neither"),
        ("repetition", ["fencing"], "must be one of: fencing, idempotent, neither"),
        ("parameters_schema", "{}", "must be a table: a JSON Schema"),
        ("parameters_schema", {"type": "objekt"}, "anyOf"),
        ("parameters_schema", {"$ref": "https://elsewhere.test/x"}, "Retrieval is disabled"),
        ("parameters_schema", {"maximum": 2**60}, ""),
        ("retries", 3, "unknown key"),
    ],
)
def test_a_wrong_method_key_is_refused_with_its_path(
    key: str, value: JsonValue, problem: str
) -> None:
    """One wrong value, one problem, naming where it stands."""
    (found,) = _problems(_domain({"transfer": {**_METHOD, key: value}}))
    assert found.startswith(f"domains.ledger.methods.transfer.{key}")
    assert problem in found


def test_a_method_name_has_the_form_of_plans() -> None:
    """A plan could not call it otherwise."""
    (found,) = _problems(_domain({"Transfer": _METHOD}))
    assert found.startswith("domains.ledger.methods.Transfer: a method name has the form")


def test_every_problem_is_named_at_once() -> None:
    """A person corrects a file once."""
    method: JsonValue = {**_METHOD, "max_duration_s": 0, "repetition": "maybe"}
    found = _problems(_domain({"a": method, "b": "x"}, endpoint="x", server_name="X"))
    assert len(found) == 6
