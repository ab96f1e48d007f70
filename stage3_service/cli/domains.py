"""`stage3 domain`: what is served, and whether a domains file could be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import emit, print_table, say
from stage3_service.cli.options import ProfileFile

if TYPE_CHECKING:
    from stage3_service.domains.declaration import DomainDeclaration

app = typer.Typer(
    help="Look at declared domains, or check a domains file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_COLUMNS = ("domain", "method", "seconds", "bytes", "on repetition", "does")


@app.command("list")
def list_domains(
    profile: ProfileFile = None, address: ServiceAddress = None, as_json: Json = False
) -> None:
    """List the domains that the running service has declared, and their methods."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        domains = client.domains()
    if as_json:
        emit({"domains": domains})
        return
    print_table(_COLUMNS, [row for domain in domains for row in _rows(domain)])


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .toml or .json file.")],
    as_json: Json = False,
) -> None:
    """Validate a domains file without any service. Every problem is named."""
    from stage3_service.adapters.declarations_file import read_declarations

    domains = [_document(domain) for domain in read_declarations(file)]
    if as_json:
        emit({"valid": True, "domains": domains})
        return
    print_table(_COLUMNS, [row for domain in domains for row in _rows(domain)])
    say(f"{file} is valid")


def _document(domain: DomainDeclaration) -> dict[str, object]:
    import json

    return {
        "name": domain.name,
        "adapter": domain.adapter,
        "methods": [
            {
                "name": method.name,
                "description": method.description,
                "max_duration_ms": round(method.max_duration_s * 1000),
                "max_response_bytes": method.max_response_bytes,
                "repetition": method.repetition.value,
                "parameters_schema": (
                    None
                    if method.parameters_schema_json is None
                    else json.loads(method.parameters_schema_json)
                ),
            }
            for method in domain.methods.values()
        ],
    }


def _rows(domain: dict[str, object]) -> list[Sequence[object]]:
    methods = domain["methods"]
    assert isinstance(methods, list)  # noqa: S101 - both makers of the document are in sight
    return [
        (
            domain["name"],
            method["name"],
            f"{method['max_duration_ms'] / 1000:g}",
            method["max_response_bytes"],
            method["repetition"],
            method["description"],
        )
        for method in methods
    ]
