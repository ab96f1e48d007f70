"""The digest names what a plan asks, byte for byte the same wherever it is computed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage4_service import Stage4ExecutionPlan
from stage4_service.plan_digest import plan_digest

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "plan_digest.json").read_text("utf-8")
)["vectors"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}


def _digest_of(document: Any) -> Any:
    return plan_digest(Stage4ExecutionPlan(**document))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_shared_vectors_hold(vector: Any) -> None:
    """Expect the digest and the canonical bytes that were computed without this code."""
    assert hashlib.sha256(vector["canonical"].encode()).hexdigest() == vector["digest"]
    assert _digest_of(json.loads(vector["plan_json"])).hex() == vector["digest"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("one_step", "other_token", True),
        ("spelling", "spelling_plain", True),
        ("one_step", "empty_bindings", False),
        ("one_step", "changed_value", False),
        ("binding", "typed_binding", False),
    ],
)
def test_the_vectors_say_what_the_digest_is_of(one: Any, other: Any, equal: Any) -> None:
    """Expect equality where only the spelling or the credential differs, and nowhere else."""
    assert (BY_NAME[one]["digest"] == BY_NAME[other]["digest"]) is equal


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text("abcé😀", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcé😀", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", max_size=3), json_values, max_size=4), json_values)
def test_a_plan_read_back_from_any_spelling_has_the_same_digest(
    parameters: Any, other: Any
) -> None:
    """Expect indentation, escapes and the order of keys not to matter, and a changed value to."""
    document = json.loads(BY_NAME["one_step"]["plan_json"])
    document["steps"][0]["parameters"] = parameters
    respelled = json.loads(
        json.dumps(dict(reversed(document.items())), indent=3, sort_keys=False, ensure_ascii=True)
    )
    assert _digest_of(document) == _digest_of(respelled)
    changed = json.loads(json.dumps(document))
    changed["steps"][0]["parameters"]["added"] = other
    assert _digest_of(document) != _digest_of(changed)
