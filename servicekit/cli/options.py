"""The options that the commands of every service share, and the words that explain them.

Deliberately absent: the name of a service. It is handed in as the prefix of its variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import typer

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


def settings_environment(prefix: str) -> Mapping[str, str]:
    """Return the environment without the variables of the command line itself."""
    own = (profile_variable(prefix), _config_variable(prefix))
    return {name: value for name, value in os.environ.items() if name not in own}


def _config_variable(prefix: str) -> str:
    return f"{prefix}CONFIG"
