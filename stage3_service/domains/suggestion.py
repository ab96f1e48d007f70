"""What a misspelt name was probably meant to be.

Guards nothing; it spares a person a search. Deliberately absent: any use of the guess but to
print it.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches


def suggestion(name: str, known: Collection[str]) -> str:
    """Return the nearest known name as a question, to be added to a message, or nothing."""
    nearest = get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
