"""The catalogue that leaves the house says what the gates ask, and nothing of how it is reached."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_foreign_schema, compile_schema
from stage3_service.domains.acceptance import Acceptance, Offer
from stage3_service.domains.catalogue_document import (
    MAX_CATALOGUE_BYTES,
    CatalogueTooLarge,
    encode_catalogue,
)
from stage3_service.domains.declaration import (
    Catalogue,
    DomainDeclaration,
    MethodDeclaration,
    Repetition,
)
from stage3_service.domains.definition import Definition

OWN = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
NARROW: JsonValue = {"properties": {"path": {"maxLength": 10}}}
METHOD = MethodDeclaration("read", "Reads a file.", 2.5, 100, Repetition.IDEMPOTENT)
NARROWED = replace(
    METHOD, parameters_schema_json=canonicalize(NARROW), validator=compile_schema(b"{}")
)


def shown(schema: Any) -> Definition:
    """Return what a server shows of the method."""
    return Definition.of({"methods": {"read": {"input_schema": schema, "description": "\x1b[2J"}}})


def entry(
    acceptance: Acceptance, method: MethodDeclaration = METHOD, adapter: str = "mcp"
) -> dict[str, Any]:
    """Return what the catalogue says of one domain."""
    declared = Catalogue([DomainDeclaration("far", adapter, "/secret", {"read": method})])
    document = encode_catalogue(Offer(declared, acceptance, compile_foreign_schema))
    assert document == canonicalize(json.loads(document))
    (only,) = json.loads(document)["domains"]
    assert isinstance(only, dict)
    return only


def test_a_builtin_domain_is_offered() -> None:
    """With its limits in whole numbers, and nothing of an endpoint."""
    assert entry(Acceptance({}), adapter="builtin") == {
        "name": "far",
        "adapter": "builtin",
        "offered": True,
        "accepted_digest": None,
        "shown_digest": None,
        "methods": [
            {
                "name": "read",
                "description": "Reads a file.",
                "max_duration_ms": 2500,
                "max_response_bytes": 100,
                "repetition": "idempotent",
                "parameters_schema": None,
            }
        ],
    }


def test_what_nobody_accepted_is_listed_and_not_offered() -> None:
    """What it shows is no schema in force."""
    acceptance = Acceptance({})
    acceptance.is_accepted("far", shown(OWN).digest)

    said = entry(acceptance, NARROWED)

    assert (said["offered"], said["accepted_digest"]) == (False, None)
    assert said["shown_digest"] == shown(OWN).digest
    assert said["methods"][0]["parameters_schema"] == NARROW


@pytest.mark.parametrize(
    ("method", "schema"), [(METHOD, OWN), (NARROWED, {"allOf": [OWN, NARROW]})]
)
def test_the_schema_is_the_one_that_gate_4_asks(method: MethodDeclaration, schema: Any) -> None:
    """The accepted one of the server, and beside it the file's."""
    said = entry(Acceptance({"far": shown(OWN)}), method)

    assert (said["offered"], said["accepted_digest"]) == (True, shown(OWN).digest)
    assert said["methods"][0]["parameters_schema"] == schema


def test_what_changed_since_is_not_offered() -> None:
    """The accepted schema stands beside both digests."""
    acceptance = Acceptance({"far": shown(OWN)})
    acceptance.is_accepted("far", shown({}).digest)

    said = entry(acceptance)

    assert said["offered"] is False
    assert said["accepted_digest"] != said["shown_digest"]
    assert said["methods"][0]["parameters_schema"] == OWN


def test_what_cannot_be_enforced_is_not_offered() -> None:
    """As gate 2 has it: the domain is withheld, whatever was accepted."""
    said = entry(Acceptance({"far": shown({"$ref": "https://elsewhere.test/schema"})}))

    assert (said["offered"], said["methods"][0]["parameters_schema"]) == (False, None)


@pytest.mark.parametrize("accepted", [{}, {"far": shown(OWN)}, {"far": shown({"type": 1})}])
@pytest.mark.parametrize("last_shown", [None, shown(OWN).digest, shown({}).digest])
def test_offered_is_what_gate_2_does_not_withhold(
    accepted: dict[str, Definition], last_shown: str | None
) -> None:
    """Two readings of one rule agree, whatever was accepted and shown."""
    acceptance = Acceptance(accepted)
    if last_shown is not None:
        acceptance.is_accepted("far", last_shown)
    declared = Catalogue([DomainDeclaration("far", "mcp", "/secret", {"read": METHOD})])
    offer = Offer(declared, acceptance, compile_foreign_schema)

    (offered,) = offer
    assert offered.offered is not offer.withholds("far")


def test_what_no_reader_takes_is_refused() -> None:
    """The limits are the reader's, and are asked before anything is signed."""
    schema: JsonValue = {"description": "a" * 1_000_000}
    methods = {
        f"m{number}": replace(
            METHOD,
            name=f"m{number}",
            parameters_schema_json=canonicalize(schema),
            validator=compile_schema(b"{}"),
        )
        for number in range(MAX_CATALOGUE_BYTES // 1_000_000 + 1)
    }
    declared = Catalogue([DomainDeclaration("far", "builtin", "x", methods)])

    with pytest.raises(CatalogueTooLarge, match="longer than"):
        encode_catalogue(Offer(declared, Acceptance({}), compile_foreign_schema))
