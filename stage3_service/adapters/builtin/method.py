"""How a builtin method is declared, reads its parameters and writes its answer.

One typed model per method is both the JSON Schema that gate 4 enforces and the reader the method
uses, so the two cannot differ. Deliberately absent: defaults. Every parameter is written in the
plan or the method does not run.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonValue
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.domains.declaration import Example, MethodDeclaration, Repetition
from stage3_service.domains.port import MethodFailed, Output


class Parameters(BaseModel):
    """The parameters of one builtin method: strict types, no unknown name, no default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


ParametersT = TypeVar("ParametersT", bound=Parameters)


class _SchemaWithoutTitles(GenerateJsonSchema):
    """Leaves out the titles, which only repeat the names they stand beside."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Give no member a title."""
        del schema
        return False


_MODEL_KEYS = ("title", "description")


def example(parameters: JsonValue, output: JsonValue) -> Example:
    """Return a call, and what it answers."""
    return Example(canonicalize(parameters), canonicalize(output))


def as_integer(value: object) -> object:
    """Take 1.0 for 1, as JSON Schema does; leave everything else to the strict reader."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class MethodRefused(Exception):
    """The method will not do what it was asked; its text becomes the failure message."""


def declare(
    name: str,
    parameters: type[Parameters],
    description: str,
    *,
    max_duration_s: float,
    max_response_bytes: int,
    repetition: Repetition,
    shown: Example,
) -> MethodDeclaration:
    """Return the declaration of a builtin method whose parameters are this model.

    `shown` is a call that a person may try, and its answer; a test makes it.
    """
    schema = parameters.model_json_schema(schema_generator=_SchemaWithoutTitles)
    # The model's own name and docstring speak to readers of this code, not of the catalogue.
    schema_json = canonicalize({k: v for k, v in schema.items() if k not in _MODEL_KEYS})
    return MethodDeclaration(
        name=name,
        description=description,
        max_duration_s=max_duration_s,
        max_response_bytes=max_response_bytes,
        repetition=repetition,
        parameters_schema_json=schema_json,
        validator=compile_schema(schema_json),
        example=shown,
    )


def decode_parameters(model: type[ParametersT], parameters_json: bytes) -> ParametersT:
    """Return the parameters as their typed model.

    Gate 4 has asked the same model's schema already. A builtin asks again, because what it would
    do with parameters nobody checked is an effect nobody allowed.

    Raises:
        MethodRefused: they do not fit; the text names the first offence and quotes no value.

    """
    try:
        return model.model_validate_json(parameters_json)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(segment) for segment in first["loc"][:1])
        known = path if path in model.model_fields else "parameters"
        raise MethodRefused(f"{known}: {first['type']}") from None


def encode_answer(value: JsonValue, declaration: MethodDeclaration) -> Output | MethodFailed:
    """Return the value as canonical JSON, or a failure when it is larger than declared."""
    json_bytes = canonicalize(value)
    if len(json_bytes) > declaration.max_response_bytes:
        return MethodFailed(
            f"the result has {len(json_bytes)} bytes, {declaration.max_response_bytes} are allowed"
        )
    return Output(json_bytes)
