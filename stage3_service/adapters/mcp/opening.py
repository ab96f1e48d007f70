"""Decides whether an MCP server may be run as it is declared, and opens it.

Guards Stage-3's own files from a declaration that would hand them out: no declared path holds, or
lies in, what is Stage-3's alone, and no declared user is Stage-3. Deliberately absent: the library
itself, which is loaded for the first domain that needs it and never without one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stage3_service.adapters.mcp.confined import resolve_user
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.declarations_reading import DeclarationsRefused
from stage3_service.domains.definition import AcceptedDefinitions
from stage3_service.domains.mcp_server import StdioServer
from stage3_service.settings import Stage3Settings

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from stage3_service.adapters.mcp.domain import McpDomain


@dataclass(frozen=True, slots=True)
class McpOpener:
    """What all MCP servers are opened with.

    `private` are Stage-3's own files and directories; `on_session` takes a domain's name and one
    sentence about its session for the operator's log. `on_doubt` takes a domain's name when its
    server may show something else from now on, and may not wait.
    """

    accepted: AcceptedDefinitions
    private: tuple[Path, ...]
    on_session: Callable[[str, str], None]
    on_doubt: Callable[[str], None]

    def __call__(self, declaration: DomainDeclaration) -> McpDomain:
        """Open a server and begin a session with it, whether or not it is there yet.

        Raises:
            DeclarationsRefused: its user is Stage-3's own or unknown, a path of it holds what is
                private, or the library is not installed.

        """
        server = None if declaration.mcp is None else declaration.mcp.reached
        if isinstance(server, StdioServer):
            refuse_exposure(declaration.name, server, self.private)
        try:
            from stage3_service.adapters.mcp.domain import McpDomain
        except ModuleNotFoundError as error:
            problem = (
                f"mcp needs {error.name}, which is not installed: stagegate-stage3[mcp] has it"
            )
            raise _refused(declaration.name, "adapter", problem) from error
        return McpDomain(
            declaration,
            accepted=self.accepted,
            on_session=self.on_session,
            on_doubt=self.on_doubt,
        )


def mcp_opener(
    settings: Stage3Settings,
    accepted: AcceptedDefinitions,
    log: FilteringBoundLogger,
    *,
    on_doubt: Callable[[str], None],
) -> McpOpener:
    """Return what opens the MCP servers of a Stage-3 with these settings."""

    def on_session(domain: str, sentence: str) -> None:
        log.warning("no session with an MCP server", domain=domain, why=sentence)

    keys = [section.key_file for section in (settings.tls, settings.domain_client) if section]
    private = (
        settings.state_dir,
        settings.outcome_key_file,
        settings.checkpoint.key_of(settings.state_dir),
        settings.checkpoint.file_of("stage3", settings.state_dir).parent,
        *keys,
    )
    return McpOpener(accepted, private, on_session, on_doubt)


def refuse_exposure(domain: str, server: StdioServer, private: Iterable[Path]) -> None:
    """Refuse a program that would be Stage-3, or that would be given what is Stage-3's.

    Raises:
        DeclarationsRefused: see `McpOpener`.

    """
    if server.user is None:
        return
    try:
        uid, _ = resolve_user(server.user)
    except OSError as error:
        raise _refused(domain, "user", f"{error}; create it, or name another") from error
    if uid in (0, os.geteuid()):
        problem = (
            f"{server.user} is root or Stage-3's own user; create a user for this server, or run "
            "it as a service of its own and declare its endpoint"
        )
        raise _refused(domain, "user", problem)
    if os.geteuid() != 0 and not _may_change_uid():
        problem = (
            f"Stage-3 may not start a program as {server.user}: give it the ambient capabilities "
            "CAP_SETUID, CAP_SETGID and CAP_KILL, or run the server as a service of its own"
        )
        raise _refused(domain, "user", problem)
    own = [path.resolve() for path in private]
    for key in ("readable_paths", "writable_paths"):
        for text in getattr(server, key):
            path = Path(text).resolve()
            held = [file for file in own if file.is_relative_to(path) or path.is_relative_to(file)]
            if held:
                problem = f"{text} holds {held[0]}, which is Stage-3's alone; name narrower paths"
                raise _refused(domain, key, problem)


def _refused(domain: str, key: str, problem: str) -> DeclarationsRefused:
    return DeclarationsRefused([f"domains.{domain}.{key}: {problem}"])


def _may_change_uid() -> bool:
    # Ambient: others do not survive the start of the launcher.
    wanted = (1 << 5) | (1 << 6) | (1 << 7)  # CAP_KILL, CAP_SETGID, CAP_SETUID
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapAmb":
            return int(value, 16) & wanted == wanted
    return False
