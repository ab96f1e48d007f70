"""Who gets past the handshake, and who past the identity interceptor, over real connections."""

import socket
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from servicekit.certificates import LEAF_LIFETIME
from servicekit.serving.call_facts import call_facts
from servicekit.serving.channel import open_channel
from servicekit.serving.identity import Identity, IdentityKind
from tests.component.servicekit.odd_certificates import (
    CALLER,
    SERVER,
    dns_name,
    issue_odd,
    odd_channel_credentials,
    uri_name,
)
from tests.component.servicekit.serving_world import (
    NOW,
    SERVER_NAME,
    Authority,
    World,
    call,
    failure,
    full,
    uri,
)
from tests.fakes.manual_clock import ManualClock

EARLIER = NOW - timedelta(hours=1)


def echo(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """Answer with the request."""
    return request


def shake_hands(world: World, port: int, highest: ssl.TLSVersion) -> ssl.SSLSocket:
    """Connect as a client of the standard library, up to this TLS version."""
    directory = world.authority.directory
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(directory / "ca.crt")
    context.load_cert_chain(directory / "client.crt", directory / "client.key")
    context.set_alpn_protocols(["h2"])
    context.maximum_version = highest
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname=SERVER_NAME
    )


class TestTransport:
    """What peers agree on before a call exists."""

    def test_peers_negotiate_tls_1_3(self, world: World) -> None:
        """A client that offers every version ends up with TLS 1.3 and HTTP/2."""
        server = world.serve({"Get": echo})
        with shake_hands(world, server.port, ssl.TLSVersion.MAXIMUM_SUPPORTED) as connection:
            assert connection.version() == "TLSv1.3"
            assert connection.selected_alpn_protocol() == "h2"

    def test_a_call_over_tls_1_2_is_refused(self, world: World) -> None:
        """An old handshake succeeds; the identity of a caller over it is not accepted."""
        server = world.serve({"Get": echo})
        with shake_hands(world, server.port, ssl.TLSVersion.TLSv1_2) as connection:
            assert connection.version() == "TLSv1.2"
            connection.sendall(_raw_call(full("Get")))
            while not world.refused and connection.recv(65_536):
                pass
        assert world.refused == [(None, full("Get"), "CLIENT_UNAUTHENTICATED")]

    def test_a_client_without_a_certificate_gets_no_connection(self, world: World) -> None:
        """The listener demands a certificate, it does not merely read one that is offered."""
        server = world.serve({"Get": echo})
        credentials = grpc.ssl_channel_credentials(world.authority.file.read_bytes())
        error = failure(world.channel(server, credentials), "Get")
        assert (error.code, error.reason) == ("UNAVAILABLE", "")

    def test_a_client_of_another_authority_gets_no_connection(
        self, world: World, tmp_path: Path
    ) -> None:
        """A certificate with a perfect identity is nothing without this authority's signature."""
        server = world.serve({"Get": echo})
        stranger = Authority(tmp_path / "stranger")
        pair = issue_odd(stranger.directory, [uri_name(uri("client/alice"))], not_before=EARLIER)
        credentials = odd_channel_credentials(world.authority.directory, pair)
        error = failure(world.channel(server, credentials), "Get")
        assert (error.code, error.reason) == ("UNAVAILABLE", "")
        assert world.refused == []

    @pytest.mark.parametrize(
        ("not_before", "usage"),
        [
            pytest.param(NOW - timedelta(days=2), CALLER, id="expired"),
            pytest.param(NOW + timedelta(days=2), CALLER, id="not yet valid"),
            pytest.param(EARLIER, SERVER, id="a server's certificate"),
        ],
    )
    def test_an_unfit_certificate_gets_no_connection(
        self, world: World, not_before: object, usage: x509.ObjectIdentifier
    ) -> None:
        """Validity and purpose are asked in the handshake; everything else about it is fine."""
        server = world.serve({"Get": echo})
        pair = issue_odd(
            world.authority.directory,
            [uri_name(uri("client/alice"))],
            not_before=not_before,  # type: ignore[arg-type]
            usage=usage,
        )
        credentials = odd_channel_credentials(world.authority.directory, pair)
        assert failure(world.channel(server, credentials), "Get").code == "UNAVAILABLE"

    def test_a_client_refuses_a_server_of_another_name(self, world: World) -> None:
        """The DNS SAN is pinned by target name: the same authority is not enough."""
        server = world.serve({"Get": echo})
        channel = open_channel(
            server.address, world.authority.caller("client/alice"), "other.stagegate.test"
        )
        world.channels.append(channel)
        assert failure(channel, "Get").code == "UNAVAILABLE"


