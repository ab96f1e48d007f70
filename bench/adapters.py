"""What governance adds to a call: the same server, called directly and by a plan of one step.

`python -m bench adapters` takes turns between the two in one run. Directly means the protocol's own
library on one warm session, with nothing in between; governed means through Stage-4 and Stage-3,
mTLS on both hops, every gate, every event durable. With 32 callers a plan has three calls.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from mcp import StdioServerParameters
from mcp.client.client import Client

from bench.load import LoadClient, Target, load_client
from bench.pair import STAGE4_NAME, TOKEN_LIFETIME_S, USER
from bench.work import ConvertWork, UpperWork, WrongAnswerError
from examples.local_pair import LocalPair

SERVER: Final = "mcp-server-time"
ALONE: Final = 1
BUSY: Final = 32
STEPS_BUSY: Final = 3
ASKED: Final = {"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
ANSWERED: Final = "+9.0h"


@dataclass(slots=True)
class Figures:
    """Rounds of one contender: medians of calls a second and of p50 in milliseconds."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Say the medians in one line."""
        return f"{name:<44} {median(self.per_second):>8.0f}/s  p50 {median(self.p50_ms):>7.2f} ms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contender")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on a real disk")  # noqa: S108 - a new directory is made below it
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Take turns, then print medians and ratios."""
    program = shutil.which(SERVER)
    if program is None:
        raise SystemExit(f"{SERVER} is not installed: `make test` brings it")
    with tempfile.TemporaryDirectory(dir=chosen.directory) as made:
        measured = asyncio.run(_measure(Path(made), program, chosen.rounds, chosen.seconds))
    direct, governed, builtin, busy_direct, busy_governed = measured
    print(direct.line("tool called directly, 1 caller"))
    print(governed.line("the same tool by a plan of one step"))
    print(builtin.line("builtin text.upper by a plan of one step"))
    print(busy_direct.line("tool called directly, 32 callers, calls"))
    print(busy_governed.line("three governed calls a plan, 32 callers, plans"))
    added_ms = median(governed.p50_ms) - median(direct.p50_ms)
    ratio = median(governed.p50_ms) / median(direct.p50_ms)
    calls = STEPS_BUSY * median(busy_governed.per_second)
    print(f"\nadded p50 of one governed call: {added_ms:.2f} ms, {ratio:.2f} times the direct call")
    print(
        f"governed calls / direct calls, 32 callers: {calls / median(busy_direct.per_second):.2f}"
    )


async def _measure(
    directory: Path, program: str, rounds: int, seconds: float
) -> tuple[Figures, Figures, Figures, Figures, Figures]:
    figures = tuple(Figures() for _ in range(5))
    direct, governed, builtin, busy_direct, busy_governed = figures
    with _pair(directory, program) as pair:
        token = _issue(pair)
        convert = ConvertWork(USER, token, 1, ASKED, ANSWERED)
        three = ConvertWork(USER, token, STEPS_BUSY, ASKED, ANSWERED)
        async with _session(program) as client:
            with (
                load_client(_target(pair, convert)) as one,
                load_client(_target(pair, three)) as busy,
                load_client(_target(pair, UpperWork(USER, token))) as upper,
            ):
                for _ in range(rounds):
                    await _direct(client, ALONE, seconds, direct)
                    await asyncio.to_thread(_governed, one, ALONE, seconds, governed)
                    await asyncio.to_thread(_governed, upper, ALONE, seconds, builtin)
                    await _direct(client, BUSY, seconds, busy_direct)
                    await asyncio.to_thread(_governed, busy, BUSY, seconds, busy_governed)
    return direct, governed, builtin, busy_direct, busy_governed


def _pair(directory: Path, program: str) -> LocalPair:
    limits: dict[str, Any] = {"max_duration_s": 30, "max_response_bytes": 4096}
    method = {"tool": "convert_time", "description": "Converts.", "repetition": "idempotent"}
    clock = {
        "adapter": "mcp",
        "command": [program],
        "working_directory": "/",
        "unsafe_stdio": True,
        "start_timeout_s": 60,
        "methods": {"convert": {**method, **limits}},
    }
    text = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}
    file = directory / "domains.json"
    file.write_text(json.dumps({"domains": {"clock": clock, "text": text}}))
    pair = LocalPair(directory / "pair", domains_file=file)
    pair.make()
    pair.start()
    return pair


def _issue(pair: LocalPair) -> str:
    file = pair.directory / "bench.token"
    pair.run("stage3", "domain", "accept", "clock", "--first")
    pair.run(
        "stage3",
        *("token", "issue", "--user", USER, "--client", "demo"),
        *("--allow", "clock:convert", "--allow", "text:upper"),
        *("--lifetime", str(TOKEN_LIFETIME_S), "--output", file),
    )
    return file.read_text(encoding="utf-8").strip()


def _target(pair: LocalPair, work: ConvertWork | UpperWork) -> Target:
    names = ("ca.crt", "demo.crt", "demo.key")
    authority, certificate, key = (str(pair.certificates / name) for name in names)
    address = pair.stage4_addresses["clients"]
    return Target(address, STAGE4_NAME, (authority, certificate, key), work)


@asynccontextmanager
async def _session(program: str) -> AsyncIterator[Client]:
    async with Client(StdioServerParameters(command=program), cache=None) as client:
        yield client


async def _direct(client: Client, callers: int, seconds: float, figures: Figures) -> None:
    """Call the tool in a closed loop of so many callers on one session."""
    last = time.perf_counter() + seconds
    took: list[float] = []

    async def call() -> None:
        while (began := time.perf_counter()) < last:
            result = await client.call_tool("convert_time", ASKED)
            took.append(time.perf_counter() - began)
            if result.is_error or result.structured_content["time_difference"] != ANSWERED:
                raise WrongAnswerError("the tool answered something else")

    await asyncio.gather(*(call() for _ in range(callers)))
    figures.per_second.append(len(took) / seconds)
    figures.p50_ms.append(quantiles(took, n=100)[49] * 1e3)


def _governed(client: LoadClient, callers: int, seconds: float, figures: Figures) -> None:
    measured = client.run(callers, seconds, 0.3)
    figures.per_second.append(measured.per_second)
    figures.p50_ms.append(measured.p50_ms)
