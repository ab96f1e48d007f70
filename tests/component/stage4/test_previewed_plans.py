"""What was previewed is what is executed: one digest, and no refusal that was not foretold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stagegate.stage3.v1 import operator_service_pb2

from servicekit.store.log_verifier import LogVerifier
from stage4_service.limits import PlanLimits
from stage4_service.plan_document import read_plan_document
from stage4_service.preview.catalogue import Catalogue, open_catalogue
from stage4_service.preview.preview_plan import Preview, preview_plan
from tests.harness.pair import Pair, as_bytes, plan_document, running_pair
from tests.harness.stage3 import step

SCOPE = {"text": ("upper", "sha256", "concat"), "notebook": ("append_note",), "nobody": ("any",)}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both services."""
    with running_pair(tmp_path) as running:
        yield running


def catalogue(pair: Pair) -> Catalogue:
    """Return what Stage-3 offers, as it signs it."""
    request = operator_service_pb2.ExportDomainsRequest()
    answer = pair.stage3.operator().ExportDomains(request, timeout=20)
    return open_catalogue(answer.signed_catalogue, LogVerifier(answer.verifier_key))


def previewed(pair: Pair, document: Any) -> Preview:
    """Return the preview of a plan's document."""
    return preview_plan(read_plan_document(as_bytes(document), PlanLimits()), catalogue(pair))


def test_the_digest_is_the_one_that_both_logs_record(pair: Pair) -> None:
    """Approved before there is a token, bound to the token, computed by both services."""
    steps = (
        step("text", "upper", text="grüße"),
        step("notebook", "append_note", title="t"),
    )
    binding = {"source_step": 0, "source_path": "text", "target_step": 1, "target_path": "text"}
    preview = previewed(pair, plan_document("REPLACE_WITH_TOKEN", *steps, data_bindings=[binding]))
    assert preview.problems == ()

    token = pair.token(plan_digest=bytes.fromhex(preview.digest), scope=SCOPE)
    done = pair.stage4.execute(plan_document(token, *steps, data_bindings=[binding]))

    assert done.completed.plan_digest.hex() == preview.digest
    plan_id = done.completed.plan_id
    (validation,) = (
        event
        for event in pair.stage3.events(plan_id=plan_id)
        if event["event_type"] == "TOKEN_VALIDATION"
    )
    assert validation["additional_data"]["plan_digest"] == preview.digest
    received = [
        event for event in pair.stage4.events() if event.get("event_type") == "plan_received"
    ]
    assert [event["details"]["plan_digest"] for event in received] == [preview.digest]
    # The control: the token that was bound to the approved digest takes no other plan.
    changed = plan_document(token, steps[0], step("notebook", "append_note", title="T"))
    assert pair.stage4.execute({**changed, "data_bindings": [binding]}).reason == "PLAN_NOT_BOUND"


@pytest.mark.parametrize(
    "asked",
    [
        step("nobody", "any"),
        step("text", "any"),
        step("text", "upper"),
        step("text", "upper", text=1),
        step("text", "upper", text="a", more=1),
        step("text", "concat", parts="a", separator=""),
    ],
    ids=["domain", "method", "missing", "type", "unknown", "list"],
)
def test_what_is_foretold_is_what_stage_3_says(pair: Pair, asked: dict[str, Any]) -> None:
    """The reason of the preview is the reason of the refusal, at the same step."""
    preview = previewed(pair, plan_document("t", step("text", "sha256", text="a"), asked))
    (problem,) = preview.problems

    token = pair.token(scope={**SCOPE, "text": (*SCOPE["text"], "any")})
    refused = pair.stage4.execute(plan_document(token, step("text", "sha256", text="a"), asked))

    assert refused.reason == problem.reason.value
    assert problem.path.startswith("steps[1].")


def test_what_was_not_foretold_was_said_to_be_unknown(pair: Pair) -> None:
    """A string that is too long fits the plain words and not the schema."""
    asked = step("notebook", "append_note", title="t" * 201, text="")
    preview = previewed(pair, plan_document("t", asked))
    assert preview.problems == ()

    refused = pair.stage4.execute(plan_document(pair.token(scope=SCOPE), asked))

    assert refused.reason == "PARAMETERS_INVALID"
    assert [item.what.value for item in preview.steps[0].unknown] == ["schema_rest"]
    assert json.dumps(preview.steps[0].parameters) == json.dumps(asked["parameters"])
