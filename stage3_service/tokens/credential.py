"""The credential: what a client presents, and what is kept of it.

256 bits from the entropy handed in, shown once, stored nowhere; the log and the store know its
SHA-256. A plain hash is enough because there is nothing to guess. Deliberately absent: a source of
entropy, and any reading of a credential's content.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

CREDENTIAL_ENTROPY_BYTES: Final = 32
_PREFIX: Final = "token_"


def encode_credential(entropy: bytes) -> str:
    """Return `token_` and 43 characters of base64url for 32 bytes of entropy.

    Raises:
        ValueError: the entropy is not 32 bytes long.
    """
    if len(entropy) != CREDENTIAL_ENTROPY_BYTES:
        raise ValueError(f"a credential takes {CREDENTIAL_ENTROPY_BYTES} bytes of entropy")
    return _PREFIX + urlsafe_b64encode(entropy).rstrip(b"=").decode("ascii")


def credential_key(credential: str) -> bytes:
    """Return the key under which a credential's token is stored: its SHA-256, 32 bytes.

    Every text has a key, well-formed or not, so that a malformed credential costs what an unknown
    one costs and is refused in the same words.
    """
    return sha256(credential.encode("utf-8", "surrogatepass")).digest()


def keys_match(left: bytes, right: bytes) -> bool:
    """Return whether two keys are equal, in time that does not tell where they differ."""
    return hmac.compare_digest(left, right)
