"""MCP servers as tests declare and run them: one that misbehaves, and real ones."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from stage3_service.adapters.declarations_file import BUILTIN_METHODS
from stage3_service.adapters.json_schema import compile_schema
from stage3_service.adapters.mcp.domain import McpDomain
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.parse_declarations import parse_declarations
from stage3_service.domains.port import (
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
)
from tests.fakes.accepted_definitions import AcceptedByTest
from tests.harness.eventually import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
TRIAL_SERVER = ROOT / "tests" / "harness" / "trial_mcp_server.py"
NODE_SERVERS = ROOT / "tests" / "mcp_servers" / "node_modules" / "@modelcontextprotocol"


def mcp_table(
    methods: Mapping[str, str], *, max_duration_s: float = PATIENCE_S, **keys: Any
) -> dict[str, Any]:
    """Return a domain's table, as a domains file holds it, with a tool for each method."""
    limits = {"max_duration_s": max_duration_s, "max_response_bytes": 65_536}
    promised = {"description": "What its tool does.", "repetition": "neither"}
    return {
        "adapter": "mcp",
        "start_timeout_s": PATIENCE_S,
        "methods": {name: {"tool": tool, **limits, **promised} for name, tool in methods.items()},
        **keys,
    }


def trial_keys(directory: Path, **environment: str) -> dict[str, Any]:
    """Return the keys that run the trial server under the tests' own uid."""
    return {
        "command": [sys.executable, "-I", str(TRIAL_SERVER)],
        "working_directory": str(directory),
        "environment": {"TRIAL_NOTES": str(directory / "notes"), **environment},
        "unsafe_stdio": True,
    }


def node_keys(name: str, *arguments: str, **keys: Any) -> dict[str, Any]:
    """Return the keys that run a real server of Node under the tests' own uid."""
    node = shutil.which("node")
    assert node is not None, "`make test` brings Node"
    program = NODE_SERVERS / f"server-{name}" / "dist" / "index.js"
    assert program.exists(), "`make test` installs the servers"
    return {
        "command": [node, str(program), *arguments],
        "working_directory": "/",
        "unsafe_stdio": True,
        **keys,
    }


def python_keys(module: str, *arguments: str, **keys: Any) -> dict[str, Any]:
    """Return the keys that run a real server of Python under the tests' own uid."""
    return {
        "command": [sys.executable, "-m", module, *arguments],
        "working_directory": "/",
        "unsafe_stdio": True,
        **keys,
    }


def mcp_declaration(table: Mapping[str, Any]) -> DomainDeclaration:
    """Return the declaration of a table, under the name `trial`."""
    catalogue = parse_declarations(
        {"domains": {"trial": dict(table)}}, validators=compile_schema, builtin=BUILTIN_METHODS
    )
    declaration = catalogue.domain("trial")
    assert declaration is not None
    return declaration


@contextmanager
def mcp_domain(
    table: Mapping[str, Any],
    *,
    accepted: AcceptedByTest | None = None,
    told: list[str] | None = None,
    doubts: list[None] | None = None,
) -> Iterator[McpDomain]:
    """Open a domain; `told` collects what its owner says to the operator, `doubts` when it asks."""
    sentences = [] if told is None else told
    domain = McpDomain(
        mcp_declaration(table),
        accepted=accepted or AcceptedByTest(),
        on_session=lambda _, sentence: sentences.append(sentence),
        on_doubt=lambda _: None if doubts is None else doubts.append(None),
    )
    try:
        yield domain
    finally:
        domain.close()


def invoke(
    domain: McpDomain, method: str, /, *, deadline_s: float = PATIENCE_S, **parameters: Any
) -> Answer | AnswerInvalid | DomainSilent | DomainUnreachable:
    """Invoke a method and return its outcome, whatever it is."""
    invocation = Invocation(method, json.dumps(parameters).encode(), deadline_s, "plan-1/0")
    try:
        return domain.invoke(invocation)
    except (AnswerInvalid, DomainSilent, DomainUnreachable) as outcome:
        return outcome


def children() -> dict[int, str]:
    """Return this process's children, and those of none, that a test's server may be among."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                status = (entry / "stat").read_text()
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            state, parent = status.rpartition(")")[2].split()[:2]
            if int(parent) != os.getpid():
                del found[int(entry.name)]
            elif state == "Z":
                found[int(entry.name)] = "zombie"
    return found


@contextmanager
def open_directory() -> Iterator[Path]:
    """Return a directory that every user may enter, which pytest's own are not."""
    directory = Path(mkdtemp(prefix="stagegate-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
