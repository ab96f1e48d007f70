"""What a domain offers, and how one call of it is run: strict bytes in, bounded bytes out.

Deliberately absent: gRPC, threads and storage. Calls run side by side; what a method keeps between
them, and what it does with a key it has seen before, is its own affair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import jsonschema_rs

from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Form of a domain's and of a method's name, matched in full."""

MAX_DURATION_S: Final = 300.0
MAX_RESPONSE_BYTES: Final = 1_048_576
"""Most that a method may declare: Stage-3 takes no more from any domain."""

Repetition = Literal["fencing", "idempotent", "neither"]
"""What happens when a key comes twice: one effect and the first answer; no further change; no
promise. Stage-3 never repeats a call; people who look into a step in doubt may."""


class MethodFailed(Exception):
    """The method ran and failed; the text, one sentence, is recorded and not shown to clients."""


@dataclass(frozen=True, slots=True)
class Call:
    """Everything a method is given.

    `parameters` fit the method's schema, which is why they are not typed any further.
    `idempotency_key` names the step: the same for one step and for no other. `remaining_s` says
    how long Stage-3 still waits, in seconds.
    """

    parameters: Mapping[str, Any]
    idempotency_key: str
    remaining_s: Callable[[], float]


Run = Callable[[Call], JsonValue]


@dataclass(frozen=True, slots=True)
class Method:
    """One declared method and the function that runs it."""

    name: str
    description: str
    max_duration_s: float
    max_response_bytes: int
    repetition: Repetition
    parameters_schema_json: str
    run: Run
    _validator: jsonschema_rs.Draft202012Validator | None

    def invoke(
        self, parameters_json: bytes, idempotency_key: str, remaining_s: Callable[[], float]
    ) -> bytes:
        """Run the method and return its output as JSON.

        Raises:
            MethodFailed: the parameters do not fit, the method said so, or its result is too large.

        """
        try:
            parameters = parse(parameters_json, JsonLimits()).value
        except JsonRefused as refused:
            raise MethodFailed(
                f"the parameters are not strict JSON: {refused.description}"
            ) from None
        if not isinstance(parameters, dict):
            raise MethodFailed("the parameters are not an object")
        if self._validator is not None and not self._validator.is_valid(parameters):
            raise MethodFailed("the parameters do not fit the schema of the method")
        result = self.run(Call(parameters, idempotency_key, remaining_s))
        output = json.dumps(
            result, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
        if len(output) > self.max_response_bytes:
            limit = f"{self.max_response_bytes} are declared"
            raise MethodFailed(f"the result has {len(output)} bytes, {limit}")
        return output


class DomainService:
    """A domain under construction: methods are added by decorating functions, before it serves."""

    def __init__(self, name: str) -> None:
        """Name the domain as plans will.

        Raises:
            ValueError: the name is malformed.

        """
        if NAME.fullmatch(name) is None:
            raise ValueError(f"domain name {name!r} is not [a-z][a-z0-9_]{{0,63}}")
        self.name = name
        self._methods: dict[str, Method] = {}

    @property
    def methods(self) -> Mapping[str, Method]:
        """The declared methods by name; a read-only view."""
        return MappingProxyType(self._methods)

    def method(
        self,
        *,
        description: str,
        max_duration_s: float,
        max_response_bytes: int,
        repetition: Repetition,
        parameters_schema: Mapping[str, JsonValue] | None = None,
    ) -> Callable[[Run], Run]:
        """Declare the decorated function as the method of its name.

        Raises:
            ValueError: a name, a limit or the schema is out of bounds, or the name is taken.

        """
        if not 0 < max_duration_s <= MAX_DURATION_S:
            raise ValueError(f"max_duration_s must be over 0 and at most {MAX_DURATION_S:g}")
        if not 0 < max_response_bytes <= MAX_RESPONSE_BYTES:
            raise ValueError(f"max_response_bytes must be 1 to {MAX_RESPONSE_BYTES}")
        schema = "" if parameters_schema is None else json.dumps(parameters_schema)
        validator = None
        if parameters_schema is not None:
            # Offline: a schema never reaches outside itself. Masked: parameters may be secrets.
            validator = jsonschema_rs.Draft202012Validator(
                dict(parameters_schema), mask="the value", offline=True
            )

        def declare(run: Run) -> Run:
            name = run.__name__
            if NAME.fullmatch(name) is None or name in self._methods:
                raise ValueError(f"method name {name!r} is malformed or taken")
            self._methods[name] = Method(
                name=name,
                description=description,
                max_duration_s=max_duration_s,
                max_response_bytes=max_response_bytes,
                repetition=repetition,
                parameters_schema_json=schema,
                run=run,
                _validator=validator,
            )
            return run

        return declare
