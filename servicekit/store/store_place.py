"""Guard that what is committed can be found again: the files are still those under their names.

A file that was unlinked or replaced takes commits as before, and is gone with the process. Asked
after each commit and before anybody is told, so that nothing has an effect on the word of a file
that nobody can open. Deliberately absent: watching the files between commits.
"""

import os
from pathlib import Path

from servicekit.store.errors import StoreReplaced

__all__ = ["StorePlace"]


class StorePlace:
    """Remember which files a store's database and write-ahead log are."""

    __slots__ = ("_files",)

    def __init__(self, path: Path) -> None:
        """Take the files that are under their names now for the right ones."""
        names = (str(path), f"{path}-wal")
        self._files = tuple((name, _identity(name)) for name in names)

    def confirm(self) -> None:
        """Return while both are in their places.

        Raises:
            StoreReplaced: one is not.
        """
        for name, identity in self._files:
            if _identity(name) != identity:
                raise StoreReplaced(
                    f"{name} was unlinked or replaced while it was open",
                    advice="Find out who did that. What was told before is in the file that was "
                    "there; restore it, or a backup.",
                )


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - called for each commit; a Path costs as much again
    except OSError:
        return None
    return found.st_dev, found.st_ino
