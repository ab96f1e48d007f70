"""What governance adds to a call: the same service, called directly and by a plan of one step.

`python -m bench adapters` takes turns between the two in one run, for a service over gRPC and for
two MCP servers, a slow one and a fast one. Directly means the protocol's own library on one warm
connection, with nothing in between; governed means through Stage-4 and Stage-3, mTLS on both hops,
every gate, every event durable. With 32 callers a plan has three calls.

A plan costs what it costs whatever its step does, so the same plan with a builtin method, which
takes microseconds, runs beside them. And a call that comes once in a plan's time finds processors
and caches that have done something else meanwhile: so the direct call is made at that pace, too.
What an adapter adds by itself is what is left once that call and that plan are taken away.

The adapter of the MCP servers is also called without any plan: what it allows beside the library
is what it costs by itself.

`--gateway` puts a governed gateway between the fast server and the library in the same run: a
program that takes the server's command after its own arguments and speaks MCP over stdio.
"""

import argparse
import asyncio
import json
import shlex
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from mcp.client.client import Client

from bench import far_domain
from bench.load import LoadClient, Target, load_client
from bench.lone_adapter import invoke_in_a_loop, lone_adapter
from bench.pair import STAGE4_NAME, TOKEN_LIFETIME_S, USER
from bench.tools import Tool, call_directly, echo_tool, sessions, time_tool
from bench.work import ToolWork, UpperWork
from examples.local_pair import LocalPair
from stage3_service.adapters.mcp.domain import McpDomain

ALONE: Final = 1
BUSY: Final = 32
WARM_UP_S: Final = 1.0
STEPS_BUSY: Final = 3
BUILTIN_PLAN: Final = "builtin text.upper by a plan of one step"
BUILTIN_BUSY: Final = "plans of three builtin calls, 32 callers"
FAR: Final = "service over gRPC"
CLOCK: Final = "MCP tool in Python"
ECHO: Final = "MCP tool in Node"
GATEWAY: Final = "MCP tool in Node behind the gateway"
GATEWAY_PER_SECOND: Final = 73
"""Three governed calls through the best governed gateway seen, with 32 callers."""

Works = dict[str, ToolWork | UpperWork]


@dataclass(slots=True)
class Figures:
    """Rounds of one contender: calls a second and p50 in milliseconds."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)

    def add(self, took: list[float], seconds: float) -> None:
        """Add a round of calls that took so many seconds each."""
        self.per_second.append(len(took) / seconds)
        self.p50_ms.append(quantiles(took, n=100)[49] * 1e3)

    def line(self, name: str) -> str:
        """Say the medians in one line."""
        return f"{name:<52} {median(self.per_second):>8.0f}/s  p50 {median(self.p50_ms):>7.2f} ms"


def direct(what: str) -> str:
    """Name the calls of one caller without anything in between."""
    return f"{what} called directly, 1 caller"


def paced(what: str) -> str:
    """Name the same calls, made as rarely as a plan makes them."""
    return f"{what} called directly at a plan's pace"


def by_plan(what: str) -> str:
    """Name the plans of one call."""
    return f"{what} by a plan of one step"


def direct_busy(what: str) -> str:
    """Name the calls of many callers without anything in between."""
    return f"{what} called directly, 32 callers"


def by_adapter(what: str) -> str:
    """Name the calls of one caller through the adapter, without a plan."""
    return f"{what} by the adapter alone, 1 caller"


def by_adapter_busy(what: str) -> str:
    """Name the same calls of many callers."""
    return f"{what} by the adapter alone, 32 callers"


def plans_busy(what: str) -> str:
    """Name the plans of three calls, of many callers."""
    return f"plans of three calls of the {what}, 32 callers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contender")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on a real disk")  # noqa: S108 - a new directory is made below it
    parser.add_argument("--gateway", help="command of a gateway, that takes a server's after it")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Take turns, then print medians and ratios."""
    gateway = tuple(shlex.split(chosen.gateway or ""))
    tools = {CLOCK: time_tool(), ECHO: echo_tool()}
    with tempfile.TemporaryDirectory(dir=chosen.directory) as made:
        bench = _Bench(Path(made), tools, gateway, chosen.seconds)
        asyncio.run(bench.measure(chosen.rounds))
    for name, figures in bench.figures.items():
        print(figures.line(name))
    print()
    _compare(bench.figures, has_gateway=bool(gateway))


