"""The pages say what the code says: each closed list, each default, each path of this tree.

Deliberately absent: judgement of prose. A page may explain in any words; what it lists is compared.
"""

import ast
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from glob import has_magic
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from servicekit.canonical_json import canonicalize
from servicekit.process import ExitCode
from servicekit.store import errors as store_errors
from stage3_service import errors as stage3_errors
from stage3_service.audit.event import EventType, Status
from stage3_service.authorization.authority import OBSERVABLE_AT
from stage3_service.authorization.gate import Denial, DenialReason
from stage3_service.cli.application import app as stage3_app
from stage3_service.settings import Stage3Settings
from stage3_service.wire import status as stage3_status
from stage4_service import audit as stage4_audit
from stage4_service import errors as stage4_errors
from stage4_service.cli.application import app as stage4_app
from stage4_service.settings import Stage4Settings
from stage4_service.wire import status as stage4_status
from stagegate_domain.settings import DomainSettings
from tests.house.tree import PACKAGES, ROOT, modules, parsed, shown, source_files

PAGES = tuple(
    path for path in source_files() if path.suffix == ".md" and shown(path) != "CHANGELOG.md"
)
TOP_LEVEL = {shown(path).split("/")[0] for path in source_files()}
Row = tuple[str, ...]


def section(page: str, heading: str) -> str:
    """Return the text below a heading of the second level, up to the next one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"{page} has no section {heading!r}"
    return rest.partition("\n## ")[0]


def rows(page: str, heading: str) -> list[Row]:
    """Return the rows of every table in a section, without the tables' heads."""
    tables = re.findall(r"(?:^\|.*\|\n)+", section(page, heading), re.MULTILINE)
    return [
        tuple(cell.strip() for cell in line.strip("|\n").split("|"))
        for table in tables
        for line in table.splitlines()[2:]
    ]


def names(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def first_names(page: str, heading: str) -> list[str]:
    """Return the names in the first column of a section's tables."""
    return [name for row in rows(page, heading) for name in names(row[0])]


def values(*enums: type[Enum]) -> set[str]:
    """Return the values of these enumerations."""
    return {str(member.value) for each in enums for member in each}


def test_every_reason_is_explained_with_its_code_and_its_services() -> None:
    """docs/errors.md lists the union of both taxonomies, and for each the code that is sent."""
    expected: dict[str, tuple[str, list[str]]] = {}
    for number, taxonomy, table in (
        ("3", stage3_errors.Reason, stage3_status.STATUSES),
        ("4", stage4_errors.Reason, stage4_status.STATUSES),
    ):
        for reason in taxonomy:
            code, services = expected.get(reason.value, (table.codes[reason].name, []))
            assert code == table.codes[reason].name, reason
            expected[reason.value] = (code, [*services, number])
    written = {
        names(row[0])[0]: (row[1], row[2].split(", ")) for row in rows("docs/errors.md", "Reasons")
    }

    assert written == expected


def test_every_reason_that_outcomes_name_exists() -> None:
    """The table of outcomes speaks of reasons that are in the taxonomy."""
    told = {
        name
        for row in rows("docs/errors.md", "Which reason ends which outcome")
        for name in names(row[1])
    }

    assert told <= values(stage3_errors.Reason)


def test_every_exit_code_is_explained() -> None:
    """docs/errors.md lists the numbers and names of servicekit.process.ExitCode."""
    written = {row[0]: names(row[1])[0] for row in rows("docs/errors.md", "Exit codes")}

    assert written == {str(int(code)): code.name for code in ExitCode}


def test_every_reason_of_the_command_line_is_explained() -> None:
    """What commands give as a reason themselves is on the page, with its exit code."""
    written = {
        names(row[0])[0]: set(row[1].split(", "))
        for row in rows("docs/errors.md", "Reasons of the command line")
    }
    given: dict[str, set[str]] = {}
    for reason, code in _command_failures():
        given.setdefault(reason, set()).add(code)
    for error in vars(store_errors).values():
        if isinstance(error, type) and issubclass(error, store_errors.StoreError):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).upper()
            given[name] = {str(error.exit_code)}

    # A plan found invalid without any service has the reason the service would give.
    assert given.pop("PLAN_INVALID") == {"1"}
    assert written == given


