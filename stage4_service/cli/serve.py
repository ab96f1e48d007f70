"""`stage4 serve`: one process, from its settings to its exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json
from servicekit.cli.restored_backup import AcceptRestored, verify_reason
from stage4_service.cli.options import ConfigFile, read_settings

if TYPE_CHECKING:
    from stage4_service.bootstrap import RunningStage4


def serve(
    config: ConfigFile = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config", metavar="", help="Print the settings in force as TOML and end."
        ),
    ] = False,
    accept_restored: AcceptRestored = None,
    as_json: Json = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain: plans under way end, no other is taken.

    One line on standard output says where it listens, once it answers. The log goes to standard
    error, as JSON lines.
    """
    from uuid_utils.compat import uuid7

    from servicekit.cli.service_process import serve_process
    from servicekit.clock import SystemClock
    from servicekit.settings import describe_settings
    from stage4_service.bootstrap import build_stage4

    accepted = verify_reason(accept_restored)
    settings = read_settings(config)
    if print_config:
        sys.stdout.write(describe_settings(settings))
        return
    exit_code = serve_process(
        "stage4",
        lambda seal: build_stage4(
            settings,
            clock=SystemClock(),
            ids=lambda: str(uuid7()),
            on_sealed=seal,
            accept_restored=accepted,
        ),
        lambda stage4: _announce(stage4, as_json=as_json),
        log_level=settings.log_level,
        cpu=settings.cpu,
        drain_s=settings.drain_s,
    )
    raise typer.Exit(int(exit_code))


def _announce(stage4: RunningStage4, *, as_json: bool) -> None:
    from servicekit.cli.service_process import announce

    addresses = stage4.addresses
    listeners = {"clients": addresses.clients, "probes": addresses.probes}
    if addresses.metrics:
        listeners["metrics"] = addresses.metrics
    announce("stage4", listeners, as_json=as_json)
