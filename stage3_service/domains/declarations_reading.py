"""What one reading of a declarations file has found wrong so far, and how it is said.

Guards the rule that all problems of a file are named at once, each with its path. Deliberately
absent: what a key means, which is each adapter's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from servicekit.ijson import JsonValue
from stage3_service.domains.declaration import (
    MethodDeclaration,
    ParametersValidator,
    SchemaRefused,
)
from stage3_service.domains.suggestion import suggestion


class DeclarationsRefused(ValueError):
    """The declarations cannot be served; `problems` names every one of them, each with its path."""

    def __init__(self, problems: Collection[str]) -> None:
        """Keep all problems: a person should have to correct a file once."""
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one file: what it may refer to, and the problems found so far."""

    validators: Callable[[bytes], ParametersValidator]
    builtin: Mapping[str, Mapping[str, MethodDeclaration]]
    problems: list[str]

    def refuse(self, path: str, description: str) -> None:
        """Note one problem, and where it stands."""
        self.problems.append(f"{path}: {description}")

    def refuse_schema(self, path: str, refused: SchemaRefused) -> None:
        """Note every fault of the schema at `path`, each where it stands."""
        for fault in refused.faults:
            self.refuse(f"{path}.{fault.path}" if fault.location else path, fault.description)

    def table(self, path: str, raw: JsonValue, keys: Collection[str]) -> dict[str, JsonValue]:
        """Return the known part of a table, having named everything unknown in it."""
        if not isinstance(raw, dict):
            self.refuse(path, "must be a table")
            return {}
        for key in raw:
            if key not in keys:
                self.refuse(f"{path}.{key}", f"unknown key{nearest_or_all(key, keys)}")
        return {key: raw[key] for key in keys if key in raw}


def nearest_or_all(name: str, known: Collection[str]) -> str:
    """Return the nearest known name as a question, else the list of them."""
    return suggestion(name, known) or f"; known: {', '.join(sorted(known))}"
