"""A closed loop of callers in a process of its own, which validates every answer it counts.

Run as a program it takes a target as its argument and one round a line, and answers each round
with one line of figures. A wrong answer or a failed call ends it: a benchmark does not average
over mistakes.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Final, NamedTuple, TypeAlias

import grpc

from bench.processes import Process, running
from bench.work import EchoWork, PlanWork, ToolWork, UpperWork, Work
from servicekit.serving.channel import open_channel
from servicekit.serving.tls import channel_credentials

CALL_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where to call, as whom (files of a certificate, or None for a plain channel), and what."""

    address: str
    server_name: str
    files: tuple[str, str, str] | None
    work: EchoWork | PlanWork | ToolWork | UpperWork

    def encode(self) -> str:
        """Write this as one argument."""
        return json.dumps({"kind": type(self.work).__name__, **asdict(self)})

    @staticmethod
    def decode(text: str) -> "Target":
        """Read what `encode` wrote."""
        fields = json.loads(text)
        kind: Callable[..., EchoWork | PlanWork | ToolWork | UpperWork]
        kind = {one.__name__: one for one in (EchoWork, PlanWork, ToolWork, UpperWork)}[
            fields["kind"]
        ]
        files = fields["files"]
        return Target(
            fields["address"],
            fields["server_name"],
            (files[0], files[1], files[2]) if files else None,
            kind(**fields["work"]),
        )


@dataclass(frozen=True, slots=True)
class Round:
    """Figures of one round: what completed within it, and how many answers came in all."""

    per_second: float
    p50_ms: float
    p99_ms: float
    answered: int


class LoadClient:
    """A client process that is told when to run."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def run(self, concurrency: int, seconds: float, warm_up_s: float) -> Round:
        """Run one round of `seconds` after a warm-up that is not counted."""
        order = {"concurrency": concurrency, "seconds": seconds, "warm_up_s": warm_up_s}
        return Round(**json.loads(self._process.ask(json.dumps(order))))


@contextmanager
def load_client(target: Target) -> Iterator[LoadClient]:
    """Start a client process for one target."""
    with running("bench.load", [target.encode()]) as process:
        yield LoadClient(process)


Call: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"


class _Answer(NamedTuple):
    """One call: what was sent, what came back, and when."""

    label: str
    request: bytes
    response: bytes
    start: float
    end: float


class _Loop:
    """The callers of one round."""

    def __init__(self, call: Call, work: Work, prefix: str) -> None:
        self._call = call
        self._work = work
        self._prefix = prefix
        self._numbers = count()

    def run(self, concurrency: int, seconds: float, warm_up_s: float) -> Round:
        first = time.perf_counter() + warm_up_s
        last = first + seconds
        answers: list[list[_Answer]] = [[] for _ in range(concurrency)]
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=self._caller, args=(own, last, failures)) for own in answers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        everything = [answer for own in answers for answer in own]
        # Not while they come in: a client that checks digests takes the time of what it measures.
        for answer in everything:
            self._work.verify(answer.label, answer.request, answer.response)
        counted = [
            answer.end - answer.start
            for answer in everything
            if answer.start >= first and answer.end <= last
        ]
        centiles = quantiles(counted, n=100)
        return Round(
            per_second=sum(first <= answer.end <= last for answer in everything) / seconds,
            p50_ms=centiles[49] * 1e3,
            p99_ms=centiles[98] * 1e3,
            answered=len(everything),
        )

    def _caller(self, answers: list[_Answer], last: float, failures: list[BaseException]) -> None:
        try:
            while (start := time.perf_counter()) < last:
                label = f"{self._prefix}-{next(self._numbers):06d}"
                request = self._work.request(label)
                start = time.perf_counter()
                response = self._call(request, timeout=CALL_TIMEOUT_S)
                end = time.perf_counter()
                answers.append(_Answer(label, request, response, start, end))
        except BaseException as failure:  # noqa: BLE001 - raised again where the round ends
            failures.append(failure)


def main() -> None:
    """Serve rounds until the input ends."""
    target = Target.decode(sys.argv[1])
    credentials = None
    if target.files is not None:
        authority, certificate, key = map(Path, target.files)
        credentials = channel_credentials(authority, certificate, key, now=datetime.now(UTC))
    with open_channel(target.address, credentials, target.server_name) as channel:
        grpc.channel_ready_future(channel).result(CALL_TIMEOUT_S)
        prefix = f"bench-{time.time_ns() // 1000 % 1_000_000:06d}"
        loop = _Loop(channel.unary_unary(target.work.method), target.work, prefix)
        for line in sys.stdin:
            print(json.dumps(asdict(loop.run(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
