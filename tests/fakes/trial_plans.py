"""Plans of the trial domain, as a client writes them for the fake Stage-3."""

from __future__ import annotations

from typing import Any

from tests.fakes.stage3_service import TOKEN


def trial_step(method: str = "echo", **parameters: Any) -> dict[str, Any]:
    """Return a step of the trial domain."""
    return {"domain": "trial", "method": method, "parameters": parameters}


def trial_plan(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a plan of these steps, or of one echo."""
    return {
        "user_id": "ada",
        "token_hash": TOKEN,
        "trigger_type": "manual",
        "steps": list(steps) or [trial_step()],
        **changes,
    }
