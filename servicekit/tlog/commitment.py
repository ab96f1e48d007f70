"""Guard values that the log speaks of without containing them.

A salted commitment binds the log to a value. Whoever is shown salt and value can check it; whoever
has neither learns nothing, and once the salt is erased nobody can test a guess. The salts' storage
and their making are deliberately absent: entropy is an argument.
"""

import hmac

__all__ = ["SALT_BYTES", "commitment"]

SALT_BYTES = 32
_DOMAIN = b"stagegate/commitment/v1\x00"


def commitment(salt: bytes, value: bytes) -> bytes:
    """Return the 32-byte commitment to `value`: HMAC-SHA-256 keyed with the salt (RFC 2104).

    The prefix "stagegate/commitment/v1" and a zero byte keep it apart from every other use of the
    salt.

    Raises:
        ValueError: the salt is not 32 bytes long. A short salt would let a guess be tested.
    """
    if len(salt) != SALT_BYTES:
        message = f"a salt is {SALT_BYTES} bytes long, not {len(salt)}"
        raise ValueError(message)
    # Not `hmac.digest`: for a microsecond of work it lets the interpreter's lock go, and a thread
    # that lets it go waits, under load, for all the others.
    return hmac.new(salt, _DOMAIN + value, "sha256").digest()
