"""Every state that a disk may be in after the power went, built from what was written to it.

A disk keeps what was synced. Of what was written since, it keeps any part, in any order, and of
a single write any sectors of 512 bytes. Deliberately absent: a disk that lies about a sync.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.faulty_disk import Operation
from tests.harness.slices import WHOLE, Slice

SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Trace:
    """Hold files as they were, what was done to them, and how much was told after how much."""

    start: dict[str, bytes]
    operations: Sequence[Operation]
    told: Sequence[tuple[int, int]]

    def told_by(self, cut: int) -> int:
        """Return how many entries somebody was told of when the power went after `cut` of them."""
        return max((size for count, size in self.told if count <= cut), default=0)


Files = dict[str, bytes]


def states(
    trace: Trace, *, subsets: int, every: int = 1, part: Slice = WHOLE
) -> Iterator[tuple[int, Files]]:
    """Yield after how many operations the power went, and the files as the disk may hold them.

    For each such moment, or every so many of them: nothing of what is not synced, all of it, all
    but each one write, each write alone, and the last write torn at each sector. `subsets` more
    where the unsynced writes have that many: all of them if they are few, else drawn, the same each
    time. Of the moments only those of `part`.
    """
    moments = part.cases(len(trace.operations) + 1)
    durable = {name: bytearray(content) for name, content in trace.start.items()}
    waiting: dict[str, list[Operation]] = {name: [] for name in durable}
    if 0 in moments:
        yield from _at(0, durable, waiting, subsets)
    for cut, operation in enumerate(trace.operations, 1):
        name = Path(operation.file).name
        if operation.kind == "sync":
            for write in waiting[name]:
                _apply(durable[name], write, write.data)
            waiting[name].clear()
        else:
            waiting[name].append(operation)
        if cut % every == 0 and cut in moments:
            yield from _at(cut, durable, waiting, subsets)


def _at(
    cut: int,
    durable: dict[str, bytearray],
    waiting: dict[str, list[Operation]],
    subsets: int,
) -> Iterator[tuple[int, Files]]:
    pending = [(name, write) for name, writes in waiting.items() for write in writes]
    count = len(pending)
    chosen: set[tuple[bool, ...]] = {(False,) * count, (True,) * count}
    for index in range(count):
        chosen.add(tuple(other == index for other in range(count)))
        chosen.add(tuple(other != index for other in range(count)))
    if 2**count <= subsets:
        chosen.update(itertools.product((False, True), repeat=count))
    else:
        draw = random.Random(cut)  # noqa: S311 - a sample, the same each time
        for _ in range(subsets):
            chosen.add(tuple(draw.random() < 0.5 for _ in range(count)))
    for keep in sorted(chosen):
        files = {name: bytearray(content) for name, content in durable.items()}
        for (name, write), kept in zip(pending, keep, strict=True):
            if kept:
                _apply(files[name], write, write.data)
        yield cut, {name: bytes(content) for name, content in files.items()}
    if pending:
        yield from _torn(cut, durable, pending)


def _torn(
    cut: int, durable: dict[str, bytearray], pending: Sequence[tuple[str, Operation]]
) -> Iterator[tuple[int, Files]]:
    last_name, last = pending[-1]
    for torn in range(SECTOR_BYTES, len(last.data), SECTOR_BYTES):
        files = {name: bytearray(content) for name, content in durable.items()}
        for name, write in pending[:-1]:
            _apply(files[name], write, write.data)
        _apply(files[last_name], last, last.data[:torn])
        yield cut, {name: bytes(content) for name, content in files.items()}


def _apply(content: bytearray, operation: Operation, data: bytes) -> None:
    if operation.kind == "truncate":
        del content[operation.offset :]
        return
    end = operation.offset + len(data)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : end] = data
