"""The work of `key new` and `key rotate`, one for all services.

Deliberately absent: the name of a service and of its settings; both are arguments.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servicekit.cli.output import emit, print_facts, say

if TYPE_CHECKING:
    from pathlib import Path


def make_key_ring(file: Path, *, as_json: bool) -> None:
    """Make a ring of one new key and say its name.

    Raises:
        KeyRefused: something is there already, or the file cannot be made.
    """
    from servicekit.store.key_ring_file import create_key_ring, read_key_ring

    create_key_ring(file, os.urandom)
    facts = {"file": str(file), "key_id": read_key_ring(file, os.urandom).current}
    (emit if as_json else print_facts)(facts)


def rotate_key(file: Path, service: str, *, as_json: bool) -> None:
    """Add a new key to the ring of a service, such as `Stage-3`, and say both names.

    Raises:
        KeyRefused: the ring cannot be read or written.
    """
    from servicekit.store.key_ring_file import add_key

    previous, key_id = add_key(file, os.urandom)
    facts = {"file": str(file), "key_id": key_id, "previous_key_id": previous}
    if as_json:
        emit(facts)
        return
    print_facts(facts)
    say(f"next: back the file up, and start {service} again")
