"""Guard C2SP signed notes: a text, and below it who signed exactly these bytes.

Pure formatting and parsing, as in c2sp.org/signed-note. Keys are handed in as values that sign or
verify; deliberately absent are cryptography, and any idea of what a text says.
"""

import base64
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Protocol

__all__ = [
    "MAX_NOTE_BYTES",
    "NoteRefused",
    "NoteSigner",
    "NoteVerifier",
    "key_id",
    "open_note",
    "parse_vkey",
    "sign_note",
    "vkey",
]

MAX_NOTE_BYTES = 65_536
"""More than any checkpoint with any number of witnesses needs, and little enough to parse."""

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_PUBLIC_KEY_BYTES = 32
_SIGNATURE = "\u2014 "  # an em dash and a space open a signature line
_KEY_NAME = re.compile(r"[!-*,-~]+", re.ASCII)  # no white space and no plus sign


class NoteRefused(ValueError):
    """The bytes are no note, or no signature on it is by the key asked for."""


class NoteSigner(Protocol):
    """Sign in a name. `key_id` is that of the key, see `key_id`."""

    @property
    def name(self) -> str:
        """Return the name of the key."""

    @property
    def key_id(self) -> bytes:
        """Return the four bytes by which a signature names its key."""

    def sign(self, text: bytes) -> bytes:
        """Return the signature of these bytes."""


class NoteVerifier(Protocol):
    """Verify what one key signed."""

    @property
    def name(self) -> str:
        """Return the name of the key."""

    @property
    def key_id(self) -> bytes:
        """Return the four bytes by which a signature names its key."""

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Return whether the key made this signature of these bytes."""


def key_id(name: str, public_key: bytes) -> bytes:
    """Return SHA-256(name || 0x0A || 0x01 || public key), the first four bytes: of an Ed25519 key.

    Raises:
        ValueError: the name has white space, a plus sign or another character that no name has.
    """
    if not _KEY_NAME.fullmatch(name):
        message = f"{name!r} cannot name a key"
        raise ValueError(message)
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:_KEY_ID_BYTES]


def vkey(name: str, public_key: bytes) -> str:
    """Return the one line by which an Ed25519 key is given to whoever is to verify its notes."""
    encoded = base64.b64encode(_ED25519 + public_key).decode()
    return f"{name}+{key_id(name, public_key).hex()}+{encoded}"


def parse_vkey(line: str) -> tuple[str, bytes, bytes]:
    """Return name, key identifier and public key, 32 bytes, of the line that `vkey` spells.

    Raises:
        ValueError: it is no such line, or of another kind of key.
    """
    name, _, rest = line.partition("+")
    _, _, encoded = rest.partition("+")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except ValueError:
        decoded = b""
    public_key = decoded.removeprefix(_ED25519)
    # Spelled anew, because one key has one line: nobody compares two that mean the same.
    if (
        len(public_key) != _PUBLIC_KEY_BYTES
        or not _KEY_NAME.fullmatch(name)
        or vkey(name, public_key) != line
    ):
        raise ValueError("it is not NAME+IDENTIFIER+KEY of an Ed25519 key")
    return name, key_id(name, public_key), public_key


def sign_note(text: str, signer: NoteSigner) -> bytes:
    """Return the note: the text, an empty line, and one signature line.

    Raises:
        ValueError: the text is empty, has a control character, or does not end with a line feed.
    """
    if not _is_text(text):
        raise ValueError("a note's text is whole lines without control characters")
    signature = base64.b64encode(signer.key_id + signer.sign(text.encode())).decode()
    return f"{text}\n{_SIGNATURE}{signer.name} {signature}\n".encode()


def open_note(note: bytes, verifier: NoteVerifier) -> str:
    """Return the text of a note that `verifier`'s key signed; other keys' signatures are ignored.

    Raises:
        NoteRefused: it is no note, the key's signature is missing, or it is not of this text.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise NoteRefused(f"it is longer than {MAX_NOTE_BYTES} bytes")
    try:
        decoded = note.decode()
    except UnicodeDecodeError:
        raise NoteRefused("it is not UTF-8") from None
    head, separator, tail = decoded.rpartition("\n\n")
    text = head + "\n"
    if not separator or not _is_text(text) or not tail.endswith("\n"):
        raise NoteRefused("it is not a text with signatures below it")
    found = False
    for name, identifier, signature in _signatures(tail):
        if (name, identifier) != (verifier.name, verifier.key_id):
            continue
        if not verifier.verify(signature, text.encode()):
            raise NoteRefused(f"the signature of {verifier.name} is not of this text")
        found = True
    if not found:
        raise NoteRefused(f"it is not signed by {verifier.name}+{verifier.key_id.hex()}")
    return text


def _signatures(tail: str) -> Iterator[tuple[str, bytes, bytes]]:
    for line in tail.removesuffix("\n").split("\n"):
        name, separator, encoded = line.removeprefix(_SIGNATURE).partition(" ")
        try:
            signature = base64.b64decode(encoded, validate=True)
        except ValueError:  # not base64, or not even ASCII
            signature = b""
        if (
            not line.startswith(_SIGNATURE)
            or not separator
            or not _KEY_NAME.fullmatch(name)
            or len(signature) <= _KEY_ID_BYTES
            # The last character may hold bits that nothing decodes: one signature has one spelling.
            or base64.b64encode(signature).decode() != encoded
        ):
            raise NoteRefused("a line below the text is no signature")
        yield name, signature[:_KEY_ID_BYTES], signature[_KEY_ID_BYTES:]


def _is_text(text: str) -> bool:
    return text.endswith("\n") and all(char == "\n" or char >= " " for char in text)
