"""`stage3 audit`: read the log through the service, verify it without one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json, ServiceAddress
from servicekit.cli.output import count, emit, print_facts, print_table, say, times_of_day
from stage3_service.cli.options import ConfigFile, ProfileFile

if TYPE_CHECKING:
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

    with operator_client(profile, address) as client:
        events = list(
            client.events(plan_id=plan_id, token_id=token_id, event_type=event_type, most=most)
        )
    if as_json:
        emit({"events": events})
        return
    date, times = times_of_day([str(event["timestamp"]) for event in events])
    print_table(
        ("seq", "time", "event", "step", "status", "reason"),
        [_row(event, time) for event, time in zip(events, times, strict=True)],
    )
    say(count(len(events), "event") + (f", {date}" if date else ""))


@app.command("verify")
def verify(
    config: ConfigFile = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="FILE", help="The store file, instead of --config."),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="SIZE:ROOT",
            help="A head noted earlier, as this command prints it: the log must contain it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the whole log in the store file, without the service. It may run meanwhile.

    Every hash is computed anew from the stored bytes, and what each entry says is compared with the
    columns it is found by. The first bad entry is named. Exit code 1: the log is bad.

    A hand that rewrites entries, hashes and head alike is found only against a head kept elsewhere:
    note what this prints, and give it to --head next time.
    """
    from servicekit.process import ExitCode
    from servicekit.store.ledger import verify_log
    from stage3_service.cli.log_check import leaf_problem, parse_head

    path = _store_file(config, store)
    verdict = verify_log(path, check=leaf_problem, at_least=parse_head(expect))
    document: Document = {
        "verified": verdict.problem is None,
        "store": str(path),
        "size": verdict.size,
        "root": verdict.root.hex(),
        "problem": verdict.problem,
        "first_bad_seq": verdict.first_bad_seq,
    }
    if as_json:
        emit(document)
    else:
        head = f"{verdict.size}:{verdict.root.hex()}"
        print_facts({**document, "size": None, "root": None, "head": head})
    if verdict.problem is not None:
        raise typer.Exit(int(ExitCode.REFUSED))


def _store_file(config: Path | None, store: Path | None) -> Path:
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage3_service.cli.options import read_settings
    from stage3_service.settings import STORE_FILE

    if store is not None:
        return store
    if config is None:
        raise CommandFailed(
            ExitCode.USAGE,
            "USAGE",
            "which log?",
            "Name the settings with --config FILE, or the store file with --store FILE.",
        )
    return read_settings(config).state_dir / STORE_FILE


def _row(event: Document, time: str) -> list[object]:
    step = "" if event["step"] is None else f"{event['step']} {event['domain']}.{event['method']}"
    return [event["seq"], time, event["event_type"], step, event["status"], event["reason"]]
