"""The registry: exactly the catalogue is open, and nothing stays open after a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stage3_service.adapters import registry
from stage3_service.adapters.bounded_call import BoundedCall
from stage3_service.adapters.builtin.notebook import Notebook
from stage3_service.adapters.builtin.notebook_file import NotebookMissing, NotebookRefused
from stage3_service.adapters.declarations_file import BUILTIN_METHODS, builtin_catalogue
from stage3_service.adapters.direct_call import DirectCall
from stage3_service.adapters.registry import (
    ExtraDomain,
    OpenDomains,
    create_domain_state,
    notebook_path,
    open_domains,
)
from stage3_service.domains.declaration import Catalogue, DomainDeclaration
from stage3_service.domains.port import DomainUnreachable, Invocation, Output
from tests.fakes.domains import trial_domain


def _open(catalogue: Catalogue, state_dir: Path, *extra: ExtraDomain) -> OpenDomains:
    return open_domains(
        catalogue,
        state_dir,
        on_late=lambda key, answer: None,
        on_raised=lambda raised: None,
        extra_domains=extra,
    )


def _notebooks(*names: str) -> Catalogue:
    methods = BUILTIN_METHODS["notebook"]
    return Catalogue(DomainDeclaration(name, "builtin", "notebook", methods) for name in names)


def test_exactly_the_declared_domains_are_open(tmp_path: Path) -> None:
    """What ends by itself runs on its caller's thread; whatever can wait is behind a time limit."""
    create_domain_state(builtin_catalogue(), tmp_path)
    opened = _open(builtin_catalogue(), tmp_path)
    assert {name: type(domain) for name, domain in opened.domains.items()} == {
        "text": DirectCall,
        "notebook": BoundedCall,
        **dict.fromkeys(("hashing", "json_schema", "dates", "units"), DirectCall),
    }
    opened.close()


def test_nobody_can_add_a_domain_to_the_open_ones(tmp_path: Path) -> None:
    """The mapping is a read-only view."""
    opened = _open(Catalogue([]), tmp_path)
    with pytest.raises(TypeError):
        opened.domains["more"] = trial_domain()[1]  # type: ignore[index]


def test_an_extra_domain_is_declared_and_bounded_like_any_other(tmp_path: Path) -> None:
    """It joins the catalogue that the gates ask, and has no way around the time limit."""
    extra, trial = trial_domain()
    opened = _open(Catalogue([]), tmp_path, extra)
    assert opened.catalogue.method("trial", "echo") is not None
    assert isinstance(opened.domains["trial"], BoundedCall)
    answer = opened.domains["trial"].invoke(Invocation("echo", b"[1]", 5.0, "p/0"))
    assert answer == Output(b"[1]")
    assert len(trial.received) == 1
    opened.close()
    with pytest.raises(DomainUnreachable):
        opened.domains["trial"].invoke(Invocation("echo", b"[1]", 5.0, "p/1"))


def test_an_extra_domain_cannot_take_a_declared_name(tmp_path: Path) -> None:
    """Otherwise the authority's own domain could be replaced."""
    extra, _ = trial_domain("text")
    with pytest.raises(ValueError, match="declared twice"):
        _open(builtin_catalogue(), tmp_path, extra)


def test_two_notebooks_share_nothing(tmp_path: Path) -> None:
    """Each has a file of its own, so one key may write in both."""
    catalogue = _notebooks("first", "second")
    assert create_domain_state(catalogue, tmp_path) == (
        notebook_path(tmp_path, "first"),
        notebook_path(tmp_path, "second"),
    )
    opened = _open(catalogue, tmp_path)
    note = Invocation("append_note", b'{"title":"t","text":""}', 5.0, "p/0")
    assert opened.domains["first"].invoke(note) == Output(b'{"note_id":1}')
    listed = Invocation("list_notes", b'{"after_note_id":0,"limit":10}', 5.0, "p/1")
    assert opened.domains["second"].invoke(listed) == Output(b'{"notes":[]}')
    opened.close()


def test_state_is_created_once_and_found_again(tmp_path: Path) -> None:
    """A second initialization creates only what is missing."""
    assert create_domain_state(_notebooks("first"), tmp_path)
    created = create_domain_state(_notebooks("first", "second"), tmp_path)
    assert created == (notebook_path(tmp_path, "second"),)


def test_state_that_is_something_else_is_refused(tmp_path: Path) -> None:
    """A foreign file in the notebook's place is neither used nor overwritten."""
    path = notebook_path(tmp_path, "first")
    path.write_bytes(b"somebody's file, long enough to be looked at " * 100)
    before = path.read_bytes()
    with pytest.raises(NotebookRefused):
        create_domain_state(_notebooks("first"), tmp_path)
    assert path.read_bytes() == before


def test_a_missing_notebook_closes_what_was_opened_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that does not start must not hold files open."""
    opened: list[Notebook] = []

    def open_and_remember(original: Callable[[Path], Notebook]) -> Callable[[Path], Notebook]:
        def remembering(path: Path) -> Notebook:
            opened.append(original(path))
            return opened[-1]

        return remembering

    monkeypatch.setattr(registry, "Notebook", open_and_remember(Notebook))
    create_domain_state(_notebooks("first"), tmp_path)
    with pytest.raises(NotebookMissing):
        _open(_notebooks("first", "second"), tmp_path)
    (first,) = opened
    with pytest.raises(DomainUnreachable, match="closed"):
        first.invoke(Invocation("read_note", b'{"note_id":1}', 5.0, "p/0"))
