"""Documents broken a little, by a seed: millions an hour, the same ones for everybody.

Hypothesis looks for the smallest example of a fault and is slow for it; this only looks for one.
Deliberately absent: any notion of what is valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

# What a JSON reader looks at, and what it must not trip over.
TOKENS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\u0000", b"\\ud800", b"\\udc00"),
    *(b"null", b"true", b"false", b"-", b"0", b"-0", b"1e", b"E+", b".5", b"NaN", b"Infinity"),
    *(b"9007199254740991", b"9007199254740993", b"0.1", b"0.1000000000000000055", b"1e400"),
    *(b" ", b"\t", b"\n", b"\r", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xbf", b"\xc0\x80", b"\xff"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xf4\x90\x80\x80", "é".encode()),
    *(b'"a":', b'"a":1,"a":2', b"[[", b"]]", b"{}", b"[]", b'""', b"`", b"token_"),
)
CHANGES_MAX: Final = 4
# One in so many is made large, because what is slow shows only there.
LARGE_ONE_IN: Final = 400
LARGE_BYTES: Final = 262_144


def broken_documents(random: Random, seeds: Sequence[bytes], number: int) -> Iterator[bytes]:
    """Yield so many documents, each made from one or two of the seeds."""
    for position in range(number):
        data = bytearray(random.choice(seeds))
        for _ in range(random.randint(1, CHANGES_MAX)):
            random.choice(CHANGES)(random, data, seeds)
        if position % LARGE_ONE_IN == 0 and data:
            _enlarge(random, data)
        yield bytes(data[: LARGE_BYTES + 1])


def _insert(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    data[at:at] = random.choice(TOKENS)


def _replace(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    data[at : at + random.randint(1, 4)] = random.choice(TOKENS)


def _drop(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    del data[at : at + random.randint(1, 8)]


def _flip(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _repeat(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    data[at:at] = data[at : at + random.randint(1, 32)] * random.randint(1, 4)


def _splice(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    at, start = random.randint(0, len(data)), random.randint(0, len(other))
    data[at:] = other[start : start + 2_000]


def _enlarge(random: Random, data: bytearray) -> None:
    """Repeat a piece until the document is as large as one may be."""
    start = random.randrange(len(data))
    piece = bytes(data[start : start + random.randint(1, 24)])
    data[start:start] = piece * ((LARGE_BYTES - len(data)) // len(piece))


CHANGES: Final[tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...]] = (
    _insert,
    _replace,
    _drop,
    _flip,
    _repeat,
    _splice,
)
