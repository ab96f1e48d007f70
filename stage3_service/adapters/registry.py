"""Opens every declared domain behind its time limit, and creates what a domain keeps on disk.

Guards the set of things Stage-3 can call: exactly the catalogue, each through one of two wrappers
written here or over a connection whose calls have deadlines of their own. Deliberately absent:
loading code by name. A domain that is neither built in nor elsewhere is handed to `open_domains` as
an object by the program that starts the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from stage3_service.adapters.bounded_call import DEFAULT_MAX_ABANDONED, BoundedCall, OnLate
from stage3_service.adapters.builtin.catalogue import PURE_DOMAINS
from stage3_service.adapters.builtin.notebook import Notebook
from stage3_service.adapters.builtin.notebook_file import create_notebook, open_notebook
from stage3_service.adapters.direct_call import DirectCall
from stage3_service.adapters.grpc_domain import Dialer
from stage3_service.adapters.shielded_call import OnRaised
from stage3_service.domains.declaration import Catalogue, DomainDeclaration
from stage3_service.domains.definition import Describing
from stage3_service.domains.parse_declarations import BUILTIN_ADAPTER
from stage3_service.domains.parse_grpc_domain import GRPC_ADAPTER
from stage3_service.domains.parse_mcp_domain import MCP_ADAPTER
from stage3_service.domains.port import Domain

_NOTEBOOK = "notebook"


class ClosableDomain(Domain, Protocol):
    """A domain that holds something until it is closed."""

    def close(self) -> None:
        """Let go of files and threads; calls after this are unreachable."""
        ...


class DescribingDomain(ClosableDomain, Describing, Protocol):
    """A domain elsewhere."""


OpenMcp = Callable[[DomainDeclaration], DescribingDomain]


@dataclass(frozen=True, slots=True)
class ExtraDomain:
    """A domain brought by the program that starts the service, with its declaration."""

    declaration: DomainDeclaration
    domain: Domain


@dataclass(frozen=True, slots=True)
class OpenDomains:
    """Every declared domain, callable from any thread until `close`.

    `describable` are those that have a definition to show, by name.
    """

    catalogue: Catalogue
    domains: Mapping[str, Domain]
    describable: Mapping[str, Describing]
    _closables: tuple[ClosableDomain, ...]

    def describing(self, name: str) -> Describing | None:
        """Return the domain of this name, where it has a definition to show."""
        return self.describable.get(name)

    def abandoned(self) -> dict[str, int]:
        """Return how many calls of each in-process domain were left behind and still run."""
        return {
            name: domain.abandoned
            for name, domain in self.domains.items()
            if isinstance(domain, BoundedCall)
        }

    def close(self) -> None:
        """Refuse new calls, end resting workers and close files, each call wrapper first."""
        for closable in self._closables:
            closable.close()


def notebook_path(state_dir: Path, domain: str) -> Path:
    """Return where the notebook of the domain of this name lies."""
    return state_dir / f"domain-{domain}.sqlite3"


def create_domain_state(catalogue: Catalogue, state_dir: Path) -> tuple[Path, ...]:
    """Create what declared domains keep on disk and does not exist yet; return what was created.

    Raises:
        NotebookRefused: a file cannot be created, or one that exists is no notebook.

    """
    created: list[Path] = []
    for declaration in catalogue:
        if declaration.endpoint != _NOTEBOOK:
            continue
        path = notebook_path(state_dir, declaration.name)
        if path.exists():
            open_notebook(path).close()
        else:
            create_notebook(path)
            created.append(path)
    return tuple(created)


def open_domains(
    catalogue: Catalogue,
    state_dir: Path,
    *,
    on_late: OnLate,
    on_raised: OnRaised,
    max_abandoned: int = DEFAULT_MAX_ABANDONED,
    extra_domains: Sequence[ExtraDomain] = (),
    dialer: Dialer | None = None,
    open_mcp: OpenMcp | None = None,
) -> OpenDomains:
    """Open every domain of the catalogue, and the extra ones behind the same time limit.

    Each domain in this process may leave `max_abandoned` calls behind before its new ones are
    refused. `dialer` reaches domains elsewhere, `open_mcp` opens MCP servers; one that is down
    is opened all the same, and unreachable until it is up.

    Raises:
        NotebookRefused: a notebook is missing or cannot be used; nothing stays open.
        AddressRefused: a domain elsewhere may not be reached without certificates.
        DeclarationsRefused: an MCP server may not be run as it is declared.
        ValueError: an extra domain has the name of a declared one, or a domain elsewhere is
            declared and there is no way to it.

    """
    extended = catalogue.extended(extra.declaration for extra in extra_domains)
    brought = {extra.declaration.name: extra.domain for extra in extra_domains}
    wrapped: dict[str, ClosableDomain] = {}
    describing: dict[str, Describing] = {}
    behind: list[ClosableDomain] = []
    try:
        for declaration in extended:
            name = declaration.name
            domain = brought.get(name)
            pure = PURE_DOMAINS.get(declaration.endpoint or "")
            if domain is None and declaration.adapter == BUILTIN_ADAPTER and pure is not None:
                wrapped[name] = DirectCall(declaration, pure, on_raised=on_raised)
                continue
            if declaration.adapter == GRPC_ADAPTER:
                if dialer is None:
                    raise ValueError(f"domain {name!r} is elsewhere and there is no dialer")
                wrapped[name] = describing[name] = dialer.open(declaration)
                continue
            if declaration.adapter == MCP_ADAPTER:
                if open_mcp is None:
                    raise ValueError(f"domain {name!r} is an MCP server and nothing opens those")
                wrapped[name] = describing[name] = open_mcp(declaration)
                continue
            if domain is None:
                notebook = Notebook(notebook_path(state_dir, name))
                behind.append(notebook)
                domain = notebook
            wrapped[name] = BoundedCall(
                declaration,
                domain,
                on_late=on_late,
                on_raised=on_raised,
                max_abandoned=max_abandoned,
            )
    except BaseException:
        for opened in (*wrapped.values(), *behind):
            opened.close()
        raise
    return OpenDomains(
        extended,
        MappingProxyType(wrapped),
        MappingProxyType(describing),
        (*wrapped.values(), *behind),
    )
