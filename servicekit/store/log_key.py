"""Guard the key that signs a log's checkpoints: made once, private, in a file of its own.

An Ed25519 key as unencrypted PKCS #8, PEM, mode 0600. It signs whatever a service says in its log's
name: each kind of statement has a first line of its own. Deliberately absent: replacing it.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from servicekit.store.errors import LogKeyRefused
from servicekit.tlog import note

__all__ = ["SEED_BYTES", "LogKey", "create_log_key", "read_log_key"]

SEED_BYTES = 32
_MAX_BYTES = 4_096
_EVERYBODY = stat.S_IROTH | stat.S_IWOTH  # a group may: a cluster gives volumes to one


class LogKey:
    """Sign and verify notes in one name."""

    __slots__ = ("_private", "_public", "key_id", "name", "vkey")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        """Use this key in this name, the log's origin."""
        self._private = private
        self._public = private.public_key()
        raw = self._public.public_bytes_raw()
        self.name = name
        self.key_id = note.key_id(name, raw)
        self.vkey = note.vkey(name, raw)

    def sign(self, text: bytes) -> bytes:
        """Return the signature of these bytes, 64 bytes; the same each time."""
        return self._private.sign(text)

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Return whether this key made this signature of these bytes."""
        try:
            self._public.verify(signature, text)
        except InvalidSignature:
            return False
        return True


def create_log_key(path: Path, seed: bytes) -> None:
    """Create the key of 32 unpredictable bytes at `path`, mode 0600, durable on return.

    Raises:
        LogKeyRefused: something is there, or it cannot be made.
    """
    pem = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    # It appears under its name whole or not at all: a crash leaves a draft that the next attempt
    # writes anew, and the link replaces nothing.
    draft = path.with_name(path.name + ".draft")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, pem)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(draft, path)
        draft.unlink()
        directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise LogKeyRefused(
            f"the log's key {path} cannot be made: {error.strerror}",
            advice="Name another file in `checkpoint.key_file`; nothing is ever replaced.",
        ) from None


def read_log_key(path: Path, name: str) -> LogKey:
    """Return the key in the file at `path`, for notes in this name.

    Raises:
        LogKeyRefused: it is missing, not an Ed25519 key, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(_MAX_BYTES)
    except OSError as error:
        raise LogKeyRefused(
            f"the log's key {path}: {error.strerror}",
            advice="`init` made it with the store. Restore it from where the store is backed up.",
        ) from None
    if mode & _EVERYBODY:
        raise LogKeyRefused(
            f"the log's key {path}: other users of this machine may read it",
            advice=f"Run chmod 600 {path}.",
        )
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise LogKeyRefused(
            f"the log's key {path} is no Ed25519 key", advice="Restore the file that `init` made."
        )
    return LogKey(name, private)
