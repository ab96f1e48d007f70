"""`stage4 init`: the settings, the key of stored results and the store, made once.

Deliberately absent: making any of it while serving. A store that vanished must not be taken for one
that never was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from servicekit.cli.options import Json
from stage4_service.cli.options import ConfigFile, read_settings


def init(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where stage4.toml and the state are made."),
    ] = Path(),
    config: ConfigFile = None,
    certificates: Annotated[
        Path | None,
        typer.Option("--certs", metavar="DIR", help="Certificates; by default DIR/certs."),
    ] = None,
    stage3_address: Annotated[
        str, typer.Option("--stage3", metavar="HOST:PORT", help="Where Stage-3 takes plans.")
    ] = "127.0.0.1:7403",
    free_ports: Annotated[
        bool,
        typer.Option("--free-ports", metavar="", help="Let the system choose ports at each start."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the key of stored results, the store and, without --config, a settings file.

    Nothing is overwritten. With --config the settings are read and only the state is made.
    """
    from servicekit.cli.first_start import init_service

    def starter() -> tuple[Path, str]:
        return directory / "stage4.toml", _settings_text(
            directory.absolute(), certificates, stage3_address, free_ports
        )

    def create(file: Path) -> Sequence[Path]:
        from servicekit.clock import SystemClock
        from stage4_service.bootstrap import init_store

        return init_store(read_settings(file), clock=SystemClock())

    init_service("stage4", config, starter=starter, create_state=create, as_json=as_json)


def _settings_text(
    home: Path, certificates: Path | None, stage3_address: str, free_ports: bool
) -> str:
    from servicekit.certificates import trust_domain_of
    from stage4_service.cli.starter_settings import starter_settings

    certificates = (certificates or home / "certs").absolute()
    return starter_settings(
        state_dir=home / "stage4",
        outcome_key_file=home / "stage4-outcome.keys",
        trust_domain=trust_domain_of(certificates),
        certificates=certificates,
        stage3_address=stage3_address,
        free_ports=free_ports,
    )
