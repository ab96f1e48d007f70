"""What a journal of Stage-4 is opened with where no service is assembled around it."""

from __future__ import annotations

from servicekit.store.key_ring import KEY_BYTES, KeyRing
from stage4_service.store.results import Results

RETENTION_S = 172_800


def some_results() -> Results:
    """Return results under a key that is no secret: the same one at each call."""
    return Results(KeyRing([bytes(KEY_BYTES)], bytes), retention_s=RETENTION_S)
