"""What is in the images, what is not, and how large they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.compose.engine import Engine
from tests.compose.marks import COMPOSED
from tests.compose.stack import ROOT

pytestmark = COMPOSED

BASE = "python:3.11-slim-bookworm"
STAGE4_MEGABYTES_ABOVE_BASE = 150
LISTING = """
import importlib.util, json, os, pathlib, sys
print(json.dumps({
    "files": [str(p) for p in pathlib.Path("/").rglob("*") if "stage" in str(p)
              and p.is_file() and not str(p).startswith(("/proc", "/sys"))],
    "modules": {name: importlib.util.find_spec(name) is not None for name in
                ("stage3_service", "stage4_service", "stagegate_domain",
                 "servicekit", "pip", "jsonschema_rs")},
    "user": os.getuid(),
    "keys": [str(p) for p in pathlib.Path("/").rglob("*.key") if not str(p).startswith("/proc")],
}))
"""


def look_into(engine: Engine, image: str) -> dict[str, Any]:
    """Run a listing inside the image, with the rights that the service has."""
    told = engine.run(
        *("docker", "run", "--rm", "--read-only", "--network", "none", "--cap-drop", "ALL"),
        *("--entrypoint", "python", image, "-c", LISTING),
    )
    found: dict[str, Any] = json.loads(told)
    return found


def traces(found: Mapping[str, Any]) -> set[str]:
    """Return the files of Stage-3's package, its distribution and its command."""
    names = re.compile(r".*/(stage3_service|stagegate_stage3[^/]*|bin/stage3)(/.*)?")
    return {path for path in found["files"] if names.fullmatch(path)}


def stubs(found: Mapping[str, Any]) -> set[str]:
    """Return the modules that speak to Stage-3."""
    place = "/site-packages/stagegate/stage3/v1/"
    return {Path(path).stem for path in found["files"] if place in path and path.endswith(".py")}


def size(engine: Engine, image: str) -> float:
    """Return an image's size in megabytes."""
    return int(engine.run("docker", "image", "inspect", "-f", "{{.Size}}", image)) / 1e6


def test_stage4_holds_nothing_of_stage3(engine: Engine, images: dict[str, float]) -> None:
    """No package, no file and no command of Stage-3; the control finds all of them in Stage-3's."""
    stage4 = look_into(engine, "stagegate-stage4")
    stage3 = look_into(engine, "stagegate-stage3")

    assert stage4["modules"] == {
        "stage3_service": False,
        "stagegate_domain": False,
        "stage4_service": True,
        "servicekit": True,
        "pip": False,
        "jsonschema_rs": False,
    }
    assert traces(stage4) == set()
    assert stubs(stage4) == {"plan_execution_service_pb2", "plan_execution_service_pb2_grpc"}
    assert stage3["modules"] == {
        "stage3_service": True,
        "stagegate_domain": False,
        "stage4_service": False,
        "servicekit": True,
        "pip": False,
        "jsonschema_rs": True,
    }
    assert traces(stage3) >= {"/opt/stagegate/bin/stage3"}
    assert stubs(stage3) > stubs(stage4)


@pytest.mark.parametrize(
    ("image", "user"), [("stage3", 10003), ("stage4", 10004), ("domain", 10005)]
)
def test_an_image_runs_as_its_own_user_and_keeps_no_key(
    engine: Engine, images: dict[str, float], image: str, user: int
) -> None:
    """The uid is fixed and not root's, and no private key was built in."""
    found = look_into(engine, f"stagegate-{image}")
    config = json.loads(engine.run("docker", "image", "inspect", f"stagegate-{image}"))[0]["Config"]

    assert found["user"] == user
    assert found["keys"] == []
    assert config["User"] == f"{user}:{user}"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["/opt/stagegate/bin/service"]


def test_sizes(
    engine: Engine, images: dict[str, float], record_property: Callable[[str, object], None]
) -> None:
    """Stage-4 adds at most 150 MB to its base."""
    base = size(engine, BASE)
    for service, took in images.items():
        above = size(engine, f"stagegate-{service.removesuffix('-example')}") - base
        record_property(
            "figure",
            f"image of {service}: "
            f"{above:.0f} MB above its base of {base:.0f} MB, built in {took:.0f} s",
        )

    assert size(engine, "stagegate-stage4") - base <= STAGE4_MEGABYTES_ABOVE_BASE


def test_the_dockerfile_is_clean() -> None:
    """Hadolint finds nothing; what is ignored says so in the file."""
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    assert hadolint is not None, "hadolint is missing: `make compose-test` installs it"

    found = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stdout) == (0, "")
