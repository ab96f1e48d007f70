"""The helper that domains are written with: who may call, what is given, what may be said."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import jsonschema_rs
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no types
from stagegate.domain.v1 import domain_service_pb2 as messages
from stagegate.domain.v1.domain_service_pb2_grpc import DomainServiceStub

from servicekit.certificates import issue_server
from servicekit.clock import SystemClock
from servicekit.ijson import JsonValue
from servicekit.log import logger
from servicekit.serving.client_errors import decode_rpc_error
from servicekit.serving.server import ListenRefused, PortUnavailable
from stage3_service.adapters.declarations_file import read_declarations
from stage3_service.domains.declaration import DomainDeclaration
from stage3_service.domains.port import DomainUnreachable, Invocation, MethodFailed, Output
from stagegate_domain import Call, DomainService
from stagegate_domain import MethodFailed as Failure
from stagegate_domain.declaration import declaration
from stagegate_domain.service import Run
from stagegate_domain.settings import DomainSettings, Tls
from stagegate_domain.wire import RunningDomain, build_domain
from tests.harness.pki import CALLERS, TRUST_DOMAIN, pki, server_dns
from tests.harness.remote import reached, remote_declaration
from tests.harness.rotation import put_pair, serial_shown

SERVED = ("echo", "refuse", "explode", "grow", "not_json", "plain", "tell_time")
SCHEMA: dict[str, JsonValue] = {"type": "object", "required": ["a"], "properties": {"a": {}}}


def declared(address: str, *methods: str, max_duration_s: float = 5.0) -> DomainDeclaration:
    """Declare these methods of a domain at `address`, and no other."""
    whole = remote_declaration(address, max_duration_s=max_duration_s, methods=methods)
    return replace(whole, methods={name: whole.methods[name] for name in methods})


def trial_service() -> DomainService:
    """Return a domain with one method per kind of behaviour."""
    domain = DomainService("trial")

    def declare(**changes: Any) -> Callable[[Run], Run]:
        return _declare(domain, **{"max_duration_s": 5, **changes})

    @declare(parameters_schema=SCHEMA)
    def echo(call: Call) -> JsonValue:
        return {"a": call.parameters["a"], "key": call.idempotency_key}

    @declare()
    def refuse(call: Call) -> JsonValue:
        raise Failure("the account is closed")

    @declare()
    def explode(call: Call) -> JsonValue:
        raise RuntimeError(f"could not store {call.parameters}")

    @declare()
    def grow(call: Call) -> JsonValue:
        return "x" * 63

    @declare()
    def not_json(call: Call) -> JsonValue:
        return float("nan")

    @declare()
    def plain(call: Call) -> JsonValue:
        return None

    @declare(max_duration_s=2)
    def tell_time(call: Call) -> JsonValue:
        return 0 < call.remaining_s() <= 2.1

    return domain


def settings(**changes: Any) -> DomainSettings:
    """Return settings on ports that the system chooses."""
    keys = pki()
    tls = Tls(
        certificate_file=keys.file("trial-server.crt"),
        key_file=keys.file("trial-server.key"),
        client_authority_file=keys.file("ca.crt"),
    )
    return DomainSettings(
        **{
            "trust_domain": TRUST_DOMAIN,
            "listen": "127.0.0.1:0",
            "probes": "127.0.0.1:0",
            "tls": tls,
            **changes,
        }
    )


def build(chosen: DomainSettings, domain: DomainService | None = None) -> RunningDomain:
    """Bind a domain, by default the trial domain."""
    return build_domain(
        domain or trial_service(),
        chosen,
        clock=SystemClock(),
        entropy=os.urandom,
        log=logger("trial"),
    )


@dataclass(frozen=True, slots=True)
class World:
    """Hold a running domain, and speak to it as any caller."""

    running: RunningDomain

    def stub(self, caller: str) -> DomainServiceStub:
        """Return the service as this caller sees it."""
        return DomainServiceStub(pki().channel(caller, self.running.calls.address, "trial"))

    def invoke(self, method: str, parameters: bytes = b'{"a":1}') -> Output | MethodFailed:
        """Call a method as Stage-3 does, through its adapter."""
        with reached(declared(self.running.calls.address, *SERVED)) as domain:
            return domain.invoke(Invocation(method, parameters, 5.0, "plan-1/0"))


@pytest.fixture
def world() -> Iterator[World]:
    """Run the trial domain."""
    running = build(settings())
    running.start()
    yield World(running)
    running.stop(1.0)


class TestACall:
    """Strict parameters in, bounded JSON out."""

    def test_a_method_gets_its_parameters_and_key(self, world: World) -> None:
        """And answers with JSON of its own."""
        answer = world.invoke("echo", '{"a":"☃"}'.encode())
        assert answer == Output('{"a":"☃","key":"plan-1/0"}'.encode())

    def test_null_is_an_answer(self, world: World) -> None:
        """A method that returns nothing answered null."""
        assert world.invoke("plain") == Output(b"null")

    def test_a_method_sees_how_long_it_is_waited_for(self, world: World) -> None:
        """The deadline that came with the call."""
        short = declared(world.running.calls.address, *SERVED, max_duration_s=2)
        with reached(short) as domain:
            assert domain.invoke(Invocation("tell_time", b"{}", 9.0, "p/0")) == Output(b"true")

    @pytest.mark.parametrize(
        ("parameters", "text"),
        [
            (b"{}", "the parameters do not fit the schema of the method"),
            (b"[]", "the parameters are not an object"),
            (b'{"a":1,"a":2}', "the parameters are not strict JSON"),
            (b"\xff", "the parameters are not strict JSON"),
        ],
    )
    def test_parameters_that_do_not_fit_never_reach_the_method(
        self, world: World, parameters: bytes, text: str
    ) -> None:
        """The second lock behind Stage-3's own; it quotes no value."""
        answer = world.invoke("echo", parameters)
        assert isinstance(answer, MethodFailed)
        assert answer.message.startswith(text)

    def test_a_method_says_why_it_failed(self, world: World) -> None:
        """In one sentence of its own."""
        assert world.invoke("refuse") == MethodFailed("the account is closed")

    @pytest.mark.parametrize("method", ["explode", "not_json"])
    def test_an_error_nobody_foresaw_tells_nothing(self, world: World, method: str) -> None:
        """An incident number; the text, which quotes parameters, stays in the domain's log."""
        answer = world.invoke(method, b'{"password":"hunter2"}')
        assert isinstance(answer, MethodFailed)
        assert answer.message.startswith("INTERNAL: ")
        assert "hunter2" not in answer.message

    def test_a_result_over_the_declared_bound_is_a_failure(self, world: World) -> None:
        """The domain keeps its own promise before Stage-3 has to."""
        assert world.invoke("grow") == MethodFailed("the result has 65 bytes, 64 are declared")

    def test_a_method_that_is_not_there_is_a_failure(self, world: World) -> None:
        """Stage-3 asks first what there is; a service that changed between the two says so."""
        with (
            reached(declared(world.running.calls.address, "plain", "undeclared")) as domain,
            pytest.raises(DomainUnreachable, match="Describe does not name undeclared"),
        ):
            domain.invoke(Invocation("undeclared", b"{}", 5.0, "plan-1/0"))
        asked = messages.InvokeRequest(method="undeclared", parameters_json=b"{}")
        answer = world.stub("stage3").Invoke(asked, timeout=5)
        assert answer.failure.message == "the domain has no method of this name"


