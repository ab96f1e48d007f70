"""Who is believed: every identity against every method, over the wire between containers.

The calls are made past the product's own client: with certificates that it would not load, to a
name that it would not choose.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stagegate.stage3.v1 import (
    audit_service_pb2,
    operator_service_pb2,
    plan_execution_service_pb2,
    token_service_pb2,
)
from stagegate.stage4.v1 import plan_service_pb2

from servicekit.certificates import create_authority, issue_caller
from tests.component.servicekit.odd_certificates import dns_name, issue_odd, uri_name
from tests.compose.marks import COMPOSED
from tests.compose.stack import CALL, TRUST_DOMAIN, Stack

pytestmark = COMPOSED

HEALTH = "/grpc.health.v1.Health/Check"
STAGE4_URI = f"spiffe://{TRUST_DOMAIN}/stage4"
REFUSED = {"METHOD_NOT_PERMITTED", "CLIENT_UNAUTHENTICATED"}


def methods_of(*modules: object) -> list[str]:
    """Return the full names of all unary methods that these modules describe."""
    return [
        f"/{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()  # type: ignore[attr-defined]  # generated modules have it
        for method in service.methods
        if not method.server_streaming
    ]


PLAN_METHODS = methods_of(plan_execution_service_pb2)
OPERATOR_METHODS = methods_of(token_service_pb2, audit_service_pb2, operator_service_pb2)
CLIENT_METHODS = methods_of(plan_service_pb2)
READ_METHODS = {"GetPlan", "ListPlans", "ListAuditEvents"}
IDENTITIES = ("stage4-caller", "operator", "demo", "auditor", "domain-text")


@pytest.fixture(scope="module")
def certificates(stack: Stack) -> Path:
    """Return a directory, mounted in the callers, with every identity and every forgery."""
    authority = stack.fetch("authority", stack.home / "authority") / "issued"
    issue_caller(authority, "domain-text", f"spiffe://{TRUST_DOMAIN}/domain/text", now())
    held = stack.home / "certificates"
    foreign = stack.home / "foreign"
    create_authority(foreign, TRUST_DOMAIN, now())
    issue_caller(foreign, "other-authority", STAGE4_URI, now())
    pairs = {
        "other-name": issue_odd(
            authority, [uri_name(f"spiffe://{TRUST_DOMAIN}/stage5")], not_before=before(1)
        ),
        "other-domain": issue_odd(
            authority, [uri_name("spiffe://other.test/stage4")], not_before=before(1)
        ),
        "two-names": issue_odd(
            authority,
            [uri_name(STAGE4_URI), uri_name(f"spiffe://{TRUST_DOMAIN}/operator/operator")],
            not_before=before(1),
        ),
        "no-name": issue_odd(authority, [], not_before=before(1)),
        "server-name": issue_odd(
            authority,
            [uri_name(STAGE4_URI), dns_name(f"stage4.{TRUST_DOMAIN}")],
            not_before=before(1),
        ),
        "expired": issue_odd(
            authority, [uri_name(STAGE4_URI)], not_before=before(48), lifetime=timedelta(hours=24)
        ),
        "not-yet": issue_odd(authority, [uri_name(STAGE4_URI)], not_before=before(-24)),
        "genuine": issue_odd(authority, [uri_name(STAGE4_URI)], not_before=before(1)),
    }
    for name, (certificate, key) in pairs.items():
        (held / f"{name}.crt").write_bytes(certificate)
        (held / f"{name}.key").write_bytes(key)
    sources = dict.fromkeys(IDENTITIES, authority) | {"other-authority": foreign}
    for name, source in sources.items():
        for suffix in ("crt", "key"):
            (held / f"{name}.{suffix}").write_bytes((source / f"{name}.{suffix}").read_bytes())
    (held / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
    # Another user reads them in the container; they are worth nothing outside this test.
    held.chmod(0o755)
    for file in held.iterdir():
        file.chmod(0o644)
    return held


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def before(hours: float) -> datetime:
    """Return a time that many hours ago."""
    return now() - timedelta(hours=hours)


def call(
    pair: Stack, name: str, address: str, server: str, *methods: str
) -> Mapping[str, list[str]]:
    """Call methods as somebody from the right place; return code and reason of each."""
    words = ("/certificates", name, address, f"{server}.{TRUST_DOMAIN}", *methods)
    if address.startswith("127."):
        told = pair.compose("run", "--rm", "-T", "--no-deps", "operator-caller", "-c", CALL, *words)
    else:
        told = pair.execute("back-caller", CALL, *words)
    answers: dict[str, list[str]] = json.loads(told)
    return answers


def permitted(answers: Mapping[str, list[str]]) -> set[str]:
    """Return the methods whose call got past the door."""
    return {
        method
        for method, (code, reason) in answers.items()
        if reason not in REFUSED and code != "UNAVAILABLE"
    }


FORGERIES = {
    "other-authority": "UNAVAILABLE",
    "expired": "UNAVAILABLE",
    "not-yet": "UNAVAILABLE",
    "other-name": "UNAUTHENTICATED",
    "other-domain": "UNAUTHENTICATED",
    "two-names": "UNAUTHENTICATED",
    "no-name": "UNAUTHENTICATED",
    "server-name": "UNAUTHENTICATED",
}


@pytest.mark.parametrize(("forgery", "code"), FORGERIES.items())
def test_a_forged_stage4_is_refused(
    pair: Stack, certificates: Path, forgery: str, code: str
) -> None:
    """On the right network and with the wrong certificate nobody is Stage-4."""
    answers = call(pair, forgery, "stage3-back:7403", "stage3", *PLAN_METHODS, HEALTH)

    assert permitted(answers) == set()
    assert {answer[0] for answer in answers.values()} == {code}


def test_the_same_way_with_a_genuine_certificate_is_open(pair: Stack, certificates: Path) -> None:
    """The control: made as the forgeries were, with the one right name, it is believed."""
    answers = call(pair, "genuine", "stage3-back:7403", "stage3", *PLAN_METHODS, HEALTH)

    assert answers == {PLAN_METHODS[0]: ["INVALID_ARGUMENT", "PLAN_INVALID"], HEALTH: ["OK", ""]}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_stage3s_plan_listener_is_stage4s_alone(
    pair: Stack, certificates: Path, identity: str
) -> None:
    """One RPC for one identity; what belongs to the other listener is refused here to everybody."""
    methods = (*PLAN_METHODS, HEALTH, *OPERATOR_METHODS, *CLIENT_METHODS)

    answers = call(pair, identity, "stage3-back:7403", "stage3", *methods)

    assert permitted(answers) == ({*PLAN_METHODS, HEALTH} if identity == "stage4-caller" else set())


@pytest.mark.parametrize("identity", IDENTITIES)
def test_stage3s_operator_listener_is_the_operators_alone(
    pair: Stack, certificates: Path, identity: str
) -> None:
    """Standing on Stage-3's loopback makes nobody an operator; the one RPC is refused here."""
    # Halting would be a permitted call with an effect.
    methods = [*(m for m in OPERATOR_METHODS if not m.endswith("/Halt")), *PLAN_METHODS, HEALTH]

    answers = call(pair, identity, "127.0.0.1:7404", "stage3", *methods)

    expected = {m for m in methods if m not in PLAN_METHODS} if identity == "operator" else set()
    assert permitted(answers) == expected


@pytest.fixture
def beside_stage4(pair: Stack) -> Iterator[None]:
    """Put the caller where clients are."""
    with pair.joined("back-caller", "front"):
        yield


@pytest.mark.parametrize("identity", IDENTITIES)
def test_stage4s_listener_is_the_clients_and_auditors_may_read(
    pair: Stack, certificates: Path, beside_stage4: None, identity: str
) -> None:
    """Stage-4's own caller certificate opens nothing at Stage-4."""
    methods = (*CLIENT_METHODS, HEALTH)
    may = {
        "demo": {*CLIENT_METHODS, HEALTH},
        "auditor": {HEALTH, *(m for m in CLIENT_METHODS if m.split("/")[-1] in READ_METHODS)},
    }

    answers = call(pair, identity, "stage4-front:7401", "stage4", *methods)

    assert permitted(answers) == may.get(identity, set())
