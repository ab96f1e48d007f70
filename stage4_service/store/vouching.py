"""Open a store that its checkpoint vouches for, or that an operator accepts, which is recorded.

Deliberately absent: the judgement, which is `servicekit.store.vouched`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from servicekit.store.checkpoint_copier import CheckpointCopier
from servicekit.store.checkpoint_file import CheckpointFile
from servicekit.store.ledger import Ledger, TreeHead, Urgency
from servicekit.store.vouched import open_vouched
from stage4_service.recovery import describe_restored
from stage4_service.store.sqlite_journal import append_security


@dataclass(frozen=True, slots=True)
class CheckpointVouching:
    """Hold a store against its checkpoint at start, and copy the checkpoint from then on.

    `accept_restored` is why an operator serves from a store that it does not vouch for.
    """

    checkpoint: CheckpointFile
    copier: CheckpointCopier
    accept_restored: str | None = None

    def open(self, open_ledger: Callable[[TreeHead | None], Ledger]) -> Ledger:
        """Return the open ledger, its checkpoint being copied.

        Raises:
            StoreError: as `open_vouched` does, or the checkpoint cannot be kept.
        """
        ledger, doubt = open_vouched(
            open_ledger, self.checkpoint, accept_restored=self.accept_restored is not None
        )
        try:
            if doubt is not None and self.accept_restored is not None:
                lost = doubt.lost
                record = describe_restored(
                    doubt.cause.value,
                    None if lost is None else lost.size,
                    None if lost is None else lost.root.hex(),
                    reason=self.accept_restored,
                )
                # A crash before this is durable leaves the old checkpoint, which refuses again.
                ledger.commit(lambda turn: append_security(turn, record), urgency=Urgency.OPERATOR)
                self.checkpoint.keep_evidence()
            ledger.keep_checkpoint(self.copier)
        except BaseException:
            ledger.close()
            raise
        return ledger
