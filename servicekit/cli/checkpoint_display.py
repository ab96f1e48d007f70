"""What `audit checkpoint` of every service does: show what vouches for the store, with no service.

Deliberately absent: judging the store, which is `audit verify`'s, and showing the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from servicekit.cli.output import emit, print_facts

if TYPE_CHECKING:
    from servicekit.store.checkpoint_file import CheckpointFile


def show_checkpoint(checkpoint: CheckpointFile, *, as_json: bool) -> None:
    """Print the checkpoint kept outside the store, and the line by which others verify it.

    Raises:
        StoreError: there is none, or it is not to be believed.
    """
    head = checkpoint.read()
    facts = {
        "checkpoint": str(checkpoint.path),
        "size": head.size,
        "root": head.root.hex(),
        "vkey": checkpoint.vkey,
        "note": checkpoint.note(head).decode(),
    }
    if as_json:
        emit(facts)
        return
    print_facts({**facts, "note": None, "head": f"{head.size}:{head.root.hex()}"})
    print(f"\n{facts['note']}", end="")
