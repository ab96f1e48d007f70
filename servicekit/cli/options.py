"""The options that the commands of every service share, and the words that explain them.

Deliberately absent: the name of a service. It is handed in as the prefix of its variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one JSON document instead of a table.")
]
ServiceAddress: TypeAlias = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Call this address, not the profile's."),
]


def profile_variable(prefix: str) -> str:
    """Return the name of the variable that names the caller's profile."""
    return f"{prefix}PROFILE"


def profile_option(prefix: str) -> Any:  # noqa: ANN401 - typer's own type for an option
    """Return the option that names a profile."""
    return typer.Option(
        "--profile",
        metavar="FILE",
        help=f"Whom to call and as whom; else the file that {profile_variable(prefix)} names.",
    )


def config_option(prefix: str) -> Any:  # noqa: ANN401 - typer's own type for an option
    """Return the option that names the settings of a service."""
    return typer.Option(
        "--config",
        metavar="FILE",
        envvar=_config_variable(prefix),
        help=f"The settings file. Variables {prefix}... take the place of single settings.",
    )


def read_service_settings(model: type[M], config: Path | None, prefix: str) -> M:
    """Return the settings in force: those of the file, if there is one, and of the environment.

    Raises:
        SettingsRefused: with every problem found.
        CommandFailed: SETTINGS_REFUSED, no file was named and the variables are not enough.
    """
    from servicekit.cli.failure import CommandFailed
    from servicekit.process import ExitCode
    from servicekit.settings import SettingsRefused, load_settings

    environ = _settings_environment(prefix)
    try:
        return load_settings(model, file=config, environ=environ, env_prefix=prefix)
    except SettingsRefused as refused:
        if config is not None:
            raise
        raise CommandFailed(
            ExitCode.CONFIG,
            "SETTINGS_REFUSED",
            "no settings file was named, and the variables alone are not enough",
            f"Name the file with --config FILE or {_config_variable(prefix)}.",
            problems=refused.problems,
        ) from None


def _settings_environment(prefix: str) -> Mapping[str, str]:
    """Return the environment without the variables of the command line itself."""
    own = (profile_variable(prefix), _config_variable(prefix))
    return {name: value for name, value in os.environ.items() if name not in own}


def _config_variable(prefix: str) -> str:
    return f"{prefix}CONFIG"
