"""A profile: where a service listens, and who this caller is.

One small TOML file beside the certificates it names. Deliberately absent: credentials themselves,
search paths and a default profile, which would make it a matter of chance who is calling.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from servicekit.cli.failure import CommandFailed
from servicekit.process import ExitCode
from servicekit.settings import SettingsRefused, load_settings


class Profile(BaseModel):
    """Name a service and the caller's certificate; paths are relative to the profile's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # host:port of the service.
    address: str
    # The one DNS SAN of the service's certificate.
    server_name: str
    authority_file: Path
    certificate_file: Path
    key_file: Path
    # Lets commands take `demo` for `spiffe://<trust domain>/client/demo`.
    trust_domain: str = ""
    # The program that calls with it; empty in one that was written by hand.
    service: str = ""


def read_profile(
    file: Path | None,
    *,
    service: str,
    variable: str,
    environ: Mapping[str, str],
    address: str | None,
) -> Profile:
    """Return the profile in `file`, else the one that the environment variable names.

    `address` takes the place of the profile's own. `service` is the one that is to be called.

    Raises:
        CommandFailed: neither names a profile, or it is missing, has problems, or is for another
            service.
    """
    if file is None:
        named = environ.get(variable, "")
        if not named:
            raise CommandFailed(
                ExitCode.CONFIG,
                "PROFILE_MISSING",
                "who is calling, and whom?",
                f"Name a profile with --profile FILE or {variable}; `certs init` writes one "
                "beside each caller's certificate.",
            )
        file = Path(named)
    if not file.exists():
        raise CommandFailed(
            ExitCode.CONFIG,
            "PROFILE_MISSING",
            f"{file}: there is no such file",
            f"Name a profile with --profile FILE or {variable}. A relative path begins at the "
            "directory in which the command is run.",
        )
    try:
        profile = load_settings(Profile, file=file, environ={}, env_prefix="")
    except SettingsRefused as refused:
        raise CommandFailed(
            ExitCode.CONFIG,
            "SETTINGS_REFUSED",
            f"the profile {file} cannot be used",
            "Correct what is named; `certs caller` writes whole profiles.",
            problems=refused.problems,
        ) from None
    if profile.service not in {"", service}:
        raise CommandFailed(
            ExitCode.CONFIG,
            "PROFILE_MISMATCH",
            f"{file} is a profile for {profile.service} ({profile.address}), not for {service}",
            f"Name a profile for {service} with --profile FILE or {variable}.",
        )
    folder = file.absolute().parent
    return profile.model_copy(
        update={
            "address": address or profile.address,
            "authority_file": folder / profile.authority_file,
            "certificate_file": folder / profile.certificate_file,
            "key_file": folder / profile.key_file,
        }
    )
