"""The import contracts hold, and each of them can break.

A contract that no violation breaks is decoration. Every kind of violation is planted by hand in a
copy of the tree, alone, and must break exactly the contract that forbids it.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house.tree import PACKAGES, ROOT, STUBS


def check_contracts(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter in `tree` over the named contracts, or over all of them."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--no-cache",
            "--no-logo",
            *(f"--contract={contract}" for contract in contracts),
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{STUBS}"},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Violation:
    """One forbidden line, the module it is planted in and the contract it must break."""

    contract: str
    module: str
    line: str
    named: str


VIOLATIONS = {
    "stage3: a rule calls the story": Violation(
        "stage3-layers",
        "stage3_service/plan/planted.py",
        "import stage3_service.execution.execute_plan",
        "stage3_service.plan.planted",
    ),
    "stage3: siblings meet outside a story": Violation(
        "stage3-layers",
        "stage3_service/domains/planted.py",
        "import stage3_service.authorization.gate",
        "stage3_service.domains.planted",
    ),
    "stage3: a door looks at another door": Violation(
        "stage3-layers",
        "stage3_service/adapters/planted.py",
        "import stage3_service.store",
        "stage3_service.adapters.planted",
    ),
    "stage3: a module without a place": Violation(
        "stage3-layers", "stage3_service/planted.py", "", "planted"
    ),
    "stage4: the validator calls the story": Violation(
        "stage4-layers",
        "stage4_service/json_rule.py",
        "import stage4_service.orchestrator",
        "stage4_service.json_rule",
    ),
    "stage4: the story opens a store": Violation(
        "stage4-layers",
        "stage4_service/orchestrator.py",
        "import stage4_service.store.sqlite_journal",
        "stage4_service.orchestrator",
    ),
    "stage4: a module without a place": Violation(
        "stage4-layers", "stage4_service/planted.py", "", "planted"
    ),
    "kit: the tree of hashes opens the store": Violation(
        "servicekit-layers",
        "servicekit/tlog/planted.py",
        "import servicekit.store.ledger",
        "servicekit.tlog.planted",
    ),
    "kit: a module without a place": Violation(
        "servicekit-layers", "servicekit/planted.py", "", "planted"
    ),
    "stage4 imports stage3": Violation(
        "services-independent",
        "stage4_service/store/planted.py",
        "import stage3_service.errors",
        "stage4_service.store.planted",
    ),
    "stage3 imports stage4": Violation(
        "services-independent",
        "stage3_service/store/planted.py",
        "import stage4_service.errors",
        "stage3_service.store.planted",
    ),
    "a domain imports stage3": Violation(
        "services-independent",
        "stagegate_domain/planted.py",
        "import stage3_service.errors",
        "stagegate_domain.planted",
    ),
    "a domain's declarations speak gRPC stubs": Violation(
        "stubs-protected",
        "stagegate_domain/service.py",
        "import stagegate.domain.v1.domain_service_pb2",
        "stagegate_domain.service",
    ),
    "the builtin adapters speak gRPC stubs": Violation(
        "stubs-protected",
        "stage3_service/adapters/builtin/planted.py",
        "import stagegate.domain.v1.domain_service_pb2",
        "stage3_service.adapters.builtin.planted",
    ),
    "the kit imports a service": Violation(
        "servicekit-knows-no-service",
        "servicekit/serving/planted.py",
        "import stage3_service.errors",
        "servicekit.serving.planted",
    ),
    "the kit imports generated code": Violation(
        "servicekit-knows-no-service",
        "servicekit/serving/planted.py",
        "import stagegate.plan.v1.plan_pb2",
        "servicekit.serving.planted",
    ),
    "the store imports generated code": Violation(
        "stubs-protected",
        "stage3_service/store/planted.py",
        "import stagegate.plan.v1.plan_pb2",
        "stage3_service.store.planted",
    ),
    "a room reads the clock": Violation(
        "rooms-without-io",
        "stage3_service/tokens/planted.py",
        "import time",
        "stage3_service.tokens.planted",
    ),
    "a room speaks gRPC": Violation(
        "rooms-without-io",
        "stage3_service/authorization/planted.py",
        "import grpc",
        "stage3_service.authorization.planted",
    ),
    "a room opens a database": Violation(
        "rooms-without-io",
        "stage3_service/audit/planted.py",
        "import sqlite3",
        "stage3_service.audit.planted",
    ),
    "a room imports only for the type checker": Violation(
        "rooms-without-io",
        "stage3_service/domains/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import threading",
        "stage3_service.domains.planted",
    ),
    "a room hides an import in a function": Violation(
        "rooms-without-io",
        "stage4_service/audit.py",
        "def planted() -> None:\n    import uuid",
        "stage4_service.audit",
    ),
    "a room reaches the world through the kit": Violation(
        "rooms-without-io",
        "stage3_service/execution/planted.py",
        "import servicekit.process",
        "stage3_service.execution.planted",
    ),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a private copy of the packages and of the contracts."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_contract_is_kept() -> None:
    """The tree as it stands breaks no import contract."""
    verdict = check_contracts(ROOT)

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_planted_violation_breaks_its_contract(tree: Path, violation: Violation) -> None:
    """One forbidden import fails the contract that forbids it, and the report names the module."""
    with (tree / violation.module).open("a", encoding="utf-8") as module:
        module.write(f"\n{violation.line}\n")

    verdict = check_contracts(tree, violation.contract)

    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    assert "BROKEN" in verdict.stdout
    assert violation.named in verdict.stdout
