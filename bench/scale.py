"""What grows with the past, with a plan's length and with time, and what does not.

`python -m bench scale` makes two stores of Stage-3 by its own code, one small and one with a long
past, and compares what the same plans cost in both. The rest it measures at a running pair.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from bench.history import Past, fill, open_past
from bench.load import LoadClient, Target, load_client
from bench.pair import RunningPair, running_pair
from bench.processes import cpu_seconds, resident_mib
from bench.work import STAGE3_EVENTS_A_PLAN, PlanWork
from examples.local_pair import LocalPair, installed_program
from servicekit.store.ledger import Turn

SMALL: Final = 1_000
LONG_PLAN_STEPS: Final = 64
_PLANS_A_ROUND: Final = 200
_STARTS: Final = 3
_COLD_STARTS: Final = 7
_BUSY: Final = 8
_PARTS: Final = ("start", "steps", "memory", "growth")
_STEPS_ROUND_S: Final = 4.0
_MEMORY_SAMPLES: Final = 5

Row = tuple[str, float, float | None, str]
"""What was measured, ours, the baseline, and the goal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("parts", nargs="*", default=_PARTS, help=f"of {', '.join(_PARTS)}")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the long past")
    parser.add_argument("--tokens", type=int, default=100_000, help="of the long past")
    parser.add_argument("--plans", type=int, default=10_000, help="between looks at memory")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each comparison")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on a real disk")  # noqa: S108 - a new directory is made below it
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Measure everything, and print a line for each figure as soon as there is one."""
    if unknown := set(chosen.parts) - set(_PARTS):
        raise SystemExit(f"there is no part {', '.join(sorted(unknown))}: {', '.join(_PARTS)}")
    print(f"{'figure':58}{'ours':>11}{'baseline':>11}{'ratio':>7}  goal")
    with tempfile.TemporaryDirectory(dir=chosen.directory) as made:
        directory = Path(made)
        measurements: dict[str, Callable[[], Iterator[Row]]] = {
            "start": cold_start,
            "steps": partial(steps, directory / "steps", chosen.rounds),
            "memory": partial(memory, directory / "memory", chosen.plans),
            "growth": partial(growth, directory, chosen.events, chosen.tokens, chosen.rounds),
        }
        for part in chosen.parts:
            for row in measurements[part]():
                print(_line(row), flush=True)


def _line(row: Row) -> str:
    name, ours, baseline, goal = row
    if baseline is None:
        return f"{name:58}{ours:>11,.3f}{'':>18}  {goal}"
    return f"{name:58}{ours:>11,.3f}{baseline:>11,.3f}{ours / baseline:>7.2f}  {goal}"


def cold_start() -> Iterator[Row]:
    """Time `stage4 --help` from its process to its end, and what the processor had of it."""
    command = [installed_program("stage4"), "--help"]
    waited, worked = [], []
    for _ in range(_COLD_STARTS):
        start, before = time.perf_counter(), os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        waited.append(time.perf_counter() - start)
        worked.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    yield "stage4 --help, s", min(waited), None, "≤ 0.4"
    yield "stage4 --help, processor s", min(worked), None, "≤ 0.4"


def steps(directory: Path, rounds: int) -> Iterator[Row]:
    """Compare a step of a long plan with a plan of one."""
    with running_pair(directory) as pair:
        clients = {n: _client(pair, n) for n in (1, LONG_PLAN_STEPS)}
        latency: dict[int, list[float]] = {n: [] for n in clients}
        effort: dict[int, list[float]] = {n: [] for n in clients}
        with clients[1] as short, clients[LONG_PLAN_STEPS] as long:
            for _ in range(rounds):
                for n, client in ((1, short), (LONG_PLAN_STEPS, long)):
                    latency[n].append(client.run(1, _STEPS_ROUND_S, 0.2).p50_ms / n)
                    before = _cpu_ms(pair)
                    answered = client.run(_BUSY, _STEPS_ROUND_S, 0.0).answered
                    effort[n].append((_cpu_ms(pair) - before) / answered / n)
    for what, times in (("p50 ms a step, 1 caller", latency), ("processor ms a step", effort)):
        yield (
            f"{what}: plan of {LONG_PLAN_STEPS} ÷ plan of 1",
            median(times[LONG_PLAN_STEPS]),
            median(times[1]),
            "≤ 0.5",
        )


def memory(directory: Path, plans: int) -> Iterator[Row]:
    """Look at what both services hold as plans go by."""
    held: list[tuple[float, float]] = []
    with running_pair(directory) as pair, _client(pair, 3) as client:
        for _ in range(_MEMORY_SAMPLES):
            answered = 0
            while answered < plans:
                answered += client.run(32, 5.0, 0.0).answered
            held.append((resident_mib(pair.stage4_pid), resident_mib(pair.stage3_pid)))
    total = plans * _MEMORY_SAMPLES
    for number, (name, most) in enumerate((("Stage-4", 80), ("Stage-3", 160))):
        yield (
            f"{name} resident MiB, after {total:,} ÷ after {plans:,} plans",
            held[-1][number],
            held[0][number],
            f"flat, ≤ {most}",
        )


@contextmanager
def _client(pair: RunningPair, plan_steps: int) -> Iterator[LoadClient]:
    target = Target(
        address=pair.stage4_address,
        server_name=pair.stage4_server_name,
        files=(
            str(pair.authority_file),
            str(pair.client_certificate_file),
            str(pair.client_key_file),
        ),
        work=PlanWork(pair.user_id, pair.token_hash, plan_steps),
    )
    with load_client(target) as client:
        yield client


def _cpu_ms(pair: RunningPair) -> float:
    return 1e3 * (cpu_seconds(pair.stage3_pid) + cpu_seconds(pair.stage4_pid))


def growth(directory: Path, events: int, tokens: int, rounds: int) -> Iterator[Row]:
    """Compare a store with a long past with a small one, and start a service on the long one."""
    small, large = LocalPair(directory / "small"), LocalPair(directory / "large")
    for pair in (small, large):
        pair.make_certificates()
        pair.make_stage3()
    with open_past(small.stage3_config) as young, open_past(large.stage3_config) as old:
        worlds = (
            _World(young, fill(young, events=SMALL, tokens=SMALL)),
            _World(old, fill(old, events=events, tokens=tokens)),
        )
        size = old.ledger.head.size
        for _ in range(rounds):
            for world in worlds:
                world.measure()
    past = f"{size:,} events, {tokens:,} tokens ÷ {SMALL:,}"
    for name in ("authorize", "append"):
        ours, baseline = (median(world.times[name]) for world in reversed(worlds))
        yield f"{name}, processor ms a plan: {past}", ours, baseline, "≤ 1.2"
    waited, worked = _restart(large)
    yield f"restart to SERVING, s: {size:,} events", waited, None, "≤ 5"
    yield f"restart to SERVING, processor s: {size:,} events", worked, None, "≤ 5"


class _World:
    """One store, and what plans cost in it."""

    def __init__(self, past: Past, credentials: list[str]) -> None:
        self._past = past
        self._credentials = credentials
        self._executor = past.executor()
        self._random = Random(7)  # noqa: S311 - not a secret
        self._names = count()
        self.times: dict[str, list[float]] = {"authorize": [], "append": []}

    def measure(self) -> None:
        """Execute plans under tokens that nobody used lately, then append as many events."""
        some = self._random.choices(self._credentials, k=_PLANS_A_ROUND)
        submissions = self._past.submissions(some, f"now{next(self._names)}", _PLANS_A_ROUND)
        executing = self._past.execute_alone
        self.times["authorize"].append(
            _cpu_ms_of(lambda: [executing(self._executor, one) for one in submissions])
        )
        leaf = os.urandom(400)
        work = partial(_append, leaf)
        self.times["append"].append(
            _cpu_ms_of(lambda: [self._past.ledger.commit(work) for _ in submissions])
        )


def _append(leaf: bytes, turn: Turn) -> None:
    for _ in range(STAGE3_EVENTS_A_PLAN):
        turn.append(leaf, event_type="TOKEN_VALIDATION", plan_id="plan_bench", token_id="tok_bench")


def _cpu_ms_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3 / _PLANS_A_ROUND


def _restart(pair: LocalPair) -> tuple[float, float]:
    """Return the shortest wait of several starts, and the least that the processor had of one."""
    waited, worked = [], []
    for _ in range(_STARTS):
        start = time.perf_counter()
        pair.start_stage3()
        waited.append(time.perf_counter() - start)
        if pair.stage3_process is not None:
            worked.append(cpu_seconds(pair.stage3_process.pid))
        pair.stop()
    return min(waited), min(worked)
