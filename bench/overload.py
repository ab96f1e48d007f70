"""What becomes of everybody when five times as many plans come as can be executed.

`python -m bench overload` measures the installed pair twice: with its bounds, and as a control with
bounds so wide that nothing is ever refused. In both, plans arrive at five times the rate that the
pair just executed, from five clients that do not slow down; beside them one honest client, one
operator who revokes, and probes.

The flood shares the services' processors, which a flood from elsewhere would not, and has the same
priority: one that stands back sends in bursts, whenever they leave it a processor. With `--pinned`
each service has one processor, as in `python -m bench`, and shares that one with the flood.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Final

from bench import flood, meter
from bench.load import Target, load_client
from bench.pair import STAGE4_NAME, TOKEN_LIFETIME_S, USER
from bench.processes import cpu_seconds, resident_mib, running, two_cpus
from bench.work import PlanWork
from examples.local_pair import LocalPair

TIMES_CAPACITY: Final = 5
FLOODERS: Final = tuple(f"flood{number}" for number in range(5))
METER: Final = "honest"
BUSY: Final = 32
SETTLE_S: Final = 1.0
# Where nothing is refused: more places than the flood has calls.
UNBOUNDED: Final = {
    "PLANS__MAX_IN_FLIGHT": "4096",
    "PLANS__MAX_IN_FLIGHT_PER_CALLER": "4096",
}


@dataclass(slots=True)
class Seen:
    """What one variant showed."""

    capacity: float
    p99_at_capacity_ms: float
    idle: meter.Times = field(default_factory=dict)
    flooded: meter.Times = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    sent_per_second: float = 0.0
    # By service, in processors.
    busy: dict[str, float] = field(default_factory=dict)
    resident_mib: dict[str, tuple[float, float]] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each flood")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="on a real disk")  # noqa: S108 - a new directory is made below it
    parser.add_argument("--pinned", action="store_true", help="each service on one processor")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Measure both variants and print them side by side."""
    with tempfile.TemporaryDirectory(dir=chosen.directory) as made:
        seen = {
            name: measure(
                Path(made) / name.split(":")[0], bounds, chosen.seconds, pinned=chosen.pinned
            )
            for name, bounds in (("bounded", {}), ("control: unbounded", UNBOUNDED))
        }
    print("\n".join(table(seen)))


def measure(directory: Path, bounds: Mapping[str, str], seconds: float, *, pinned: bool) -> Seen:
    """Start a new pair with these bounds, find its capacity, flood it, and say what was seen."""
    pair = LocalPair(directory)
    pair.make()
    certificates = str(pair.certificates)
    for name in (*FLOODERS, METER):
        pair.run("stage3", "certs", "caller", certificates, name, "--identity", f"client/{name}")
    outer, inner = two_cpus()
    stage4_bounds = {f"STAGE4_{name}": value for name, value in bounds.items()}
    stage3_bounds = {
        f"STAGE3_{name}": value for name, value in bounds.items() if "CALLER" not in name
    }
    if pinned:
        stage4_bounds["STAGE4_CPU"], stage3_bounds["STAGE3_CPU"] = str(outer), str(inner)
    with pair:
        pair.start_stage3(stage3_bounds)
        pair.start_stage4(stage4_bounds)
        processes = {
            name: process.pid
            for name, process in (("stage3", pair.stage3_process), ("stage4", pair.stage4_process))
            if process is not None
        }
        token = _issue(pair)
        capacity, p99_ms = _capacity(pair, token)
        seen = Seen(capacity, p99_ms)
        orders = meter.Orders(
            clients=pair.stage4_addresses["clients"],
            operators=pair.stage3_addresses["operators"],
            stage3_probes=pair.stage3_addresses["probes"],
            stage4_probes=pair.stage4_addresses["probes"],
            certificates=certificates,
            caller=METER,
            token_hash=token,
        )
        flooding = flood.Orders(
            address=pair.stage4_addresses["clients"],
            server_name=STAGE4_NAME,
            certificates=certificates,
            callers=FLOODERS,
            user_id=USER,
            token_hash=token,
            per_second=TIMES_CAPACITY * capacity,
            # It has begun before the meter does, and ends after it.
            seconds=seconds + 2 * SETTLE_S,
        )
        with (
            running("bench.meter", [orders.encode()]) as meter_process,
            running("bench.flood", [flooding.encode()]) as flood_process,
        ):
            seen.idle = json.loads(meter_process.ask(str(min(seconds, 5.0))))
            flood_process.read_line()
            flood_process.tell("")
            # Every place has been taken once by then: what grows later would grow for ever.
            time.sleep(SETTLE_S)
            before_mib = {name: resident_mib(pid) for name, pid in processes.items()}
            before_s = {name: cpu_seconds(pid) for name, pid in processes.items()}
            start = time.perf_counter()
            seen.flooded = json.loads(meter_process.ask(str(seconds)))
            took_s = time.perf_counter() - start
            for name, pid in processes.items():
                seen.busy[name] = (cpu_seconds(pid) - before_s[name]) / took_s
                seen.resident_mib[name] = (before_mib[name], resident_mib(pid))
            seen.counts = json.loads(flood_process.read_line())
            seen.sent_per_second = seen.counts["sent"] / flooding.seconds
    return seen


