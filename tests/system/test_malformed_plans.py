"""What is no plan: told the path of its first error, recorded by Stage-4, unknown to Stage-3."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from stagegate.error.v1 import plan_outcome_pb2
from stagegate.stage4.v1 import plan_service_pb2 as pb

from tests.harness.pair import as_bytes, plan_document
from tests.harness.pki import uri
from tests.harness.stage3 import step

if TYPE_CHECKING:
    from tests.harness.pair import Pair
    from tests.harness.stage4 import Executed

TOKEN = "token_" + "A" * 43
STEP = step("trial", "echo")
BINDING = {"source_step": 0, "source_path": "a", "target_step": 1, "target_path": "b"}
VALID = plan_document(TOKEN, STEP, STEP)


def _with(**changes: Any) -> bytes:
    return as_bytes({**VALID, **changes})


def _without(field: str) -> bytes:
    return as_bytes({name: value for name, value in VALID.items() if name != field})


def _parameters(text: str) -> bytes:
    return as_bytes(VALID).replace(b"{}", text.encode(), 1)


def _bound(**changes: Any) -> bytes:
    return _with(data_bindings=[{**BINDING, **changes}])


DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ""),
    "no JSON": (b"{user_id: 1}", ""),
    "a byte order mark": (b"\xef\xbb\xbf" + as_bytes(VALID), ""),
    "another encoding": (json.dumps(VALID).encode("utf-16"), ""),
    "bytes that are no UTF-8": (as_bytes(VALID).replace(b"ada", b"ad\xff"), ""),
    "a second document": (as_bytes(VALID) + b"{}", ""),
    "a list": (b"[]", ""),
    "null": (b"null", ""),
    "no user": (_without("user_id"), "user_id"),
    "no token": (_without("token_hash"), "token_hash"),
    "no trigger": (_without("trigger_type"), "trigger_type"),
    "no steps": (_without("steps"), "steps"),
    "a field of its own": (_with(priority=1), "priority"),
    "a user that is a number": (_with(user_id=1), "user_id"),
    "an empty user": (_with(user_id=""), "user_id"),
    "an empty token": (_with(token_hash=""), "token_hash"),
    "steps that are an object": (_with(steps={}), "steps"),
    "an empty list of steps": (_with(steps=[]), "steps"),
    "a step that is text": (_with(steps=[STEP, "echo"]), "steps[1]"),
    "a step without a method": (
        _with(steps=[{"domain": "trial", "parameters": {}}]),
        "steps[0].method",
    ),
    "a step with a condition": (_with(steps=[{**STEP, "if": True}]), "steps[0].if"),
    "a domain in capitals": (_with(steps=[STEP, {**STEP, "domain": "Trial"}]), "steps[1].domain"),
    "a method with a path": (
        _with(steps=[{**STEP, "method": "../echo"}]),
        "steps[0].method",
    ),
    "parameters that are a list": (
        _with(steps=[{**STEP, "parameters": []}]),
        "steps[0].parameters",
    ),
    "bindings that are null": (_with(data_bindings=None), "data_bindings"),
    "a binding of a bool": (_bound(source_step=True), "data_bindings[0].source_step"),
    "a binding to itself": (_bound(target_step=0), "data_bindings[0].target_step"),
    "a binding backwards": (
        _bound(source_step=1, target_step=0),
        "data_bindings[0].target_step",
    ),
    "a binding beyond the steps": (_bound(target_step=2), "data_bindings[0].target_step"),
    "a binding of an unknown type": (
        _bound(expected_type="date"),
        "data_bindings[0].expected_type",
    ),
    "a binding with an empty path": (_bound(source_path=""), "data_bindings[0].source_path"),
    "a duplicate key": (_parameters('{"a":1,"a":2}'), "steps[0].parameters.a"),
    "a number that is none": (_parameters('{"n":NaN}'), "steps[0].parameters.n"),
    "a minus zero": (_parameters('{"n":-0}'), "steps[0].parameters.n"),
    "an integer nobody else reads": (
        _parameters('{"n":9007199254740993}'),
        "steps[0].parameters.n",
    ),
    "a decimal that is no double": (
        _parameters('{"n":0.1000000000000000055511151231257827}'),
        "steps[0].parameters.n",
    ),
    "half a character": (_parameters('{"t":"\\ud800"}'), "steps[0].parameters.t"),
    "a null character": (_parameters('{"t":"\\u0000"}'), "steps[0].parameters.t"),
    "a depth of 33": (_parameters('{"d":' + "[" * 30 + "]" * 30 + "}"), ""),
    "65 steps": (_with(steps=[STEP] * 65), "steps"),
    "65 bindings": (_with(data_bindings=[BINDING] * 65), "data_bindings"),
    "one byte too many": (as_bytes(VALID).ljust(256 * 1024 + 1), ""),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_refused_with_the_path_of_its_first_error(pair: Pair, name: str) -> None:
    """INVALID_ARGUMENT with one violation; two records of Stage-4 in one commit; no other trace."""
    document, path = DOCUMENTS[name]
    below, above = pair.sizes()
    calls = len(pair.trial.received)
    answer = pair.stage4.execute(document, request_id="malformed")

    assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "PLAN_INVALID")
    assert answer.error is not None
    assert [violation[0] for violation in answer.error.violations] == [path]
    assert answer.outcome.effects == plan_outcome_pb2.EFFECTS_NONE
    assert answer.outcome.request_id == "malformed"
    assert TOKEN not in str(answer.error)
    # Stage-3 never heard of it.
    assert pair.sizes() == (below, above + 2)
    assert len(pair.trial.received) == calls
    _verify_record(pair, answer, document)


def _verify_record(pair: Pair, answer: Executed, document: bytes) -> None:
    """Assert what Stage-4 keeps of a document that is no plan: its digest, under its sender."""
    received, failed = pair.stage4.events(plan_id=answer.outcome.plan_id)
    assert (received["event_type"], failed["event_type"]) == ("plan_received", "execution_failed")
    assert received["timestamp"] == failed["timestamp"]
    assert (received["user_id"], failed["user_id"]) == ("", "")
    details = received["details"]
    assert (details["valid"], details["caller"]) == (False, uri("cli"))
    assert details["raw_digest"] == hashlib.sha256(document).hexdigest()
    assert details["raw_bytes"] == len(document)
    assert failed["details"] == {
        "reason": "PLAN_INVALID",
        "outcome": "refused",
        "effects": "none",
    }
    plan = pair.stage4.plan(answer.outcome.plan_id)
    assert (plan.state, plan.reason) == (pb.PLAN_STATE_REFUSED, "PLAN_INVALID")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_validation_gives_the_same_verdict(pair: Pair, name: str) -> None:
    """ValidatePlan names the same field with the same words as the refusal."""
    document, _path = DOCUMENTS[name]
    verdict = pair.stage4.plans().ValidatePlan(
        pb.ValidatePlanRequest(plan_json=document), timeout=20
    )
    error = pair.stage4.execute(document).error
    assert error is not None
    assert not verdict.valid
    assert ((verdict.field, verdict.description),) == error.violations


@pytest.mark.parametrize(
    ("name", "field"),
    [("a bad path", "source_path"), ("a bad path to fill", "target_path")],
)
def test_what_only_stage3_reads_is_refused_by_it_in_the_same_form(
    pair: Pair, name: str, field: str
) -> None:
    """A path's own grammar: PLAN_INVALID with the path of the field, whoever finds it."""
    document = plan_document(
        pair.token(), STEP, STEP, data_bindings=[{**BINDING, field: "`unclosed"}]
    )
    answer = pair.stage4.execute(document)
    assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "PLAN_INVALID")
    assert answer.error is not None
    assert [violation[0] for violation in answer.error.violations] == [f"data_bindings[0].{field}"]
    assert answer.outcome.effects == plan_outcome_pb2.EFFECTS_NONE


def test_the_largest_plan_that_is_allowed_runs(pair: Pair) -> None:
    """256 KiB, 64 steps, 64 bindings and a depth of 32 are within the limits."""
    deep = json.loads('{"d":' + "[" * 28 + "]" * 28 + "}")
    steps = [step("trial", "echo", **deep)] + [STEP] * 63
    bindings = [{**BINDING, "source_path": "d", "target_step": n} for n in range(1, 64)]
    bindings.append({**BINDING, "source_path": "d", "target_step": 63, "target_path": "again"})
    document = as_bytes(plan_document(pair.token(), *steps, data_bindings=bindings))
    answer = pair.stage4.execute(document.ljust(256 * 1024))
    assert answer.result["results"][63]["output"] == {"b": deep["d"], "again": deep["d"]}
    assert len(pair.stage3.events(plan_id=answer.completed.plan_id)) == 1 + 5 * 64