class TestCaller:
    """What the one URI SAN must be, once the connection stands."""

    @pytest.mark.parametrize(
        ("names", "description"),
        [
            pytest.param([], "0 URI SANs", id="no SAN"),
            pytest.param([dns_name("alice.test")], "0 URI SANs", id="DNS only"),
            pytest.param(
                [uri_name(uri("client/alice")), uri_name(uri("client/bob"))],
                "2 URI SANs",
                id="two URIs",
            ),
            pytest.param(
                [uri_name(uri("client/alice")), dns_name("alice.test")],
                "beside its URI SAN",
                id="URI and DNS",
            ),
            pytest.param(
                [uri_name(uri("client/alice")), x509.RFC822Name("alice@stagegate.test")],
                "beside its URI SAN",
                id="URI and e-mail",
            ),
            pytest.param(
                [uri_name("spiffe://other.test/client/alice")], "trust domain", id="other domain"
            ),
            pytest.param(
                [uri_name("spiffe://stagegate.test.evil/client/alice")],
                "trust domain",
                id="longer domain",
            ),
            pytest.param([uri_name(uri("root/alice"))], "unknown kind", id="unknown kind"),
            pytest.param([uri_name(uri("client/Alice"))], "no valid name", id="upper case"),
            pytest.param([uri_name(uri("client/a/b"))], "no valid name", id="deeper path"),
            pytest.param([uri_name(uri("stage4/x"))], "takes no name", id="named stage4"),
        ],
    )
    def test_any_other_set_of_names_is_refused(
        self, world: World, names: Sequence[x509.GeneralName], description: str
    ) -> None:
        """The caller learns one answer for all of them; the log says which it was."""
        server = world.serve({"Get": echo})
        pair = issue_odd(world.authority.directory, names, not_before=EARLIER)
        credentials = odd_channel_credentials(world.authority.directory, pair)
        error = failure(world.channel(server, credentials), "Get")
        assert (error.code, error.reason, error.domain) == (
            "UNAUTHENTICATED",
            "CLIENT_UNAUTHENTICATED",
            "stagegate",
        )
        assert error.message == "a client certificate with one accepted identity is required"
        assert world.refused == [(None, full("Get"), "CLIENT_UNAUTHENTICATED")]
        refusals = [line for line in world.lines() if line["event"] == "caller_refused"]
        assert [description in line["description"] for line in refusals] == [True]

    def test_a_servicer_learns_who_called(self, world: World) -> None:
        """The facts of a call hold the verified identity and the method."""
        seen = []

        def get(_request: bytes, context: grpc.ServicerContext) -> bytes:
            facts = call_facts(context)
            seen.append((facts.identity, facts.method))
            return b""

        server = world.serve({"Get": get})
        call(world.channel(server), "Get")
        assert seen == [(Identity(IdentityKind.CLIENT, "alice", uri("client/alice")), full("Get"))]

    def test_two_callers_of_one_listener_are_never_confused(self, world: World) -> None:
        """Facts belong to a call: alternating callers each see their own name, every time."""

        def get(_request: bytes, context: grpc.ServicerContext) -> bytes:
            return call_facts(context).identity.name.encode()

        server = world.serve({"Get": get})
        alice = world.channel(server)
        bob = world.channel(server, world.authority.caller("client/bob"))
        answers = [call(channel, "Get") for _ in range(20) for channel in (alice, bob)]
        assert answers == [b"alice", b"bob"] * 20


class TestOpenConnection:
    """What a handshake asked once, asked again of every call."""

    @staticmethod
    def peer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer with the caller's end of the connection."""
        return context.peer().encode()

    def test_a_certificate_expires_on_an_open_connection(self, world: World) -> None:
        """The next call is refused and recorded; the connection is the one that was accepted."""
        clock = ManualClock(microseconds(NOW))
        policy = world.policy(now_us=clock.now_us)
        server = world.serve({"Get": self.peer}, policy=policy)
        channel = world.channel(server)
        accepted = [call(channel, "Get") for _ in range(3)]

        clock.advance(LEAF_LIFETIME.total_seconds())
        error = failure(channel, "Get")

        assert (error.code, error.reason) == ("UNAUTHENTICATED", "CLIENT_UNAUTHENTICATED")
        assert error.message == "a client certificate with one accepted identity is required"
        assert world.refused == [(None, full("Get"), "CLIENT_UNAUTHENTICATED")]
        (line,) = (line for line in world.lines() if line["event"] == "caller_refused")
        assert line["description"] == f"the certificate of {uri('client/alice')} has expired"
        assert {peer.decode() for peer in accepted} == {line["peer"]}

    def test_until_the_last_moment_it_is_accepted(self, world: World) -> None:
        """The control: the same call a moment earlier, and the refusal is not for ever."""
        clock = ManualClock(microseconds(NOW))
        policy = world.policy(now_us=clock.now_us)
        channel = world.channel(world.serve({"Get": self.peer}, policy=policy))
        # A certificate counts whole seconds.
        last_s = int(LEAF_LIFETIME.total_seconds()) - 1
        clock.advance(last_s)
        assert call(channel, "Get")
        clock.advance(1)
        assert failure(channel, "Get").reason == "CLIENT_UNAUTHENTICATED"
        clock.step(-1)
        assert call(channel, "Get")


def microseconds(instant: datetime) -> int:
    """Return an instant as a clock tells it."""
    return int(instant.timestamp() * 1_000_000)


def _raw_call(path: str) -> bytes:
    """Return the bytes of one gRPC call: preface, settings, headers without compression."""

    def literal(name: str, value: str) -> bytes:
        return bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (
            len(payload).to_bytes(3, "big")
            + bytes((kind, flags))
            + stream.to_bytes(4, "big")
            + payload
        )

    headers = b"".join(
        literal(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "https"),
            (":path", path),
            (":authority", SERVER_NAME),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
    )
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, b"")
        + frame(1, 4, 1, headers)
        + frame(0, 1, 1, b"\0\0\0\0\0")
    )
