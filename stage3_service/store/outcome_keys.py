"""Hold the key ring against the store: a ring that cannot open what is there is the wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servicekit.store.key_ring import KeyRing
    from servicekit.store.ledger import Reader


def missing_key(reader: Reader, ring: KeyRing) -> str | None:
    """Return the name of a key that the ring must have and has not, or None.

    It must have the key that was last in use, whether or not it sealed anything, so that another
    file is noticed before the first outcome is; and of earlier ones those that outcomes are still
    sealed with.
    """
    names = [str(name) for (name,) in reader.rows(_NAMES)]
    for number, name in enumerate(names):
        if name not in ring and (number == 0 or reader.rows(_USED, (name,))):
            return name
    return None


_NAMES = "SELECT key_id FROM outcome_keys ORDER BY number DESC"
_USED = "SELECT 1 FROM plans WHERE key_id = ? LIMIT 1"
