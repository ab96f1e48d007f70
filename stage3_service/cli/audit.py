"""`stage3 audit`: read the log through the service, verify it without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from stage3_service.cli.options import ConfigFile, ProfileFile, read_settings

if TYPE_CHECKING:
    from servicekit.store.ledger import TreeHead
    from stage3_service.cli.client.message_documents import Document

app = typer.Typer(
    help="Read and verify the audit log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_events(
    plan_id: Annotated[str, typer.Option("--plan", help="Only events of this plan.")] = "",
    token_id: Annotated[str, typer.Option("--token", help="Only events of this token_id.")] = "",
    event_type: Annotated[str, typer.Option("--type", help="Only events of this type.")] = "",
    most: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 1000,
    profile: ProfileFile = None,
    address: ServiceAddress = None,
    as_json: Json = False,
) -> None:
    """List events in the order of the log. Role: auditor."""
    from stage3_service.cli.client.operator_client import operator_client

    _verify_type(event_type)
    with operator_client(profile, address) as client:
        events = list(
            client.events(plan_id=plan_id, token_id=token_id, event_type=event_type, most=most)
        )
    if as_json:
        emit({"events": events})
        return
    date, times = times_of_day([str(event["timestamp"]) for event in events])
    columns = ["seq", "time", "event", "step", "status", "reason"]
    rows = [_row(event, time) for event, time in zip(events, times, strict=True)]
    if not plan_id:
        columns.append("about")
        rows = [[*row, tail(_about(event))] for row, event in zip(rows, events, strict=True)]
    print_table(columns, rows)
    if not plan_id:
        _print_whom(events)
    say(count(len(events), "event") + (f", {date}" if date else ""))


@app.command("verify")
def verify(
    config: ConfigFile = None,
    store: StoreFile = None,
    expect: KeptHead = None,
    as_json: Json = False,
) -> None:
    """Verify the whole log in the store file, without the service. It may run meanwhile.

    Every hash is computed anew from the stored bytes, and what each entry says is compared with the
    columns it is found by. The first bad entry is named. Then the tables that the gates read are
    held against the log. Exit code 1: the log is bad, or a table contradicts it. A file that
    is not Stage-3's store, or cannot be read, gets no verdict: 78 or 74.

    A hand that rewrites entries, hashes and head alike is found only against a head kept elsewhere:
    note what this prints, and give it to --head next time.
    """

    def configured() -> Path | None:
        from stage3_service.settings import STORE_FILE

        return None if config is None else read_settings(config).state_dir / STORE_FILE

    def vouching() -> TreeHead | None:
        from stage3_service.store.vouching import checkpoint_of

        return None if config is None else checkpoint_of(read_settings(config)).read()

    def problem_of_state(path: Path) -> str | None:
        from servicekit.store.ledger import read_store
        from stage3_service.store.state_check import state_problem

        return read_store(path, state_problem)

    verify_store_file(
        "stage3",
        store,
        configured,
        kept_head=expect,
        as_json=as_json,
        state_problem=problem_of_state,
        vouching=vouching,
    )


@app.command("checkpoint")
def checkpoint(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show the checkpoint kept outside the store, and the key line that others verify it with.

    It needs no service, and none is asked: the running one copies its head there every few seconds.
    """
    from servicekit.cli.checkpoint_display import show_checkpoint
    from stage3_service.store.vouching import checkpoint_of

    show_checkpoint(checkpoint_of(read_settings(config)), as_json=as_json)


def _verify_type(event_type: str) -> None:
    """Refuse a type that no event has: `0 events` would read as `it never happened`."""
    from difflib import get_close_matches

    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage3_service.audit.event import EventType

    known = [member.value for member in EventType]
    if not event_type or event_type in known:
        return
    near = get_close_matches(event_type.upper(), known, 1)
    raise CommandFailed(
        ExitCode.USAGE,
        "USAGE",
        f"--type {event_type!r} is no type of event"
        + (f"; did you mean {near[0]}?" if near else ""),
        f"Types are {', '.join(known)}.",
    )


def _about(event: Document) -> str:
    return str(event["plan_id"] or event["token_id"] or "")


def _print_whom(events: list[Document]) -> None:
    """Print what the ends of identifiers in the last column stand for, and whose each is."""
    whom: dict[str, tuple[str, str]] = {}
    for event in events:
        data = event["additional_data"]
        caller = identity_path(data.get("caller")) if isinstance(data, dict) else ""
        user, known = whom.get(_about(event), ("", ""))
        whom[_about(event)] = (user or str(event["user_id"] or ""), known or caller)
    whom.pop("", None)
    if whom:
        say("")
        print_table(
            ("about", "plan_id or token_id", "user", "caller"),
            [(tail(about), about, *facts) for about, facts in whom.items()],
        )


def _row(event: Document, time: str) -> list[object]:
    step = "" if event["step"] is None else f"{event['step']} {event['domain']}.{event['method']}"
    return [event["seq"], time, event["event_type"], step, event["status"], event["reason"]]
