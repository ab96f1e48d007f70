"""Opens every declared domain behind its time limit, and creates what a domain keeps on disk.

Guards the set of things Stage-3 can call: exactly the catalogue, each through one of two wrappers
written here. Deliberately absent: loading code by name. A domain that is not built in is handed to
`open_domains` as an object by the program that starts the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from servicekit.ijson import JsonValue
from stage3_service.adapters.bounded_call import (
    DEFAULT_MAX_ABANDONED,
    BoundedCall,
    OnLate,
)
from stage3_service.adapters.builtin.notebook import Notebook
from stage3_service.adapters.builtin.notebook_file import create_notebook, open_notebook
from stage3_service.adapters.builtin.text import TextDomain
from stage3_service.adapters.direct_call import DirectCall
from stage3_service.adapters.shielded_call import OnRaised
from stage3_service.domains.declaration import Catalogue, DomainDeclaration
from stage3_service.domains.port import Domain

_TEXT = "text"
_NOTEBOOK = "notebook"


class ClosableDomain(Domain, Protocol):
    """A domain that holds something until it is closed."""

    def close(self) -> None:
        """Let go of files and threads; calls after this are unreachable."""
        ...


@dataclass(frozen=True, slots=True)
class ExtraDomain:
    """A domain brought by the program that starts the service, with its declaration."""

    declaration: DomainDeclaration
    domain: Domain


@dataclass(frozen=True, slots=True)
class OpenDomains:
    """Every declared domain, callable from any thread until `close`."""

    catalogue: Catalogue
    domains: Mapping[str, Domain]
    _closables: tuple[ClosableDomain, ...]

    def close(self) -> None:
        """Refuse new calls, end resting workers and close files, each call wrapper first."""
        for closable in self._closables:
            closable.close()


def notebook_path(state_dir: Path, domain: str) -> Path:
    """Return where the notebook of the domain of this name lies."""
    return state_dir / f"{domain}.notebook.sqlite3"


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
