"""The options that several commands share, and the words that explain them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

PROFILE_VARIABLE: Final = "STAGE4_PROFILE"
CONFIG_VARIABLE: Final = "STAGE4_CONFIG"
SETTINGS_PREFIX: Final = "STAGE4_"

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of a table.")
]
ProfileFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help=f"Whom to call and as whom; else the file that {PROFILE_VARIABLE} names.",
    ),
]
ServiceAddress: TypeAlias = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Call this address, not the profile's."),
]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar=CONFIG_VARIABLE,
        help="The settings file. Variables STAGE4_... take the place of single settings.",
    ),
]


def settings_environment() -> Mapping[str, str]:
    """Return the environment without the variables of the command line itself."""
    own = (PROFILE_VARIABLE, CONFIG_VARIABLE)
    return {name: value for name, value in os.environ.items() if name not in own}