def _command_failures() -> Iterator[tuple[str, str]]:
    for path in modules(*PACKAGES):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(
                    func=ast.Name(id="CommandFailed"),
                    args=[ast.Attribute(attr=code), ast.Constant(value=str(reason)), *_],
                ):
                    yield reason, str(int(ExitCode[code]))
                case _:
                    pass


def test_every_event_type_of_stage3_is_specified() -> None:
    """docs/spec/events.md lists the closed vocabulary, and its types with all their statuses."""
    table = [row for row in rows("docs/spec/events.md", "Stage-3: types") if len(row) == 5]

    assert {names(row[0])[0] for row in table} == values(EventType)
    assert {status for row in table for status in row[1].split(", ")} == values(Status)


def test_every_event_comes_from_the_module_that_the_page_names() -> None:
    """The modules that make a type are those in its rows; the vocabulary and the gates aside."""
    table = [row for row in rows("docs/spec/events.md", "Stage-3: types") if len(row) == 5]
    written = {(names(row[0])[0], names(row[2])[0]) for row in table}
    made = {
        (name, shown(path))
        for path in modules("stage3_service")
        if "/execution/" in shown(path)
        for name in re.findall(r"EventType\.([A-Z_]+)", path.read_text(encoding="utf-8"))
    }

    # The gates' own events are chosen by a table; that of gate 5 has no path inside a plan.
    assert made - {("BOUNDARY_VIOLATION", "stage3_service/execution/plan_trail.py")} == written


def test_every_key_in_an_event_is_specified() -> None:
    """The keys that types have are those that the second table explains."""
    table = rows("docs/spec/events.md", "Stage-3: types")
    used = {key for row in table if len(row) == 5 for key in names(row[4])}
    explained = {key for row in table if len(row) == 3 for key in names(row[0])}

    assert used - values(stage3_errors.Reason) == explained


def test_every_precise_reason_of_a_gate_is_specified() -> None:
    """Each has the gate that gives it and the reason that a caller is told."""
    gates = ["token", "scope", "limits", "data_boundary"]
    written = {
        name: (gates[int(row[1]) - 1], names(row[2])[0])
        for row in rows("docs/spec/events.md", "Stage-3: precise reasons")
        for name in names(row[0])
    }
    denials = [Denial(reason, None) for reason in DenialReason]

    assert written == {
        denial.reason.value: (denial.gate.value, denial.public.value) for denial in denials
    }


def test_every_event_type_of_stage4_is_specified() -> None:
    """Events of plans and security records, each in its own table."""
    page = "docs/spec/events.md"

    assert set(first_names(page, "Stage-4: events")) == values(stage4_audit.EventType)
    assert set(first_names(page, "Stage-4: security records")) == values(
        stage4_audit.SecurityRecordType
    )


def test_every_example_of_an_event_is_a_leaf() -> None:
    """Examples are the canonical bytes they claim to be, and show only keys that are explained."""
    page = "docs/spec/events.md"
    examples = re.findall(r"^\{.*\}$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    explained = {
        key for row in rows(page, "Stage-3: types") if len(row) == 3 for key in names(row[0])
    } | {
        key
        for heading in ("Stage-4: events", "Stage-4: security records")
        for row in rows(page, heading)
        for key in names(row[2])
    }

    assert len(examples) > 15
    for example in examples:
        said = json.loads(example)
        assert canonicalize(said) == example.encode()
        assert set(said.get("additional_data", said.get("details"))) <= explained, example


def test_the_example_of_a_digest_has_that_digest() -> None:
    """docs/spec/plan-digest.md computes what it says."""
    text = section("docs/spec/plan-digest.md", "Example")
    found = re.search(
        r"```json\n(.*?)```.*?```canonical\n(.*?)\n```.*?`([0-9a-f]{64})`", text, re.DOTALL
    )
    assert found is not None
    document, canonical, digest = found.groups()
    plan = json.loads(document)
    del plan["token_hash"]

    assert canonicalize(plan) == canonical.encode()
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Stage-3", Stage3Settings),
        ("Stage-4", Stage4Settings),
        ("A domain service", DomainSettings),
    ],
)
def test_every_setting_is_explained_with_its_default(heading: str, model: type[BaseModel]) -> None:
    """docs/settings.md lists every setting of each service, and the default that holds."""
    table = rows("docs/settings.md", heading)
    written = {names(row[0])[0]: row[1].strip("`") for row in table}

    assert written == dict(_settings(model, ""))


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        inner = _section_of(field)
        if inner is None or field.default is None:
            yield prefix + name, _default(field)
        if inner is not None:
            yield from _settings(inner, f"{prefix}{name}.")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "unset" if default is None else json.dumps(default)