def _compare(measured: dict[str, Figures], *, has_gateway: bool) -> None:
    """Print what governance adds, how much of it is the plan's, and what bounds a busy server."""
    p50 = {name: median(figures.p50_ms) for name, figures in measured.items()}
    rates = {name: median(figures.per_second) for name, figures in measured.items()}
    plan_ms = p50[BUILTIN_PLAN]
    for what in (FAR, CLOCK, ECHO):
        was, now, cold = p50[direct(what)], p50[by_plan(what)], p50[paced(what)]
        print(f"{what}: {now - was:.2f} ms added at p50, {now / was:.2f} times the direct call")
        print(
            f"  of it {plan_ms:.2f} ms the plan, {cold - was:.2f} ms the pace, "
            f"{now - cold - plan_ms:.2f} ms the adapter"
        )
    for what in (CLOCK, ECHO):
        added = p50[by_adapter(what)] - p50[direct(what)]
        times = rates[by_adapter_busy(what)] / rates[direct_busy(what)]
        print(f"{what}: the adapter alone adds {added:.2f} ms at p50 for 1 caller,")
        print(f"  and with 32 callers it makes {times:.2f} times the calls of the library")
    bound = rates[BUILTIN_BUSY]
    for what in (CLOCK, ECHO):
        ours, allowed = rates[plans_busy(what)], rates[direct_busy(what)] / STEPS_BUSY
        print(f"plans of three calls of the {what}, 32 callers: {ours:.0f}/s")
        print(f"  called directly it allows {allowed:.0f}/s, ours are {ours / allowed:.2f} of it")
        print(
            f"  plans of three builtin calls are {bound:.0f}/s, ours are {ours / bound:.2f} of it"
        )
        times = ours / GATEWAY_PER_SECOND
        print(f"  {GATEWAY_PER_SECOND}/s was the best gateway's, ours are {times:.1f} times that")
    if has_gateway:
        theirs = rates[direct_busy(GATEWAY)] / STEPS_BUSY
        ours = rates[plans_busy(ECHO)]
        print(f"  this gateway's are {theirs:.0f}/s, ours are {ours / theirs:.2f} times that")


