"""Guard the start: a store that its checkpoint does not vouch for is served from by decision only.

The checkpoint was copied while the log grew, so an honest store contains it. One that does not is
an older copy, or was cut short, or another history. Deliberately absent: accepting another history,
and accepting anything for longer than the start that was told to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from servicekit.store.checkpoint_file import CheckpointFile
from servicekit.store.errors import (
    CheckpointDamaged,
    CheckpointMissing,
    NothingToAccept,
    StoreBehind,
    StoreCorrupt,
    StoreMissing,
)
from servicekit.store.ledger import Ledger
from servicekit.store.log_key import SEED_BYTES, create_log_key, read_log_key
from servicekit.store.verification import TreeHead

__all__ = ["Doubt", "DoubtCause", "create_checkpoint", "open_checkpoint", "open_vouched"]


class DoubtCause(StrEnum):
    """Say why nothing vouches for a store."""

    BEHIND = "behind"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Hold why nothing vouches for a store, and the head that was lost where that is known."""

    cause: DoubtCause
    lost: TreeHead | None = None


def create_checkpoint(
    file: Path, key_file: Path, origin: str, *, entropy: Callable[[int], bytes]
) -> tuple[Path, ...]:
    """Make the key and the first checkpoint of a store that is about to be made.

    Return what is new. What a crash left of an earlier attempt is taken over.

    Raises:
        StoreExists: the checkpoint vouches for a log that has entries.
        LogKeyRefused, CheckpointDamaged, CheckpointUnwritable: one of them is there and of no use,
            or cannot be made.
    """
    created: list[Path] = []
    if not key_file.exists():
        create_log_key(key_file, entropy(SEED_BYTES))
        created.append(key_file)
    checkpoint = CheckpointFile(file, read_log_key(key_file, origin))
    if not file.exists():
        created.append(file)
    checkpoint.create()
    return tuple(created)


def open_checkpoint(store: Path, file: Path, key_file: Path, origin: str) -> CheckpointFile:
    """Return the checkpoint file of a store that exists, with the key that it is signed with.

    Raises:
        StoreMissing: there is no store.
        LogKeyRefused: the key is missing or of no use.
    """
    if not store.is_file():
        raise StoreMissing(f"there is no store at {store}", advice="Create it with `init`.")
    return CheckpointFile(file, read_log_key(key_file, origin))


def open_vouched(
    open_ledger: Callable[[TreeHead | None], Ledger],
    checkpoint: CheckpointFile,
    *,
    accept_restored: bool,
) -> tuple[Ledger, Doubt | None]:
    """Return the open ledger that contains its checkpoint, or the one that was to be accepted.

    `open_ledger` is `Ledger.open` with its `at_least`. A doubt that is returned was accepted: the
    caller records it before anything else, keeps the old checkpoint as evidence, and then begins
    to copy the new one.

    Raises:
        StoreBehind: the log ends before the checkpoint.
        StoreCorrupt: the log has another beginning than the checkpoint says; never accepted.
        CheckpointMissing, CheckpointDamaged: there is no checkpoint to hold it against.
        NothingToAccept: the store contains its checkpoint, and a restored one was to be accepted.
        StoreError: whatever `open_ledger` raises.
    """
    kept: TreeHead | None = None
    doubt: Doubt | None = None
    try:
        kept = checkpoint.read()
    except CheckpointMissing:
        doubt = Doubt(DoubtCause.MISSING)
        if not accept_restored:
            raise
    except CheckpointDamaged:
        doubt = Doubt(DoubtCause.DAMAGED)
        if not accept_restored:
            raise
    try:
        ledger = open_ledger(kept)
    except StoreBehind as behind:
        if not accept_restored:
            raise StoreBehind(
                f"{behind}, {checkpoint.path}",
                advice="Restore the newest copy of the store there is. To serve from this one, "
                "start once with --accept-restored-backup REASON: what it does not know may have "
                "happened, and revocations since then are lost.",
                first_bad_seq=behind.first_bad_seq,
            ) from None
        return open_ledger(None), Doubt(DoubtCause.BEHIND, kept)
    except StoreCorrupt as corrupt:
        raise StoreCorrupt(
            f"{corrupt} (held against {checkpoint.path})",
            advice=corrupt.advice,
            first_bad_seq=corrupt.first_bad_seq,
        ) from None
    if doubt is None and accept_restored:
        ledger.close()
        raise NothingToAccept(
            f"the store contains its checkpoint {checkpoint.path}: it is no restored backup",
            advice="Start without --accept-restored-backup: it is for one start, never left on.",
        )
    return ledger, doubt
