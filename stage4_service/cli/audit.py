"""`stage4 audit`: Stage-4's own log about what this caller submitted."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import count, emit, print_table, say, times_of_day
from stage4_service.cli.options import ProfileFile

app = typer.Typer(
    help="Read Stage-4's own audit log.", no_args_is_help=True, pretty_exceptions_enable=False
)

_SHOWN_DETAILS: Final = (
    *("outcome", "reason", "effects", "step", "replay", "recovered"),
    *("valid", "steps", "method"),
)


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
        ("seq", "time", "event", "user", "details"),
        [
            (
                *(event["seq"], time, event.get("event_type") or event.get("record_type")),
                *(event.get("user_id"), _brief(event.get("details"))),
            )
            for event, time in zip(events, times, strict=True)
        ],
    )
    say(count(len(events), "event") + (f", {date}" if date else ""))


def _brief(details: object) -> str:
    """Return in one cell what people look for first; --json has all of it."""
    if not isinstance(details, dict):
        return ""
    shown = ((name, details[name]) for name in _SHOWN_DETAILS if name in details)
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in shown
    )
