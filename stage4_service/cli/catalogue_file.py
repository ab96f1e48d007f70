"""The file that `stage3 domain export` wrote, believed only on the word of a key that was named.

Deliberately absent: a key taken from the file, from beside it or from a service. Whoever could
write the one could write the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from servicekit.cli.failure import CommandFailed
from servicekit.process import ExitCode
from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.signed_document import signed_bytes_at_most
from stage4_service.cli.options import VKEY_VARIABLE
from stage4_service.preview.catalogue import (
    MAX_CATALOGUE_BYTES,
    Catalogue,
    CatalogueRefused,
    open_catalogue,
)

_WHERE_FROM: Final = (
    "It is one line, `vkey`, which `stage3 audit checkpoint` and `stage3 domain export` print."
)


def read_verifier(vkey: str) -> LogVerifier:
    """Return what verifies in the name of Stage-3's log.

    Raises:
        CommandFailed: no key was named, or what was named is none.
    """
    if not vkey:
        raise CommandFailed(
            ExitCode.USAGE,
            "VKEY_MISSING",
            "whose word is the catalogue?",
            f"Name the key of Stage-3's log with --vkey LINE or {VKEY_VARIABLE}. {_WHERE_FROM}",
        )
    try:
        return LogVerifier(vkey.strip())
    except ValueError as refused:
        raise CommandFailed(
            ExitCode.CONFIG, "VKEY_REFUSED", f"the verifier key: {refused}", _WHERE_FROM
        ) from None


def read_catalogue(path: Path, verifier: LogVerifier) -> Catalogue:
    """Return the catalogue in the file, which the key has signed.

    Raises:
        CommandFailed: it cannot be read, or is not to be believed.
    """
    try:
        with path.open("rb") as file:
            signed = file.read(signed_bytes_at_most(MAX_CATALOGUE_BYTES) + 1)
    except OSError as error:
        raise CommandFailed(
            ExitCode.CONFIG,
            "FILE_REFUSED",
            f"{path}: {error.strerror}",
            "Name the file that `stage3 domain export` wrote.",
        ) from None
    try:
        return open_catalogue(signed, verifier)
    except CatalogueRefused as refused:
        raise CommandFailed(
            ExitCode.CONFIG, "CATALOGUE_REFUSED", f"{path}: {refused}", refused.advice
        ) from None
