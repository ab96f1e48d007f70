"""What is withheld: all that nobody accepted, and all that changed since."""

from __future__ import annotations

import pytest

from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_foreign_schema
from stage3_service.domains.acceptance import Acceptance, Offer
from stage3_service.domains.declaration import (
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    Repetition,
)
from stage3_service.domains.definition import Definition

ONE, OTHER = Definition.of({"methods": 1}), Definition.of({"methods": 2})
METHOD = MethodDeclaration("run", "Runs.", 1.0, 100, Repetition.NEITHER)


def catalogue(adapter: str) -> Catalogue:
    """Return a catalogue of one domain behind this adapter."""
    return Catalogue([DomainDeclaration("far", adapter, "far:1", {"run": METHOD}, "far.test")])


@pytest.mark.parametrize("adapter", ["grpc", "mcp"])
def test_what_nobody_accepted_is_withheld(adapter: str) -> None:
    """Also by a catalogue alone, which knows of no acceptance: it fails closed."""
    declared = catalogue(adapter)

    assert declared.withholds("far")
    assert Offer(declared, Acceptance({}), compile_foreign_schema).withholds("far")
    assert not Offer(declared, Acceptance({"far": ONE}), compile_foreign_schema).withholds("far")


def test_a_domain_in_this_process_needs_no_acceptance() -> None:
    """It is of this very release."""
    declared = catalogue("builtin")

    assert not declared.withholds("far")
    assert not Offer(declared, Acceptance({}), compile_foreign_schema).withholds("far")


def test_what_changed_is_withheld_until_it_is_accepted_or_shown_again() -> None:
    """The last thing shown counts, and only what was accepted last."""
    acceptance = Acceptance({"far": ONE})

    assert acceptance.is_accepted("far", ONE.digest)
    assert not acceptance.withholds("far")
    assert not acceptance.is_accepted("far", OTHER.digest)
    assert acceptance.withholds("far")
    acceptance.adopt("far", OTHER)
    assert not acceptance.withholds("far")
    assert not acceptance.is_accepted("far", ONE.digest)
    assert acceptance.withholds("far")
    assert acceptance.accepted("far") == OTHER
    assert acceptance.shown("far") == ONE.digest


def test_an_undeclared_domain_is_not_what_is_withheld() -> None:
    """The gate before says that it is unknown."""
    assert not Offer(catalogue("grpc"), Acceptance({}), compile_foreign_schema).withholds("near")


def test_accepted_schemas_are_in_force_beside_the_files() -> None:
    """Gate 4 asks the one that was accepted; what cannot be enforced is withheld, not unchecked."""
    declared = catalogue("mcp")

    def offer(schema: JsonValue) -> Offer:
        shown = Definition.of({"methods": {"run": {"input_schema": schema}}})
        return Offer(declared, Acceptance({"far": shown}), compile_foreign_schema)

    strict = offer({"required": ["a"]}).method("far", "run")
    assert strict is not None
    assert strict.validator is not None
    assert strict.validator.first_error({"a": 1}) is None
    assert strict.validator.first_error({}) is not None
    unusable = offer({"$ref": "https://example.com/"})
    assert unusable.withholds("far")
    assert unusable.method("far", "run") is None
