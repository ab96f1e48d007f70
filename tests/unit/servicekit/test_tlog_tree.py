"""The frontier: appending, encoding, and refusing what no tree has."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.tlog.tree import EMPTY_ROOT, Frontier, leaf_hash, node_hash

_LEAVES = st.lists(st.binary(max_size=8), max_size=70)


def tree_hash(leaves: list[bytes]) -> bytes:
    """Return the root by the recursive definition."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    both = tree_hash(leaves[:split]) + tree_hash(leaves[split:])
    return hashlib.sha256(b"\x01" + both).digest()


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """No leaves: SHA-256 of the empty string."""
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


@given(_LEAVES)
def test_the_root_is_that_of_the_recursive_definition(leaves: list[bytes]) -> None:
    """For any leaves, one by one or all at once."""
    one_by_one = Frontier()
    for leaf in leaves:
        one_by_one = one_by_one.append(leaf_hash(leaf))
    at_once, _ = Frontier().extend([leaf_hash(leaf) for leaf in leaves])
    assert one_by_one == at_once
    assert at_once.root() == tree_hash(leaves)


@given(_LEAVES, _LEAVES)
def test_extending_in_two_parts_is_extending_once(first: list[bytes], second: list[bytes]) -> None:
    """Where a batch ends makes no difference to the tree or to what is stored of it."""
    hashes = [leaf_hash(leaf) for leaf in first + second]
    whole, settled = Frontier().extend(hashes)
    begun, before = Frontier().extend(hashes[: len(first)])
    ended, after = begun.extend(hashes[len(first) :])
    assert (ended, before + after) == (whole, settled)


@given(_LEAVES)
def test_what_is_settled_is_the_whole_tree(leaves: list[bytes]) -> None:
    """Every settled hash is that of the subtree which ends with its leaf."""
    _, settled = Frontier().extend([leaf_hash(leaf) for leaf in leaves])
    for seq, hashes in enumerate(settled):
        count = len(hashes) // 32
        assert (seq + 1) % (1 << count) == 1 << count - 1 if count > 1 else seq % 2 == 0
        for height in range(count):
            size = 1 << height
            subtree = tree_hash(leaves[seq + 1 - size : seq + 1])
            assert hashes[height * 32 : height * 32 + 32] == subtree


@given(_LEAVES)
def test_a_frontier_survives_its_encoding(leaves: list[bytes]) -> None:
    """Decoding what was encoded gives an equal frontier."""
    frontier, _ = Frontier().extend([leaf_hash(leaf) for leaf in leaves])
    assert Frontier.decode(frontier.encode()) == frontier


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        bytes(9),
        (1).to_bytes(8, "big"),
        (2).to_bytes(8, "big") + bytes(64),
        (1).to_bytes(8, "big") + bytes(31),
        bytes(8) + bytes(32),
    ],
)
def test_bytes_that_encode_no_frontier_are_refused(data: bytes) -> None:
    """Too short, too long, or peaks that the size does not have."""
    with pytest.raises(ValueError, match=r"bytes are not|does not have"):
        Frontier.decode(data)


@pytest.mark.parametrize(("size", "peaks"), [(-1, ()), (1, (b"short",)), (3, (bytes(32),))])
def test_a_frontier_that_no_tree_has_is_refused(size: int, peaks: tuple[bytes, ...]) -> None:
    """It cannot be constructed."""
    with pytest.raises(ValueError, match=r"peaks?"):
        Frontier(size, peaks)


def test_leaves_and_nodes_are_hashed_apart() -> None:
    """A leaf that spells two hashes is not the node over them."""
    left, right = leaf_hash(b"l"), leaf_hash(b"r")
    assert leaf_hash(left + right) != node_hash(left, right)
    assert node_hash(left, right) == tree_hash([b"l", b"r"])
