"""Guard one SQLite file: one writer with group commit, an append-only log, its Merkle head.

Deliberately absent: what the events say, what the service's own tables mean, and any second writer.
The public names are in `servicekit.store.ledger` and `servicekit.store.errors`.
"""
