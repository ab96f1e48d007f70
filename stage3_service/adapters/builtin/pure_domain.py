"""What every builtin domain without state is: a closed set of pure functions, each with an example.

Guards the promise that such a domain may run on its caller's thread: a method reads its parameters,
computes, and ends. Deliberately absent: clocks, files, networks, and state of any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from servicekit.ijson import JsonValue
from stage3_service.adapters.builtin.method import (
    MethodRefused,
    ParametersT,
    declare,
    decode_parameters,
    encode_answer,
)
from stage3_service.domains.declaration import Example, MethodDeclaration, Repetition
from stage3_service.domains.port import Answer, Invocation, MethodFailed

_MAX_DURATION_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class PureMethod:
    """One method: what it declares, and the function that answers its parameters."""

    declaration: MethodDeclaration
    answer: Callable[[bytes], JsonValue]


def pure_method(
    function: Callable[[ParametersT], JsonValue],
    model: type[ParametersT],
    description: str,
    max_response_bytes: int,
    shown: Example,
) -> PureMethod:
    """Return the method of the function's name."""
    declaration = declare(
        function.__name__,
        model,
        description,
        max_duration_s=_MAX_DURATION_S,
        max_response_bytes=max_response_bytes,
        repetition=Repetition.IDEMPOTENT,
        shown=shown,
    )
    return PureMethod(
        declaration,
        lambda parameters_json: function(decode_parameters(model, parameters_json)),
    )


class PureDomain:
    """A domain of such methods; it holds no state, so any number of callers may share it."""

    __slots__ = ("_methods", "_name", "declarations")

    def __init__(self, name: str, *methods: PureMethod) -> None:
        self._name = name
        self._methods = {method.declaration.name: method for method in methods}
        self.declarations: Mapping[str, MethodDeclaration] = MappingProxyType(
            {name: method.declaration for name, method in self._methods.items()}
        )

    def invoke(self, invocation: Invocation) -> Answer:
        """Run one method; refuse parameters that do not fit and results that are too large."""
        method = self._methods.get(invocation.method)
        if method is None:
            return MethodFailed(f"{self._name} has no such method")
        try:
            value = method.answer(invocation.parameters_json)
        except MethodRefused as refused:
            return MethodFailed(str(refused))
        return encode_answer(value, method.declaration)

    def close(self) -> None:
        """Release nothing."""
