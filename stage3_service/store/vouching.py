"""Hold the store against the checkpoint outside it; record what an operator accepts instead.

Deliberately absent: the judgement, which is `servicekit.store.vouched`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from servicekit.store.checkpoint_copier import CheckpointCopier
from servicekit.store.ledger import Ledger
from servicekit.store.vouched import create_checkpoint, open_checkpoint, open_vouched
from stage3_service.execution.record_restored import RestoredStore, record_restored
from stage3_service.settings import STORE_FILE
from stage3_service.store.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servicekit.clock import Clock
    from servicekit.store.checkpoint_file import CheckpointFile
    from servicekit.store.errors import StoreError
    from servicekit.store.ledger import TreeHead
    from servicekit.store.log_key import LogKey
    from servicekit.store.vouched import Doubt
    from stage3_service.audit.journal import Journal
    from stage3_service.settings import Stage3Settings


def create_vouching(settings: Stage3Settings, entropy: Callable[[int], bytes]) -> tuple[Path, ...]:
    """Make the key and the first checkpoint of a store that is about to be made.

    Raises:
        StoreError: one of them is there and says that there was a store, or is of no use.
    """
    return create_checkpoint(*_parts(settings), entropy=entropy)


def checkpoint_of(settings: Stage3Settings) -> CheckpointFile:
    """Return the checkpoint of the store that these settings name, with the key that signs it.

    Raises:
        StoreError: the store or the key is missing, or the key is of no use.
    """
    return open_checkpoint(settings.state_dir / STORE_FILE, *_parts(settings))


class Vouching:
    """Take one start from its checkpoint to the copies that follow.

    `accept_restored` is why an operator serves from a store that the checkpoint does not vouch for.
    """

    def __init__(
        self, settings: Stage3Settings, clock: Clock, *, accept_restored: str | None
    ) -> None:
        self._settings = settings
        self._checkpoint = checkpoint_of(settings)
        self._clock = clock
        self._accept_restored = accept_restored
        self._doubt: Doubt | None = None

    @property
    def key(self) -> LogKey:
        """Return the key that signs what is said in the name of this log."""
        return self._checkpoint.key

    def open(self, *, on_poison: Callable[[StoreError], None] | None, vfs: str | None) -> Ledger:
        """Return the ledger that contains its checkpoint, or the one that is to be accepted.

        `on_poison` and `vfs` as of `Ledger.open`.

        Raises:
            StoreError: as `open_vouched` does.
        """
        settings = self._settings

        def open_ledger(at_least: TreeHead | None) -> Ledger:
            return Ledger.open(
                settings.state_dir / STORE_FILE,
                SCHEMA,
                clock=self._clock,
                commit_timeout_s=settings.commit_timeout_s,
                reserve_bytes=settings.disk_reserve_bytes,
                on_poison=on_poison,
                at_least=at_least,
                vfs=vfs,
            )

        ledger, self._doubt = open_vouched(
            open_ledger, self._checkpoint, accept_restored=self._accept_restored is not None
        )
        return ledger

    def settle(self, ledger: Ledger, journal: Journal) -> None:
        """Record what was accepted, before anything else is, and keep the checkpoint from then on.

        Raises:
            JournalUnavailable: the record could not be made durable.
            CheckpointUnwritable: the checkpoint cannot be kept.
        """
        if self._doubt is not None and self._accept_restored is not None:
            # A crash before this is durable leaves the old checkpoint, which refuses again.
            record_restored(journal, _as_restored(self._doubt), reason=self._accept_restored)
            self._checkpoint.keep_evidence()
        ledger.keep_checkpoint(
            CheckpointCopier(
                self._checkpoint, interval_s=self._settings.checkpoint.interval_s, clock=self._clock
            )
        )


def _parts(settings: Stage3Settings) -> tuple[Path, Path, str]:
    """Return the paths of the checkpoint and of the key that signs it, and in whose name."""
    keeping = settings.checkpoint
    file = keeping.file_of("stage3", settings.state_dir)
    return file, keeping.key_of(settings.state_dir), settings.origin


def _as_restored(doubt: Doubt) -> RestoredStore:
    lost = doubt.lost
    return RestoredStore(
        doubt.cause.value,
        None if lost is None else lost.size,
        None if lost is None else lost.root.hex(),
    )
