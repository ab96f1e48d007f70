"""What the strict reader let pass is not asked a second time whether it is JSON: it always is."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given

from servicekit.ijson import JsonLimits, JsonRefused, parse
from stage4_service.json_rule import first_json_fault
from stage4_service.limits import PlanLimits
from stage4_service.plan_digest import plan_digest
from stage4_service.plan_document import read_plan_document
from stage4_service.plan_validator import PlanInvalid
from tests.fakes.plans import a_plan
from tests.unit.servicekit.json_texts import DOCUMENTS

LIMITS = PlanLimits(
    max_bytes=4_000, max_depth=4, max_values=12, max_key_bytes=9, max_string_bytes=12
)


def accepted_by_the_reader(data: bytes) -> bool:
    """Say whether the strict reader accepts it, and assert that the eighth rule agrees then."""
    try:
        parsed = parse(
            data,
            JsonLimits(
                max_bytes=LIMITS.max_bytes,
                max_depth=LIMITS.max_depth,
                max_values=LIMITS.max_values,
                max_key_bytes=LIMITS.max_key_bytes,
                max_string_bytes=LIMITS.max_string_bytes,
            ),
        )
    except JsonRefused:
        return False
    fault = first_json_fault(parsed.value, LIMITS)
    assert fault is None, fault.description
    return True


@given(DOCUMENTS)
@example(b"[1e300]")
@example(b"[-0]")
@example(b"[-0.0]")
@example(b"[[[[[]]]]]")
@example(b'{"123456789a": 1}')
@example(b'["123456789abcd"]')
@example(b'["\\ud800"]')
@example(b'["\\u0000"]')
@example(b"[1,2,3,4,5,6,7,8,9,10,11,12]")
@example(b"[9007199254740992]")
@example(b"[9007199254740992.0]")
def test_what_the_strict_reader_accepts_has_no_json_fault(data: bytes) -> None:
    """Whatever the spelling, and at every limit."""
    accepted_by_the_reader(data)


@pytest.mark.parametrize(
    "text",
    ["[[[[]]]]", '{"123456789": 1}', '["123456789abc"]', "[1,2,3,4,5,6,7,8,9,10,11]"],
)
def test_the_limits_themselves_are_within(text: str) -> None:
    """The same experiment accepts something at each limit, so it is not empty."""
    assert accepted_by_the_reader(text.encode())


def test_the_digest_is_that_of_the_plan() -> None:
    """It is computed from the document, and the plan kept of it has the same."""
    document = read_plan_document(json.dumps(a_plan()).encode(), PlanLimits())
    assert document.digest == plan_digest(document.plan)


def test_a_limit_of_the_plan_is_asked_of_a_document_too() -> None:
    """The rules that are about plans, and not about JSON, are all asked."""
    with pytest.raises(PlanInvalid, match="must hold at most 1 steps"):
        read_plan_document(
            json.dumps(a_plan(steps=[*a_plan()["steps"]] * 2)).encode(), PlanLimits(max_steps=1)
        )
