"""The direct call: the same outcomes and the same shield as behind a time limit, without one."""

from __future__ import annotations

import threading

import pytest

from stage3_service.adapters.direct_call import DirectCall
from stage3_service.adapters.shielded_call import RAISED, UNREADABLE, RaisedError
from stage3_service.domains.port import (
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)
from tests.fakes.domains import TrialDomain, trial_declaration


def _direct() -> tuple[DirectCall, TrialDomain, list[RaisedError]]:
    trial = TrialDomain()
    raised: list[RaisedError] = []
    return DirectCall(trial_declaration(), trial, on_raised=raised.append), trial, raised


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("echo", Output(b"[1]")),
        ("fail", MethodFailed("the trial failed as asked")),
        ("raise_error", RAISED),
        ("exit_process", RAISED),
        ("no_answer", UNREADABLE),
    ],
)
def test_every_answer_is_that_of_a_bounded_call(method: str, answer: Output | MethodFailed) -> None:
    """A raising method is shielded here too."""
    direct, _, raised = _direct()
    assert direct.invoke(Invocation(method, b"[1]", 5.0, "p/0")) == answer
    assert bool(raised) is (answer in (RAISED, UNREADABLE))
    direct.close()


def test_the_domains_own_word_about_reachability_is_passed_on() -> None:
    """The port's two exceptions keep their meaning."""
    direct, _, _ = _direct()
    with pytest.raises(DomainUnreachable):
        direct.invoke(Invocation("unreachable", b"{}", 5.0, "p/0"))
    with pytest.raises(DomainSilent):
        direct.invoke(Invocation("silent", b"{}", 5.0, "p/0"))


def test_no_thread_is_made() -> None:
    """That is the point of it."""
    direct, _, _ = _direct()
    before = threading.active_count()
    direct.invoke(Invocation("echo", b"{}", 5.0, "p/0"))
    assert threading.active_count() == before