def test_every_violation_type_has_its_door_on_the_page() -> None:
    """docs/authority-boundary.md is the table OBSERVABLE_AT, in its order."""
    table = rows("docs/authority-boundary.md", "The table")

    assert [(names(row[0])[0], names(row[1])[0]) for row in table] == [
        (violation.value, door.value) for violation, door in OBSERVABLE_AT.items()
    ]


def test_the_page_shows_the_layers_that_are_enforced() -> None:
    """ARCHITECTURE.md draws the layers of pyproject.toml, name for name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    drawn = " ".join(section("ARCHITECTURE.md", "Which way imports point").split())
    layered = [
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]

    assert len(layered) == 4
    for contract in layered:
        assert " → ".join(contract["layers"]) in drawn, contract["id"]


def paths_named(text: str) -> set[str]:
    """Return what stands in backticks or in a link and reads as a path of this tree."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        name.rstrip("/")
        for name in names(prose)
        if re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*/?", name)
        and name.split("/")[0] in TOP_LEVEL
        and ("/" in name or "." in name)
    }


def missing_paths(text: str) -> set[str]:
    """Return the paths that are named and are not there."""
    return {
        name
        for name in paths_named(text)
        if not (any(ROOT.glob(name)) if has_magic(name) else (ROOT / name).exists())
    }


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_path_a_page_names_exists(page: Path) -> None:
    """A reader who follows a path arrives."""
    text = page.read_text(encoding="utf-8")
    links = {
        target.partition("#")[0]
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if "://" not in target and not target.startswith(("#", "mailto:"))
    }

    assert missing_paths(text) == set()
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_a_path_that_is_not_there_is_found() -> None:
    """The control: a page that names what is gone would fail."""
    assert missing_paths("see `docs/settings.md` and `tests/house/test_*.py`") == set()
    assert missing_paths("see `docs/gone.md` and `servicekit/none/`") == {
        "docs/gone.md",
        "servicekit/none",
    }
    assert missing_paths("see `tests/house/gone_*.py`") == {"tests/house/gone_*.py"}


COMMANDS = {
    "stage3": typer.main.get_command(stage3_app),
    "stage4": typer.main.get_command(stage4_app),
}
TYPED = re.compile(
    r"`((?:stage3|stage4) [^`]+)`|^ *(?:\$ )?((?:stage3|stage4) [a-z].*)$", re.MULTILINE
)


def unknown_words(text: str) -> list[str]:
    """Return the command lines in a page that name a command or an option that is not there."""
    text = text.replace("\\\n", " ")
    return [
        line.strip()
        for quoted, typed in TYPED.findall(text)
        if not _is_known((line := quoted or typed).split())
    ]


def _is_known(words: list[str]) -> bool:
    command: Any = COMMANDS[words[0]]
    rest = words[1:]
    # A group has `commands`; what is no group takes the rest as its own.
    while (inner := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
        if rest[0] not in inner:
            return False
        command, rest = inner[rest[0]], rest[1:]
    options = {name for each in command.params for name in each.opts} | {"--help"}
    return {word.partition("=")[0] for word in rest if word.startswith("--")} <= options


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_a_page_names_exists(page: Path) -> None:
    """What a reader types is a command with these options."""
    assert unknown_words(page.read_text(encoding="utf-8")) == []


def test_a_command_that_is_not_there_is_found() -> None:
    """The control: a command, a subcommand or an option that is gone would fail."""
    assert unknown_words("`stage3 audit verify --head X`") == []
    for gone in ("stage3 audit export", "stage4 receipt", "stage3 audit verify --sealed"):
        assert unknown_words(f"see `{gone}`") == [gone]


def test_decisions_are_numbered_without_gaps_short_and_of_one_form() -> None:
    """An ADR has at most 60 lines and says what would change our mind; the index names all."""
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")

    assert [path.name[:4] for path in decisions] == [
        f"{number:04}" for number in range(1, len(decisions) + 1)
    ]
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60, path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
            "What would change our mind",
        ], path.name
        assert path.name in index, path.name
