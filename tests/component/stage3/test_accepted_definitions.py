"""A domain elsewhere is called as what an operator has accepted, and as nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.domain.v1.domain_service_pb2 import MethodDescription
from stagegate.stage3.v1 import operator_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from servicekit.store.errors import StoreCorrupt
from stage3_service.adapters import looking_again
from stage3_service.adapters.looking_again import LookingAgain
from stage3_service.domains.acceptance import Acceptance
from stage3_service.domains.port import DomainUnreachable, Invocation
from tests.fakes.domains import TrialDomain
from tests.fakes.remote_domain import RemoteDomain, running_remote_domain, serve_remote_domain
from tests.harness.eventually import eventually
from tests.harness.pki import pki
from tests.harness.remote import (
    dialer,
    domain_client,
    reached,
    remote_declaration,
    write_domains_file,
)
from tests.harness.reserved_ports import ReservedPort
from tests.harness.stage3 import Stage3UnderTest, nobody_looks, running_stage3, step

SCOPE = {"trial": ("echo", "effect"), "text": ("upper",)}
REFUSED = [
    ("TOKEN_VALIDATION", "success", None),
    ("AUTHORIZATION_SCOPE_CHECK", "denied", 0),
    ("EXECUTION_DENIED", "denied", 0),
]


@contextmanager
def stage3_of(directory: Path, address: str, **changes: Any) -> Iterator[Stage3UnderTest]:
    """Run a Stage-3 that has declared the trial service at `address`."""
    declared = write_domains_file(directory / "domains.json", address)
    with running_stage3(
        directory, domains_file=declared, domain_client=domain_client(), **changes
    ) as stage3:
        yield stage3


@pytest.fixture
def remote() -> Iterator[RemoteDomain]:
    """A running trial service."""
    with running_remote_domain() as running:
        yield running


@pytest.fixture
def port() -> Iterator[str]:
    """An address that a domain can leave and come back to."""
    with ReservedPort() as address:
        yield address


def describe(stage3: Stage3UnderTest) -> operator_service_pb2.DescribeDomainResponse:
    """Ask what the trial service shows now."""
    request = operator_service_pb2.DescribeDomainRequest(domain="trial")
    return stage3.operator().DescribeDomain(request, timeout=20)


def accept(stage3: Stage3UnderTest, digest: str, domain: str = "trial") -> Any:
    """Accept a digest; return the answer or the reason of the refusal."""
    request = operator_service_pb2.AcceptDomainRequest(domain=domain, digest=digest)
    try:
        return stage3.operator("curator").AcceptDomain(request, timeout=20)
    except grpc.RpcError as error:
        return decode_rpc_error(error).reason


def change(remote: RemoteDomain) -> None:
    """Let the service describe one method in other words, as a new release of it would."""
    remote.descriptions["effect"] = MethodDescription(
        name="effect", description="Deletes everything.", parameters_schema_json='{"a": 1}'
    )


def test_nothing_is_called_before_it_is_accepted(remote: RemoteDomain, tmp_path: Path) -> None:
    """Gate 2 refuses, before STARTED; the log says why, and the client what to do."""
    with stage3_of(tmp_path, remote.address) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        refused = stage3.run(token, step("trial", "effect"))
        assert refused.error is not None
        assert refused.reason == "METHOD_UNDECLARED"
        assert "stage3 domain accept" in refused.error.message
        assert stage3.trail("plan-1") == REFUSED
        (denied,) = stage3.events(event_type="AUTHORIZATION_SCOPE_CHECK")
        assert denied["reason"] == "domain_not_accepted"
        assert remote.received == []
        # What is in this process has nothing to be accepted.
        assert stage3.run(token, step("text", "upper", text="a")).outputs == [{"text": "A"}]

        stage3.accept("trial")
        assert stage3.run(token, step("trial", "effect")).kind == "completed"


def test_an_acceptance_is_recorded_once_and_outlives_a_restart(
    remote: RemoteDomain, tmp_path: Path
) -> None:
    """Who, what, and what before; the store keeps it."""
    with stage3_of(tmp_path, remote.address) as stage3:
        shown = describe(stage3)
        first, again = accept(stage3, shown.digest), accept(stage3, shown.digest)
        assert (first.already_accepted, first.previous_digest) == (False, "")
        assert (again.already_accepted, again.previous_digest) == (True, shown.digest)
        (event,) = stage3.events(event_type="DOMAIN_ACCEPTED")
        assert event["domain"] == "trial"
        assert event["additional_data"] == {
            "by": "curator",
            "digest": shown.digest,
            "previous_digest": None,
        }
    with stage3_of(tmp_path, remote.address, create=False) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        assert stage3.run(token, step("trial", "echo")).kind == "completed"
        listed = stage3.operator().ListDomains(operator_service_pb2.ListDomainsRequest())
        trial = listed.domains[0]
        assert (trial.offered, trial.accepted_digest) == (True, shown.digest)


def test_a_domain_that_changed_is_refused_until_it_is_accepted_again(
    remote: RemoteDomain, tmp_path: Path
) -> None:
    """The drift is seen on a new connection, shown as a diff, refused before STARTED, accepted."""
    with stage3_of(tmp_path, remote.address, accept=["trial"]) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        assert stage3.run(token, step("trial", "echo")).kind == "completed"
        before = describe(stage3).accepted_digest

        change(remote)
        shown = describe(stage3)
        assert shown.accepted_digest == before != shown.digest
        assert list(shown.difference) == [
            '- methods.effect.description: "Behaves as its name says: effect."',
            '+ methods.effect.description: "Deletes everything."',
            "- methods.effect.parameters_schema: null",
            "+ methods.effect.parameters_schema.a: 1",
        ]
        assert json.loads(shown.definition_json)["methods"]["effect"]["parameters_schema"]
        # Methods that did not change are refused too: the domain is one program.
        refused = stage3.run(token, step("trial", "echo"))
        assert refused.reason == "METHOD_UNDECLARED"
        assert stage3.trail("plan-2") == REFUSED

        assert accept(stage3, before) == "DIGEST_MISMATCH"
        assert accept(stage3, shown.digest).previous_digest == before
        assert stage3.run(token, step("trial", "effect")).kind == "completed"


def test_a_domain_that_came_back_as_another_is_asked_before_it_is_called(
    tmp_path: Path, port: str
) -> None:
    """It was replaced while nobody looked: nothing is invoked, and gate 2 knows from then on."""
    first = serve_remote_domain(pki(), TrialDomain(), address=port)
    with stage3_of(tmp_path, first.address, accept=["trial"]) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        assert stage3.run(token, step("trial", "effect")).kind == "completed"
        first.stop()
        second = serve_remote_domain(pki(), TrialDomain(), address=port)
        try:
            change(second)
            reasons = []
            while "METHOD_UNDECLARED" not in reasons:
                reasons.append(stage3.run(token, step("trial", "effect")).reason)
        finally:
            second.stop()

    # Until the channel knows that its connection is gone, a call may end in silence.
    assert set(reasons[:-1]) <= {"DOMAIN_UNREACHABLE", "STEP_IN_DOUBT"}
    assert second.received == []
    assert second.trial.effects == []


def test_the_control_that_came_back_as_itself_is_called(tmp_path: Path, port: str) -> None:
    """The same restart without a change: the next connection shows what was accepted."""
    first = serve_remote_domain(pki(), TrialDomain(), address=port)
    with stage3_of(tmp_path, first.address, accept=["trial"]) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        first.stop()
        second = serve_remote_domain(pki(), TrialDomain(), address=port)
        try:
            while stage3.run(token, step("trial", "echo")).kind != "completed":
                pass
        finally:
            second.stop()
    assert second.times_described >= 1


def offered(stage3: Stage3UnderTest) -> bool:
    """Say whether an operator is told that the trial service is offered."""
    listed = stage3.operator().ListDomains(operator_service_pb2.ListDomainsRequest())
    return next(bool(one.offered) for one in listed.domains if one.name == "trial")


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "control"])
def test_a_replaced_domain_is_found_before_a_step_is_started(
    tmp_path: Path, port: str, monkeypatch: pytest.MonkeyPatch, *, looks: bool
) -> None:
    """The new connection itself is the reason to ask; no plan has to run into it.

    Control: asked only by the call that finds the connection new, the step is started and fails.
    """
    if not looks:
        monkeypatch.setattr(LookingAgain, "on_connected", lambda *_: None)
    first = serve_remote_domain(pki(), TrialDomain(), address=port)
    with stage3_of(tmp_path, first.address, accept=["trial"]) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        assert stage3.run(token, step("trial", "effect")).kind == "completed"
        connections = stage3.service._domains.opened.domains["trial"]._connections  # type: ignore[attr-defined]
        with connections.using() as connection:
            before = connection.session
            first.stop()
            second = serve_remote_domain(pki(), TrialDomain(), address=port)
            change(second)
            try:
                assert eventually(lambda: connection.is_ready and connection.session > before)
                assert eventually(lambda: offered(stage3) is not looks)
                answer = stage3.run(token, step("trial", "effect"))
            finally:
                second.stop()
        started = "EXECUTION_STARTED" in [kind for kind, _, _ in stage3.trail("plan-2")]
    assert (answer.reason, started) == (
        ("METHOD_UNDECLARED", False) if looks else ("DOMAIN_UNREACHABLE", True)
    )
    assert second.received == []


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "control"])
def test_a_domain_that_shows_what_was_accepted_again_is_offered_again(
    remote: RemoteDomain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, looks: bool
) -> None:
    """It drifted and was rolled back: a refused step is the reason to look, a later one goes on.

    Nobody has to come. Control: unless somebody looks, it stays withheld.
    """
    monkeypatch.setattr(looking_again, "PAUSE_S", 0.0)
    if not looks:
        monkeypatch.setattr(LookingAgain, "on_withheld", lambda *_: None)
    with stage3_of(tmp_path, remote.address, accept=["trial"]) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        usual = dict(remote.descriptions)
        change(remote)
        assert describe(stage3).difference
        # Looked at while it is another one: it stays withheld, whoever knocks.
        for _ in range(3):
            assert stage3.run(token, step("trial", "effect")).reason == "METHOD_UNDECLARED"
            assert eventually(nobody_looks)
        remote.descriptions.clear()
        remote.descriptions.update(usual)
        assert stage3.run(token, step("trial", "effect")).reason == "METHOD_UNDECLARED"
        if looks:
            assert eventually(lambda: offered(stage3))
        reasons = [stage3.run(token, step("trial", "effect")).reason for _ in range(3)]
        assert stage3.events(event_type="DOMAIN_ACCEPTED")[1:] == []
    assert reasons == (["", "", ""] if looks else ["METHOD_UNDECLARED"] * 3)
    assert len(remote.trial.effects) == (3 if looks else 0)


@pytest.mark.parametrize("asks", [True, False], ids=["asked", "control"])
def test_the_adapter_asks_before_it_calls(remote: RemoteDomain, asks: bool) -> None:
    """A changed domain gets no call; an adapter that takes anything for accepted makes it."""
    declaration = remote_declaration(remote.address)
    with reached(declaration) as domain:
        accepted = Acceptance({declaration.name: domain.describe()})
    change(remote)
    call = Invocation("effect", b"{}", 5.0, "plan-1/0")
    with reached(declaration, dialer(accepted=accepted if asks else None)) as domain:
        if asks:
            with pytest.raises(DomainUnreachable, match="does not show what was accepted"):
                domain.invoke(call)
        else:
            domain.invoke(call)
    assert remote.trial.effects == ([] if asks else ["plan-1/0"])
    assert accepted.withholds(declaration.name) is asks


@pytest.mark.parametrize(
    ("domain", "reason"), [("nowhere", "DOMAIN_UNKNOWN"), ("text", "REQUEST_INVALID")]
)
def test_only_a_declared_domain_elsewhere_is_accepted(
    remote: RemoteDomain, tmp_path: Path, domain: str, reason: str
) -> None:
    """Whatever the digest."""
    with stage3_of(tmp_path, remote.address) as stage3:
        assert accept(stage3, "0" * 64, domain) == reason
        assert stage3.events(event_type="DOMAIN_ACCEPTED") == []


def test_a_domain_that_lacks_a_declared_method_shows_nothing(
    remote: RemoteDomain, tmp_path: Path
) -> None:
    """The operator is told which; there is nothing to accept."""
    del remote.descriptions["effect"]
    with stage3_of(tmp_path, remote.address) as stage3:
        with pytest.raises(grpc.RpcError) as refused:
            describe(stage3)
        error = decode_rpc_error(refused.value)
    assert error.reason == "DOMAIN_UNREACHABLE"
    assert "does not name effect" in error.message


def test_what_the_file_does_not_declare_is_no_part_of_the_definition(
    remote: RemoteDomain, tmp_path: Path
) -> None:
    """A method that nobody may call may come and go."""
    with stage3_of(tmp_path, remote.address) as stage3:
        digest = stage3.accept("trial")
        remote.descriptions["brand_new"] = MethodDescription(name="brand_new")
        assert describe(stage3).digest == digest


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM accepted_definitions",
        "UPDATE accepted_definitions SET accepted_by = 'somebody'",
        "UPDATE accepted_definitions SET definition = CAST('{}' AS BLOB)",
        (
            "INSERT INTO accepted_definitions SELECT 'other', digest, definition, accepted_by, "
            "accepted_us FROM accepted_definitions"
        ),
    ],
    ids=["removed", "by-another", "another-definition", "forged"],
)
def test_an_edited_acceptance_keeps_the_service_from_starting(
    remote: RemoteDomain, tmp_path: Path, edit: str
) -> None:
    """The log says what was accepted, and a table that says otherwise is evidence."""
    import apsw

    with stage3_of(tmp_path, remote.address, accept=["trial"]):
        pass
    connection = apsw.Connection(str(tmp_path / "stage3" / "stage3.sqlite3"))
    connection.execute(edit)
    connection.close()
    with (
        pytest.raises(StoreCorrupt, match="accepted definitions"),
        stage3_of(tmp_path, remote.address, create=False),
    ):
        pass
