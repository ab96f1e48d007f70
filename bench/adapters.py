"""What governance adds to a call: the same service, called directly and by a plan of one step.

`python -m bench adapters` takes turns between the two in one run, for a service over gRPC and for
an MCP server. Directly means the protocol's own library on one warm connection, with nothing in
between; governed means through Stage-4 and Stage-3, mTLS on both hops, every gate, every event
durable. With 32 callers a plan has three calls.

A plan costs what it costs whatever its step does, so the same plan with a builtin method, which
takes microseconds, runs beside them: what an adapter adds by itself is what is left once the direct
call and that plan are taken away. With 32 callers the server's own speed is the bound.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from mcp import StdioServerParameters
from mcp.client.client import Client

from bench import far_domain
from bench.load import LoadClient, Target, load_client
from bench.pair import STAGE4_NAME, TOKEN_LIFETIME_S, USER
from bench.work import ConvertWork, UpperWork, WrongAnswerError
from examples.local_pair import LocalPair

SERVER: Final = "mcp-server-time"
ALONE: Final = 1
BUSY: Final = 32
WARM_UP_S: Final = 1.0
STEPS_BUSY: Final = 3
GRPC: Final = "service over gRPC called directly, 1 caller"
GRPC_PLAN: Final = "the same service by a plan of one step"
TOOL: Final = "tool called directly, 1 caller"
TOOL_PLAN: Final = "the same tool by a plan of one step"
BUILTIN_PLAN: Final = "builtin text.upper by a plan of one step"
BUSY_TOOL: Final = "tool called directly, 32 callers, calls"
BUSY_PLANS: Final = "plans of three such calls, 32 callers"
BUSY_BUILTIN: Final = "plans of three builtin calls, 32 callers"
CONTENDERS: Final = (
    GRPC,
    GRPC_PLAN,
    TOOL,
    TOOL_PLAN,
    BUILTIN_PLAN,
    BUSY_TOOL,
    BUSY_PLANS,
    BUSY_BUILTIN,
)
GATEWAY_PER_SECOND: Final = 73
"""Three governed calls through the best governed gateway seen, with 32 callers."""
ASKED: Final = {"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
ANSWERED: Final = "+9.0h"


@dataclass(slots=True)
class Figures:
    """Rounds of one contender: medians of calls a second and of p50 in milliseconds."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)

    def add(self, took: list[float], seconds: float) -> None:
        """Add a round of calls that took so many seconds each."""
        self.per_second.append(len(took) / seconds)
        self.p50_ms.append(quantiles(took, n=100)[49] * 1e3)

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
    for name, figures in measured.items():
        print(figures.line(name))
    print()
    _compare(measured)


def _compare(measured: dict[str, Figures]) -> None:
    """Print what governance adds, how much of it is the plan's, and what bounds a busy server."""
    plan_ms = median(measured[BUILTIN_PLAN].p50_ms)
    for direct, governed in ((GRPC, GRPC_PLAN), (TOOL, TOOL_PLAN)):
        was, now = median(measured[direct].p50_ms), median(measured[governed].p50_ms)
        print(f"{governed}: {now - was:.2f} ms added at p50, {now / was:.2f} times the direct call")
        print(f"  of it by the plan {plan_ms:.2f} ms, by the adapter {now - was - plan_ms:.2f} ms")
    allowed = median(measured[BUSY_TOOL].per_second) / STEPS_BUSY
    ours = median(measured[BUSY_PLANS].per_second)
    bound = median(measured[BUSY_BUILTIN].per_second)
    print(f"plans of three calls, 32 callers: {ours:.0f}/s")
    print(
        f"  the server called directly allows {allowed:.0f}/s, ours are {ours / allowed:.2f} of it"
    )
    print(f"  plans of three builtin calls are {bound:.0f}/s, ours are {ours / bound:.2f} of it")
    times = ours / GATEWAY_PER_SECOND
    print(f"  a governed gateway's are {GATEWAY_PER_SECOND}/s, ours are {times:.1f} times that")


async def _measure(
    directory: Path, program: str, rounds: int, seconds: float
) -> dict[str, Figures]:
    figures: dict[str, Figures] = {name: Figures() for name in CONTENDERS}
    address = far_domain.free_address()
    async with AsyncExitStack() as stack:
        pair = stack.enter_context(_pair(directory, program, address))
        stack.enter_context(far_domain.running_far_domain(pair, address))
        pair.start()
        token = _issue(pair)
        works: dict[str, ConvertWork | UpperWork] = {
            BUILTIN_PLAN: UpperWork(USER, token),
            GRPC_PLAN: UpperWork(USER, token, "far"),
            TOOL_PLAN: ConvertWork(USER, token, 1, ASKED, ANSWERED),
            BUSY_PLANS: ConvertWork(USER, token, STEPS_BUSY, ASKED, ANSWERED),
            BUSY_BUILTIN: UpperWork(USER, token, steps=STEPS_BUSY),
        }
        clients = {
            name: stack.enter_context(load_client(_target(pair, work)))
            for name, work in works.items()
        }
        session = await stack.enter_async_context(
            Client(StdioServerParameters(command=program), cache=None)
        )
        for _ in range(rounds):
            for name, client in clients.items():
                callers = BUSY if name in (BUSY_PLANS, BUSY_BUILTIN) else ALONE
                await asyncio.to_thread(_governed, client, callers, seconds, figures[name])
            took = await asyncio.to_thread(
                far_domain.call_directly, pair.certificates, address, seconds
            )
            figures[GRPC].add(took, seconds)
            await _direct(session, ALONE, seconds, figures[TOOL])
            await _direct(session, BUSY, seconds, figures[BUSY_TOOL])
    return figures


def _pair(directory: Path, program: str, far_address: str) -> LocalPair:
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
    far = far_domain.declared(far_address)
    file = directory / "domains.json"
    file.write_text(json.dumps({"domains": {"clock": clock, "text": text, "far": far}}))
    pair = LocalPair(directory / "pair", domains_file=file)
    pair.make()
    return pair


def _issue(pair: LocalPair) -> str:
    file = pair.directory / "bench.token"
    for name in ("clock", "far"):
        pair.run("stage3", "domain", "accept", name, "--first")
    pair.run(
        "stage3",
        *("token", "issue", "--user", USER, "--client", "demo"),
        *("--allow", "clock:convert", "--allow", "text:upper", "--allow", "far:upper"),
        *("--lifetime", str(TOKEN_LIFETIME_S), "--output", file),
    )
    return file.read_text(encoding="utf-8").strip()


def _target(pair: LocalPair, work: ConvertWork | UpperWork) -> Target:
    names = ("ca.crt", "demo.crt", "demo.key")
    authority, certificate, key = (str(pair.certificates / name) for name in names)
    address = pair.stage4_addresses["clients"]
    return Target(address, STAGE4_NAME, (authority, certificate, key), work)


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
    figures.add(took, seconds)


def _governed(client: LoadClient, callers: int, seconds: float, figures: Figures) -> None:
    measured = client.run(callers, seconds, WARM_UP_S)
    figures.per_second.append(measured.per_second)
    figures.p50_ms.append(measured.p50_ms)
