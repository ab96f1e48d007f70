"""Waiting for what another thread or process brings about, however long that takes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 60.0
"""As long as anything is waited for that must happen; how long it took is never asserted."""


def eventually(holds: Callable[[], object]) -> bool:
    """Wait until something holds, and say whether it came to that."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True
