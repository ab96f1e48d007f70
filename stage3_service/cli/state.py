"""`stage3 init`: settings, the key of outcomes, the store and what domains keep, made once.

Deliberately absent: making any of it while serving. A store that vanished must not be taken for one
that never was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from servicekit.cli.options import Json
from stage3_service.cli.options import ConfigFile, read_settings


def init(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where stage3.toml and the state are made."),
    ] = Path(),
    config: ConfigFile = None,
    certificates: Annotated[
        Path | None,
        typer.Option("--certs", metavar="DIR", help="Certificates; by default DIR/certs."),
    ] = None,
    domains_file: Annotated[
        Path | None,
        typer.Option("--domains", metavar="FILE", help="The domains file to serve."),
    ] = None,
    free_ports: Annotated[
        bool,
        typer.Option("--free-ports", metavar="", help="Let the system choose ports at each start."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the key of outcomes, the store, the state of domains and, without --config, settings.

    Nothing is overwritten. With --config the settings are read and only the state is made: all of
    it, or, beside a store that is there, what newly declared domains lack.
    """
    from servicekit.cli.first_start import init_service

    def starter() -> tuple[Path, str]:
        return directory / "stage3.toml", _settings_text(
            directory.absolute(), certificates, domains_file, free_ports
        )

    def create(file: Path) -> Sequence[Path]:
        from stage3_service.bootstrap import create_state

        return create_state(read_settings(file))

    init_service("stage3", config, starter=starter, create_state=create, as_json=as_json)


def _settings_text(
    home: Path, certificates: Path | None, domains_file: Path | None, free_ports: bool
) -> str:
    from servicekit.certificates import trust_domain_of
    from stage3_service.cli.starter_settings import starter_settings

    certificates = (certificates or home / "certs").absolute()
    return starter_settings(
        state_dir=home / "stage3",
        outcome_key_file=home / "outcome.keys",
        trust_domain=trust_domain_of(certificates),
        certificates=certificates,
        domains_file=None if domains_file is None else domains_file.absolute(),
        free_ports=free_ports,
    )
