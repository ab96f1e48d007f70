"""Raw plans for the tests to bend one part at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from stage3_service.plan.parse import RawBinding, RawPlan, RawStep


def raw_plan(**changes: Any) -> RawPlan:
    """Return a lawful raw plan of three steps and one binding, with changes."""
    lawful = RawPlan(
        user_id="alice",
        token_hash="token_" + "A" * 43,
        trigger_type="manual",
        steps=(raw_step(), raw_step(b'{"b": 2}'), raw_step(b"{}")),
        bindings=(RawBinding(0, "a", 1, "b.c"),),
    )
    return replace(lawful, **changes)


def raw_step(parameters_json: bytes = b'{"a": 1}', /, **changes: Any) -> RawStep:
    """Return a lawful raw step, with changes."""
    return replace(RawStep("text", "upper", parameters_json), **changes)


def raw_binding(**changes: Any) -> RawBinding:
    """Return a lawful raw binding, with changes."""
    return replace(RawBinding(0, "a", 1, "b.c"), **changes)


def raw_from_document(document: dict[str, Any]) -> RawPlan:
    """Return the raw form of a plan document, as a faithful Stage-4 would send it."""
    bindings = document.get("data_bindings")
    return RawPlan(
        user_id=document["user_id"],
        token_hash=document["token_hash"],
        trigger_type=document["trigger_type"],
        steps=tuple(
            RawStep(s["domain"], s["method"], json.dumps(s["parameters"]).encode())
            for s in document["steps"]
        ),
        bindings=None if bindings is None else tuple(RawBinding(**b) for b in bindings),
    )
