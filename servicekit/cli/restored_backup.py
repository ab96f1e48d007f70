"""The option by which an operator serves from a store that its checkpoint does not vouch for.

Deliberately absent: a setting of that name. It is said at one start, in words that are recorded,
and a start that did not need it refuses.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import typer

from servicekit.cli.failure import CommandFailed
from servicekit.process import ExitCode

MAX_REASON_BYTES: Final = 512
"""An operator's words for the log: a sentence, not a document."""

AcceptRestored: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--accept-restored-backup",
        metavar="REASON",
        help="Serve from a store that its checkpoint does not vouch for. For one start; the reason "
        "goes into the log.",
    ),
]


def verify_reason(reason: str | None) -> str | None:
    """Return the operator's words as they may be recorded; None where nothing is to be accepted.

    Raises:
        CommandFailed: USAGE, they are empty, too long or not printable.
    """
    if reason is not None and (
        not reason.strip() or len(reason.encode()) > MAX_REASON_BYTES or not reason.isprintable()
    ):
        raise CommandFailed(
            ExitCode.USAGE,
            "USAGE",
            f"--accept-restored-backup takes 1 to {MAX_REASON_BYTES} bytes of printable text",
            "Say why, for the log.",
        )
    return reason
