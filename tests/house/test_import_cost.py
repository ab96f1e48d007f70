"""What an import loads: Stage-4's four names the standard library, a command line little more."""

import json
import subprocess
import sys

import pytest

from tests.house.tree import ROOT, STUBS

FIRST_PARTY = {"stage4_service", "servicekit"}
# Each costs tens of milliseconds or more; `--help` and shell completion need none of them.
HEAVY = {"apsw", "cryptography", "google", "grpc", "jsonschema_rs", "pydantic", "structlog"}


def loaded_by(module: str) -> set[str]:
    """Return the top-level names that importing `module` adds to a fresh interpreter."""
    program = (
        "import json, sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(STUBS)!r}]\n"
        "before = set(sys.modules)\n"
        f"import {module}\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    names: list[str] = json.loads(answer.stdout)
    return set(names)


def test_stage4s_four_names_load_the_standard_library_only() -> None:
    """A plan can be validated wherever Python runs: no third-party module is imported."""
    foreign = loaded_by("stage4_service") - sys.stdlib_module_names - FIRST_PARTY

    assert foreign == set()


@pytest.mark.parametrize(
    "module",
    [
        "stage3_service.__main__",
        "stage3_service.cli",
        "stage4_service.__main__",
        "stage4_service.cli",
    ],
)
def test_a_command_line_starts_light(module: str) -> None:
    """Help and completion answer without gRPC, protobuf, pydantic or cryptography."""
    assert loaded_by(module) & HEAVY == set()


def test_the_measure_sees_what_an_import_loads() -> None:
    """The control: a module that does import gRPC is seen to."""
    assert "grpc" in loaded_by("servicekit.serving.server")
