"""The digest names what a plan asks, byte for byte the same wherever it is computed."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from servicekit.ijson import JsonLimits, parse
from stage3_service.plan.digest import DIGEST_BYTES
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import RawBinding, RawPlan, RawStep, parse_plan
from stage3_service.plan.plan import Plan
from tests.unit.stage3.plan.raw_plans import raw_binding, raw_from_document, raw_plan, raw_step

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors" / "plan_digest.json").read_text("utf-8")
)["vectors"]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9).map(
        lambda number: number + 0.0
    )
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab\u00e9\U0001f600", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
).filter(lambda value: "-0.0" not in repr(value))


def raw_from_bytes(plan_json: bytes) -> RawPlan:
    """Cut a document into its raw form by the spans of its parameters."""
    parsed = parse(plan_json, JsonLimits(), span_depth=3)
    document: Any = parsed.value
    bindings = document.get("data_bindings")
    return RawPlan(
        user_id=document["user_id"],
        token_hash=document["token_hash"],
        trigger_type=document["trigger_type"],
        steps=tuple(
            RawStep(
                step["domain"],
                step["method"],
                plan_json[slice(*parsed.spans["steps", index, "parameters"])],
            )
            for index, step in enumerate(document["steps"])
        ),
        bindings=None if bindings is None else tuple(RawBinding(**each) for each in bindings),
    )


def parsed(**changes: Any) -> Plan:
    """Return a lawful plan, with changes to its raw form."""
    return parse_plan(raw_plan(**changes), PlanLimits())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_shared_vectors_hold(vector: Any) -> None:
    """From the client's bytes, through Stage-3's own parser, to the digest computed elsewhere."""
    raw = raw_from_bytes(vector["plan_json"].encode())
    assert parse_plan(raw, PlanLimits()).digest.hex() == vector["digest"]


def test_the_credential_is_no_part_of_it() -> None:
    """Who may run a plan does not change which plan it is."""
    assert parsed(token_hash="token_x").digest == parsed(token_hash="token_y").digest


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "bob"},
        {"trigger_type": "scheduled"},
        {"steps": (raw_step(b'{"a": 2}'), raw_step(b'{"b": 2}'), raw_step(b"{}"))},
        {"steps": (raw_step(), raw_step(b'{"b": 2}'), raw_step(b"{}", domain="other"))},
        {"steps": (raw_step(), raw_step(b'{"b": 2}'), raw_step(b"{}", method="other"))},
        {"steps": (raw_step(b'{"b": 2}'), raw_step(), raw_step(b"{}"))},
        {"steps": (raw_step(), raw_step(b'{"b": 2}'))},
        {"bindings": None},
        {"bindings": ()},
        {"bindings": (raw_binding(), raw_binding())},
        {"bindings": (raw_binding(source_path="`a`"),)},
        {"bindings": (raw_binding(target_path="b.d"),)},
        {"bindings": (raw_binding(target_step=2),)},
        {"bindings": (raw_binding(source_step=1, target_step=2),)},
        {"bindings": (raw_binding(expected_type="integer"),)},
    ],
)
def test_one_changed_value_changes_it(changes: dict[str, Any]) -> None:
    """Whatever an approval was given for, it was not given for this."""
    assert parsed(**changes).digest != parsed().digest


@pytest.mark.parametrize("spelling", [b'{"a":1}', b' {\n"a" : 1.0 }', b'{"\\u0061": 10e-1}'])
def test_spelling_does_not_change_it(spelling: bytes) -> None:
    """White space, escapes and the spelling of numbers are not the plan."""
    steps = (raw_step(spelling), raw_step(b'{"b": 2}'), raw_step(b"{}"))
    assert parsed(steps=steps).digest == parsed().digest


@given(st.dictionaries(st.text("ab", max_size=2), JSON, max_size=3), st.booleans())
def test_it_is_sha256_of_the_rfc_8785_form(parameters: Any, bound: bool) -> None:
    """Against the reference library and a document built apart."""
    document: dict[str, Any] = {
        "user_id": "alice",
        "token_hash": "t",
        "trigger_type": "manual",
        "steps": [
            {"domain": "text", "method": "upper", "parameters": parameters},
            {"domain": "text", "method": "upper", "parameters": {}},
        ],
    }
    if bound:
        document["data_bindings"] = [
            {
                "source_step": 0,
                "source_path": "a",
                "target_step": 1,
                "target_path": "b",
                "expected_type": "null",
            }
        ]
    digest = parse_plan(raw_from_document(document), PlanLimits()).digest
    del document["token_hash"]
    assert digest == sha256(rfc8785.dumps(document)).digest()
    assert len(digest) == DIGEST_BYTES
