"""Hold a key ring against its store: a ring that cannot open what is there is the wrong one.

A service that seals outcomes keeps `OUTCOME_KEYS` beside a table `plans` whose `key_id` names the
key that a row is sealed with. Deliberately absent: the keys, whose names tell nothing about them,
and the record that another key is in use, which each service writes into its own log.
"""

from servicekit.store.errors import KeyRefused
from servicekit.store.key_ring import KeyRing
from servicekit.store.ledger import Reader

__all__ = ["KEY_IN_USE", "NOTE_KEY", "OUTCOME_KEYS", "refuse_other_ring"]

# Names of the keys that sealed outcomes, in order: the last one is in use.
OUTCOME_KEYS = """CREATE TABLE outcome_keys (
    number INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL,
    since_us INTEGER NOT NULL
) STRICT"""
KEY_IN_USE = "SELECT key_id FROM outcome_keys ORDER BY number DESC LIMIT 1"
NOTE_KEY = "INSERT INTO outcome_keys (key_id, since_us) VALUES (?, ?)"

_NAMES = "SELECT key_id FROM outcome_keys ORDER BY number DESC"
_USED = "SELECT 1 FROM plans WHERE key_id = ? LIMIT 1"


def refuse_other_ring(reader: Reader, ring: KeyRing, file: object) -> None:
    """Refuse a ring, read from `file`, that lacks a key it must have.

    It must have the key that was last in use, whether or not it sealed anything, so that another
    file is noticed before the first outcome is; and of earlier ones those that outcomes are still
    sealed with.

    Raises:
        KeyRefused: it lacks one of them.
    """
    names = [str(name) for (name,) in reader.rows(_NAMES)]
    for number, name in enumerate(names):
        if name not in ring and (number == 0 or reader.rows(_USED, (name,))):
            raise KeyRefused(
                f"{file} lacks the key {name} of outcomes in the store",
                advice="Name the key ring of this store, or restore the ring from its backup.",
            )