class TestWhoMayCall:
    """One identity, and no other of the same authority."""

    @pytest.mark.parametrize("caller", [name for name in CALLERS if name != "stage3"])
    def test_nobody_but_stage3(self, world: World, caller: str) -> None:
        """Neither Stage-4, nor an operator, nor another domain."""
        for rpc, request in (
            ("Describe", messages.DescribeRequest()),
            ("Invoke", messages.InvokeRequest(method="plain", parameters_json=b"{}")),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                getattr(world.stub(caller), rpc)(request, timeout=5)
            assert decode_rpc_error(caught.value).reason == "METHOD_NOT_PERMITTED"

    def test_the_description_is_what_was_declared(self, world: World) -> None:
        """Names, limits and schemas, for tools and people."""
        described = world.stub("stage3").Describe(messages.DescribeRequest(), timeout=5).methods
        first = described[0]
        assert [method.name for method in described] == list(SERVED)
        assert json.loads(first.parameters_schema_json) == SCHEMA
        assert (first.max_duration.seconds, first.max_response_bytes) == (5, 64)

    def test_probes_learn_of_its_health_without_a_certificate(self, world: World) -> None:
        """On loopback, and nothing but health."""
        with grpc.insecure_channel(world.running.probes.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
            with pytest.raises(grpc.RpcError) as caught:
                DomainServiceStub(channel).Describe(messages.DescribeRequest(), timeout=5)
        assert decode_rpc_error(caught.value).code == "UNIMPLEMENTED"

    def test_without_certificates_it_must_be_told_so(self) -> None:
        """A forgotten section is no permission."""
        with pytest.raises(ListenRefused):
            build(settings(tls=None))
        running = build(settings(tls=None, insecure_loopback=True))
        assert running.stop(0.0)


class TestTheEnd:
    """Told to stop, a domain lets calls under way end and begins no other."""

    def test_a_call_under_way_is_answered_while_the_domain_drains(self) -> None:
        """The effect is on its way; the answer must not be lost to a restart."""
        entered, release = threading.Event(), threading.Event()
        domain = DomainService("trial")

        @_declare(domain, max_duration_s=20)
        def plain(call: Call) -> JsonValue:
            entered.set()
            release.wait(20)
            return "done"

        running = build(settings(), domain)
        running.start()
        with (
            ThreadPoolExecutor(2) as threads,
            reached(declared(running.calls.address, "plain")) as reaching,
        ):
            answer = threads.submit(reaching.invoke, Invocation("plain", b"{}", 20.0, "p/0"))
            assert entered.wait(20)
            stopping = threads.submit(running.stop, 20.0)
            while running._health.is_serving():
                pass
            release.set()
            assert answer.result(20) == Output(b'"done"')
            assert stopping.result(20)

    def test_a_busy_probes_port_lets_go_of_the_other_one(self, world: World) -> None:
        """A domain that did not come up holds nothing that its next start would need."""
        with pytest.raises(PortUnavailable, match="probes listener"):
            build(settings(listen="127.0.0.1:0", probes=world.running.probes.address))


class TestTheDeclaration:
    """What `declare` prints is what Stage-3 reads."""

    def test_the_printed_table_declares_every_method_with_every_limit(self, tmp_path: Any) -> None:
        """The round trip through Stage-3's own reader."""
        domain = trial_service()
        text = declaration(domain, "127.0.0.1:7411", server_dns("trial"))
        (tmp_path / "domains.toml").write_text(text)
        (declared,) = read_declarations(tmp_path / "domains.toml")
        assert (declared.name, declared.adapter) == ("trial", "grpc")
        assert (declared.endpoint, declared.server_name) == ("127.0.0.1:7411", server_dns("trial"))
        assert list(declared.methods) == list(domain.methods)
        for name, method in declared.methods.items():
            ours = domain.methods[name]
            assert method.description == ours.description
            assert method.max_duration_s == ours.max_duration_s
            assert method.max_response_bytes == ours.max_response_bytes
            assert method.repetition == ours.repetition
            assert (method.validator is None) == (not ours.parameters_schema_json)

    def test_a_schema_that_toml_cannot_say_is_refused(self) -> None:
        """Null is JSON and no TOML: better nothing than another schema."""
        domain = DomainService("odd")
        _declare(domain, parameters_schema={"enum": [None]})(lambda_named("nothing"))
        with pytest.raises(ValueError, match="TOML does not have"):
            declaration(domain, "127.0.0.1:1", "a.test")


def lambda_named(name: str) -> Run:
    """Return a function of this name."""

    def run(call: Call) -> JsonValue:
        return None

    run.__name__ = name
    return run


def _declare(domain: DomainService, **changes: Any) -> Callable[[Run], Run]:
    limits: dict[str, Any] = {
        "description": "A trial.",
        "max_duration_s": 1,
        "max_response_bytes": 64,
        "repetition": "neither",
    }
    return domain.method(**{**limits, **changes})


class TestWhatIsRefusedAtOnce:
    """A domain that could not be declared does not come to serve."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"max_duration_s": 0},
            {"max_duration_s": 301},
            {"max_response_bytes": 0},
            {"max_response_bytes": 1_048_577},
        ],
    )
    def test_a_limit_out_of_bounds(self, changes: Any) -> None:
        """Stage-3 would not take it either."""
        with pytest.raises(ValueError, match="max_"):
            _declare(DomainService("odd"), **changes)

    def test_a_schema_that_is_none(self) -> None:
        """Found where it is written, not when it is asked."""
        with pytest.raises((ValueError, jsonschema_rs.ValidationError)):
            _declare(DomainService("odd"), parameters_schema={"type": "objekt"})

    @pytest.mark.parametrize("name", ["Upper", "a-b", "", "_private", "x" * 65])
    def test_a_name_that_no_plan_could_say(self, name: str) -> None:
        """Of the domain and of a method alike."""
        with pytest.raises(ValueError, match="name"):
            DomainService(name)
        with pytest.raises(ValueError, match="malformed or taken"):
            _declare(DomainService("odd"))(lambda_named(name))

    def test_a_name_that_is_taken(self) -> None:
        """The second method would hide the first."""
        domain = DomainService("odd")
        _declare(domain)(lambda_named("twice"))
        with pytest.raises(ValueError, match="malformed or taken"):
            _declare(domain)(lambda_named("twice"))


def test_a_replaced_certificate_is_shown_by_the_next_handshake(tmp_path: Path) -> None:
    """As in both services: the files are replaced, and nothing is restarted."""
    issuer = tmp_path / "issuer"
    issuer.mkdir()
    for name in ("ca.crt", "ca.key"):
        shutil.copy(pki().file(name), issuer / name)
    before = put_pair(pki().file("trial-server"), tmp_path / "own")
    own = Tls(
        certificate_file=tmp_path / "own.crt",
        key_file=tmp_path / "own.key",
        client_authority_file=pki().file("ca.crt"),
    )
    issue_server(issuer, "fresh", server_dns("trial"), datetime.now(UTC))
    running = build(settings(tls=own))
    running.start()

    def shown() -> int:
        files = pki()
        return serial_shown(
            running.calls.address, server_dns("trial"), files.file("ca.crt"), files.file("stage3")
        )

    assert shown() == before
    fresh = put_pair(issuer / "fresh", tmp_path / "own")
    assert shown() == fresh != before
    assert running.certificates["server"].current().serial_number == fresh
    assert running.stop(1.0)