class _Bench:
    """One run: the pair, the servers, and what was measured of each contender."""

    def __init__(
        self, directory: Path, tools: dict[str, Tool], gateway: tuple[str, ...], seconds: float
    ) -> None:
        self.figures: dict[str, Figures] = {}
        self._directory = directory
        self._tools = tools
        self._gateway = gateway
        self._seconds = seconds

    async def measure(self, rounds: int) -> None:
        """Start everything, and let every contender have a turn in each round."""
        address = far_domain.free_address()
        commands = [tool.command for tool in self._tools.values()]
        if self._gateway:
            commands.append((*self._gateway, *self._tools[ECHO].command))
        with ExitStack() as stack:
            pair = stack.enter_context(_pair(self._directory, self._tools, address))
            stack.enter_context(far_domain.running_far_domain(pair, address))
            pair.start()
            works = self._works(_issue(pair, self._tools))
            clients = {
                name: stack.enter_context(load_client(_target(pair, work)))
                for name, work in works.items()
            }
            adapters = [stack.enter_context(lone_adapter(each)) for each in self._tools.values()]
            async with sessions(commands) as opened:
                for _ in range(rounds):
                    for name, client in clients.items():
                        await asyncio.to_thread(self._governed, name, client)
                    await asyncio.to_thread(self._far, pair.certificates, address)
                    for (what, tool), adapter, session in zip(
                        self._tools.items(), adapters, opened, strict=False
                    ):
                        await self._tool(what, tool, session, adapter)
                    if self._gateway:
                        await self._direct(direct(GATEWAY), opened[-1], self._tools[ECHO], ALONE)
                        await self._direct(
                            direct_busy(GATEWAY), opened[-1], self._tools[ECHO], BUSY
                        )

    @property
    def _pause_s(self) -> float:
        """What lies between two calls of a plan's only step."""
        return median(self._of(BUILTIN_PLAN).p50_ms) / 1e3

    def _of(self, name: str) -> Figures:
        return self.figures.setdefault(name, Figures())

    def _works(self, token: str) -> Works:
        works: Works = {
            BUILTIN_PLAN: UpperWork(USER, token),
            BUILTIN_BUSY: UpperWork(USER, token, steps=STEPS_BUSY),
            by_plan(FAR): UpperWork(USER, token, "far"),
        }
        for what, tool in self._tools.items():
            works[by_plan(what)] = tool.work(USER, token, 1)
            works[plans_busy(what)] = tool.work(USER, token, STEPS_BUSY)
        return works

    def _governed(self, name: str, client: LoadClient) -> None:
        busy = name == BUILTIN_BUSY or name in map(plans_busy, self._tools)
        measured = client.run(BUSY if busy else ALONE, self._seconds, WARM_UP_S)
        self._of(name).per_second.append(measured.per_second)
        self._of(name).p50_ms.append(measured.p50_ms)

    def _far(self, certificates: Path, address: str) -> None:
        for name, pause_s in ((direct(FAR), 0.0), (paced(FAR), self._pause_s)):
            took = far_domain.call_directly(certificates, address, self._seconds, pause_s)
            self._of(name).add(took, self._seconds)

    async def _tool(self, what: str, tool: Tool, session: Client, adapter: McpDomain) -> None:
        await self._direct(direct(what), session, tool, ALONE)
        await self._adapted(by_adapter(what), adapter, tool, ALONE)
        await self._direct(paced(what), session, tool, ALONE, self._pause_s)
        await self._direct(direct_busy(what), session, tool, BUSY)
        await self._adapted(by_adapter_busy(what), adapter, tool, BUSY)

    async def _adapted(self, name: str, adapter: McpDomain, tool: Tool, callers: int) -> None:
        took = await asyncio.to_thread(invoke_in_a_loop, adapter, tool, callers, self._seconds)
        self._of(name).add(took, self._seconds)

    async def _direct(
        self, name: str, session: Client, tool: Tool, callers: int, pause_s: float = 0.0
    ) -> None:
        took = await call_directly(session, tool, callers, self._seconds, pause_s)
        self._of(name).add(took, self._seconds)


def _pair(directory: Path, tools: dict[str, Tool], far_address: str) -> LocalPair:
    text: dict[str, Any] = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}
    domains = {"text": text, "far": far_domain.declared(far_address)}
    domains |= {tool.domain: tool.declared for tool in tools.values()}
    file = directory / "domains.json"
    file.write_text(json.dumps({"domains": domains}))
    pair = LocalPair(directory / "pair", domains_file=file)
    pair.make()
    return pair


def _issue(pair: LocalPair, tools: dict[str, Tool]) -> str:
    file = pair.directory / "bench.token"
    for name in ("far", *(tool.domain for tool in tools.values())):
        pair.run("stage3", "domain", "accept", name, "--first")
    called = ["text:upper", "far:upper"]
    called += [f"{tool.domain}:{tool.method}" for tool in tools.values()]
    pair.run(
        "stage3",
        *("token", "issue", "--user", USER, "--client", "demo"),
        *(word for method in called for word in ("--allow", method)),
        *("--lifetime", str(TOKEN_LIFETIME_S), "--output", file),
    )
    return file.read_text(encoding="utf-8").strip()


def _target(pair: LocalPair, work: ToolWork | UpperWork) -> Target:
    names = ("ca.crt", "demo.crt", "demo.key")
    authority, certificate, key = (str(pair.certificates / name) for name in names)
    address = pair.stage4_addresses["clients"]
    return Target(address, STAGE4_NAME, (authority, certificate, key), work)
