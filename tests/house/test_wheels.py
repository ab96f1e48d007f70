"""Each wheel is whole without the others, on its own declared dependencies.

Nothing is downloaded: a wheel is unpacked beside links to exactly the installed distributions that
it declares, and runs there in an interpreter that sees nothing else.
"""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import PACKAGES, ROOT, STUBS

MEGABYTE = 1_000_000
# gRPC, cryptography and SQLite make up 45 of them. Bytecode, which Python writes, is not counted.
STAGE4_MEGABYTES_AT_MOST = 64

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Service:
    """A wheel, what must be in it and what must not."""

    name: str
    package: str
    others: tuple[str, ...]
    stubs: frozenset[str]
    has_command: bool = True

    @property
    def project(self) -> Path:
        """Return the folder of the wheel's own pyproject.toml."""
        return ROOT / "packaging" / self.name


STAGE3 = Service(
    "stage3",
    "stage3_service",
    ("stage4_service", "stagegate_domain"),
    frozenset(
        f"stagegate/{path}"
        for path in (
            "domain/v1/domain_service",
            "error/v1/plan_outcome",
            "plan/v1/plan",
            "stage3/v1/audit_service",
            "stage3/v1/operator_service",
            "stage3/v1/plan_execution_service",
            "stage3/v1/token_service",
        )
    ),
)
STAGE4 = Service(
    "stage4",
    "stage4_service",
    ("stage3_service", "stagegate_domain"),
    frozenset(
        f"stagegate/{path}"
        for path in (
            "error/v1/plan_outcome",
            "plan/v1/plan",
            "stage3/v1/plan_execution_service",
            "stage4/v1/plan_service",
        )
    ),
)
DOMAIN = Service(
    "domain",
    "stagegate_domain",
    ("stage3_service", "stage4_service"),
    frozenset({"stagegate/domain/v1/domain_service"}),
    has_command=False,  # the program is its author's
)
SERVICES = pytest.mark.parametrize(
    "service", [STAGE3, STAGE4, DOMAIN], ids=lambda service: service.name
)
COMMANDS = pytest.mark.parametrize("service", [STAGE3, STAGE4], ids=lambda service: service.name)


def declared(project: Path) -> list[Requirement]:
    """Return the runtime dependencies of a pyproject.toml."""
    lines = tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    return [Requirement(line) for line in lines]


def extras(project: Path) -> list[Requirement]:
    """Return the optional dependencies of a pyproject.toml."""
    named = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    groups = named.get("optional-dependencies", {}).values()
    return [Requirement(line) for lines in groups for line in lines]


