"""Commitments: bound to salt and value, and to nothing shorter than a salt."""

import pytest

from servicekit.tlog.commitment import SALT_BYTES, commitment

_SALT = bytes(range(SALT_BYTES))


def test_salt_and_value_both_count() -> None:
    """Changing either changes the commitment; the same two give the same."""
    base = commitment(_SALT, b"value")
    assert base == commitment(_SALT, b"value")
    assert base != commitment(_SALT, b"valuf")
    assert base != commitment(bytes(SALT_BYTES), b"value")
    assert len(base) == 32


@pytest.mark.parametrize("length", [0, 16, SALT_BYTES - 1, SALT_BYTES + 1, 64])
def test_a_salt_of_another_length_is_refused(length: int) -> None:
    """A salt that could be guessed, or that HMAC would fold, is no salt."""
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(bytes(length), b"value")
