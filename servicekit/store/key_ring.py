"""Guard values at rest: sealed with AES-256-GCM under a key that is not in the store.

A ring has several keys, so that one can be replaced while values sealed with it are still there:
the last one seals, all of them open. A value is bound to the context it was sealed in, and opens in
no other: two rows that change places do not open. Deliberately absent: files, and any word about
what is sealed.

Nonces are 96 random bits. A counter would have to survive a crash between a write and its commit,
and a restored backup; a random one has nothing to remember. It bounds a key instead: below 2^32
values the chance that two of them share a nonce is below 2^-32 (NIST SP 800-38D, 8.3).
"""

import hmac
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["KEY_BYTES", "KeyRing", "SealBroken", "key_id_of"]

KEY_BYTES = 32
NONCE_BYTES = 12
_ID_LABEL = b"key ring: identifier of a key, v1"
_ID_BYTES = 8


class SealBroken(Exception):
    """What is stored does not open: it was changed, moved, or its key is not in the ring."""


def key_id_of(key: bytes) -> str:
    """Return the name of a key, 16 hexadecimal digits, which tells nothing else about it.

    It is computed from the key, so that a wrong key has a wrong name and is noticed before use.
    """
    return hmac.digest(key, _ID_LABEL, "sha256")[:_ID_BYTES].hex()


class KeyRing:
    """Seal and open values. Safe for any thread."""

    __slots__ = ("_ciphers", "_entropy", "current")

    def __init__(self, keys: Sequence[bytes], entropy: Callable[[int], bytes]) -> None:
        """Take keys of 32 bytes, oldest first, at least one. `entropy(n)` is unpredictable.

        Raises:
            ValueError: there is no key, or one has another length.
        """
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a ring has at least one key, each of {KEY_BYTES} bytes")
        self._ciphers = {key_id_of(key): AESGCM(key) for key in keys}
        self._entropy = entropy
        self.current = key_id_of(keys[-1])

    def __contains__(self, key_id: str) -> bool:
        """Return whether values that this key sealed can be opened."""
        return key_id in self._ciphers

    def seal(self, plaintext: bytes, context: Sequence[bytes]) -> tuple[str, bytes]:
        """Return the name of the key, and the sealed value: 28 bytes longer than `plaintext`."""
        nonce = self._entropy(NONCE_BYTES)
        bound = _bind(self.current, context)
        return self.current, nonce + self._ciphers[self.current].encrypt(nonce, plaintext, bound)

    def open(self, key_id: str, sealed: bytes, context: Sequence[bytes]) -> bytes:
        """Return what was sealed with this key in this context.

        Raises:
            SealBroken: it was not, or the ring does not have the key.
        """
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealBroken(f"the key {key_id} is not in the ring")
        nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, ciphertext, _bind(key_id, context))
        except (InvalidTag, ValueError):
            raise SealBroken(f"a value under the key {key_id} was changed or moved") from None


def _bind(key_id: str, context: Sequence[bytes]) -> bytes:
    # Each with its length before it: no two contexts have the same bytes.
    parts = (key_id.encode(), *context)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
