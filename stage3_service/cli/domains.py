"""`stage3 domain`: what is served, and whether a domains file could be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import emit, print_facts, print_table, say
from stage3_service.cli.options import ProfileFile

if TYPE_CHECKING:
    from stage3_service.domains.declaration import DomainDeclaration

app = typer.Typer(
    help="Look at declared domains, accept what they show, or check a domains file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DomainName = Annotated[str, typer.Argument(metavar="NAME", help="A declared domain.")]

_ELSEWHERE = ("grpc", "mcp")
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
    withheld = [str(domain["name"]) for domain in domains if not domain["offered"]]
    for name in withheld:
        say(f"{name} is withheld: look at it with `stage3 domain describe {name}`")


@app.command("describe")
def describe(
    name: DomainName,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Show all that a domain declares; ask one that is elsewhere what it is now, and compare."""
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        declared = {str(domain["name"]): domain for domain in client.domains()}.get(name)
        if declared is None:
            raise CommandFailed(
                ExitCode.REFUSED,
                "DOMAIN_UNKNOWN",
                f"no domain {name} is declared",
                "List them with `stage3 domain list`.",
            )
        shown = client.describe_domain(name) if declared["adapter"] in _ELSEWHERE else None
    if as_json:
        emit({"domain": declared, "shown": shown})
        return
    _say_methods(declared)
    if shown is not None:
        _say_shown(shown)


@app.command("accept")
def accept(
    name: DomainName,
    digest: Annotated[
        str, typer.Option("--digest", help="Accept exactly this definition, without a question.")
    ] = "",
    first: Annotated[
        bool,
        typer.Option("--first", help="Accept what it shows if nothing was accepted of it before."),
    ] = False,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Accept what a domain elsewhere shows; until then none of its steps starts.

    It shows what differs and asks. `--digest` and `--first` are for programs.
    """
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        if not digest:
            shown = client.describe_domain(name)
            digest, accepted = str(shown["digest"]), shown["accepted_digest"]
            if first and accepted not in {None, digest}:
                raise CommandFailed(
                    ExitCode.REFUSED,
                    "DOMAIN_CHANGED",
                    f"domain {name} shows something else than what was accepted",
                    f"Look at it with `stage3 domain describe {name}`.",
                    problems=[str(line) for line in _lines(shown)],
                )
            if not first:
                _ask(name, shown)
        answer = client.accept_domain(name, digest)
    if as_json:
        emit(answer)
        return
    already = answer["already_accepted"]
    say(f"{name} was accepted before; nothing changed" if already else f"{name} is accepted")


def _say_methods(domain: dict[str, object]) -> None:
    methods = domain["methods"]
    assert isinstance(methods, list)  # noqa: S101 - both makers of the document are in sight
    for method in methods:
        facts = {
            "method": f"{domain['name']}.{method['name']}",
            "does": method["description"],
            "limits": f"{method['max_duration_ms'] / 1000:g} s, {method['max_response_bytes']} B",
            "on repetition": method["repetition"],
            "parameters": method["parameters_schema"],
        }
        if method["example"] is not None:
            facts["for example"] = method["example"]["parameters"]
            facts["answers"] = method["example"]["output"]
        print_facts(facts)
        say("")


def _ask(name: str, shown: dict[str, object]) -> None:
    import sys

    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode

    if not sys.stdin.isatty():
        raise CommandFailed(
            ExitCode.USAGE,
            "CONFIRMATION_NEEDED",
            "nobody is there to be asked",
            f"Give --digest {shown['digest']} to accept exactly that, or --first.",
        )
    _say_shown(shown)
    if not typer.confirm(f"Accept this of {name}?"):
        raise CommandFailed(ExitCode.REFUSED, "NOT_CONFIRMED", f"{name} was not accepted")


def _say_shown(shown: dict[str, object]) -> None:
    facts = ("domain", "digest", "accepted_digest")
    print_facts({name: shown[name] for name in facts})
    for line in _lines(shown):
        say(str(line))
    if shown["digest"] == shown["accepted_digest"]:
        say("this is what was accepted")


def _lines(shown: dict[str, object]) -> Sequence[object]:
    lines = shown["difference"]
    assert isinstance(lines, list)  # noqa: S101 - its maker is in sight
    return lines


@app.command("reload")
def reload(
    profile: ProfileFile = None, address: ServiceAddress = None, as_json: Json = False
) -> None:
    """Let the running service read its domains file again, for plans that come from now on.

    The file is taken whole or not at all. Plans under way keep what they began with.
    """
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        reloaded = client.reload_domains()
    if as_json:
        emit(reloaded)
        return
    print_facts(reloaded)


@app.command("export")
def export(
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="A new file for the signed catalogue.")
    ],
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Write down what is offered now, signed, for those who preview plans before they run.

    `stage4 plan preview` reads the file. Hand them the verifier key by another way than the file.
    """
    from stage3_service.cli.catalogue_export import write_catalogue
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        signed, vkey = client.export_domains()
    facts = write_catalogue(output, signed, vkey)
    if as_json:
        emit(facts)
        return
    print_facts(facts)


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


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a domains file, for an editor."""
    from stage3_service.adapters.declarations_file import declarations_schema

    emit(declarations_schema())


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
                "example": (
                    None
                    if method.example is None
                    else {
                        "parameters": json.loads(method.example.parameters_json),
                        "output": json.loads(method.example.output_json),
                    }
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
