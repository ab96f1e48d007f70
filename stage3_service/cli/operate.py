"""`stage3 status`, `halt` and `resume`: look at the service, stop it, let it go on."""

from __future__ import annotations

from typing import Annotated

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import emit, print_facts, say
from stage3_service.cli.options import ProfileFile

Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]


def status(
    profile: ProfileFile = None, address: ServiceAddress = None, as_json: Json = False
) -> None:
    """Show whether steps may start, and why not."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        document = client.status()
        # The words of whoever halted it are in the log, which not every operator may read.
        said = {} if as_json else client.words_of_halt(document)
    if as_json:
        emit(document)
        return
    print_facts({**document, **said})


def halt(
    reason: Reason,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Start no further step, of any plan, until `stage3 resume`. Steps under way end."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        already = client.halt(reason)
    if as_json:
        emit({"halted": True, "already_halted": already})
        return
    say(
        "already halted; nothing changed"
        if already
        else "halted; no step starts until `stage3 resume`"
    )


def resume(
    reason: Reason,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """Let steps start again."""
    from stage3_service.cli.client.operator_client import operator_client

    with operator_client(profile, address) as client:
        already = client.resume(reason)
    if as_json:
        emit({"serving": True, "already_serving": already})
        return
    say("already serving; nothing changed" if already else "serving again")
