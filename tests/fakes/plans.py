"""The plan documents that tests start from: valid ones, to be changed in one place."""

import copy
from typing import Any

TOKEN = "token_" + "A" * 43

PLAN: dict[str, Any] = {
    "user_id": "ada",
    "token_hash": TOKEN,
    "trigger_type": "manual",
    "steps": [
        {"domain": "text", "method": "upper", "parameters": {"text": "hello", "deep": {"n": [1]}}},
        {"domain": "notebook", "method": "append_note", "parameters": {"title": "t"}},
        {"domain": "text", "method": "sha256", "parameters": {}},
    ],
    "data_bindings": [
        {"source_step": 0, "source_path": "text", "target_step": 1, "target_path": "body"}
    ],
}


def a_plan(**changes: Any) -> dict[str, Any]:
    """Return a valid plan with these fields in place of its own."""
    return {**copy.deepcopy(PLAN), **changes}


def a_plan_without(field: str, **changes: Any) -> dict[str, Any]:
    """Return a plan that lacks one field."""
    plan = a_plan(**changes)
    del plan[field]
    return plan


def a_step(**changes: Any) -> dict[str, Any]:
    """Return a valid step with these fields in place of its own."""
    return {"domain": "text", "method": "upper", "parameters": {}, **changes}


def a_binding(**changes: Any) -> dict[str, Any]:
    """Return a valid binding of `PLAN` with these fields in place of its own."""
    return {**PLAN["data_bindings"][0], **changes}
