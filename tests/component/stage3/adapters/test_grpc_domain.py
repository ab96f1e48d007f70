"""A domain elsewhere: what is sent, what is believed, and what is never claimed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from servicekit.certificates import create_authority, issue_caller, issue_server
from servicekit.serving.address import AddressRefused
from servicekit.serving.channel import UNACKNOWLEDGED_MAX_MS
from stage3_service.adapters.grpc_domain import Dialer
from stage3_service.adapters.registry import open_domains
from stage3_service.domains.answer import AnswerInvalid
from stage3_service.domains.declaration import Catalogue
from stage3_service.domains.port import (
    MAX_FAILURE_MESSAGE_BYTES,
    Answer,
    DomainSilent,
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)
from tests.fakes.domains import TRIAL_MAX_RESPONSE_BYTES, TrialDomain
from tests.fakes.http2_peer import SILENCES, WITHOUT_MESSAGE, closes, http2_peer
from tests.fakes.remote_domain import (
    RemoteDomain,
    running_remote_domain,
    serve_remote_domain,
)
from tests.harness.pki import TRUST_DOMAIN, Pki, pki, server_dns
from tests.harness.remote import (
    AnythingAccepted,
    dialer,
    reached,
    remote_declaration,
    remote_process,
)
from tests.harness.reserved_ports import ReservedPort
from tests.harness.rotation import put_pair, serial_of

# Codes in which a transport, a proxy or a stopping server may speak as well as a method.
TELL_NOTHING = ("unavailable", "deadline_exceeded", "cancelled")
# Long enough for a call to arrive on a connection that stands, and as short as a test likes.
HANGING_S = 1.0
CODES = tuple(code.name.lower() for code in grpc.StatusCode if code is not grpc.StatusCode.OK)


@pytest.fixture
def remote() -> Iterator[RemoteDomain]:
    """A running trial service."""
    with running_remote_domain() as running:
        yield running


def call(method: str, parameters: bytes = b"{}", deadline_s: float = 60.0) -> Invocation:
    """Return an invocation of the usual key."""
    return Invocation(method, parameters, deadline_s, "plan-1/0")


class TestWhatIsSent:
    """Method, parameters, deadline, key; once; nothing else."""

    def test_the_answer_comes_back_byte_for_byte(self, remote: RemoteDomain) -> None:
        """Neither parsed nor spelled anew: the log commits to these bytes."""
        parameters = '{ "a" : 1.0, "b":"☃"}'.encode()
        with reached(remote_declaration(remote.address)) as domain:
            assert domain.invoke(call("echo", parameters)) == Output(parameters)
        (received,) = remote.received
        assert received.parameters_json == parameters

    def test_the_key_and_the_time_left_arrive(self, remote: RemoteDomain) -> None:
        """The deadline is gRPC's own, so that any service sees it."""
        with reached(remote_declaration(remote.address, max_duration_s=300.0)) as domain:
            domain.invoke(call("echo", deadline_s=200.0))
        (received,) = remote.received
        assert received.idempotency_key == "plan-1/0"
        assert received.remaining_s is not None
        assert 100.0 < received.remaining_s <= 200.0

    def test_the_time_left_is_at_most_the_methods_maximum(self, remote: RemoteDomain) -> None:
        """However much time the plan has."""
        with reached(remote_declaration(remote.address, max_duration_s=20.0)) as domain:
            domain.invoke(call("echo", deadline_s=200.0))
        assert remote.received[0].remaining_s is not None
        assert remote.received[0].remaining_s < 21.0  # gRPC rounds a timeout up when it sends it

    def test_no_metadata_tells_of_a_user_a_token_or_a_plan(self, remote: RemoteDomain) -> None:
        """What travels beside the message is the library's name, and nothing else."""
        with reached(remote_declaration(remote.address)) as domain:
            domain.invoke(call("echo"))
        assert set(remote.received[0].metadata) == {"user-agent"}

    def test_the_largest_parameters_of_a_plan_are_sent(self, remote: RemoteDomain) -> None:
        """A small bound on answers does not bound what is sent."""
        parameters = b'{"text":"' + b"x" * 262_000 + b'"}'
        with reached(remote_declaration(remote.address)) as domain:
            answer = domain.invoke(call("effect", parameters))
        assert answer == Output(b'{"effects":1}')

    @pytest.mark.parametrize("method", ["status_unavailable", "hang", "fail"])
    def test_a_call_that_goes_wrong_is_not_sent_again(
        self, remote: RemoteDomain, method: str
    ) -> None:
        """One attempt, whatever the code says about retrying."""
        with (
            reached(remote_declaration(remote.address, limits_s={"hang": HANGING_S})) as domain,
            suppress(DomainSilent),
        ):
            domain.describe()
            domain.invoke(call(method))
        assert [received.method for received in remote.received] == [method]

    def test_calls_share_one_connection(self, remote: RemoteDomain) -> None:
        """Forty calls of eight threads, and one socket to the domain."""
        with reached(remote_declaration(remote.address)) as domain, ThreadPoolExecutor(8) as many:
            answers = list(many.map(lambda _: domain.invoke(call("echo")), range(40)))
            assert connections_to(remote.address) == 1
        assert answers == [Output(b"{}")] * 40

    def test_a_dead_connection_is_given_up_after_seconds(self, remote: RemoteDomain) -> None:
        """Bytes that nobody acknowledges end it, or a cut would cost a quarter of an hour."""
        with reached(remote_declaration(remote.address)) as domain:
            domain.invoke(call("echo"))
            assert connections_to(remote.address, unacknowledged_ms=UNACKNOWLEDGED_MAX_MS) == 1


