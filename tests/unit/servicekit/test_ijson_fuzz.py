"""The parser under hundreds of thousands of broken documents: no crash, no difference, no stall."""

from __future__ import annotations

import heapq
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from servicekit.canonical_json import canonicalize
from servicekit.ijson import JsonLimits, JsonRefused, JsonValue, parse
from tests.harness.mutations import LARGE_BYTES, broken_documents
from tests.harness.slices import slice_of_long_run
from tests.unit.servicekit import second_parser
from tests.unit.servicekit.test_ijson_corpus import CASES, document
from tests.unit.servicekit.test_ijson_differential import NODE_PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LIMITS: Final = JsonLimits()
# Another seed for every long run, and the same one for everybody otherwise.
SEED: Final = int(os.environ.get("STAGEGATE_FUZZ_SEED", "7493"))
IN_CI: Final = 200_000
IN_THE_LONG_RUN: Final = 10_000_000
SLOWEST_KEPT: Final = 8
# Of the time that the standard library's own reader takes for as many bytes of small numbers. Ours
# looks at each value in Python; a stall would be hundreds of times as slow, not tens.
SLOWER_MAX: Final = 25.0
SMALL: Final = [document(case) for case in CASES if len(document(case)) < 2_000]


@dataclass
class Fuzzed:
    """What a run has seen."""

    number: int = 0
    accepted: int = 0
    differences: list[bytes] = field(default_factory=list)
    # (milliseconds of processor time, document), the slowest.
    slowest: list[tuple[float, bytes]] = field(default_factory=list)
    for_node: list[tuple[bytes, JsonValue]] = field(default_factory=list)

    def read(self, data: bytes) -> None:
        """Let both parsers read a document. Anything but a value or the one refusal is a crash."""
        self.number += 1
        start = time.thread_time_ns()
        value: JsonValue = None
        try:
            value = parse(data, LIMITS).value
            found = repr(value)
        except JsonRefused:
            found = "refused"
        spent_ms = (time.thread_time_ns() - start) / 1e6
        try:
            expected = repr(second_parser.read(data))
        except second_parser.Refused:
            expected = "refused"
        if found != expected:
            self.differences.append(data)
        if found != "refused":
            self.accepted += 1
            self.for_node.append((data, value))
        keep = heapq.heappushpop if len(self.slowest) == SLOWEST_KEPT else heapq.heappush
        keep(self.slowest, (spent_ms, data))


def fuzz(number: int, seed: int) -> Fuzzed:
    """Read so many broken documents."""
    fuzzed = Fuzzed()
    for data in broken_documents(Random(seed), SMALL, number):  # noqa: S311 - the same for everybody
        fuzzed.read(data)
    return fuzzed


def node_differences(documents: Iterable[tuple[bytes, JsonValue]]) -> list[bytes]:
    """Return the documents that Node reads as something else."""
    program = shutil.which("node")
    assert program is not None, "Node is part of what this needs: `make test-ci` fetches it"
    pairs = list(documents)
    spelled = subprocess.run(
        [program, "-e", NODE_PROGRAM],
        input=b"".join(data.hex().encode() + b"\n" for data, _value in pairs),
        capture_output=True,
        check=True,
    ).stdout.splitlines()
    return [
        data
        for (data, value), line in zip(pairs, spelled, strict=True)
        if bytes.fromhex(line.decode()) != canonicalize(value)
    ]


def least_ms(read: Callable[[], object]) -> float:
    """Return the least processor time of five tries, which is what the work costs."""
    times = []
    for _ in range(5):
        start = time.thread_time_ns()
        read()
        times.append((time.thread_time_ns() - start) / 1e6)
    return min(times)


def read_again(data: bytes) -> None:
    """Read a document whatever comes of it."""
    try:
        parse(data, LIMITS)
    except JsonRefused:
        return


def verify(number: int, seed: int, record_property: Callable[[str, object], None]) -> None:
    """Fuzz, compare, and hold the slowest documents against the standard library."""
    fuzzed = fuzz(number, seed)
    assert fuzzed.differences == []
    assert node_differences(fuzzed.for_node) == []
    slowest = sorted(fuzzed.slowest, reverse=True)
    usual = b"[" + b"0," * ((LARGE_BYTES - 3) // 2) + b"0]"
    # What was slow only because another job had the core is quick again.
    again = max(least_ms(partial(read_again, data)) for _ms, data in slowest)
    standard = least_ms(lambda: json.loads(usual))
    record_property(
        "figure",
        f"JSON fuzz, seed {seed}: {fuzzed.number:,} documents, {fuzzed.accepted:,} accepted, "
        f"0 crashes, 0 differences from the second parser, 0 of {len(fuzzed.for_node):,} from "
        f"Node; slowest {slowest[0][0]:.1f} ms of processor time, {again:.1f} ms when read again, "
        f"{again / standard:.1f} times json.loads of {len(usual):,} bytes",
    )
    assert again < SLOWER_MAX * standard


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_two_hundred_thousand_documents_are_read_alike_by_three_parsers(
    record_property: Callable[[str, object], None],
) -> None:
    """No crash but the declared refusal, no difference, none beyond a bound on its time."""
    verify(IN_CI, SEED, record_property)


@pytest.mark.long
def test_ten_million_documents_are_read_alike_by_three_parsers(
    record_property: Callable[[str, object], None],
) -> None:
    """The same, for hours; in fifty seeds, so that what is kept stays small."""
    part = slice_of_long_run()
    seeds = part.cases(IN_THE_LONG_RUN // IN_CI)
    for seed in seeds:
        verify(IN_CI, SEED + seed, record_property)
    record_property(
        "figure", part.label(f"JSON fuzz: {len(seeds) * IN_CI:,} documents, 0 differences")
    )


def test_the_fuzzer_finds_a_parser_that_forgets_one_rule() -> None:
    """The control: the standard library's reader differs within a few thousand documents."""

    def differs(data: bytes) -> bool:
        try:
            found = repr(json.loads(data.decode("utf-8", "strict")))
        except (ValueError, RecursionError):
            found = "refused"
        try:
            expected = repr(second_parser.read(data))
        except second_parser.Refused:
            expected = "refused"
        return found != expected

    documents = broken_documents(Random(SEED), SMALL, 3_000)  # noqa: S311 - as above
    assert sum(map(differs, documents)) > 30
