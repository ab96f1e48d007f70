"""`stage4 init`: the settings and the store, made once.

Deliberately absent: making any of it while serving. A store that vanished must not be taken for one
that never was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servicekit.cli.output import emit, print_table, say
from stage4_service.cli.options import ConfigFile, Json, settings_environment


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
        typer.Option("--free-ports", help="Let the system choose ports at each start."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the store and, without --config, a settings file.

    Nothing is overwritten. With --config the settings are read and only the store is made.
    """
    from servicekit.clock import SystemClock
    from servicekit.settings import load_settings
    from stage4_service.bootstrap import init_store
    from stage4_service.settings import STORE_FILE, Stage4Settings

    written = None
    if config is None:
        config = written = _write_settings(directory, certificates, stage3_address, free_ports)
    try:
        settings = load_settings(
            Stage4Settings, file=config, environ=settings_environment(), env_prefix="STAGE4_"
        )
        init_store(settings, clock=SystemClock())
    except Exception:
        # Half an init would refuse the whole one: what it wrote goes with it.
        if written is not None:
            written.unlink()
        raise
    created = [settings.state_dir / STORE_FILE]
    if as_json:
        emit({"config": str(config), "created": [str(path) for path in created]})
        return
    made = [("settings", written)] if written is not None else []
    print_table(("made", "file"), [*made, *(("state", path) for path in created)])
    say(f"next: stage4 serve --config {config}")


def _write_settings(
    directory: Path, certificates: Path | None, stage3_address: str, free_ports: bool
) -> Path:
    from servicekit.certificates import trust_domain_of
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage4_service.cli.starter_settings import starter_settings

    path = directory / "stage4.toml"
    home = directory.absolute()
    certificates = (certificates or home / "certs").absolute()
    text = starter_settings(
        state_dir=home / "stage4",
        trust_domain=trust_domain_of(certificates),
        certificates=certificates,
        stage3_address=stage3_address,
        free_ports=free_ports,
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CommandFailed(
            ExitCode.REFUSED,
            "FILE_EXISTS",
            f"{path} exists already",
            f"Use it with --config {path}, or remove it first.",
        ) from None
    return path
