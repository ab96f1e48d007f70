"""Files that only their owner may read: secrets a command writes or is handed.

Deliberately absent: overwriting, and following a link that somebody else put there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

from servicekit.cli.failure import CommandFailed
from servicekit.process import ExitCode

_MAX_BYTES = 4096


class PrivateFile:
    """A new file of mode 0600, made before there is anything to write to it.

    As a context it leaves no empty file behind when nothing was written.
    """

    def __init__(self, path: Path) -> None:
        """Create the file; refuse one that exists."""
        self.path = path
        try:
            self._descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
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
        self._written = False

    def write(self, text: str) -> None:
        """Write the text and a line feed, to the disk."""
        os.write(self._descriptor, f"{text}\n".encode())
        os.fsync(self._descriptor)
        self._written = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)
        if not self._written:
            self.path.unlink()


def read_private_text(path: Path) -> str:
    """Return the one line of a small file that nobody else may read.

    Raises:
        CommandFailed: it is missing, unreadable, or readable by others.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise CommandFailed(
            ExitCode.CONFIG,
            "FILE_REFUSED",
            f"{path}: {error.strerror}",
            "Name the file that `--output` wrote.",
        ) from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CommandFailed(
            ExitCode.CONFIG,
            "FILE_REFUSED",
            f"{path}: other users of this machine may read it",
            f"Run chmod 600 {path}; revoke the token if it was exposed.",
        )
    return data.decode("ascii", "replace").strip()