def closure(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """Return what pip would install for `requirements` on this platform, without extras."""
    found: dict[str, Distribution] = {}
    pending = list(requirements)
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found[name] = distribution(name)
            pending += [Requirement(line) for line in found[name].requires or ()]
    return found


@cache
def built_wheel(service: Service, folder: Path) -> Path:
    """Build the service's wheel into `folder` and return it."""
    subprocess.run(
        [
            Path(sys.executable).with_name("hatchling"),
            *("build", "--target", "wheel", "--directory", folder),
        ],
        cwd=service.project,
        capture_output=True,
        check=True,
    )
    (wheel,) = folder.glob(f"stagegate_{service.name}-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder this module's wheels are built into."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture
def installed(tmp_path: Path, wheels: Path, request: pytest.FixtureRequest) -> Path:
    """Return a folder with the unpacked wheel and what it declares, and nothing else."""
    service: Service = request.getfixturevalue("service")
    install(service, declared(service.project), wheels, tmp_path)
    return tmp_path


def install(
    service: Service, requirements: Iterable[Requirement], wheels: Path, folder: Path
) -> None:
    """Unpack the wheel and what it requires into a folder."""
    with zipfile.ZipFile(built_wheel(service, wheels)) as wheel:
        wheel.extractall(folder)
    for needed in closure(requirements).values():
        for file in needed.files or ():
            if file.suffix == ".pyc" or ".." in file.parts:
                continue
            link = folder / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(str(needed.locate_file(file)))


def run_alone(installed: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `program` with the standard library and `installed` only: no site-packages, no tree."""
    return subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-B", "-c"),
            f"import sys; sys.path.append({str(installed)!r})\n{program}",
            *arguments,
        ],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )


@SERVICES
def test_the_wheel_holds_the_kit_the_service_and_its_own_stubs(
    service: Service, wheels: Path
) -> None:
    """Every module of kit and service is there, the stubs it speaks, metadata, nothing else."""
    with zipfile.ZipFile(built_wheel(service, wheels)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    for package in ("servicekit", service.package):
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert modules <= names
        names -= modules
    stubs = {
        path.relative_to(STUBS).as_posix()
        for stub in service.stubs
        for path in (STUBS / stub).parent.glob(f"{Path(stub).name}_pb2*")
    }
    assert stubs <= names
    assert {
        name for name in names - stubs if not name.startswith(("servicekit/", service.package))
    } == set()


@SERVICES
def test_the_wheel_holds_nothing_of_the_other_service(service: Service, wheels: Path) -> None:
    """No file of another service, of the tests or of a cache is shipped."""
    with zipfile.ZipFile(built_wheel(service, wheels)) as wheel:
        names = wheel.namelist()

    assert [name for name in names if name.startswith(service.others)] == []
    assert [name for name in names if re.search(r"(^|/)tests?/|__pycache__|\.pyc$", name)] == []


@SERVICES
def test_the_wheel_is_conventional(service: Service, wheels: Path) -> None:
    """Pure Python, one entry point or none, the licence, the version of the development root."""
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    path = built_wheel(service, wheels)
    info = f"stagegate_{service.name}-{root['version']}.dist-info"
    with zipfile.ZipFile(path) as wheel:
        metadata = wheel.read(f"{info}/METADATA").decode()
        named = f"{info}/entry_points.txt"
        entry_points = wheel.read(named).decode() if named in wheel.namelist() else ""
        licence = wheel.read(f"{info}/licenses/LICENSE")

    assert path.name == f"stagegate_{service.name}-{root['version']}-py3-none-any.whl"
    assert f"Requires-Python: {root['requires-python']}\n" in metadata
    command = f"{service.name} = {service.package}.__main__:main"
    assert [line for line in entry_points.split("\n") if "=" in line] == (
        [command] if service.has_command else []
    )
    assert licence == (ROOT / "LICENSE").read_bytes()


IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
for top in {tops}:
    package = importlib.import_module(top)
    for found in pkgutil.walk_packages(package.__path__, top + '.'):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as missing:
            if not found.name.startswith({optional!r}) or missing.name.split('.')[0] not in {extra}:
                raise
assert not any(importlib.util.find_spec(other) for other in {others})
print(len(sys.modules))
"""
NEEDS_EXTRA = "stage3_service.adapters.mcp."
OF_EXTRA = ("anyio", "httpx2", "mcp", "mcp_types")


@SERVICES
def test_every_module_of_the_wheel_imports_on_what_it_declares(
    service: Service, installed: Path
) -> None:
    """No module needs an undeclared distribution, and the other service cannot be imported. Only
    the door to MCP servers may need the extra that is named for it.
    """
    tops = ("servicekit", service.package, "stagegate")
    answer = run_alone(
        installed,
        IMPORT_ALL.format(tops=tops, optional=NEEDS_EXTRA, extra=OF_EXTRA, others=service.others),
    )

    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 100, "no modules were imported: this test looked at nothing"


def test_every_module_imports_with_the_extra(tmp_path: Path, wheels: Path) -> None:
    """Nothing is missing from what `stagegate-stage3[mcp]` declares."""
    wanted = [*declared(STAGE3.project), *extras(STAGE3.project)]
    install(STAGE3, wanted, wheels, tmp_path)
    tops = ("servicekit", STAGE3.package)
    answer = run_alone(
        tmp_path, IMPORT_ALL.format(tops=tops, optional="none", extra=(), others=STAGE3.others)
    )

    assert answer.returncode == 0, answer.stderr


@COMMANDS
def test_the_command_line_answers_from_the_wheel_alone(service: Service, installed: Path) -> None:
    """`--help` exits with 0 and names the program."""
    answer = run_alone(
        installed,
        f"sys.argv[0] = '{service.name}'\nfrom {service.package}.__main__ import main\nmain()",
        "--help",
    )

    assert answer.returncode == 0, answer.stderr
    assert service.name in answer.stdout


def test_stage4_needs_little_and_nothing_of_stage3s() -> None:
    """Stage-4's dependencies are a subset, without schemas, of about 60 MB in all."""
    needed = closure(declared(STAGE4.project))
    size = sum(
        Path(str(one.locate_file(file))).stat().st_size
        for one in needed.values()
        for file in one.files or ()
        if file.suffix != ".pyc" and Path(str(one.locate_file(file))).is_file()
    )

    assert "jsonschema-rs" not in needed
    assert size <= STAGE4_MEGABYTES_AT_MOST * MEGABYTE, f"{size / MEGABYTE:.1f} MB"


def test_the_development_root_declares_what_the_wheels_declare() -> None:
    """One list per wheel, and their union at the root: same names, same bounds."""
    wheels = {
        str(line) for service in (STAGE3, STAGE4, DOMAIN) for line in declared(service.project)
    }

    assert {str(line) for line in declared(ROOT)} == wheels


@SERVICES
def test_no_declared_dependency_is_unused(service: Service) -> None:
    """What a wheel makes people install, a module of it imports."""
    imported = {
        match[1]
        for package in ("servicekit", service.package)
        for path in (ROOT / package).rglob("*.py")
        for match in re.finditer(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    unused = [
        requirement.name
        for requirement in declared(service.project)
        if not {file.parts[0] for file in distribution(requirement.name).files or ()} & imported
    ]

    assert set(PACKAGES) & imported
    assert unused == []
