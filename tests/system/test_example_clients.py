"""The example clients, each as a process of its own, against the real pair."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.compose.stack import free_port
from tests.harness.example_clients import LANGUAGES, PLACEHOLDER, ExampleClient
from tests.harness.pair import as_bytes, plan_document
from tests.harness.pki import pki, server_dns
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.pair import Pair

pytestmark = pytest.mark.slow

EFFECT = step("trial", "effect")
SPAN = b'{ "z":1.50e2, "a" : ["\\u00e9", "\xf0\x9f\xa6\xa9"] }'
COMPLETED, REFUSED, USAGE, OUTCOME_UNKNOWN, UNREACHABLE = 0, 1, 2, 3, 69
IDS = count()


@pytest.fixture(params=LANGUAGES)
def client(request: pytest.FixtureRequest, pair: Pair, tmp_path: Path) -> ExampleClient:
    """Return each example, as the client `cli`."""
    keys = pki()
    return ExampleClient(
        request.param,
        pair.stage4.service.addresses.clients,
        server_dns("stage4"),
        keys.file("ca.crt"),
        keys.file("cli"),
        tmp_path,
    )


@pytest.fixture
def request_id(client: ExampleClient) -> str:
    """Return an identifier that nobody has used."""
    return f"example-{client.language}-{next(IDS)}"


def test_the_result_is_the_domains_bytes(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """The plan goes out as it was written, the token in its place; what comes back is not read."""
    plan = as_bytes(plan_document(PLACEHOLDER, step("trial", "echo"))).replace(b"{}", SPAN, 1)
    token = pair.token()
    ended = client.run(plan, token, request_id)
    assert ended.code == COMPLETED, ended.said
    assert ended.result == (
        b'{"status":"completed","results":[{"step":0,"output":' + SPAN + b"}]}\n"
    )
    assert (ended.facts["request_id"], ended.facts["replay"]) == (request_id, False)
    assert token.encode() not in ended.said


def test_an_invalid_plan_is_told_with_its_path(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """PLAN_INVALID, where the first error is, and that nothing happened."""
    plan = as_bytes(plan_document(PLACEHOLDER, {**EFFECT, "method": "No"}))
    ended = client.run(plan, pair.token(), request_id)
    assert ended.code == REFUSED, ended.said
    facts = ended.facts
    assert (facts["code"], facts["reason"]) == ("INVALID_ARGUMENT", "PLAN_INVALID")
    (violation,) = facts["violations"]
    assert violation[0] == "steps[0].method"
    assert violation[1]
    assert (facts["effects"], facts["request_id"]) == ("none", request_id)
    assert facts["plan_id"].startswith("plan_")
    assert ended.result == b""


def test_a_token_that_is_not_accepted_is_told(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """TOKEN_NOT_ACCEPTED, and no word of the token."""
    token = "token_" + "A" * 43
    ended = client.run(as_bytes(plan_document(PLACEHOLDER, EFFECT)), token, request_id)
    assert ended.code == REFUSED, ended.said
    facts = ended.facts
    assert (facts["code"], facts["reason"]) == ("UNAUTHENTICATED", "TOKEN_NOT_ACCEPTED")
    assert (facts["effects"], facts["step"]) == ("none", None)
    assert token.encode() not in ended.said


@pytest.mark.parametrize(
    ("last", "reason", "effects"),
    [
        (step("text", "upper", text=1), "PARAMETERS_INVALID", "some"),
        (step("trial", "fail"), "DOMAIN_FAILED", "unknown"),
    ],
)
def test_a_failure_after_an_effect_is_told_with_its_step(
    client: ExampleClient, pair: Pair, request_id: str, last: dict[str, Any], reason: str,
    effects: str,
) -> None:  # fmt: skip
    """What was done stays done, the client says so, and asking again would learn no more."""
    plan = as_bytes(plan_document(PLACEHOLDER, EFFECT, last))
    ended = client.run(plan, pair.token(), request_id)
    assert ended.code == REFUSED, ended.said
    facts = ended.facts
    assert (facts["reason"], facts["step"], facts["effects"]) == (reason, 1, effects)


def test_the_same_request_id_executes_once(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """Asked again, the stored outcome is answered, byte for byte."""
    plan, token = as_bytes(plan_document(PLACEHOLDER, EFFECT)), pair.token()
    before = len(pair.trial.effects)
    first, again = (client.run(plan, token, request_id) for _ in range(2))
    assert (first.code, again.code) == (COMPLETED, COMPLETED), again.said
    assert again.result == first.result
    assert (first.facts["replay"], again.facts["replay"]) == (False, True)
    assert len(pair.trial.effects) == before + 1


def test_a_lost_answer_is_found_by_asking_again(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """The deadline passes in mid-plan: exit code 3, one call, and the same identifier finds it."""
    plan = as_bytes(plan_document(PLACEHOLDER, EFFECT, step("trial", "slow", seconds=2.5)))
    token, before = pair.token(), len(pair.trial.received)
    ended = client.run(plan, token, request_id, timeout_s=1.5)
    assert ended.code == OUTCOME_UNKNOWN, ended.said
    assert ended.facts["code"] == "DEADLINE_EXCEEDED"
    assert (ended.facts["effects"], ended.facts["request_id"]) == ("unknown", request_id)

    # Whoever asks again decides so, as often as it takes; the suite's own time limit ends this.
    while (found := client.run(plan, token, request_id)).code == OUTCOME_UNKNOWN:
        assert found.facts["reason"] == "REQUEST_IN_PROGRESS"
    assert found.code == COMPLETED, found.said
    assert found.facts["replay"] is True
    assert len(pair.trial.received) == before + 2


def test_nobody_there_is_told_from_a_lost_answer(client: ExampleClient, request_id: str) -> None:
    """Nothing was sent: no connection ever stood."""
    plan = as_bytes(plan_document(PLACEHOLDER, EFFECT))
    ended = client.run(
        plan, "token", request_id, address=f"127.0.0.1:{free_port()}", connect_timeout_s="1"
    )
    assert ended.code == UNREACHABLE, ended.said
    assert (ended.facts["reason"], ended.facts["effects"]) == ("UNREACHABLE", "none")


class Foreign(grpc.GenericRpcHandler):
    """Answers any call with RESOURCE_EXHAUSTED in these words, and without a reason."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.called = 0

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return the handler of any method."""

        def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
            self.called += 1
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self.words)

        return grpc.unary_unary_rpc_method_handler(refuse)


@contextmanager
def serving(handler: Foreign, rooms: int) -> Iterator[str]:
    """Serve a handler as Stage-4, to so many calls at once; yield the address."""
    keys = pki()
    pair = keys.file("stage4-server.key").read_bytes(), keys.file("stage4-server.crt").read_bytes()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, [handler], maximum_concurrent_rpcs=rooms)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def test_a_refusal_of_grpcs_own_is_the_last_word(client: ExampleClient, request_id: str) -> None:
    """No room at all: no handler ran, so no plan started, and it is called as the service would."""
    handler = Foreign("nobody comes here")
    with serving(handler, rooms=0) as address:
        ended = client.run(
            as_bytes(plan_document(PLACEHOLDER, EFFECT)), "token", request_id, address=address
        )
    assert handler.called == 0
    assert ended.code == REFUSED, ended.said
    assert (ended.facts["reason"], ended.facts["effects"]) == ("OVERLOADED", "none")


def test_other_words_of_the_same_code_are_an_answer_that_was_lost(
    client: ExampleClient, request_id: str
) -> None:
    """A library says so of an answer that is too large for it: the plan may have run."""
    handler = Foreign("Received message larger than max (5000000 vs. 4194304)")
    with serving(handler, rooms=1) as address:
        ended = client.run(
            as_bytes(plan_document(PLACEHOLDER, EFFECT)), "token", request_id, address=address
        )
    assert handler.called == 1
    assert ended.code == OUTCOME_UNKNOWN, ended.said
    assert (ended.facts["code"], ended.facts["effects"]) == ("RESOURCE_EXHAUSTED", "unknown")


def test_a_server_of_another_name_gets_nothing(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """Its authority is the same; the name is pinned. Nothing reaches Stage-4's log."""
    before = pair.sizes()
    ended = client.run(
        as_bytes(plan_document(PLACEHOLDER, EFFECT)),
        "token",
        request_id,
        server_name=server_dns("stage3"),
        connect_timeout_s="1",
    )
    assert ended.code == UNREACHABLE, ended.said
    assert pair.sizes() == before


def test_an_identity_without_a_door_is_refused(
    client: ExampleClient, pair: Pair, request_id: str
) -> None:
    """A refusal that carries no outcome came before anything was started."""
    ended = client.run(
        as_bytes(plan_document(PLACEHOLDER, EFFECT)),
        "token",
        request_id,
        keys=str(pki().file("oona")),
    )
    assert ended.code == REFUSED, ended.said
    assert (ended.facts["reason"], ended.facts["effects"]) == ("METHOD_NOT_PERMITTED", "none")


def test_a_missing_file_is_a_mistake_of_the_caller(client: ExampleClient, request_id: str) -> None:
    """Said with its name, before anybody is called."""
    plan = as_bytes(plan_document(PLACEHOLDER, EFFECT))
    ended = client.run(plan, "token", request_id, authority="absent.crt")
    assert ended.code == USAGE
    assert b"absent.crt" in ended.said
