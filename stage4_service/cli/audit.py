"""`stage4 audit`: read Stage-4's own log through the service, verify it without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from servicekit.cli.log_verification import KeptHead, StoreFile, verify_store_file
from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import (
    count,
    emit,
    identity_path,
    print_table,
    say,
    tail,
    times_of_day,
)
from stage4_service.cli.options import ConfigFile, ProfileFile, read_settings

if TYPE_CHECKING:
    from servicekit.store.ledger import TreeHead
    from stage4_service.cli.client.message_documents import Document

app = typer.Typer(
    help="Read and verify Stage-4's own audit log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_SHOWN_DETAILS: Final = (
    *("caller", "outcome", "reason", "effects", "step", "replay", "recovered"),
    *("valid", "steps", "method"),
)
_EXPECTED: Final = {"replay": False, "valid": True}
"""Shown only where they are not as expected."""


@app.command("list")
def list_events(
    plan_id: Annotated[str, typer.Option("--plan", help="Only events of this plan.")] = "",
    most: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 1000,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """List the events about your own plans, oldest first; an auditor sees everybody's."""
    from stage4_service.cli.client.plan_client import plan_client

    with plan_client(profile, address) as client:
        events = client.events(plan_id=plan_id, most=most)
    if as_json:
        emit({"events": events})
        return
    date, times = times_of_day([str(event["timestamp"]) for event in events])
    print_table(
        ("seq", "time", "event", "user", "details", *(() if plan_id else ("about",))),
        [
            (
                *(event["seq"], time, event.get("event_type") or event.get("record_type")),
                *(event.get("user_id"), _brief(event)),
                *(() if plan_id else (tail(str(event.get("plan_id") or "")),)),
            )
            for event, time in zip(events, times, strict=True)
        ],
    )
    say(count(len(events), "event") + (f", {date}" if date else ""))


@app.command("verify")
def verify(
    config: ConfigFile = None,
    store: StoreFile = None,
    expect: KeptHead = None,
    as_json: Json = False,
) -> None:
    """Verify Stage-4's own log in its store file, without the service. It may run meanwhile.

    As `stage3 audit verify`: exit code 1 says that the log is bad. A file that is not Stage-4's
    store, or cannot be read, gets no verdict: 78 or 74.
    """

    def configured() -> Path | None:
        from stage4_service.settings import STORE_FILE

        return None if config is None else read_settings(config).state_dir / STORE_FILE

    def vouching() -> TreeHead | None:
        from stage4_service.bootstrap import checkpoint_of

        return None if config is None else checkpoint_of(read_settings(config)).read()

    verify_store_file(
        "stage4", store, configured, kept_head=expect, as_json=as_json, vouching=vouching
    )


@app.command("checkpoint")
def checkpoint(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show the checkpoint kept outside the store, and the key line that others verify it with.

    It needs no service, and none is asked: the running one copies its head there every few seconds.
    """
    from servicekit.cli.checkpoint_display import show_checkpoint
    from stage4_service.bootstrap import checkpoint_of

    show_checkpoint(checkpoint_of(read_settings(config)), as_json=as_json)


def _brief(event: Document) -> str:
    """Return in one cell what people look for first; --json has all of it."""
    said = event.get("details")
    # A record about the service has its caller beside the details, and may have none.
    beside = {"caller": event["caller"]} if event.get("caller") else {}
    details = {**beside, **(said if isinstance(said, dict) else {})}
    shown = {
        name: details[name]
        for name in _SHOWN_DETAILS
        if name in details and details[name] != _EXPECTED.get(name)
    }
    if "caller" in shown:
        shown["caller"] = identity_path(shown["caller"])
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in shown.items()
    )
