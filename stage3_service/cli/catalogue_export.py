"""A signed catalogue as a new file of this machine, and what it says about itself.

Deliberately absent: replacing a file, and keeping what does not verify.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from servicekit.cli.failure import CommandFailed
from servicekit.new_file import new_file
from servicekit.process import ExitCode
from servicekit.store.log_verifier import LogVerifier
from servicekit.tlog.signed_document import open_document
from stage3_service.domains.catalogue_document import MAX_CATALOGUE_BYTES

_FOR_EVERYBODY = 0o644  # what it says is for others, and its signature is what protects it


def write_catalogue(path: Path, signed: bytes, vkey: str) -> dict[str, object]:
    """Write what Stage-3 signed to a new file, whole or not at all; return what it is.

    Raises:
        CommandFailed: the file is there already, or cannot be made.
        NoteRefused, ValueError: it is not what that key signed: a defect of the service.
    """
    head, document = open_document(
        signed, LogVerifier(vkey), max_document_bytes=MAX_CATALOGUE_BYTES
    )
    _format, origin, size, _root, exported_at, _ = head.split("\n")
    try:
        with new_file(path, mode=_FOR_EVERYBODY) as draft:
            draft.write_bytes(signed)
    except FileExistsError:
        raise CommandFailed(
            ExitCode.REFUSED,
            "FILE_EXISTS",
            f"{path} exists already",
            "Remove it, or name another file.",
        ) from None
    except OSError as error:
        raise CommandFailed(
            ExitCode.REFUSED, "FILE_REFUSED", f"{path}: {error.strerror}", "Name another file."
        ) from None
    return {
        "catalogue": str(path),
        "catalogue_digest": sha256(document).hexdigest(),
        "exported_at": exported_at,
        "origin": origin,
        "tree_size": int(size),
        "vkey": vkey,
    }
