"""What must be true for the program to be right, checked also under `python -O`."""

from typing import TypeVar

T = TypeVar("T")


class InvariantBroken(Exception):
    """Say that the program contradicts itself. Never caught to go on."""


def invariant(value: T | None, description: str) -> T:
    """Return the value, which is not None.

    Raises:
        InvariantBroken: it is None, so a promise made elsewhere in the program was broken.
    """
    if value is None:
        raise InvariantBroken(description)
    return value
