"""A domain service as a command: `serve` until told to stop, or `declare` what it offers.

Deliberately absent: commands of the domain's own. A program that needs some builds them itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from servicekit.cli.entry import run_command_line

if TYPE_CHECKING:
    from servicekit.cli.failure import CommandFailed
    from stagegate_domain.service import DomainService
    from stagegate_domain.settings import DomainSettings
    from stagegate_domain.wire import RunningDomain

SETTINGS_PREFIX: Final = "STAGEGATE_DOMAIN_"


def run(domain: DomainService) -> NoReturn:
    """Run the command line of a program whose one domain this is, and end the process."""
    app = typer.Typer(
        help=f"The domain {domain.name}.", no_args_is_help=True, pretty_exceptions_enable=False
    )

    @app.command("serve")
    def serve(
        config: Annotated[
            Path | None,
            typer.Option(
                "--config",
                metavar="FILE",
                help=f"The settings file. Variables {SETTINGS_PREFIX}... take the place of single "
                "settings.",
            ),
        ] = None,
        print_config: Annotated[
            bool, typer.Option("--print-config", help="Print the settings in force and end.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Announce as JSON.")] = False,
    ) -> None:
        """Serve until SIGTERM or SIGINT, then drain: calls under way end, no other is begun."""
        from servicekit.settings import describe_settings, load_settings
        from stagegate_domain.settings import DomainSettings

        settings = load_settings(
            DomainSettings, file=config, environ=os.environ, env_prefix=SETTINGS_PREFIX
        )
        if print_config:
            sys.stdout.write(describe_settings(settings))
            return
        raise typer.Exit(_serve(domain, settings, as_json=as_json))

    @app.command("declare")
    def declare(
        endpoint: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where it listens.")],
        server_name: Annotated[
            str, typer.Argument(metavar="NAME", help="The DNS name in its certificate.")
        ],
    ) -> None:
        """Print the domain's table for Stage-3's domains file."""
        from stagegate_domain.declaration import declaration

        sys.stdout.write(declaration(domain, endpoint, server_name))

    sys.exit(run_command_line(domain.name, app, _knows_nothing_more))


def _serve(domain: DomainService, settings: DomainSettings, *, as_json: bool) -> int:
    from servicekit.cli.service_process import announce, serve_process
    from servicekit.clock import SystemClock
    from servicekit.log import logger
    from stagegate_domain.wire import build_domain

    def say(running: RunningDomain) -> None:
        listeners = {"calls": running.calls.address, "probes": running.probes.address}
        announce(domain.name, listeners, as_json=as_json)

    return int(
        serve_process(
            domain.name,
            lambda _no_store: build_domain(
                domain,
                settings,
                clock=SystemClock(),
                entropy=os.urandom,
                log=logger(domain.name),
            ),
            say,
            log_level=settings.log_level,
            cpu=None,
            drain_s=settings.drain_s,
        )
    )


def _knows_nothing_more(_error: Exception) -> CommandFailed | None:
    return None
