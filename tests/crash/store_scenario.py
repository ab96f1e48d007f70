"""What one Stage-3 is asked to do while its disk is under test: every kind of commit, in order.

Admission, starts, settlements, a revocation, a refusal, and a checkpoint of the database between
them. What was told is noted as it is told, beside what had happened in the world.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from servicekit.store.errors import StoreError
from servicekit.store.writer import _FULL_WAL_PAGES
from stage3_service.bootstrap import build_stage3
from tests.fakes.domains import TrialDomain, trial_domain
from tests.harness.pki import pki
from tests.harness.stage3 import Stage3UnderTest, stage3_settings, step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servicekit.store.ledger import Ledger
    from stage3_service.bootstrap import Stage3

SCOPE = {"trial": ("effect", "fail")}
EFFECT, FAIL = step("trial", "effect"), step("trial", "fail")
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Two credentials: one that is used, one that is revoked in between."""

    good: str
    doomed: str
    doomed_id: str


@dataclass(slots=True)
class Told:
    """Hold what clients and operators were told, by plan, and whether the revocation was."""

    outcomes: dict[str, str] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)
    revoked: bool = False


@contextmanager
def serving(
    home: Path, vfs: str | None, *, commit_timeout_s: float = 20.0
) -> Iterator[tuple[Stage3, Stage3UnderTest, TrialDomain]]:
    """Run Stage-3 over the state below `home`; its end does not wait for a disk that hangs."""
    extra, domain = trial_domain()
    service = build_stage3(
        stage3_settings(home, commit_timeout_s=commit_timeout_s), extra_domains=[extra], vfs=vfs
    )
    service.start()
    under_test = Stage3UnderTest(service, pki())
    try:
        yield service, under_test, domain
    finally:
        under_test.close()
        service.stop(0.2)


def play(service: Stage3, stage3: Stage3UnderTest, tokens: Tokens, told: Told) -> None:
    """Do all of it, whatever is refused on the way."""
    for name, token, steps in (
        ("a", tokens.good, [EFFECT, EFFECT]),
        ("b", tokens.doomed, [EFFECT]),
        ("revoke", "", []),
        ("c", tokens.doomed, [EFFECT]),
        ("checkpoint", "", []),
        ("d", tokens.good, [EFFECT, FAIL]),
    ):
        if name == "revoke":
            try:
                stage3.revoke(tokens.doomed_id)
            except grpc.RpcError:
                continue
            told.revoked = True
        elif name == "checkpoint":
            checkpoint(service._ledger)
        else:
            ids: dict[str, Any] = {"plan_id": f"plan-{name}", "request_id": f"request-{name}"}
            told.requests[f"plan-{name}"] = stage3.request(token, steps, **ids)
            answer = stage3.send(told.requests[f"plan-{name}"])
            told.outcomes[f"plan-{name}"] = answer.kind


def checkpoint(ledger: Ledger) -> None:
    """Let the writer copy its write-ahead log as if that were long, and wait for it like a plan."""

    def grow(_turn: object) -> None:
        ledger._writer._wal_pages = _FULL_WAL_PAGES

    with suppress(StoreError):
        ledger.commit(grow)
        # Its turn comes after the copy, or never if the disk hangs meanwhile.
        ledger.commit(lambda _turn: None)
