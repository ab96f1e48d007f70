"""Puts the schemas of an accepted definition in force beside those of the declarations file.

Guards that gate 4 asks both: what the domain takes, as an operator accepted it, and what the
operator allows of that. Neither replaces the other. Deliberately absent: schemas that nobody
accepted. A domain without an accepted definition is refused before its parameters are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonValue, parse
from stage3_service.domains.declaration import (
    DomainDeclaration,
    MethodDeclaration,
    ParametersValidator,
    SchemaFault,
    SchemaRefused,
)
from stage3_service.domains.definition import Definition
from stage3_service.domains.narrowing import unknown_properties

_LIMITS = JsonLimits()


@dataclass(frozen=True, slots=True)
class BothSchemas:
    """A value fits when it fits the domain's own schema and the file's."""

    own: ParametersValidator
    declared: ParametersValidator

    def first_error(self, value: JsonValue) -> str | None:
        """Name the first offence against the domain's schema, else the first against the file's."""
        return self.own.first_error(value) or self.declared.first_error(value)


def with_accepted_schemas(
    declaration: DomainDeclaration,
    accepted: Definition,
    *,
    foreign: Callable[[bytes], ParametersValidator],
) -> DomainDeclaration:
    """Return the declaration with the definition's schemas in force too.

    `foreign` compiles a schema that a domain brought along. A method whose definition has no
    `input_schema` keeps what the file says alone.

    Raises:
        SchemaRefused: a schema of the definition cannot be enforced, or the file limits a property
            that the method does not have. Locations start with the method's name.

    """
    faults: list[SchemaFault] = []
    methods: dict[str, MethodDeclaration] = {}
    for name, method in declaration.methods.items():
        try:
            methods[name] = _with_own(method, _input_schema(accepted, name), foreign)
        except SchemaRefused as refused:
            faults += [SchemaFault((name, *at), description) for at, description in refused.faults]
    if faults:
        raise SchemaRefused(*faults)
    return replace(declaration, methods=methods)


def _with_own(
    method: MethodDeclaration, own: JsonValue, foreign: Callable[[bytes], ParametersValidator]
) -> MethodDeclaration:
    if own is None:
        return method
    own_json = canonicalize(own)
    validator = foreign(own_json)
    if method.validator is None or method.parameters_schema_json is None:
        return replace(method, parameters_schema_json=own_json, validator=validator)
    declared = parse(method.parameters_schema_json, _LIMITS).value
    if faults := unknown_properties(declared, own):
        raise SchemaRefused(*faults)
    # For people and tools, who read each part by its own dialect.
    shown = canonicalize({"allOf": [own, declared]})
    both = BothSchemas(validator, method.validator)
    return replace(method, parameters_schema_json=shown, validator=both)


def _input_schema(accepted: Definition, method: str) -> JsonValue:
    document = accepted.document
    methods = document.get("methods") if isinstance(document, dict) else None
    shown = methods.get(method) if isinstance(methods, dict) else None
    return shown.get("input_schema") if isinstance(shown, dict) else None
