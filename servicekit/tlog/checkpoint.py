"""Guard the text of a checkpoint: which log, how long, and the root over it.

The body of c2sp.org/tlog-checkpoint: three lines. Deliberately absent: extension lines, which this
project neither writes nor accepts, and signatures, which are the note's.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from servicekit.tlog.tree import HASH_BYTES

__all__ = ["Checkpoint", "CheckpointInvalid", "encode_checkpoint", "parse_checkpoint"]

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_LINES = 3


class CheckpointInvalid(ValueError):
    """The text is no checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Name a state of one log: `origin` says which, `size` how many leaves, `root` is over them."""

    origin: str
    size: int
    root: bytes


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the three lines: origin, size in decimal, root in base64."""
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Return what the text says; there is one text for each checkpoint.

    Raises:
        CheckpointInvalid: it is no checkpoint.
    """
    lines = text.split("\n")
    if len(lines) != _LINES + 1 or lines[-1] or not lines[0]:
        raise CheckpointInvalid("a checkpoint is three lines")
    origin, size, encoded, _ = lines
    if not _SIZE.fullmatch(size):
        raise CheckpointInvalid("the second line is no size")
    try:
        root = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != encoded:
        raise CheckpointInvalid("the third line is no root")
    return Checkpoint(origin, int(size), root)
