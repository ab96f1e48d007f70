"""The contract of the `Domain` port, asked of every domain there is, the tests' own included."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage3_service.adapters.bounded_call import BoundedCall
from stage3_service.adapters.builtin import notebook as notebook_domain
from stage3_service.adapters.builtin.notebook import Notebook
from stage3_service.adapters.builtin.notebook_file import create_notebook
from stage3_service.adapters.builtin.text import TEXT
from stage3_service.adapters.direct_call import DirectCall
from stage3_service.adapters.grpc_domain import GrpcDomain
from stage3_service.adapters.shielded_call import RaisedError
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import DomainUnreachable, Invocation, MethodFailed, Output
from tests.fakes.domains import TrialDomain, trial_declaration
from tests.fakes.remote_domain import serve_remote_domain
from tests.harness.pki import pki
from tests.harness.remote import dialer, remote_declaration


@dataclass(frozen=True)
class _Subject:
    """A wrapped domain, and one call of it that succeeds whenever it is made."""

    domain: DirectCall | BoundedCall | GrpcDomain
    method: str
    parameters: bytes
    raised: list[RaisedError]
    end: Callable[[], None] = lambda: None

    def call(self, key: str, parameters: bytes | None = None) -> Output | MethodFailed:
        raw = self.parameters if parameters is None else parameters
        return self.domain.invoke(Invocation(self.method, raw, 20.0, key))


def _text(directory: Path) -> _Subject:
    raised: list[RaisedError] = []
    declaration = DomainDeclaration("text", "builtin", "text", TEXT.declarations)
    domain = DirectCall(declaration, TEXT, on_raised=raised.append)
    return _Subject(domain, "upper", b'{"text":"a"}', raised)


def _notebook(directory: Path) -> _Subject:
    raised: list[RaisedError] = []
    create_notebook(directory / "notes.sqlite3")
    declaration = DomainDeclaration("notes", "builtin", "notebook", notebook_domain.DECLARATIONS)
    domain = BoundedCall(
        declaration,
        Notebook(directory / "notes.sqlite3"),
        on_late=lambda key, answer: None,
        on_raised=raised.append,
    )
    return _Subject(domain, "append_note", b'{"title":"t","text":"x"}', raised)


def _trial(directory: Path) -> _Subject:
    raised: list[RaisedError] = []
    domain = BoundedCall(
        trial_declaration(),
        TrialDomain(),
        on_late=lambda key, answer: None,
        on_raised=raised.append,
    )
    return _Subject(domain, "echo", b'{"a":1}', raised)


def _remote(directory: Path) -> _Subject:
    remote = serve_remote_domain(pki(), TrialDomain())
    domain = dialer().open(remote_declaration(remote.address))
    return _Subject(domain, "echo", b'{"a":1}', [], remote.stop)


@pytest.fixture(
    params=[_text, _notebook, _trial, _remote], ids=["text", "notebook", "trial", "remote"]
)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Subject]:
    """Each domain in turn."""
    make: Callable[[Path], _Subject] = request.param
    made = make(tmp_path)
    yield made
    made.domain.close()
    made.end()


def test_a_good_call_answers_json(subject: _Subject) -> None:
    """An output is the bytes of one JSON value."""
    answer = subject.call("p/0")
    assert isinstance(answer, Output)
    json.loads(answer.json_bytes)


def test_an_invocation_is_not_changed_by_the_call(subject: _Subject) -> None:
    """The caller commits to the bytes it handed over."""
    invocation = Invocation(subject.method, subject.parameters, 20.0, "p/0")
    subject.domain.invoke(invocation)
    assert invocation == Invocation(subject.method, subject.parameters, 20.0, "p/0")


def test_an_unknown_method_is_not_started(subject: _Subject) -> None:
    """It is unreachable: no effect, no doubt."""
    with pytest.raises(DomainUnreachable):
        subject.domain.invoke(Invocation("no_such_method", subject.parameters, 20.0, "p/0"))


def test_without_time_left_nothing_is_started(subject: _Subject) -> None:
    """Nobody would wait for the outcome."""
    with pytest.raises(DomainUnreachable):
        subject.domain.invoke(Invocation(subject.method, subject.parameters, 0.0, "p/0"))


def test_calls_from_many_threads_all_answer(subject: _Subject) -> None:
    """A domain is shared by all plans in flight."""
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda number: subject.call(f"p/{number}"), range(40)))
    assert all(isinstance(answer, Output) for answer in answers)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(raw=st.binary(max_size=100), key=st.integers(0, 10**6))
def test_any_parameters_give_an_answer_and_raise_nothing(
    subject: _Subject, raw: bytes, key: int
) -> None:
    """Bytes that no gate has seen are a failure that the domain itself states."""
    assert isinstance(subject.call(f"p/{key}", raw), Output | MethodFailed)
    assert subject.raised == []
