"""Who may call what: every identity at every method of every listener, over the wire.

The table below is written out by hand, beside the contract and not from the code. A method that
gains no line here, or a line whose method is gone, fails a test of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # ships no types
from stagegate.stage3.v1 import (
    audit_service_pb2,
    operator_service_pb2,
    plan_execution_service_pb2,
    token_service_pb2,
)
from stagegate.stage4.v1 import plan_service_pb2

from servicekit.certificates import create_authority, issue_caller
from servicekit.serving.channel import open_channel
from servicekit.serving.client_errors import ClientError, decode_rpc_error
from tests.component.servicekit.odd_certificates import (
    SERVER,
    dns_name,
    issue_odd,
    odd_channel_credentials,
    uri_name,
)
from tests.harness.pki import CALLERS, TRUST_DOMAIN, pki, server_dns, uri

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.pair import Pair

HEALTH = "/grpc.health.v1.Health/"
STAGE3 = "/stagegate.stage3.v1."
STAGE4 = "/stagegate.stage4.v1."

OPERATORS = {"oona", "issuer", "revoker", "auditor", "halter", "curator"}
TABLE: dict[str, dict[str, set[str]]] = {
    "plans": {
        f"{STAGE3}PlanExecutionService/ExecuteMultiDomainPlan": {"stage4"},
        f"{HEALTH}Check": {"stage4"},
        f"{HEALTH}Watch": {"stage4"},
    },
    "operators": {
        f"{STAGE3}TokenService/IssueToken": {"oona", "issuer"},
        f"{STAGE3}TokenService/GetToken": {"oona", "issuer", "revoker", "auditor"},
        f"{STAGE3}TokenService/ListTokens": {"oona", "issuer", "revoker", "auditor"},
        f"{STAGE3}TokenService/RevokeToken": {"oona", "revoker"},
        f"{STAGE3}AuditService/ListEvents": {"oona", "auditor"},
        f"{STAGE3}AuditService/GetCheckpoint": {"oona", "auditor"},
        f"{STAGE3}OperatorService/GetStatus": OPERATORS,
        f"{STAGE3}OperatorService/ListDomains": OPERATORS,
        f"{STAGE3}OperatorService/DescribeDomain": {"oona", "curator"},
        f"{STAGE3}OperatorService/AcceptDomain": {"oona", "curator"},
        f"{STAGE3}OperatorService/ReloadDomains": {"oona", "curator"},
        f"{STAGE3}OperatorService/ExportDomains": {"oona", "curator"},
        f"{STAGE3}OperatorService/Halt": {"oona", "halter"},
        f"{STAGE3}OperatorService/Resume": {"oona", "halter"},
        f"{HEALTH}Check": OPERATORS,
        f"{HEALTH}Watch": OPERATORS,
    },
    "clients": {
        f"{STAGE4}PlanService/ExecutePlan": {"cli", "other"},
        f"{STAGE4}PlanService/ValidatePlan": {"cli", "other"},
        f"{STAGE4}PlanService/GetPlan": {"cli", "other", "reader"},
        f"{STAGE4}PlanService/ListPlans": {"cli", "other", "reader"},
        f"{STAGE4}PlanService/ListAuditEvents": {"cli", "other", "reader"},
        f"{HEALTH}Check": {"cli", "other", "reader"},
        f"{HEALTH}Watch": {"cli", "other", "reader"},
    },
}
"""Listener, method, and the certificates that may pass. `nobody` is an operator without a role."""

# What no listener serves, or what another listener serves: denied to everybody alike.
FOREIGN = (
    f"{STAGE3}PlanExecutionService/ExecutePlan",
    f"{STAGE3}PlanExecutionService/executeMultiDomainPlan",
    f"{STAGE3}Nothing/AtAll",
    f"{STAGE4}PlanService/DeletePlan",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.channelz.v1.Channelz/GetServers",
    "/",
    "/stagegate.stage3.v1.TokenService/IssueToken/",
)
EVERY_METHOD = {method for methods in TABLE.values() for method in methods}
METHODS = [
    (listener, method)
    for listener, methods in TABLE.items()
    for method in [*sorted(EVERY_METHOD), *FOREIGN]
    # Watch never ends by itself; whether it is permitted is asked below.
    if not (method == f"{HEALTH}Watch" and method in methods)
]
DNS = {"plans": "stage3", "operators": "stage3", "clients": "stage4"}


def address(pair: Pair, listener: str) -> str:
    """Return where a listener of the pair answers."""
    if listener == "clients":
        return pair.stage4.service.addresses.clients
    return str(getattr(pair.stage3.service, listener).address)


def channel(pair: Pair, listener: str, caller: str) -> grpc.Channel:
    """Return a channel that the pair keeps."""
    if listener == "clients":
        pair.stage4.plans(caller)
        return pair.stage4._channels[caller]
    return pair.stage3.channel(caller, listener)


def call(way: grpc.Channel, method: str) -> ClientError | None:
    """Call a method with an empty message, and return how it failed, or None."""
    raw: Any = way.unary_unary(method)
    try:
        raw(b"", timeout=20)
    except grpc.RpcError as error:
        return decode_rpc_error(error)
    return None


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("listener", "method"), METHODS)
def test_exactly_the_tables_pairs_pass_the_door(
    pair: Pair, listener: str, method: str, caller: str
) -> None:
    """PERMISSION_DENIED METHOD_NOT_PERMITTED for every other pair, known method or not."""
    error = call(channel(pair, listener, caller), method)
    if caller in TABLE[listener].get(method, set()):
        assert error is None or error.reason not in {
            "METHOD_NOT_PERMITTED",
            "CLIENT_UNAUTHENTICATED",
            "",
        }
    else:
        assert error is not None
        assert (error.code, error.reason, error.domain) == (
            "PERMISSION_DENIED",
            "METHOD_NOT_PERMITTED",
            "stagegate",
        )
    if method == f"{STAGE3}OperatorService/Halt" and error is None:
        assert call(channel(pair, "operators", "halter"), method.replace("Halt", "Resume")) is None


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("listener", TABLE)
def test_watching_health_is_permitted_like_asking_for_it(
    pair: Pair, listener: str, caller: str
) -> None:
    """The first message for those who may, METHOD_NOT_PERMITTED for the others."""
    way: Any = channel(pair, listener, caller)
    watch = way.unary_stream(f"{HEALTH}Watch")(b"", timeout=20)
    if caller in TABLE[listener][f"{HEALTH}Watch"]:
        first = health_pb2.HealthCheckResponse.FromString(next(watch))
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        return
    with pytest.raises(grpc.RpcError) as refused:
        next(watch)
    assert decode_rpc_error(refused.value).reason == "METHOD_NOT_PERMITTED"


def test_every_method_that_exists_is_in_the_table() -> None:
    """A method that is added to a service is added to the table, or this fails."""
    services = {
        "plans": [plan_execution_service_pb2],
        "operators": [token_service_pb2, audit_service_pb2, operator_service_pb2],
        "clients": [plan_service_pb2],
    }
    for listener, modules in services.items():
        described = {
            f"/{service.full_name}/{method.name}"
            for module in modules
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }
        assert {m for m in TABLE[listener] if not m.startswith(HEALTH)} == described


def test_every_kind_of_caller_is_tried() -> None:
    """All six kinds of identity, every role alone, all of them together, and none."""
    kinds = {identity.partition("/")[0] for identity in CALLERS.values()}
    assert kinds == {"stage3", "stage4", "operator", "auditor", "client", "domain"}
    assert set(CALLERS) > OPERATORS


@pytest.mark.parametrize("probe", ["stage3", "stage4"])
def test_probes_are_told_health_and_nothing_else(pair: Pair, probe: str) -> None:
    """Without a certificate, on loopback: Check answers, and no other method is there."""
    where = (
        pair.stage3.service.probes.address
        if probe == "stage3"
        else pair.stage4.service.addresses.probes
    )
    with open_channel(where, None, "") as way:
        assert call(way, f"{HEALTH}Check") is None
        for method in sorted(EVERY_METHOD - {f"{HEALTH}Check", f"{HEALTH}Watch"}):
            error = call(way, method)
            assert error is not None
            assert error.code in {"UNIMPLEMENTED", "PERMISSION_DENIED"}, method


def _first_method(listener: str) -> str:
    return next(iter(TABLE[listener]))


def _refused(pair: Pair, listener: str, credentials: grpc.ChannelCredentials | None) -> ClientError:
    where = address(pair, listener)
    with open_channel(where, credentials, server_dns(DNS[listener])) as way:
        error = call(way, _first_method(listener))
        assert error is not None
        return error


@pytest.mark.parametrize("listener", TABLE)
class TestCertificates:
    """A caller is the one URI SAN of a certificate of the deployment's own authority."""

    def test_no_tls_is_no_connection(self, pair: Pair, listener: str) -> None:
        """Plain text reaches nobody."""
        assert _refused(pair, listener, None).code == "UNAVAILABLE"

    def test_no_certificate_is_no_connection(self, pair: Pair, listener: str) -> None:
        """A peer without a certificate is refused in the handshake."""
        trusting = grpc.ssl_channel_credentials(pki().file("ca.crt").read_bytes())
        assert _refused(pair, listener, trusting).code == "UNAVAILABLE"

    def test_another_authoritys_certificate_is_none(
        self, pair: Pair, listener: str, tmp_path: Path
    ) -> None:
        """The same identity, signed by somebody else, is refused in the handshake."""
        now = datetime.now(UTC)
        create_authority(tmp_path, TRUST_DOMAIN, now)
        caller = next(iter(TABLE[listener][_first_method(listener)]))
        issue_caller(tmp_path, "foreign", uri(caller), now)
        foreign = odd_channel_credentials(
            pki().directory,
            ((tmp_path / "foreign.crt").read_bytes(), (tmp_path / "foreign.key").read_bytes()),
        )
        assert _refused(pair, listener, foreign).code == "UNAVAILABLE"

    @pytest.mark.parametrize("when", ["expired", "not yet valid"])
    def test_a_certificate_is_of_its_time(self, pair: Pair, listener: str, when: str) -> None:
        """Expired or not yet valid: refused in the handshake."""
        shift = timedelta(days=-2) if when == "expired" else timedelta(days=1)
        odd = issue_odd(
            pki().directory, [uri_name(uri("stage4"))], not_before=datetime.now(UTC) + shift
        )
        error = _refused(pair, listener, odd_channel_credentials(pki().directory, odd))
        assert error.code == "UNAVAILABLE"

    @pytest.mark.parametrize(
        "names",
        [
            pytest.param((), id="none"),
            pytest.param(("cli", "stage4"), id="two"),
            pytest.param(("stage4", "oona"), id="two others"),
            pytest.param(("stage4", "stage4"), id="the same twice"),
        ],
    )
    def test_exactly_one_name_is_accepted(
        self, pair: Pair, listener: str, names: tuple[str, ...]
    ) -> None:
        """No URI SAN, or two of them: UNAUTHENTICATED, whoever the first one is."""
        odd = issue_odd(
            pki().directory,
            [uri_name(uri(name)) for name in names],
            not_before=datetime.now(UTC) - timedelta(hours=1),
        )
        error = _refused(pair, listener, odd_channel_credentials(pki().directory, odd))
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "CLIENT_UNAUTHENTICATED")

    @pytest.mark.parametrize(
        "identity",
        [
            "spiffe://elsewhere.test/stage4",
            f"spiffe://{TRUST_DOMAIN}/stage4/two",
            f"spiffe://{TRUST_DOMAIN}/Stage4",
            f"spiffe://{TRUST_DOMAIN}/client/",
            f"spiffe://{TRUST_DOMAIN}/root/oona",
            f"spiffe://{TRUST_DOMAIN}/operator/oona/",
            f"https://{TRUST_DOMAIN}/stage4",
        ],
    )
    def test_a_name_that_is_nearly_right_is_nobody(
        self, pair: Pair, listener: str, identity: str
    ) -> None:
        """Another trust domain, kind, case or form: UNAUTHENTICATED."""
        odd = issue_odd(
            pki().directory,
            [uri_name(identity)],
            not_before=datetime.now(UTC) - timedelta(hours=1),
        )
        error = _refused(pair, listener, odd_channel_credentials(pki().directory, odd))
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "CLIENT_UNAUTHENTICATED")

    def test_a_servers_certificate_is_no_callers(self, pair: Pair, listener: str) -> None:
        """The servers' own certificates open no door, although the authority signed them."""
        odd = issue_odd(
            pki().directory,
            [dns_name(server_dns("stage4"))],
            not_before=datetime.now(UTC) - timedelta(hours=1),
            usage=SERVER,
        )
        error = _refused(pair, listener, odd_channel_credentials(pki().directory, odd))
        assert error.code in {"UNAVAILABLE", "UNAUTHENTICATED"}

    def test_metadata_is_no_identity(self, pair: Pair, listener: str) -> None:
        """What a caller says of itself changes nothing."""
        permitted = next(iter(TABLE[listener][_first_method(listener)]))
        way: Any = channel(pair, listener, "nobody")
        claims = [
            ("x-spiffe-id", uri(permitted)),
            ("authorization", f"Bearer {uri(permitted)}"),
            ("x-forwarded-client-cert", f"URI={uri(permitted)}"),
        ]
        with pytest.raises(grpc.RpcError) as refused:
            way.unary_unary(_first_method(listener))(b"", timeout=20, metadata=claims)
        assert decode_rpc_error(refused.value).reason == "METHOD_NOT_PERMITTED"


def test_a_domain_that_calls_back_is_recorded_at_every_door_it_tries(pair: Pair) -> None:
    """BOUNDARY_VIOLATION at Stage-3, caller_refused at Stage-4.

    Callers of another kind leave nothing at Stage-3: their certificates are the operators' affair.
    """
    below, above = pair.sizes()
    for method in TABLE["operators"]:
        if not method.endswith("Watch"):
            call(channel(pair, "operators", "domain"), method)
    events = pair.stage3.events()[below:]
    tried = [m for m in TABLE["operators"] if not m.endswith("Watch")]
    assert [event["additional_data"]["attempted"] for event in events] == tried
    assert {event["event_type"] for event in events} == {"BOUNDARY_VIOLATION"}
    assert {event["additional_data"]["caller"] for event in events} == {uri("domain")}
    call(channel(pair, "clients", "domain"), f"{STAGE4}PlanService/ExecutePlan")
    record = pair.stage4.events("reader")[above:]
    assert [(r["record_type"], r["caller"]) for r in record] == [("caller_refused", uri("domain"))]
    below, _ = pair.sizes()
    call(channel(pair, "operators", "cli"), f"{STAGE3}TokenService/IssueToken")
    assert pair.sizes()[0] == below
