"""Entropy in large draws: every byte once, in the order of the source, whoever asks."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from servicekit.entropy import DRAW_BYTES, DrawnEntropy


def counting() -> tuple[Callable[[int], bytes], list[int]]:
    """Return a source that never says the same four bytes twice, and the sizes of its draws."""
    draws: list[int] = []
    numbers = count()

    def source(size: int) -> bytes:
        draws.append(size)
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4))

    return source, draws


def test_small_askers_share_a_draw() -> None:
    """A whole draw is handed out before the source is asked again."""
    source, draws = counting()
    entropy = DrawnEntropy(source)
    pieces = [entropy(32) for _ in range(DRAW_BYTES // 32 + 1)]
    assert len(set(pieces)) == len(pieces)
    assert draws == [DRAW_BYTES, DRAW_BYTES]


@pytest.mark.parametrize("size", [1, 12, 31, 32, 33, DRAW_BYTES, DRAW_BYTES + 4])
def test_as_many_bytes_come_as_were_asked_for(size: int) -> None:
    """Whatever the size, and at whatever place of a draw."""
    entropy = DrawnEntropy(os.urandom)
    assert [len(entropy(size)) for _ in range(300)] == [size] * 300


def test_no_byte_is_handed_out_twice_to_threads() -> None:
    """Eight threads, no piece twice."""
    source, _ = counting()
    entropy = DrawnEntropy(source)
    with ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda _: entropy(16), range(20_000)))
    words = [piece[start : start + 4] for piece in pieces for start in range(0, 16, 4)]
    assert len(set(words)) == len(words)


def test_a_source_that_fails_hands_out_nothing() -> None:
    """The failure is raised, and what was drawn before is not handed out in its place."""

    def broken(_size: int) -> bytes:
        raise OSError("no entropy")

    with pytest.raises(OSError, match="no entropy"):
        DrawnEntropy(broken)(32)