def table(seen: Mapping[str, Seen]) -> list[str]:
    """Write one line for each figure, one column for each variant, the goal behind."""
    rows: list[tuple[str, list[str], str]] = [
        ("capacity, plans/s, 32 callers", [f"{one.capacity:,.0f}" for one in seen.values()], ""),
        (
            "flood: executed, refused, neither",
            [_ended(one.counts) for one in seen.values()],
            "",
        ),
        (
            "flood: sent per second ÷ capacity",
            [f"{one.sent_per_second / one.capacity:.1f}" for one in seen.values()],
            f"{TIMES_CAPACITY}",
        ),
        _centile("refusal p50, ms", "refused plan", 50, seen),
        _centile("refusal p99, ms", "refused plan", 99, seen, "< 10"),
        (
            "admitted p99, ms ÷ p99 at capacity",
            [
                f"{_at(one.flooded, 'admitted plan', 99):.0f} ÷ {one.p99_at_capacity_ms:.0f} = "
                f"{_at(one.flooded, 'admitted plan', 99) / one.p99_at_capacity_ms:.2f}"
                for one in seen.values()
            ],
            "≤ 2",
        ),
        _centile("Revoke p99, ms", "Revoke", 99, seen, "≤ 50"),
        _centile("health of Stage-3 p99, ms", "health of Stage-3", 99, seen),
        _centile("health of Stage-4 p99, ms", "health of Stage-4", 99, seen),
        _centile("on the plans' listener p99, ms", "a check on the plans' listener", 99, seen, "-"),
    ]
    rows += [
        (
            f"{service} resident, MiB",
            ["{:.0f} to {:.0f}".format(*one.resident_mib[service]) for one in seen.values()],
            "flat",
        )
        for service in ("stage3", "stage4")
    ]
    rows += [
        (
            f"{service} busy, of a processor",
            [f"{one.busy[service]:.2f}" for one in seen.values()],
            "",
        )
        for service in ("stage3", "stage4")
    ]
    head = f"{'':36}" + "".join(f"{name:>28}" for name in seen) + "  goal"
    lines = [
        f"{name:36}" + "".join(f"{value:>28}" for value in values) + f"  {goal}"
        for name, values, goal in rows
    ]
    others = {
        name: [f"{label}: {len(times)}" for label, times in sorted(one.flooded.items())]
        for name, one in seen.items()
    }
    return [
        f"{TIMES_CAPACITY} x capacity; of ms that have two figures the first is without the flood",
        head,
        *lines,
        *(f"measured, {name}: {'; '.join(counts)}" for name, counts in others.items()),
    ]


def _ended(counts: Mapping[str, int]) -> str:
    """Say how the calls of a flood ended. Neither: gRPC let go of one, or its time was over."""
    executed, refused = counts.get("OK", 0), counts.get("RESOURCE_EXHAUSTED", 0)
    return f"{executed:,}, {refused:,}, {counts['sent'] - executed - refused:,}"


def _centile(
    name: str, what: str, centile: int, seen: Mapping[str, Seen], goal: str = ""
) -> tuple[str, list[str], str]:
    values = []
    for one in seen.values():
        flooded = _at(one.flooded, what, centile)
        idle = _at(one.idle, what, centile)
        values.append(f"{idle:.1f}, {flooded:.1f}" if one.idle.get(what) else f"{flooded:.1f}")
    return name, values, goal


def _at(times: meter.Times, what: str, centile: int) -> float:
    own = times.get(what, [])
    return quantiles(own, n=100)[centile - 1] if len(own) > 1 else float("nan")


def _issue(pair: LocalPair) -> str:
    file = pair.directory / "bench.token"
    clients = [word for name in ("demo", METER, *FLOODERS) for word in ("--client", name)]
    pair.run(
        "stage3",
        *("token", "issue", "--user", USER, *clients, "--allow", "text:sha256"),
        *("--lifetime", str(TOKEN_LIFETIME_S), "--output", file),
    )
    return file.read_text(encoding="utf-8").strip()


def _capacity(pair: LocalPair, token: str) -> tuple[float, float]:
    keys = pair.certificates
    target = Target(
        address=pair.stage4_addresses["clients"],
        server_name=STAGE4_NAME,
        files=(str(keys / "ca.crt"), str(keys / "demo.crt"), str(keys / "demo.key")),
        work=PlanWork(USER, token),
    )
    with load_client(target) as client:
        measured = client.run(BUSY, 4.0, 1.0)
    return measured.per_second, measured.p99_ms
