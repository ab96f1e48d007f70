"""The table that declares a domain in Stage-3's domains file, printed for a person to review.

Deliberately absent: writing the file. What Stage-3 serves is the operator's decision.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping

from servicekit.settings import toml_value
from stagegate_domain.service import DomainService


def declaration(domain: DomainService, endpoint: str, server_name: str) -> str:
    """Return the domain's declaration as TOML, every method with every limit.

    Raises:
        ValueError: a schema holds null, which TOML has no word for; declare in a .json file.

    """
    head = {"adapter": "grpc", "endpoint": endpoint, "server_name": server_name}
    methods = {
        method.name: {
            "description": method.description,
            "max_duration_s": method.max_duration_s,
            "max_response_bytes": method.max_response_bytes,
            "repetition": method.repetition,
            **(
                {"parameters_schema": json.loads(method.parameters_schema_json)}
                if method.parameters_schema_json
                else {}
            ),
        }
        for method in domain.methods.values()
    }
    lines = [f"[domains.{domain.name}]", *_assignments(head)]
    for name, table in methods.items():
        lines += ["", f"[domains.{domain.name}.methods.{name}]", *_assignments(table)]
    text = "\n".join(lines) + "\n"
    if tomllib.loads(text)["domains"][domain.name] != {**head, "methods": methods}:
        raise ValueError("a schema holds null, which TOML does not have: use a .json file")
    return text


def _assignments(table: Mapping[str, object]) -> list[str]:
    return [f"{key} = {toml_value(value)}" for key, value in table.items()]
