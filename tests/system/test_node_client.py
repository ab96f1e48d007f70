"""A client in another language, from the protos alone: `@grpc/grpc-js` against the pair."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.rpc  # type: ignore[import-untyped]  # ships no types
import pytest
from stagegate.error.v1 import plan_outcome_pb2

from tests.harness.node import node_program
from tests.harness.pair import as_bytes, plan_document
from tests.harness.pki import pki, server_dns
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from tests.harness.pair import Pair

ROOT = Path(__file__).resolve().parents[2]
NODE_CLIENT = Path(__file__).parent / "node"
INCLUDES = [str(ROOT / "protos"), str(Path(google.rpc.__path__[0]).parents[1])]
EFFECT = step("trial", "effect")
ERROR_INFO = "google.rpc.ErrorInfo"
BAD_REQUEST = "google.rpc.BadRequest"
OUTCOME = "stagegate.error.v1.PlanOutcome"


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What the Node client got for one call."""

    response: dict[str, Any] | None
    error: dict[str, Any] | None

    @property
    def completed(self) -> dict[str, Any]:
        """Return the response of a completed plan."""
        assert self.response is not None, self.error
        return self.response

    @property
    def code(self) -> str:
        """Return the name of the status code."""
        return "OK" if self.error is None else str(self.error["code"])

    def detail(self, name: str) -> dict[str, Any]:
        """Return one decoded detail of the error."""
        assert self.error is not None, self.response
        details: dict[str, dict[str, Any]] = self.error["status"]["details"]
        return details[name]


def run_node(
    pair: Pair, *calls: tuple[str, dict[str, Any]], caller: str = "cli"
) -> list[NodeAnswer]:
    """Make these calls, one after the other, in one Node process."""
    keys = pki()
    job = {
        "include_dirs": INCLUDES,
        "address": pair.stage4.service.addresses.clients,
        "server_name": server_dns("stage4"),
        "authority": str(keys.file("ca.crt")),
        "certificate": str(keys.file(f"{caller}.crt")),
        "key": str(keys.file(f"{caller}.key")),
        "calls": [{"method": method, "request": request} for method, request in calls],
    }
    done = subprocess.run(
        [node_program(), "client.js"],
        cwd=NODE_CLIENT,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        NodeAnswer(answer.get("response"), answer.get("error"))
        for answer in json.loads(done.stdout)
    ]


def execute(document: Any, request_id: str = "") -> tuple[str, dict[str, Any]]:
    """Return a call of ExecutePlan; the document as bytes or as a value to spell."""
    plan_json = document if isinstance(document, bytes) else as_bytes(document)
    encoded = base64.b64encode(plan_json).decode()
    return "ExecutePlan", {"plan_json": encoded, "request_id": request_id}


@pytest.mark.slow
def test_node_executes_resubmits_and_reads(pair: Pair) -> None:
    """The bytes of the result are the domain's, the same for Node, Python and a replay."""
    span = b'{ "z":1.50e2, "a" : ["\\u00e9", "\xf0\x9f\xa6\xa9"] }'
    document = as_bytes(plan_document(pair.token(), step("trial", "echo"), EFFECT)).replace(
        b"{}", span, 1
    )
    first, again, valid = run_node(
        pair,
        execute(document, "from-node"),
        execute(document, "from-node"),
        ("ValidatePlan", {"plan_json": base64.b64encode(document).decode()}),
    )
    result = base64.b64decode(first.completed["result_json"])
    assert result.startswith(b'{"status":"completed","results":[{"step":0,"output":' + span)
    assert (first.completed["replay"], again.completed["replay"]) == (False, True)
    assert again.completed["result_json"] == first.completed["result_json"]
    assert valid.completed["plan_digest"] == first.completed["plan_digest"]

    in_python = pair.stage4.execute(document, request_id="from-node").completed
    assert (in_python.replay, in_python.result_json) == (True, result)
    assert in_python.plan_digest == base64.b64decode(first.completed["plan_digest"])
    plan_id = first.completed["plan_id"]
    (read, listed, events) = run_node(
        pair,
        ("GetPlan", {"plan_id": plan_id}),
        ("ListPlans", {"page_size": 3}),
        ("ListAuditEvents", {"plan_id": plan_id}),
    )
    assert read.completed["plan"]["state"] == "PLAN_STATE_COMPLETED"
    assert base64.b64decode(read.completed["plan"]["result_json"]) == result
    assert plan_id in {plan["plan_id"] for plan in listed.completed["plans"]}
    assert [
        json.loads(base64.b64decode(event["event_json"]))["event_type"]
        for event in events.completed["events"]
    ] == ["plan_received", "execution_started", "execution_completed"]
    assert len(pair.stage3.events(plan_id=plan_id)) == 11


