"""Guard the Merkle tree of RFC 9162, section 2.1, with SHA-256.

A growing log needs only its frontier: the roots of the perfect subtrees its size is made of. The
frontier appends in constant memory and gives the root of every prefix it passes through.
Deliberately absent: stored trees, proofs, and any idea of what a leaf says.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

__all__ = ["EMPTY_ROOT", "HASH_BYTES", "Frontier", "leaf_hash", "leaf_hashes", "node_hash"]

HASH_BYTES = 32
_SIZE_BYTES = 8
_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf), 32 bytes (RFC 9162, section 2.1.1)."""
    return sha256(_LEAF_PREFIX + leaf).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return the hash of each leaf, in order. A call a leaf would cost as much as the hash."""
    return [sha256(_LEAF_PREFIX + leaf).digest() for leaf in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right), 32 bytes (RFC 9162, section 2.1.1)."""
    return sha256(_NODE_PREFIX + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """Hold what is needed of a tree of `size` leaves to append to it and to tell its root.

    `peaks` are the roots of its perfect subtrees from the largest (leftmost) to the smallest: one
    for each bit that is set in `size`.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a frontier that no tree has."""
        if self.size < 0 or len(self.peaks) != self.size.bit_count():
            message = f"a tree of {self.size} leaves does not have {len(self.peaks)} peaks"
            raise ValueError(message)
        if any(len(peak) != HASH_BYTES for peak in self.peaks):
            message = f"a peak is {HASH_BYTES} bytes long"
            raise ValueError(message)

    def append(self, leaf_hash: bytes) -> "Frontier":
        """Return the frontier of the tree with one more leaf, given by its hash."""
        grown, _ = self.extend((leaf_hash,))
        return grown

    def extend(self, leaf_hashes: Iterable[bytes]) -> tuple["Frontier", list[bytes]]:
        """Return the frontier with these leaves appended, and for each leaf the hashes it settled.

        What a leaf settles is its own hash, followed by the hash of every subtree that it is the
        last leaf of, from the lowest up. Leaf number n (from 0) settles 1 + (trailing one bits of
        n) hashes, so a store that keeps them beside the leaves holds the whole tree in 64 bytes a
        leaf.
        """
        size = self.size
        peaks = list(self.peaks)
        settled: list[bytes] = []
        for leaf in leaf_hashes:
            node = leaf
            hashes = leaf
            merges = size
            while merges & 1:
                node = sha256(_NODE_PREFIX + peaks.pop() + node).digest()
                hashes += node
                merges >>= 1
            peaks.append(node)
            size += 1
            settled.append(hashes)
        return Frontier(size, tuple(peaks)), settled

    def root(self) -> bytes:
        """Return the tree's root hash, 32 bytes; `EMPTY_ROOT` of the tree without leaves."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(_NODE_PREFIX + peak + root).digest()
        return root

    def encode(self) -> bytes:
        """Return the size as 8 bytes, big endian, followed by the peaks, largest first."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.peaks)

    @classmethod
    def decode(cls, data: bytes) -> "Frontier":
        """Return the frontier that `encode` wrote as `data`.

        Raises:
            ValueError: the bytes are no encoding of a frontier.
        """
        peaks = data[_SIZE_BYTES:]
        if len(data) < _SIZE_BYTES or len(peaks) % HASH_BYTES:
            message = f"{len(data)} bytes are not a size and whole hashes"
            raise ValueError(message)
        return cls(
            int.from_bytes(data[:_SIZE_BYTES], "big"),
            tuple(peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)),
        )