def connections_to(address: str, *, unacknowledged_ms: int | None = None) -> int:
    """Count this process's sockets to an address, with this TCP_USER_TIMEOUT where one is given."""
    port = int(address.rpartition(":")[2])
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            peer = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            continue
        with peer:
            try:
                is_client = peer.getpeername()[1] == port
                timeout_ms = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            except (OSError, IndexError):
                continue
        found += is_client and unacknowledged_ms in (None, timeout_ms)
    return found


class TestNothingWasSent:
    """Unreachable is said only where no connection stood."""

    def test_nobody_listens(self) -> None:
        """The port is nobody's: no connection, no effect."""
        with (
            ReservedPort() as address,
            reached(remote_declaration(address), dialer(connect_s=0.3)) as domain,
            pytest.raises(DomainUnreachable, match="nothing was sent"),
        ):
            domain.invoke(call("effect"))

    def test_somebody_listens_and_says_nothing(self) -> None:
        """A socket that accepts is no connection: TLS and HTTP/2 must stand."""
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            reached(
                remote_declaration(f"127.0.0.1:{listener.getsockname()[1]}"),
                dialer(connect_s=0.3),
            ) as domain,
            pytest.raises(DomainUnreachable),
        ):
            domain.invoke(call("effect"))

    def test_a_domain_that_comes_up_later_is_reached(self) -> None:
        """Stage-3 starts without it, and needs no restart."""
        with (
            ReservedPort() as address,
            reached(remote_declaration(address), dialer(connect_s=0.2)) as domain,
        ):
            with pytest.raises(DomainUnreachable):
                domain.invoke(call("echo"))
            remote = serve_remote_domain(pki(), TrialDomain(), address=address)
            answer = unreachable_until(lambda: domain.invoke(call("echo")))
            remote.stop()
        assert answer == Output(b"{}")

    def test_a_server_of_another_name_is_not_called(self, remote: RemoteDomain) -> None:
        """The name in the domains file is pinned, though the certificate is of the authority."""
        declaration = remote_declaration(remote.address, server_name=server_dns("stage4"))
        with (
            reached(declaration, dialer(connect_s=0.5)) as domain,
            pytest.raises(DomainUnreachable),
        ):
            domain.invoke(call("effect"))
        assert remote.received == []

    def test_a_server_of_another_authority_is_not_called(self, tmp_path: Path) -> None:
        """Right name, wrong authority: the domain is somebody else."""
        foreign = foreign_pki(tmp_path)
        remote = serve_remote_domain(foreign, TrialDomain())
        with (
            reached(remote_declaration(remote.address), dialer(connect_s=0.5)) as domain,
            pytest.raises(DomainUnreachable),
        ):
            domain.invoke(call("effect"))
        remote.stop()
        assert remote.received == []

    def test_a_caller_of_another_authority_is_not_heard(
        self, tmp_path: Path, remote: RemoteDomain
    ) -> None:
        """The domain's side of the same: a forged Stage-3 gets no connection."""
        foreign = foreign_pki(tmp_path)
        mixed = tmp_path / "mixed"
        mixed.mkdir()
        for name, source in (("stage3.crt", foreign), ("stage3.key", foreign), ("ca.crt", pki())):
            (mixed / name).write_bytes(source.file(name).read_bytes())
        (mixed / "stage3.key").chmod(0o600)
        with (
            reached(
                remote_declaration(remote.address), dialer(keys=Pki(mixed), connect_s=0.5)
            ) as domain,
            pytest.raises(DomainUnreachable),
        ):
            domain.invoke(call("effect"))
        assert remote.received == []

    def test_the_control_with_the_right_names_is_heard(self, remote: RemoteDomain) -> None:
        """The same call with nothing wrong has its effect."""
        with reached(remote_declaration(remote.address)) as domain:
            domain.invoke(call("effect"))
        assert remote.trial.effects == ["plan-1/0"]

    def test_a_closed_domain_sends_nothing(self, remote: RemoteDomain) -> None:
        """A drained service has no effect any more."""
        with reached(remote_declaration(remote.address)) as domain:
            domain.invoke(call("echo"))
        with pytest.raises(DomainUnreachable, match="closed"):
            domain.invoke(call("effect"))
        assert remote.trial.effects == []

    def test_without_certificates_only_loopback_is_reached(self) -> None:
        """As everywhere else in the house."""
        with pytest.raises(AddressRefused, match="not a loopback address"):
            Dialer(None, 1.0, lambda: 0.0, AnythingAccepted(), lambda _: None).open(
                remote_declaration("192.0.2.1:7411")
            )

    def test_a_domain_elsewhere_is_not_opened_without_a_way_to_reach_it(
        self, tmp_path: Path
    ) -> None:
        """A program that embeds Stage-3's domains must say how."""
        with pytest.raises(ValueError, match="no dialer"):
            open_domains(
                Catalogue([remote_declaration("127.0.0.1:1")]),
                tmp_path,
                on_late=lambda key, answer: None,
                on_raised=lambda raised: None,
            )

    def test_time_spent_connecting_is_not_spent_twice(self, remote: RemoteDomain) -> None:
        """A call whose time is up once the connection stands is not begun."""
        ticks = iter((0.0, 7.0))
        dialed = dialer()
        late = replace(dialed, monotonic_s=lambda: next(ticks))
        with (
            reached(remote_declaration(remote.address), late) as domain,
            pytest.raises(DomainUnreachable, match="no time was left"),
        ):
            domain.invoke(call("effect", deadline_s=5.0))
        assert remote.received == []


