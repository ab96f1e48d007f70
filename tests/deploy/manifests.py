"""Manifests as data: rendered offline, validated offline.

Deliberately absent: a cluster. What a manifest says is tested here, what packets do is tested on
the composed pair.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KUSTOMIZATIONS = ("base", "overlays/example", "overlays/example-first-start")


def tool(name: str) -> str:
    """Return where a tool of tests/deploy/requirements.lock is."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} is missing: `make test` and `make compose-test` install it"
    return found


@cache
def rendered(kustomization: str) -> str:
    """Return what would be applied, as YAML."""
    command = [tool("kubectl"), "kustomize", str(ROOT / "deploy/k8s" / kustomization)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML text."""
    # Not a dependency of the services, so not one that the type checker finds.
    yaml: Any = import_module("yaml")
    return list(yaml.safe_load_all(text))


def of_kind(kustomization: str, *kinds: str) -> list[dict[str, Any]]:
    """Return the rendered objects of these kinds."""
    return [each for each in documents(rendered(kustomization)) if each["kind"] in kinds]


def pods(kustomization: str) -> list[dict[str, Any]]:
    """Return the pod template of everything that runs."""
    return [each["spec"]["template"] for each in of_kind(kustomization, "StatefulSet", "Job")]


def compose() -> dict[str, Any]:
    """Return compose.yaml, anchors resolved and variables as they are written."""
    (document,) = documents((ROOT / "compose.yaml").read_text())
    return document


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Validate a file against the schemas that the validator carries, unknown fields refused."""
    command: Sequence[str] = [tool("kubernetes-validate"), "--strict", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
