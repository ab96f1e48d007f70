"""The installed set is one set: no file has two owners, and the lock pins what is declared."""

import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import ROOT


def pinned() -> dict[str, str]:
    """Return name and version of each pin in the lock."""
    lock = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))


def declared() -> list[Requirement]:
    """Return what the development root asks for, tools included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(line)
        for line in project["dependencies"] + project["optional-dependencies"]["dev"]
    ]


def test_no_installed_file_has_two_owners() -> None:
    """Two distributions that write one file overwrite each other by order of installation."""
    owners: dict[Path, set[str]] = defaultdict(set)
    for distribution in distributions(path=[p for p in sys.path if p.endswith("site-packages")]):
        for file in distribution.files or ():
            path = Path(os.path.normpath(str(distribution.locate_file(file))))
            owners[path].add(distribution.name)

    assert len(owners) > 1000, "no installed files were found: this test looked at nothing"
    assert {path: names for path, names in owners.items() if len(names) > 1} == {}


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_the_lock_satisfies_what_is_declared(requirement: Requirement) -> None:
    """Every declared dependency is pinned to a version its declaration allows."""
    pin = pinned().get(canonicalize_name(requirement.name))

    assert pin is not None
    assert requirement.specifier.contains(pin)


def test_the_environment_is_the_locks() -> None:
    """These tests speak about the versions the lock names, not about others."""
    installed = {name: version(name) for name in pinned()}

    assert installed == pinned()


@pytest.mark.parametrize(
    "module",
    ["servicekit", "stage3_service", "stage4_service", "stagegate.plan.v1.plan_pb2"],
)
def test_this_tree_is_what_is_imported(module: str) -> None:
    """The editable installation leads here: no copy in site-packages stands before the source."""
    answer = subprocess.run(
        [sys.executable, "-I", "-c", f"import {module} as m; print(m.__file__)"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"{ROOT}/")
    assert "site-packages" not in answer.stdout


def test_every_pin_is_hashed_and_names_no_address() -> None:
    """The lock says what a file must be, and leaves it to pip's configuration where to get it."""
    for lock in (ROOT / "requirements.lock", ROOT / "tests/system/node/requirements.lock"):
        text = lock.read_text()
        entries = re.split(r"\n(?=\S)", text.strip())

        assert all("--hash=sha256:" in entry for entry in entries)
        assert re.search(r"://|--(extra-)?index|--find-links|-f |@ ", text) is None


def test_the_foreign_clients_lock_names_no_address() -> None:
    """The Node packages are pinned by integrity alone."""
    text = (ROOT / "tests/system/node/package-lock.json").read_text()

    assert '"integrity": "sha512-' in text
    assert '"resolved"' not in text
