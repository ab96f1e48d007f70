"""The table that a run ends with: each figure, the baseline beside it, and their ratio."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.load import Round

OURS: Final = "plans: mTLS, pinned"
PINNED_ECHO: Final = "echo: mTLS, pinned"
PINNED_PLAIN_ECHO: Final = "echo: plain, pinned"
FREE_PLAIN_ECHO: Final = "echo: plain, free"

BUSY: Final = 32
ALONE: Final = 1
SYNCS_IN_A_PLAN: Final = 6


@dataclass(slots=True)
class Measured:
    """Everything a run measured, round by round."""

    rounds: dict[tuple[str, int], list[Round]] = field(default_factory=dict)
    fdatasync_ms: list[float] = field(default_factory=list)

    def add(self, contender: str, concurrency: int, measured: Round) -> None:
        """Keep one round."""
        self.rounds.setdefault((contender, concurrency), []).append(measured)

    def per_second(self, contender: str, concurrency: int) -> float | None:
        """Give the median of the rounds, or None if there were none."""
        rounds = self.rounds.get((contender, concurrency))
        return median(one.per_second for one in rounds) if rounds else None

    def p50_ms(self, contender: str, concurrency: int) -> float | None:
        """Give the median of the rounds' medians, or None if there were none."""
        rounds = self.rounds.get((contender, concurrency))
        return median(one.p50_ms for one in rounds) if rounds else None


def figures(measured: Measured) -> list[str]:
    """Write one line for each contender and concurrency: medians over the rounds."""
    lines = [f"{'median of rounds':28}{'callers':>8}{'calls/s':>10}{'p50 ms':>9}{'p99 ms':>9}"]
    for (contender, concurrency), rounds in sorted(measured.rounds.items()):
        per_second = median(one.per_second for one in rounds)
        p50 = median(one.p50_ms for one in rounds)
        p99 = median(one.p99_ms for one in rounds)
        lines.append(f"{contender:28}{concurrency:>8}{per_second:>10,.0f}{p50:>9.2f}{p99:>9.2f}")
    lines.append(f"{'fdatasync, 4 KiB':28}{'':>18}{median(measured.fdatasync_ms):>9.3f}")
    return lines


def goals(measured: Measured) -> list[str]:
    """Write one line for each goal: ours, the baseline, the ratio, and what it should be."""
    sync = median(measured.fdatasync_ms)
    echo_p50 = measured.p50_ms(PINNED_ECHO, ALONE)
    rows: Sequence[tuple[str, float | None, float | None, str]] = [
        (
            "plans/s, 32 callers ÷ pinned mTLS echo",
            measured.per_second(OURS, BUSY),
            measured.per_second(PINNED_ECHO, BUSY),
            "≥ 0.35",
        ),
        (
            "plans/s, 32 callers ÷ free plain echo",
            measured.per_second(OURS, BUSY),
            measured.per_second(FREE_PLAIN_ECHO, BUSY),
            "≥ 0.9",
        ),
        (
            "p50 ms, 1 caller ÷ (echo + 6 fdatasync)",
            measured.p50_ms(OURS, ALONE),
            echo_p50 + SYNCS_IN_A_PLAN * sync if echo_p50 is not None else None,
            "≤ 1.5",
        ),
        (
            "echo/s, 32 callers, mTLS ÷ plain",
            measured.per_second(PINNED_ECHO, BUSY),
            measured.per_second(PINNED_PLAIN_ECHO, BUSY),
            "≥ 0.93",
        ),
    ]
    lines = [f"{'goal':42}{'ours':>10}{'baseline':>10}{'ratio':>7}  goal"]
    for name, ours, baseline, goal in rows:
        if ours is None or baseline is None:
            lines.append(f"{name:42}{'not measured':>27}  {goal}")
        else:
            lines.append(
                f"{name:42}{ours:>10,.2f}{baseline:>10,.2f}{ours / baseline:>7.2f}  {goal}"
            )
    return lines
