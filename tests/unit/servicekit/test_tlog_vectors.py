"""The log's format against its published vectors, by the shipped code and by a second, tiny one.

The second one follows the recursive definition of RFC 9162 word by word, shares no line with the
shipped code, and would have to be wrong in the same way for a wrong vector to pass.
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from servicekit.canonical_json import canonicalize
from servicekit.tlog.commitment import commitment
from servicekit.tlog.tree import Frontier, leaf_hash

_VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "log.json").read_text(encoding="utf-8")
)
_LEAVES = [leaf["text"].encode() for leaf in _VECTORS["leaves"]]

# The eight leaves and roots that implementations of certificate transparency have long agreed on.
_WELL_KNOWN_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
_WELL_KNOWN_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """Return MTH(D_n) as RFC 9162, section 2.1.1, defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = max(2**power for power in range(32) if 2**power < len(leaves))
    left, right = tree_hash(leaves[:split]), tree_hash(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_the_vectors_cover_sizes_zero_to_nine() -> None:
    """Nine leaves, ten trees, three commitments: nothing was dropped from the file."""
    assert [tree["size"] for tree in _VECTORS["trees"]] == list(range(10))
    assert [leaf["seq"] for leaf in _VECTORS["leaves"]] == list(range(9))
    assert len(_VECTORS["commitments"]) == 3


@pytest.mark.parametrize("leaf", _VECTORS["leaves"], ids=lambda leaf: str(leaf["seq"]))
def test_a_leaf_is_canonical_and_hashes_as_published(leaf: dict[str, Any]) -> None:
    """The text is its own RFC 8785 form; both implementations find the published hash."""
    data = leaf["text"].encode()
    assert canonicalize(json.loads(data)) == data
    assert leaf_hash(data).hex() == leaf["leaf_hash"]
    assert tree_hash([data]).hex() == leaf["leaf_hash"]


@pytest.mark.parametrize("leaf", _VECTORS["leaves"], ids=lambda leaf: str(leaf["seq"]))
def test_a_leaf_settles_the_published_hashes(leaf: dict[str, Any]) -> None:
    """Its own hash, then that of each subtree it is the last leaf of, lowest first."""
    seq = leaf["seq"]
    sizes = [2**power for power in range(5) if (seq + 1) % 2**power == 0]
    defined = [tree_hash(_LEAVES[seq + 1 - size : seq + 1]) for size in sizes]
    assert b"".join(defined).hex() == leaf["hashes"]
    _, settled = Frontier().extend(map(leaf_hash, _LEAVES[: seq + 1]))
    assert settled[seq].hex() == leaf["hashes"]


@pytest.mark.parametrize("tree", _VECTORS["trees"], ids=lambda tree: str(tree["size"]))
def test_a_tree_has_the_published_root_and_frontier(tree: dict[str, Any]) -> None:
    """Both implementations find the root; the frontier decodes to the same tree."""
    leaves = _LEAVES[: tree["size"]]
    assert tree_hash(leaves).hex() == tree["root"]
    frontier, _ = Frontier().extend(map(leaf_hash, leaves))
    assert frontier.root().hex() == tree["root"]
    assert frontier.encode().hex() == tree["frontier"]
    assert Frontier.decode(bytes.fromhex(tree["frontier"])) == frontier


@pytest.mark.parametrize("vector", _VECTORS["commitments"], ids=lambda v: v["commitment"][:8])
def test_a_commitment_is_as_published(vector: dict[str, str]) -> None:
    """Both HMAC implementations find the published commitment."""
    salt, value = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["value"])
    assert commitment(salt, value).hex() == vector["commitment"]
    inner_key = bytes(byte ^ 0x36 for byte in salt.ljust(64, b"\x00"))
    outer_key = bytes(byte ^ 0x5C for byte in salt.ljust(64, b"\x00"))
    inner = hashlib.sha256(inner_key + b"stagegate/commitment/v1\x00" + value).digest()
    by_hand = hashlib.sha256(outer_key + inner).digest()
    assert hmac.compare_digest(by_hand.hex(), vector["commitment"])


@pytest.mark.parametrize("size", _WELL_KNOWN_ROOTS)
def test_the_tree_is_that_of_certificate_transparency(size: int) -> None:
    """The leaves that others test with give the roots that others found."""
    leaves = _WELL_KNOWN_LEAVES[:size]
    frontier, _ = Frontier().extend(map(leaf_hash, leaves))
    assert frontier.root().hex() == _WELL_KNOWN_ROOTS[size]
    assert tree_hash(leaves).hex() == _WELL_KNOWN_ROOTS[size]
