"""`stage3 init`: the settings, the store and what domains keep on disk, made once.

Deliberately absent: making any of it while serving. A store that vanished must not be taken for one
that never was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servicekit.cli.output import emit, print_table, say
from stage3_service.cli.options import ConfigFile, Json, settings_environment


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
        typer.Option("--free-ports", help="Let the system choose ports at each start."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the store, the state of builtin domains and, without --config, a settings file.

    Nothing is overwritten. With --config the settings are read and only the state is made.
    """
    from servicekit.settings import load_settings
    from stage3_service.bootstrap import create_state
    from stage3_service.settings import Stage3Settings

    written = None
    if config is None:
        config = written = _write_settings(directory, certificates, domains_file, free_ports)
    try:
        settings = load_settings(
            Stage3Settings, file=config, environ=settings_environment(), env_prefix="STAGE3_"
        )
        created = create_state(settings)
    except Exception:
        # Half an init would refuse the whole one: what it wrote goes with it.
        if written is not None:
            written.unlink()
        raise
    if as_json:
        emit({"config": str(config), "created": [str(path) for path in created]})
        return
    made = [("settings", written)] if written is not None else []
    print_table(("made", "file"), [*made, *(("state", path) for path in created)])
    say(f"next: stage3 serve --config {config}")


def _write_settings(
    directory: Path, certificates: Path | None, domains_file: Path | None, free_ports: bool
) -> Path:
    from servicekit.certificates import trust_domain_of
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from stage3_service.cli.starter_settings import starter_settings

    path = directory / "stage3.toml"
    home = directory.absolute()
    certificates = (certificates or home / "certs").absolute()
    text = starter_settings(
        state_dir=home / "stage3",
        trust_domain=trust_domain_of(certificates),
        certificates=certificates,
        domains_file=None if domains_file is None else domains_file.absolute(),
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