@pytest.mark.slow
def test_node_reads_what_python_reads_of_every_error(pair: Pair) -> None:
    """ErrorInfo, BadRequest and PlanOutcome decode to the same reason, path, step and effects."""
    token = pair.token()
    documents = {
        "malformed": as_bytes(plan_document(token, {**EFFECT, "method": "No"})),
        "no JSON": b"{",
        "unknown token": as_bytes(plan_document("token_" + "A" * 43, EFFECT)),
        "out of scope": as_bytes(plan_document(token, EFFECT, step("text", "reverse"))),
        "wrong parameters after an effect": as_bytes(
            plan_document(token, EFFECT, step("text", "upper", text=1))
        ),
        "a failure": as_bytes(plan_document(token, EFFECT, step("trial", "fail"))),
        "no answer": as_bytes(plan_document(token, step("trial", "silent"))),
        "an empty path": as_bytes(
            plan_document(
                token,
                EFFECT,
                EFFECT,
                data_bindings=[
                    {"source_step": 0, "source_path": "", "target_step": 1, "target_path": "x"}
                ],
            )
        ),
    }
    # Under one request identifier each: what was admitted tells Python its stored outcome.
    answers = run_node(
        pair, *(execute(document, name.replace(" ", "-")) for name, document in documents.items())
    )
    for (name, document), answer in zip(documents.items(), answers, strict=True):
        error = pair.stage4.execute(document, request_id=name.replace(" ", "-")).error
        assert error is not None, name
        info = answer.detail(ERROR_INFO)
        assert (answer.code, info["reason"], info["domain"]) == (
            error.code,
            error.reason,
            error.domain,
        ), name
        assert answer.error is not None
        assert answer.error["message"] == answer.error["status"]["message"] == error.message
        outcome = error.unpack(plan_outcome_pb2.PlanOutcome)
        assert outcome is not None
        in_node = answer.detail(OUTCOME)
        assert in_node["effects"] == plan_outcome_pb2.Effects.Name(outcome.effects)
        assert in_node.get("step") == (outcome.step if outcome.HasField("step") else None)
        assert in_node["plan_id"].startswith("plan_")
        if error.violations:
            violations = answer.detail(BAD_REQUEST)["field_violations"]
            assert [(v["field"], v["description"]) for v in violations] == list(error.violations)
    assert {answer.code for answer in answers} == {
        *("INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION")
    }


@pytest.mark.slow
def test_node_is_who_its_certificate_says(pair: Pair) -> None:
    """Another client's plan is PLAN_NOT_FOUND, and an operator's certificate opens nothing."""
    plan_id = pair.stage4.execute(plan_document(pair.token(), EFFECT)).completed.plan_id
    (unknown,) = run_node(pair, ("GetPlan", {"plan_id": plan_id}), caller="other")
    assert (unknown.code, unknown.detail(ERROR_INFO)["reason"]) == ("NOT_FOUND", "PLAN_NOT_FOUND")
    (denied,) = run_node(pair, ("GetPlan", {"plan_id": plan_id}), caller="oona")
    assert (denied.code, denied.detail(ERROR_INFO)["reason"]) == (
        "PERMISSION_DENIED",
        "METHOD_NOT_PERMITTED",
    )
