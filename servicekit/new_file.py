"""Guard the birth of a file: it appears under its name whole and durable, or not at all.

It is made as a draft beside its place and linked into it. A process that ends half-way leaves a
draft, which nobody takes for the file and the next attempt begins anew. Deliberately absent:
replacing anything.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """Give an empty draft to fill in place; it is the file, durable, when the block has ended.

    `mode` is what others may do with it at most. Of several who make the same file at once, one
    does. A block that raises leaves nothing behind.

    Raises:
        FileExistsError: something has this name.
        BlockingIOError: another process is making it.
        OSError: the folder does not take it.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    draft = path.with_name(path.name + ".draft")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _verify_own(descriptor, draft)
        try:
            os.fchmod(descriptor, os.fstat(descriptor).st_mode & mode)
            os.ftruncate(descriptor, 0)
            yield draft
            os.fsync(descriptor)
            # A crash before the link leaves a draft; after it, the whole file.
            os.link(draft, path)
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    finally:
        os.close(descriptor)


def _verify_own(descriptor: int, draft: Path) -> None:
    """Refuse a draft that whoever held it before has put in its place or removed meanwhile."""
    try:
        found = draft.lstat()
    except FileNotFoundError:
        found = None
    if found is None or not os.path.samestat(found, os.fstat(descriptor)):
        raise BlockingIOError(errno.EWOULDBLOCK, "another process is making it", str(draft))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