def test_a_replaced_certificate_is_shown_to_the_domain(
    remote: RemoteDomain, tmp_path: Path
) -> None:
    """Stage-3's own, without a restart and without a call that fails or is made twice."""
    issuer = tmp_path / "issuer"
    issuer.mkdir()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(pki().file(name), issuer / name)
    own = Pki(tmp_path)
    shutil.copy(pki().file("ca.crt"), own.file("ca.crt"))
    put_pair(pki().file("stage3"), own.file("stage3"))
    issue_caller(issuer, "fresh", f"spiffe://{TRUST_DOMAIN}/stage3", datetime.now(UTC))
    with reached(remote_declaration(remote.address), dialer(keys=own)) as domain:
        domain.invoke(call("echo"))
        before = remote.received[-1].certificate
        fresh = put_pair(issuer / "fresh", own.file("stage3"))
        made = 1
        # The new connection takes over once it stands; the suite's own time limit ends this.
        while serial_of(remote.received[-1].certificate) != fresh:
            assert isinstance(domain.invoke(call("echo")), Output)
            made += 1
            assert len(remote.received) == made

    assert serial_of(before) == serial_of(pki().file("stage3.crt").read_bytes()) != fresh


def unreachable_until(attempt: Callable[[], Answer]) -> Answer:
    """Ask until the domain is reached; the suite's own time limit ends it otherwise."""
    while True:
        with suppress(DomainUnreachable):
            return attempt()


