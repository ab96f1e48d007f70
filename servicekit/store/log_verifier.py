"""Guard what a log's key signed from those who have the key's public line and nothing else.

The line is the one that `audit checkpoint` prints as `vkey`. Deliberately absent: fetching it, and
trusting one that came along with what it is to verify.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from servicekit.tlog.note import parse_vkey

__all__ = ["LogVerifier"]


class LogVerifier:
    """Verify notes of one key; see `servicekit.tlog.note.NoteVerifier`."""

    __slots__ = ("_public", "key_id", "name")

    def __init__(self, vkey: str) -> None:
        """Take the key that the line spells.

        Raises:
            ValueError: it is no line of an Ed25519 key.
        """
        self.name, self.key_id, public = parse_vkey(vkey)
        self._public = Ed25519PublicKey.from_public_bytes(public)

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Return whether the key made this signature of these bytes."""
        try:
            self._public.verify(signature, text)
        except InvalidSignature:
            return False
        return True
