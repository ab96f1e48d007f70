"""`stage4 plan`: validate, preview, run, show and list."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import count, emit, identity_path, print_facts, print_table, say, shorten
from stage4_service.cli.options import VKEY_VARIABLE, ProfileFile

if TYPE_CHECKING:
    from stage4_service.cli.client.message_documents import Document

app = typer.Typer(
    help="Validate, preview and run plans, and read what became of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

PlanFile = Annotated[
    Path,
    typer.Argument(
        metavar="PLAN",
        readable=False,  # a file that cannot be read is told as any other trouble
        help="The plan, a JSON document; - for standard input.",
    ),
]
PlanId = Annotated[str, typer.Argument(metavar="PLAN_ID", help="Identifier of a plan, plan_...")]

_OUTPUT_CHARACTERS = 120
"""Of a step's output in a table; --json has all of it."""


@app.command("validate")
def validate(plan: PlanFile, as_json: Json = False) -> None:
    """Validate a plan without any service, and print its digest. Exit code 1: it is not valid.

    These are the rules that Stage-4 asks, with the default limits. The first error is named.
    """
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage4_service.cli.plan_file import read_plan_file, read_valid_plan
    from stage4_service.plan_validator import PlanInvalid

    plan_json = read_plan_file(plan)
    try:
        document = read_valid_plan(plan_json)
    except CommandFailed as failed:
        if not as_json or not isinstance(failed.__cause__, PlanInvalid):
            raise
        path, description = failed.__cause__.violation
        emit({"valid": False, "path": path, "description": description, "plan_digest": None})
        raise typer.Exit(int(ExitCode.REFUSED)) from None
    digest = document.digest.hex()
    if as_json:
        emit({"valid": True, "path": "", "description": "", "plan_digest": digest})
        return
    named = "the plan" if str(plan) == "-" else str(plan)
    say(f"{named} is valid: {count(len(document.parameters_json), 'step')}")
    say(f"plan_digest {digest}")


@app.command("preview")
def preview(
    plan: PlanFile,
    catalogue: Annotated[
        Path,
        typer.Option(
            "--catalogue",
            metavar="FILE",
            readable=False,  # as of PlanFile
            help="What Stage-3 offers: the signed file that `stage3 domain export` wrote.",
        ),
    ],
    vkey: Annotated[
        str,
        typer.Option(
            "--vkey",
            metavar="LINE",
            envvar=VKEY_VARIABLE,
            help="The key of Stage-3's log, as `stage3 audit checkpoint` prints it.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show what a plan would do, what cannot be known before, and the digest to approve.

    No service is asked. Exit code 1: the plan is not valid, or Stage-3 would refuse it.
    """
    from servicekit.process import ExitCode
    from stage4_service.cli.catalogue_file import read_catalogue, read_verifier
    from stage4_service.cli.plan_file import read_plan_file, read_valid_plan
    from stage4_service.cli.preview_display import preview_document, print_preview
    from stage4_service.preview.preview_plan import preview_plan

    document = read_valid_plan(read_plan_file(plan))
    verifier = read_verifier(vkey)
    offered = read_catalogue(catalogue, verifier)
    previewed = preview_plan(document, offered)
    if as_json:
        emit(preview_document(previewed, offered, catalogue, verifier))
    else:
        print_preview(previewed, offered, catalogue, verifier)
    if previewed.problems:
        raise typer.Exit(int(ExitCode.REFUSED))


@app.command("run")
def run(
    plan: PlanFile,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Holds the token that takes the place of REPLACE_WITH_TOKEN in the plan; else "
            "the variable STAGEGATE_TOKEN does.",
        ),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--request-id",
            metavar="ID",
            help="The same id never executes twice: it answers the stored outcome. A fresh one by "
            "default.",
        ),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, max=3600, help="How long to wait."),
    ] = 60.0,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Run a plan, once, and print each step's output. Exit code 1: it did not complete."""
    from uuid_utils.compat import uuid7

    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage4_service.cli.client.plan_client import plan_client
    from stage4_service.cli.plan_file import (
        TOKEN_VARIABLE,
        fill_token,
        read_plan_file,
        step_names,
    )

    if request_id == "":
        # An unset variable, most likely: a fresh identifier would lose what it is there for.
        raise CommandFailed(
            ExitCode.USAGE,
            "USAGE",
            "--request-id is empty",
            "Name the submission, or leave the option out for a fresh identifier.",
        )
    plan_json = read_plan_file(plan)
    names = [f"{step.domain}.{step.method}" for step in step_names(plan_json)]
    plan_json = fill_token(plan_json, token_file, os.environ.get(TOKEN_VARIABLE, ""))
    with plan_client(profile, address) as client:
        result = client.execute(
            plan_json, request_id=request_id or f"cli-{uuid7()}", timeout_s=timeout_s
        )
    if as_json:
        emit(result)
        return
    _print_results(result["results"], names)
    print_facts({name: result[name] for name in ("status", "plan_id", "request_id")})
    if result["replay"]:
        say(
            f"This is the stored outcome of {result['original_plan_id']}; nothing was executed now."
        )


@app.command("show")
def show(
    plan_id: PlanId,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Show one of your own plans, with its results if it completed."""
    from stage4_service.cli.client.plan_client import plan_client

    with plan_client(profile, address) as client:
        plan = client.plan(plan_id)
    if as_json:
        emit(plan)
        return
    print_facts({**plan, "results": None})
    if plan["results"] is not None:
        _print_results(plan["results"], [])


@app.command("list")
def list_plans(
    most: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """List your own plans, newest first; an auditor sees everybody's."""
    from stage4_service.cli.client.plan_client import plan_client

    with plan_client(profile, address) as client:
        plans = client.plans(most)
    if as_json:
        emit({"plans": plans})
        return
    columns = ["plan_id", "state", "reason", "effects", "create_time"]
    rows = [[plan[column] for column in columns] for plan in plans]
    if len({str(plan["caller"]) for plan in plans}) > 1:
        columns.append("caller")
        rows = [
            [*row, identity_path(plan["caller"])] for row, plan in zip(rows, plans, strict=True)
        ]
    print_table(columns, rows)


def _print_results(results: object, names: list[str]) -> None:
    rows: list[Document] = results if isinstance(results, list) else []
    outputs = [json.dumps(row["output"], ensure_ascii=False) for row in rows]
    shown = [shorten(output, _OUTPUT_CHARACTERS) for output in outputs]
    if len(names) == len(rows):
        print_table(
            ("step", "method", "output"),
            [(row["step"], *cells) for row, *cells in zip(rows, names, shown, strict=True)],
        )
    else:
        print_table(
            ("step", "output"),
            [(row["step"], output) for row, output in zip(rows, shown, strict=True)],
        )
    if shown != outputs:
        say("An output was cut; --json shows all of it.")