def silent_until(attempt: Callable[[], Answer]) -> Answer:
    """Ask until something else than silence comes of it."""
    while True:
        with suppress(DomainSilent):
            return attempt()


def foreign_pki(directory: Path) -> Pki:
    """Return an authority that calls itself the same and is another."""
    keys = directory / "foreign"
    now = datetime.now(UTC)
    create_authority(keys, TRUST_DOMAIN, now)
    issue_server(keys, "trial-server", server_dns("trial"), now)
    issue_caller(keys, "stage3", f"spiffe://{TRUST_DOMAIN}/stage3", now)
    return Pki(keys)


class TestTheDomainAnswered:
    """An answer is an answer, also when it is none that can be used."""

    def test_a_failure_is_a_failure_with_its_text(self, remote: RemoteDomain) -> None:
        """The text goes to the log as a commitment."""
        with reached(remote_declaration(remote.address)) as domain:
            assert domain.invoke(call("fail")) == MethodFailed("the trial failed as asked")

    def test_a_long_text_is_cut_between_characters(self, remote: RemoteDomain) -> None:
        """The bound counts bytes, and half a character is no text."""
        with reached(remote_declaration(remote.address)) as domain:
            answer = domain.invoke(call("long_failure"))
        assert answer == MethodFailed("é" * (MAX_FAILURE_MESSAGE_BYTES // 2))

    @pytest.mark.parametrize("code", [code for code in CODES if code not in TELL_NOTHING])
    def test_a_status_of_the_domain_is_a_failure(self, remote: RemoteDomain, code: str) -> None:
        """It spoke, and what it said is that it did not succeed."""
        method = f"status_{code}"
        with reached(remote_declaration(remote.address, methods=(method,))) as domain:
            answer = domain.invoke(call(method))
        assert answer == MethodFailed(f"{code.upper()}: the domain says so")

    @pytest.mark.parametrize("method", ["huge", "huge_compressed"])
    def test_fifty_megabytes_are_an_answer_that_is_not_read(
        self, remote: RemoteDomain, method: str
    ) -> None:
        """Refused by its length, before or after it was unpacked; the domain is not silent."""
        with reached(remote_declaration(remote.address)) as domain:
            with pytest.raises(AnswerInvalid, match="larger than any"):
                domain.invoke(call(method))
            assert domain.invoke(call("echo")) == Output(b"{}")

    def test_an_answer_a_little_too_large_is_handed_on_to_be_refused(
        self, remote: RemoteDomain
    ) -> None:
        """The step's own bound is asked where all domains' answers are read."""
        with reached(remote_declaration(remote.address)) as domain:
            answer = domain.invoke(call("oversized"))
        assert isinstance(answer, Output)
        assert len(answer.json_bytes) == TRIAL_MAX_RESPONSE_BYTES + 2

    @pytest.mark.parametrize("method", ["malformed", "empty_answer"])
    def test_a_message_that_is_no_answer_is_invalid(
        self, remote: RemoteDomain, method: str
    ) -> None:
        """Bytes that do not decode, and a response that holds neither output nor failure."""
        with (
            reached(remote_declaration(remote.address)) as domain,
            pytest.raises(AnswerInvalid),
        ):
            domain.invoke(call(method))

    def test_success_without_a_message_is_invalid(self) -> None:
        """A status is no output."""
        with (
            http2_peer(pki(), WITHOUT_MESSAGE) as address,
            reached(remote_declaration(address)) as domain,
            pytest.raises(AnswerInvalid, match="no message"),
        ):
            domain.invoke(call("echo"))


class TestNobodyKnows:
    """Whatever ends a call without an answer leaves the step in doubt."""

    def test_a_hang_is_silence_at_the_methods_maximum(self, remote: RemoteDomain) -> None:
        """The call ends, the connection stays, the next call is answered."""
        limits_s = {"effect_then_hang": HANGING_S}
        with reached(remote_declaration(remote.address, limits_s=limits_s)) as domain:
            domain.describe()
            with pytest.raises(DomainSilent):
                domain.invoke(call("effect_then_hang"))
            assert domain.invoke(call("echo")) == Output(b"{}")
        assert remote.trial.effects == ["plan-1/0"]

    @pytest.mark.parametrize("code", TELL_NOTHING)
    def test_a_code_that_a_transport_speaks_too_is_silence(
        self, remote: RemoteDomain, code: str
    ) -> None:
        """Nobody can tell whether the method said it, or something before it."""
        method = f"status_{code}"
        with (
            reached(remote_declaration(remote.address, methods=(method,))) as domain,
            pytest.raises(DomainSilent),
        ):
            domain.invoke(call(method))

    def test_a_domain_cannot_pass_for_unreachable(self, remote: RemoteDomain) -> None:
        """It sends the very words of a call that found no connection, and is not believed."""
        with (
            reached(remote_declaration(remote.address)) as domain,
            pytest.raises(DomainSilent),
        ):
            domain.invoke(call("forged_unsent"))
        assert len(remote.received) == 1

    @pytest.mark.parametrize("name", SILENCES)
    def test_a_call_that_ends_without_a_status_is_silence(self, name: str) -> None:
        """Resets, pages of a proxy, broken frames, half an answer, a connection that closes."""
        with (
            http2_peer(pki(), SILENCES[name], close=closes(name)) as address,
            reached(remote_declaration(address)) as domain,
            pytest.raises(DomainSilent),
        ):
            domain.invoke(call("echo"))

    def test_a_killed_domain_is_silent_then_unreachable_then_back(self, tmp_path: Path) -> None:
        """SIGKILL in mid-call, a restart at the same address, and no hand on Stage-3."""
        with (
            remote_process(tmp_path) as process,
            reached(remote_declaration(process.address), dialer(connect_s=0.5)) as domain,
        ):
            # A connection may take longer than the moment for which one that is gone is waited for.
            assert unreachable_until(lambda: domain.invoke(call("echo"))) == Output(b"{}")
            outcome: list[BaseException] = []

            def hang() -> None:
                try:
                    domain.invoke(call("effect_then_hang"))
                except DomainSilent as silent:
                    outcome.append(silent)

            waiting = threading.Thread(target=hang)
            waiting.start()
            while not process.effects():
                pass
            process.send(signal.SIGKILL)
            waiting.join(10)
            assert len(outcome) == 1
            # For a few milliseconds the connection is not known to be dead: then it is silence.
            with pytest.raises((DomainSilent, DomainUnreachable)):
                domain.invoke(call("effect"))
            with pytest.raises(DomainUnreachable):
                silent_until(lambda: domain.invoke(call("effect")))
            process.start()
            assert unreachable_until(lambda: domain.invoke(call("echo"))) == Output(b"{}")
            assert process.effects() == ["plan-1/0"]

    def test_a_stopped_domain_is_silence_in_time(self, tmp_path: Path) -> None:
        """A process that holds its sockets and does nothing costs the method's maximum."""
        with (
            remote_process(tmp_path) as process,
            reached(remote_declaration(process.address, limits_s={"effect": 0.5})) as domain,
        ):
            assert domain.invoke(call("echo")) == Output(b"{}")
            process.send(signal.SIGSTOP)
            with pytest.raises(DomainSilent, match="DEADLINE_EXCEEDED"):
                domain.invoke(call("effect"))
            process.send(signal.SIGCONT)
