"""`stage3 serve`: one process, from its settings to its exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from servicekit.cli.options import Json
from servicekit.cli.restored_backup import AcceptRestored, verify_reason
from stage3_service.cli.options import ConfigFile, read_settings

if TYPE_CHECKING:
    from stage3_service.bootstrap import Stage3


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
    """Serve until SIGTERM or SIGINT, then drain: plans under way end, no other is begun.

    SIGHUP reads the domains file again, as `stage3 domain reload` does.

    One line on standard output says where it listens, once it answers. The log goes to standard
    error, as JSON lines.
    """
    from servicekit.cli.service_process import serve_process
    from servicekit.settings import describe_settings
    from stage3_service.bootstrap import build_stage3

    accepted = verify_reason(accept_restored)
    settings = read_settings(config)
    if print_config:
        sys.stdout.write(describe_settings(settings))
        return
    exit_code = serve_process(
        "stage3",
        lambda seal: build_stage3(settings, on_poison=seal, accept_restored=accepted),
        lambda stage3: _announce(stage3, as_json=as_json),
        log_level=settings.log_level,
        cpu=settings.cpu,
        drain_s=settings.drain_s,
    )
    raise typer.Exit(int(exit_code))


def _announce(stage3: Stage3, *, as_json: bool) -> None:
    from servicekit.process import on_hangup

    on_hangup(stage3.reload)
    from servicekit.cli.service_process import announce

    announce(
        "stage3",
        {
            "plans": stage3.plans.address,
            "operators": stage3.operators.address,
            "probes": stage3.probes.address,
            **({} if stage3.metrics is None else {"metrics": stage3.metrics.address}),
        },
        as_json=as_json,
    )
