"""Mutate the modules that decide, and say what no test noticed: `python -m tests.mutation`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.mutation.bench import Verdict
from tests.mutation.operators import GUARD_ORDER, Mutant, mutants
from tests.mutation.runner import ROOT, TestsFail, load_shared, verdicts
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
    hung: int = 0

    @property
    def is_enough(self) -> bool:
        """Return whether nine in ten were noticed."""
        return self.killed.total() >= KILLED_MIN * self.made.total()

    @property
    def keeps_order(self) -> bool:
        """Return whether each change to the order of questions was noticed."""
        return self.killed[GUARD_ORDER] == self.made[GUARD_ORDER]

    def line(self, name: str) -> str:
        """Write the figures in one line."""
        made, killed = self.made.total(), self.killed.total()
        return (
            f"{name}: {killed} of {made} killed ({100 * killed / max(1, made):.1f} %), "
            f"{self.hung} of them by not ending, "
            f"order of questions {self.killed[GUARD_ORDER]} of {self.made[GUARD_ORDER]}"
        )


def measure(target: Target) -> Score:
    """Let a module's tests judge every mutant of it.

    Raises:
        TestsFail: they fail without any mutant.
    """
    score = Score()
    made = list(mutants((ROOT / target.file).read_text()))
    for mutant, verdict in verdicts(target.module, made, target.quick + target.slow):
        score.made[mutant.operator] += 1
        if verdict is Verdict.SURVIVED:
            score.survivors.append(mutant)
            print(f"survived: {target.module} {mutant}", flush=True)  # noqa: T201 - its purpose
        else:
            score.killed[mutant.operator] += 1
            score.hung += verdict is Verdict.HUNG
    return score


def main() -> None:
    """Measure the modules named, or all of them."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="ends of module names; all without any")
    parser.add_argument("--quick", action="store_true", help="ask the quick tests only")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    load_shared()
    total = Score()
    short: list[str] = []
    for target in TARGETS:
        if chosen.modules and not target.module.endswith(tuple(chosen.modules)):
            continue
        try:
            score = measure(Target(target.module, target.quick) if chosen.quick else target)
        except TestsFail as failed:
            raise SystemExit(str(failed)) from None
        print(score.line(target.module), flush=True)  # noqa: T201 - its purpose
        if not score.is_enough or (target.module.endswith(GATES) and not score.keeps_order):
            short.append(target.module)
        total.made += score.made
        total.killed += score.killed
        total.hung += score.hung
    print(total.line("together"))  # noqa: T201 - its purpose
    sys.exit(f"too few were noticed of {', '.join(short)}" if short else 0)


if __name__ == "__main__":
    main()
