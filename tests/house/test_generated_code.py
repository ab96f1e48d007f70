"""Generated code fits the run time it is imported by.

Gencode newer than its run time fails at import, on somebody else's machine. Whether the stubs are
current is checked by `make check`, which regenerates and compares.
"""

import importlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.house.tree import ROOT, STUBS

MESSAGES = sorted(STUBS.rglob("*_pb2.py"))
SERVICES = sorted(STUBS.rglob("*_pb2_grpc.py"))
PROTOS = sorted((ROOT / "protos" / "stagegate").rglob("*.proto"))


def numbers(text: str) -> tuple[int, ...]:
    """Return the version's numbers."""
    return tuple(int(number) for number in text.split("."))


def test_every_proto_has_its_stubs() -> None:
    """One messages module per proto, and no module whose proto is gone."""
    expected = {
        path.relative_to(ROOT / "protos").with_suffix("").as_posix() + "_pb2.py" for path in PROTOS
    }

    assert {path.relative_to(STUBS).as_posix() for path in MESSAGES} == expected


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_messages_fit_the_protobuf_runtime(path: Path) -> None:
    """The gencode is of the runtime's major version and not newer than the runtime."""
    match = re.search(r"^# Protobuf Python Version: ([\d.]+)$", path.read_text(), re.MULTILINE)
    assert match is not None
    gencode, runtime = numbers(match[1]), numbers(version("protobuf"))

    assert gencode[0] == runtime[0]
    assert gencode <= runtime


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_services_fit_the_grpc_runtime(path: Path) -> None:
    """The gencode was made by the generator of exactly the gRPC release it runs on."""
    match = re.search(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", path.read_text(), re.MULTILINE)
    assert match is not None

    assert match[1] == version("grpcio") == version("grpcio-tools")


@pytest.mark.parametrize("path", MESSAGES + SERVICES, ids=lambda path: path.stem)
def test_stubs_import_under_their_proto_package(path: Path) -> None:
    """Directory, proto package and Python import path are one name."""
    name = ".".join(path.relative_to(STUBS).with_suffix("").parts)

    assert importlib.import_module(name).__name__ == name


def test_no_service_module_without_a_service() -> None:
    """The generator's empty service modules are not kept."""
    empty = [
        path.name
        for path in SERVICES
        if not re.search(r"^class \w+Stub\b", path.read_text(), re.MULTILINE)
    ]

    assert empty == []
