"""`stage3 token`: issue, list, show and revoke.

A credential leaves here once: on standard output of `issue`, or in a file of mode 0600.
Deliberately absent: a credential as an argument of any command; process lists and shell histories
keep those.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import emit, print_facts, print_table, say
from stage3_service.cli.options import ProfileFile

if TYPE_CHECKING:
    from stage3_service.cli.client.message_documents import Document

app = typer.Typer(
    help="Issue, list, show and revoke tokens.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

TokenId = Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Public reference, tok_...")]


@app.command("issue")
def issue(
    *,
    user: Annotated[str, typer.Option("--user", help="Whom plans under it act for.")],
    allow: Annotated[
        list[str],
        typer.Option(
            "--allow",
            metavar="DOMAIN:METHOD[,METHOD]",
            help="What it may call, in exact names; repeat it for another domain.",
        ),
    ],
    client: Annotated[
        list[str] | None,
        typer.Option(
            "--client",
            metavar="NAME|URI",
            help="A client that may use it: NAME for spiffe://<trust domain>/client/NAME. Repeat.",
        ),
    ] = None,
    bearer: Annotated[
        bool, typer.Option("--bearer", metavar="", help="Let any client use it. Recorded as such.")
    ] = False,
    trigger: Annotated[
        list[str] | None,
        typer.Option("--trigger", help="A trigger type it accepts; manual by default. Repeat."),
    ] = None,
    lifetime_s: Annotated[
        int, typer.Option("--lifetime", metavar="SECONDS", help="How long it lives.")
    ] = 900,
    capability: Annotated[
        str, typer.Option("--capability", help="A label for people; grants nothing.")
    ] = "issued by command line",
    plan_digest: Annotated[
        str | None,
        typer.Option(
            "--plan-digest",
            metavar="HEX",
            help="Bind it to one plan: the digest that `stage4 plan validate` prints.",
        ),
    ] = None,
    max_invocations: Annotated[
        int | None, typer.Option("--max-invocations", metavar="N", help="Steps in its life.")
    ] = None,
    max_frequency: Annotated[
        str | None,
        typer.Option("--max-frequency", metavar='"N per M seconds"', help="Plans per window."),
    ] = None,
    max_response_bytes: Annotated[
        int | None, typer.Option("--max-response-bytes", metavar="N", help="Of one response.")
    ] = None,
    max_total_response_bytes: Annotated[
        int | None,
        typer.Option("--max-total-response-bytes", metavar="N", help="Of all responses."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write the credential to this new file, mode 0600, instead of printing it.",
        ),
    ] = None,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Issue a token. Its credential is shown this once and stored nowhere. Role: issuer."""
    from servicekit.cli.private_file import PrivateFile
    from stage3_service.cli.client.issue_request import issue_request
    from stage3_service.cli.client.operator_client import operator_client

    with ExitStack() as stack:
        # Made first: a token whose credential could not be kept would be lost.
        file = None if output is None else stack.enter_context(PrivateFile(output))
        service = stack.enter_context(operator_client(profile, address))
        request = issue_request(
            user_id=user,
            allow=allow,
            clients=client or [],
            trust_domain=service.profile.trust_domain,
            bearer=bearer,
            triggers=trigger or ["manual"],
            lifetime_s=lifetime_s,
            capability=capability,
            plan_digest=plan_digest,
            limits={
                "max_invocations": max_invocations,
                "max_frequency": max_frequency,
                "max_response_bytes": max_response_bytes,
                "max_total_response_bytes": max_total_response_bytes,
            },
        )
        token, credential = service.issue(request)
        if file is not None:
            file.write(credential)
    if as_json:
        where = {"token_hash": credential} if output is None else {"token_file": str(output)}
        emit({"token": token, **where})
        return
    print_facts(_facts(token))
    if output is None:
        say("")
        say(credential)
        say("This is the only time it is shown: keep it in a file that only you can read.")
    else:
        say(f"its credential is in {output}, for --token-file")


@app.command("list")
def list_tokens(
    most: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """List tokens, newest first. Roles: issuer, revoker, auditor."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        tokens = list(client.tokens(most))
    if as_json:
        emit({"tokens": tokens})
        return
    columns = ("token_id", "state", "user_id", "domain_scope", "expire_time")
    print_table(
        columns,
        [
            [
                ", ".join(value) if isinstance(value := token[column], list) else value
                for column in columns
            ]
            for token in ({**token, "expire_time": _to_the_second(token)} for token in tokens)
        ],
    )


@app.command("show")
def show(
    token_id: TokenId,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Show one token and what it has used. Roles: issuer, revoker, auditor."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        token = client.token(token_id)
    if as_json:
        emit(token)
        return
    print_facts(_facts(token))


@app.command("revoke")
def revoke(
    token_id: TokenId,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit log.")],
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Revoke a token at once and for good. No step starts under it any more. Role: revoker."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        answer = client.revoke(token_id, reason)
    if as_json:
        emit(answer)
        return
    say(f"{token_id} {'was revoked before' if answer['already_revoked'] else 'is revoked'}")
    steps = answer["steps_in_flight"]
    if isinstance(steps, list) and steps:
        say("already started, and may still have their effect:")
        print_table(("plan_id", "step"), [(step["plan_id"], step["step"]) for step in steps])


def _to_the_second(token: Document) -> str:
    return re.sub(r"[.][0-9]+", "", str(token["expire_time"]))


def _facts(token: Document) -> Document:
    scope = token["method_scope"]
    limits = token["resource_limits"]
    assert isinstance(scope, dict)  # noqa: S101 - made by token_document
    assert isinstance(limits, dict)  # noqa: S101 - made by token_document
    set_limits = [f"{name} {value}" for name, value in limits.items() if value is not None]
    clients = token["client_identities"]
    return {
        **token,
        "domain_scope": None,
        "method_scope": "; ".join(f"{name}: {', '.join(names)}" for name, names in scope.items()),
        "resource_limits": "; ".join(set_limits) or "none",
        "allowed_trigger_types": ", ".join(map(str, _list(token["allowed_trigger_types"]))),
        "client_identities": ", ".join(map(str, _list(clients))) or "any (bearer)",
    }


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
