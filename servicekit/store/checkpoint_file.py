"""Guard the checkpoint outside the store: one small signed file, replaced whole or not at all.

It is what an older copy of the store is found by. Deliberately absent: any judgement of the store,
and removing what was there: a checkpoint that the store does not reach is kept as evidence.
"""

import itertools
import os
from pathlib import Path

from servicekit.store.errors import (
    CheckpointDamaged,
    CheckpointMissing,
    CheckpointUnwritable,
    StoreExists,
)
from servicekit.store.log_key import LogKey
from servicekit.store.verification import TreeHead
from servicekit.tlog.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    encode_checkpoint,
    parse_checkpoint,
)
from servicekit.tlog.note import MAX_NOTE_BYTES, NoteRefused, open_note, sign_note
from servicekit.tlog.tree import EMPTY_ROOT

__all__ = ["CheckpointFile"]

_ACCEPT = (
    "Find out why. To serve nevertheless, start once with --accept-restored-backup REASON; that is "
    "recorded in the log."
)


class CheckpointFile:
    """Keep the last head of one log in one file, signed with the log's key in its origin's name."""

    __slots__ = ("_key", "path")

    def __init__(self, path: Path, key: LogKey) -> None:
        """Name the file. Nothing is read or written yet."""
        self.path = path
        self._key = key

    @property
    def key(self) -> LogKey:
        """Return the key that signs what is said in the name of this log."""
        return self._key

    @property
    def vkey(self) -> str:
        """Return the line that a verifier of this log's checkpoints is given."""
        return self._key.vkey

    def read(self) -> TreeHead:
        """Return the head that the file vouches for.

        Raises:
            CheckpointMissing: there is no file.
            CheckpointDamaged: it cannot be read, is no checkpoint, of another log or by another
                key.
        """
        try:
            with self.path.open("rb") as file:
                note = file.read(MAX_NOTE_BYTES + 1)
        except FileNotFoundError:
            raise CheckpointMissing(
                f"the checkpoint {self.path} is missing, so nothing vouches for the store",
                advice=_ACCEPT,
            ) from None
        except OSError as error:
            raise self._damaged(str(error.strerror)) from None
        try:
            checkpoint = parse_checkpoint(open_note(note, self._key))
        except (NoteRefused, CheckpointInvalid) as refused:
            raise self._damaged(str(refused)) from None
        if checkpoint.origin != self._key.name:
            raise self._damaged(f"it is of another log, {checkpoint.origin}")
        return TreeHead(checkpoint.size, checkpoint.root)

    def note(self, head: TreeHead) -> bytes:
        """Return the signed note about a head; the same bytes each time."""
        checkpoint = Checkpoint(self._key.name, head.size, head.root)
        return sign_note(encode_checkpoint(checkpoint), self._key)

    def write(self, head: TreeHead) -> None:
        """Put this head in the place of the last one, durable on return.

        Raises:
            OSError: it is not known which of the two the file holds.
        """
        draft = self.path.with_name(self.path.name + ".draft")
        # Readable by all: it says how long the log is and nothing else, and others may keep it.
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
        try:
            os.write(descriptor, self.note(head))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A crash before the rename leaves the old checkpoint and a draft, one after it the new one;
        # the store contains both.
        draft.replace(self.path)
        self._sync_directory()

    def create(self) -> None:
        """Write the checkpoint of a log without entries, for a store that is about to be made.

        Raises:
            StoreExists: there is one of a log that has entries: its store is gone.
            CheckpointDamaged: what is there is not by this key.
            CheckpointUnwritable: it cannot be written.
        """
        try:
            kept = self.read()
        except CheckpointMissing:
            pass
        else:
            if kept.size:
                raise StoreExists(
                    f"{self.path} vouches for a log of {kept.size} entries whose store is gone",
                    advice="Restore the store. To begin with an empty log, knowing that the old "
                    "one is lost, move the checkpoint away and keep it.",
                )
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.write(TreeHead(0, EMPTY_ROOT))
        except OSError as error:
            raise CheckpointUnwritable(
                f"{self.path} cannot be written: {error.strerror}",
                advice="Name a directory that the service may write to in `checkpoint.directory`.",
            ) from None

    def keep_evidence(self) -> Path | None:
        """Give what is in the file a second name that is never reused; return it, if there is one.

        Raises:
            CheckpointUnwritable: it cannot be kept.
        """
        for number in itertools.count(1):
            kept = self.path.with_name(f"{self.path.name}.kept-{number}")
            try:
                os.link(self.path, kept, follow_symlinks=False)
                self._sync_directory()
            except FileExistsError:
                continue
            except FileNotFoundError:
                return None
            except OSError as error:
                raise CheckpointUnwritable(
                    f"{kept} cannot be written: {error.strerror}",
                    advice="The old checkpoint is evidence and must be kept before it is replaced.",
                ) from None
            return kept
        return None

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _damaged(self, why: str) -> CheckpointDamaged:
        return CheckpointDamaged(
            f"the checkpoint {self.path} is not to be believed: {why}", advice=_ACCEPT
        )
