"""Mutate the modules that decide, and say what no test noticed: `python -m tests.mutation`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.mutation.operators import GUARD_ORDER, Mutant, mutants
from tests.mutation.runner import ROOT, load_shared, survives
from tests.mutation.targets import TARGETS, Target

KILLED_MIN: Final = 0.9
GATES: Final = ("token_gate", "scope_gate", "limit_gate", "data_gate", "authorized_step")
"""Where no change to the order of questions may survive."""


@dataclass
class Score:
    """How many mutants of a module there were, how many were noticed, and which were not."""

    made: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    survivors: list[Mutant] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Write the figures in one line."""
        made, killed = self.made.total(), self.killed.total()
        return (
            f"{name}: {killed} of {made} killed ({100 * killed / max(1, made):.1f} %), "
            f"order of questions {self.killed[GUARD_ORDER]} of {self.made[GUARD_ORDER]}"
        )


def measure(target: Target, score: Score) -> None:
    """Run every mutant of a module against its tests, the quick ones first."""
    source = (ROOT / target.file).read_text()
    for tests in (target.quick, target.slow):
        if tests and not survives(target.module, source, tests):
            raise SystemExit(f"{target.module}: its tests fail without any mutant: {tests}")
    for mutant in mutants(source):
        score.made[mutant.operator] += 1
        lives = survives(target.module, mutant.source, target.quick) and (
            not target.slow or survives(target.module, mutant.source, target.slow)
        )
        if lives:
            score.survivors.append(mutant)
            print(f"survived: {target.module} {mutant}", flush=True)  # noqa: T201 - its purpose
        else:
            score.killed[mutant.operator] += 1


def main() -> None:
    """Measure the modules named, or all of them."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="ends of module names; all without any")
    parser.add_argument("--quick", action="store_true", help="ask the quick tests only")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    load_shared()
    total = Score()
    gates_out_of_order = False
    for target in TARGETS:
        if chosen.modules and not target.module.endswith(tuple(chosen.modules)):
            continue
        score = Score()
        measure(Target(target.module, target.quick) if chosen.quick else target, score)
        print(score.line(target.module), flush=True)  # noqa: T201 - its purpose
        if target.module.endswith(GATES):
            gates_out_of_order |= score.killed[GUARD_ORDER] < score.made[GUARD_ORDER]
        total.made += score.made
        total.killed += score.killed
        total.survivors += score.survivors
    print(total.line("together"))  # noqa: T201 - its purpose
    sys.exit(gates_out_of_order or total.killed.total() < KILLED_MIN * total.made.total())


if __name__ == "__main__":
    main()
