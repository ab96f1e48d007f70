"""The options that name Stage-4's own files, and the settings they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from servicekit.cli.options import (
    config_option,
    profile_option,
    profile_variable,
    read_service_settings,
)

if TYPE_CHECKING:
    from stage4_service.settings import Stage4Settings

_PREFIX: Final = "STAGE4_"
PROFILE_VARIABLE: Final = profile_variable(_PREFIX)
VKEY_VARIABLE: Final = "STAGEGATE_VKEY"

ProfileFile: TypeAlias = Annotated[Path | None, profile_option(_PREFIX)]
ConfigFile: TypeAlias = Annotated[Path | None, config_option(_PREFIX)]


def read_settings(config: Path | None) -> Stage4Settings:
    """Return the settings in force: those of the file, if there is one, and of the environment.

    Raises:
        SettingsRefused: with every problem found.
        CommandFailed: no file was named and the variables are not enough.
    """
    from stage4_service.settings import Stage4Settings

    return read_service_settings(Stage4Settings, config, _PREFIX)
