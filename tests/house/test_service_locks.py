"""What an image installs is what this tree was tested with, and all that its service declares."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import ROOT

LOCKS = sorted(ROOT.glob("packaging/**/*.lock"))
ENTRY = re.compile(
    r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def entries(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Return version and hashes of each pin."""
    return {
        name: (version, frozenset(re.findall(r"sha256:([0-9a-f]{64})", hashes)))
        for name, version, hashes in ENTRY.findall(lock.read_text())
    }


def test_there_is_a_lock_for_each_service_and_for_the_build() -> None:
    """The rules below speak about all of them."""
    assert [path.relative_to(ROOT / "packaging").as_posix() for path in LOCKS] == [
        "build.lock",
        "domain/requirements.lock",
        "stage3/requirements.lock",
        "stage4/requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: f"{lock.parent.name}-{lock.stem}")
def test_every_pin_is_the_roots(lock: Path) -> None:
    """The same version with the same hashes as in requirements.lock, and no address."""
    root = entries(ROOT / "requirements.lock")
    pins = entries(lock)

    assert pins
    assert pins.items() <= root.items()
    assert re.search(r"://|--(extra-)?index|--find-links|-f |@ ", lock.read_text()) is None
    assert len(pins) == lock.read_text().count("==")


@pytest.mark.parametrize("service", ["stage3", "stage4", "domain"])
def test_a_lock_holds_all_that_its_service_declares(service: str) -> None:
    """Each declared dependency is pinned to a version that its declaration allows."""
    folder = ROOT / "packaging" / service
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    pins = entries(folder / "requirements.lock")

    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)][0])
