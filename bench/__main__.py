"""Measure the pair and the bare echo in turns, and print both: `python -m bench`.

`python -m bench overload` measures what an overload does to everybody, `python -m bench adapters`
what governance adds to a call of a service and of an MCP server, `python -m bench scale` what a
long past, a long plan and many plans cost.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from bench import adapters, overload, scale
from bench.durability import median_fdatasync_ms
from bench.echo import Variant, make_certificates, running_echo
from bench.load import Round
from bench.pair import NoPairError
from bench.plans import Plans, measure_plans
from bench.report import ALONE, BUSY, OURS, Measured, figures, goals


class Contender(Protocol):
    """Whatever can run a round."""

    def run(self, concurrency: int, seconds: float, warm_up_s: float) -> Round:
        """Run one round."""


def main() -> None:
    """Take turns, then print medians and ratios."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contender")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round")
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds before each round")
    parser.add_argument("--echo-only", action="store_true", help="measure the baseline alone")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 - a new directory is made below it
        help="where stores are made; must be the disk that is meant, not memory",
    )
    commands = parser.add_subparsers(title="other measurements")
    overload.add_arguments(commands.add_parser("overload", description=overload.__doc__))
    adapters.add_arguments(commands.add_parser("adapters", description=adapters.__doc__))
    scale.add_arguments(commands.add_parser("scale", description=scale.__doc__))
    chosen = parser.parse_args()
    if "run" in chosen:
        chosen.run(chosen)
        return
    with tempfile.TemporaryDirectory(dir=chosen.directory) as made, ExitStack() as stack:
        directory = Path(made)
        contenders: dict[str, Contender] = {}
        plans: Plans | None = None
        if not chosen.echo_only:
            try:
                plans = stack.enter_context(measure_plans(directory / "pair", pinned=True))
            except NoPairError as error:
                parser.exit(1, f"{error}\n--echo-only measures the baseline alone\n")
            contenders[OURS] = plans
        make_certificates(directory / "certificates")
        for variant in (Variant(pinned, tls) for pinned in (True, False) for tls in (True, False)):
            echo = running_echo(directory / "certificates", variant)
            contenders[f"echo: {variant.name}"] = stack.enter_context(echo)
        measured = _take_turns(contenders, directory, chosen)
        print("\n".join([*figures(measured), "", *goals(measured)]))
        if plans is not None:
            print()
            for concurrency in (ALONE, BUSY):
                effort = plans.effort(concurrency)
                print(
                    f"processor ms a plan, {concurrency:>2} callers: "
                    f"Stage-3 {effort.stage3_ms:.2f}, Stage-4 {effort.stage4_ms:.2f}"
                )
            print(f"\nEvery answer validated, both logs verified: {plans.evidence()}")


def _take_turns(
    contenders: dict[str, Contender], directory: Path, chosen: argparse.Namespace
) -> Measured:
    measured = Measured()
    names = list(contenders)
    for turn in range(chosen.rounds):
        measured.fdatasync_ms.append(median_fdatasync_ms(directory))
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            for concurrency in (ALONE, BUSY):
                round_ = contenders[name].run(concurrency, chosen.seconds, chosen.warm_up)
                measured.add(name, concurrency, round_)
    return measured


if __name__ == "__main__":
    main()
