"""What the gates need to know of the declared domains, and nothing else of them.

A port: the domains room declares, this room asks. Deliberately absent: adapters, endpoints, and
any way to invoke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servicekit.ijson import JsonValue


class ParametersValidator(Protocol):
    """Hold a compiled schema. Pure and safe for any thread."""

    def first_error(self, value: JsonValue) -> str | None:
        """Return where and why the value does not match, in words that hold no part of it."""


class DeclaredMethod(Protocol):
    """Know what a method accepts and how long it may take."""

    @property
    def validator(self) -> ParametersValidator | None:
        """Return the schema of its parameters, if one is declared."""

    @property
    def max_duration_s(self) -> float:
        """Return how long a call may take before its outcome is not known."""

    @property
    def max_response_bytes(self) -> int:
        """Return how large an answer may be."""


class DeclaredDomains(Protocol):
    """Know which domains and methods are declared, which never changes, and which are withheld."""

    @property
    def domains(self) -> Mapping[str, object]:
        """Return the declared domains by exact name."""

    def method(self, domain: str, method: str) -> DeclaredMethod | None:
        """Return the declaration of a method, by exact names."""

    def withholds(self, domain: str) -> bool:
        """Return whether a declared domain is not what an operator has accepted, at this moment."""
