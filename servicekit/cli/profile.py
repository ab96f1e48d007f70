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
from servicekit.settings import load_settings


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


def read_profile(
    file: Path | None, *, variable: str, environ: Mapping[str, str], address: str | None
) -> Profile:
    """Return the profile in `file`, else the one that the environment variable names.

    `address` takes the place of the profile's own.

    Raises:
        CommandFailed: neither names a profile.
        SettingsRefused: the profile is missing or has problems.
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
    profile = load_settings(Profile, file=file, environ={}, env_prefix="")
    folder = file.absolute().parent
    return profile.model_copy(
        update={
            "address": address or profile.address,
            "authority_file": folder / profile.authority_file,
            "certificate_file": folder / profile.certificate_file,
            "key_file": folder / profile.key_file,
        }
    )
