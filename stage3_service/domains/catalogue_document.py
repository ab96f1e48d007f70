"""What is offered, as the one document that leaves the house: for people who look before they act.

Guards that it says what the gates ask (the schemas in force, the limits, what is withheld) and
that equal offers are equal bytes. The form is docs/spec/catalogue.md. Deliberately absent:
endpoints, programs, paths and examples, which tell a client nothing that it may use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from stage3_service.domains.acceptance import Offered
from stage3_service.domains.declaration import MethodDeclaration

MAX_CATALOGUE_BYTES: Final = 8_388_608
"""Thousands of methods with their schemas; it must fit into one message, and a reader's memory."""

# A schema is read by narrower limits, and stands a few brackets deep in the catalogue.
CATALOGUE_LIMITS: Final = JsonLimits(
    max_bytes=MAX_CATALOGUE_BYTES,
    max_depth=64,
    max_values=1_000_000,
    max_key_bytes=1024,
    max_string_bytes=1_048_576,
)


class CatalogueTooLarge(ValueError):
    """No reader takes so large a catalogue; the text says which limit."""


def encode_catalogue(domains: Iterable[Offered]) -> bytes:
    """Return the RFC 8785 bytes of what is offered, in declared order.

    Raises:
        CatalogueTooLarge: it is beyond `CATALOGUE_LIMITS`.
    """
    document = canonicalize({"domains": [_domain(offered) for offered in domains]})
    try:
        # Read back by the limits of those who will read it.
        parse(document, CATALOGUE_LIMITS)
    except JsonRefused as refused:
        raise CatalogueTooLarge(refused.description) from refused
    return document


def _domain(offered: Offered) -> JsonValue:
    declaration = offered.declaration
    return {
        "name": declaration.name,
        "adapter": declaration.adapter,
        "offered": offered.offered,
        "accepted_digest": offered.accepted_digest,
        "shown_digest": offered.shown_digest,
        "methods": [_method(method) for method in declaration.methods.values()],
    }


def _method(method: MethodDeclaration) -> JsonValue:
    schema = method.parameters_schema_json
    return {
        "name": method.name,
        "description": method.description,
        "max_duration_ms": round(method.max_duration_s * 1000),
        "max_response_bytes": method.max_response_bytes,
        "repetition": method.repetition.value,
        "parameters_schema": None if schema is None else parse(schema, CATALOGUE_LIMITS).value,
    }
