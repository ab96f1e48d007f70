"""Guard the ways in which a store refuses, each with what to do next and an exit code.

The exit codes are those of sysexits.h: 74 EX_IOERR, 75 EX_TEMPFAIL, 78 EX_CONFIG.
"""

from typing import ClassVar

__all__ = [
    "CheckpointDamaged",
    "CheckpointMissing",
    "CheckpointUnwritable",
    "ClockStepped",
    "CommitOverdue",
    "DiskLow",
    "KeyRefused",
    "LogKeyRefused",
    "NothingToAccept",
    "StoreBehind",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreExists",
    "StoreLocked",
    "StoreMismatch",
    "StoreMissing",
    "StorePoisoned",
    "StoreReplaced",
    "StoreTooNew",
    "StoreTooOld",
    "StoreUnreadable",
]


class StoreError(Exception):
    """The store refused. `advice` says what to do; `exit_code` is for a process that ends so."""

    exit_code: ClassVar[int] = 74

    def __init__(self, description: str, *, advice: str) -> None:
        """Describe what is wrong and what to do about it, without a value from any row."""
        super().__init__(description)
        self.advice = advice


class StoreMissing(StoreError):
    """There is no store at this path."""

    exit_code: ClassVar[int] = 78


class StoreExists(StoreError):
    """A store, or what is left of one, is already at this path."""

    exit_code: ClassVar[int] = 78


class StoreMismatch(StoreError):
    """The file is another service's store, or no store at all."""

    exit_code: ClassVar[int] = 78


class StoreTooNew(StoreError):
    """The store was written by a newer version of this program."""

    exit_code: ClassVar[int] = 78


class StoreTooOld(StoreError):
    """The store was written by an older version of this program."""

    exit_code: ClassVar[int] = 78


class KeyRefused(StoreError):
    """The keys that stored values are sealed with are missing, malformed, exposed or others."""

    exit_code: ClassVar[int] = 78


class StoreUnreadable(StoreError):
    """The file, or the directory it is in, could not be read: nothing is known of what it says."""


class StoreLocked(StoreError):
    """Another process has the store open for writing."""

    exit_code: ClassVar[int] = 75


class StoreCorrupt(StoreError):
    """What is stored does not agree with itself; `first_bad_seq` says from where, if known."""

    def __init__(self, description: str, *, advice: str, first_bad_seq: int | None = None) -> None:
        """Describe the damage and, where it can be told, the first bad entry."""
        super().__init__(description, advice=advice)
        self.first_bad_seq = first_bad_seq


class StoreBehind(StoreCorrupt):
    """The log ends before the checkpoint kept outside the store: an older copy, or cut short."""


class CheckpointMissing(StoreError):
    """There is no checkpoint outside the store, so nothing vouches for it."""


class CheckpointDamaged(StoreError):
    """The checkpoint is none, or not signed by this log's key."""


class CheckpointUnwritable(StoreError):
    """The checkpoint cannot be kept where it is to be."""


class NothingToAccept(StoreError):
    """A restored backup was to be accepted, and the store is none."""

    exit_code: ClassVar[int] = 78


class LogKeyRefused(StoreError):
    """The key that signs checkpoints is missing, is none, or is not private."""

    exit_code: ClassVar[int] = 78


class StoreReplaced(StoreError):
    """The store's file is gone from its name, or another one took its place, while it was open."""


class StorePoisoned(StoreError):
    """A write failed earlier, so nothing more is written until the process starts again."""


class CommitOverdue(StoreError):
    """A commit did not become durable in its time; whether it ever will be is unknown."""


class ClockStepped(StoreError):
    """The wall clock stepped, so expiries cannot be judged until somebody has looked at it."""


class DiskLow(StoreError):
    """The disk is nearly full, so nothing new is begun; what was begun is still recorded."""


class StoreClosed(StoreError):
    """The store was closed in good order and takes no more work."""
