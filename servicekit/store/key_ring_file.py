"""Guard the file that a key ring is read from: complete, private, and never replaced by accident.

One key a line, 64 hexadecimal digits, oldest first; a line that begins with `#` is a comment.
Deliberately absent: removing a key. Whoever removes one decides that what it sealed is gone.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from servicekit.new_file import new_file
from servicekit.store.errors import KeyRefused
from servicekit.store.key_ring import KEY_BYTES, KeyRing, key_id_of

__all__ = ["add_key", "create_key_ring", "ensure_key_ring", "read_key_ring"]

MAX_FILE_BYTES = 16_384
_HEAD = b"# Keys of stored values, oldest first; the last one seals. Back this file up apart.\n"


def read_key_ring(path: Path, entropy: Callable[[int], bytes]) -> KeyRing:
    """Return the ring in this file.

    Raises:
        KeyRefused: there is no such file, everybody may read or write it, or a line is no key.
    """
    return KeyRing(_parse(path, _read(path)), entropy)


def create_key_ring(path: Path, entropy: Callable[[int], bytes]) -> None:
    """Create a ring of one new key, mode 0600, whole and durable on return or not there.

    Raises:
        KeyRefused: something is there already, or the file cannot be made.
    """
    try:
        with new_file(path) as draft:
            draft.write_bytes(_HEAD + _line(entropy))
    except FileExistsError:
        raise KeyRefused(
            f"{path} exists already", advice="Use it as it is; keys are never replaced."
        ) from None
    except OSError as error:
        raise _refused(path, error) from None


def ensure_key_ring(path: Path, entropy: Callable[[int], bytes]) -> tuple[Path, ...]:
    """Create a ring for a new store, unless one was put there before; return what was made.

    Raises:
        KeyRefused: what is there is no ring, or nothing can be made.
    """
    if os.path.lexists(path):
        read_key_ring(path, entropy)
        return ()
    create_key_ring(path, entropy)
    return (path,)


def add_key(path: Path, entropy: Callable[[int], bytes]) -> tuple[str, str]:
    """Add a new key that seals from now on; return the names of the one before and of the new one.

    The file is replaced whole, durable on return: a reader finds the old ring or the new one.

    Raises:
        KeyRefused: as for `read_key_ring`, or the file cannot be written, or another change of it
            is under way.
    """
    content = _read(path)
    before = key_id_of(_parse(path, content)[-1])
    line = _line(entropy)
    draft = path.with_name(path.name + ".new")
    if content and not content.endswith(b"\n"):
        content += b"\n"
    _write_draft(draft, content + line)
    try:
        draft.replace(path)
        _sync_folder(path)
    except OSError as error:
        raise _refused(path, error) from None
    return before, key_id_of(bytes.fromhex(line.decode()))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise KeyRefused(
                    f"{path}: every user of this machine may read or write these keys",
                    advice=f"Run chmod 600 {path}; if they were exposed, add a new key.",
                )
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise KeyRefused(
            f"{path}: there is no such file",
            advice="Restore it from its backup: without it stored values cannot be read. "
            "`init` makes one only for a new store.",
        ) from None
    except OSError as error:
        raise _refused(path, error) from None
    if len(content) > MAX_FILE_BYTES:
        raise KeyRefused(f"{path}: longer than {MAX_FILE_BYTES} bytes", advice=_ADVICE)
    return content


def _parse(path: Path, content: bytes) -> list[bytes]:
    keys: list[bytes] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        # What stands there is not repeated: it may be most of a key.
        try:
            key = bytes.fromhex(line.decode("ascii"))
        except ValueError:
            raise KeyRefused(f"{path}: line {number} is no key", advice=_ADVICE) from None
        if len(key) != KEY_BYTES or len(line) != 2 * KEY_BYTES:
            raise KeyRefused(
                f"{path}: the key in line {number} has not {2 * KEY_BYTES} hexadecimal digits",
                advice=_ADVICE,
            )
        keys.append(key)
    if not keys:
        raise KeyRefused(f"{path}: there is no key in it", advice=_ADVICE)
    return keys


_ADVICE = "Restore the file from its backup. A key is a line of 64 hexadecimal digits."


def _line(entropy: Callable[[int], bytes]) -> bytes:
    return entropy(KEY_BYTES).hex().encode() + b"\n"


def _write_draft(draft: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(draft)
    except FileExistsError:
        raise KeyRefused(
            f"{draft} exists already",
            advice="Another change is under way, or one was interrupted: then remove this file.",
        ) from None
    except OSError as error:
        raise _refused(draft, error) from None


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, error: OSError) -> KeyRefused:
    return KeyRefused(
        f"{path}: {os.strerror(error.errno or 0)}",
        advice="Name a file that the service's user can use, in a folder that is there.",
    )
