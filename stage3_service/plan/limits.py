"""How large a plan may be.

Guards the service against input that exhausts it. Deliberately absent: limits of tokens and of
domains, which are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from servicekit.ijson import JsonLimits

# `parameters` is the fourth open bracket of a plan document: {"steps": [{"parameters": {.
_BRACKETS_AROUND_PARAMETERS: Final = 3


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Bound a plan. Every limit is inclusive; sizes are bytes of UTF-8.

    `document` bounds the JSON of the whole plan, `max_name_bytes` its `user_id`, `trigger_type` and
    credential, `max_path_bytes` and `max_path_segments` each path of a binding.
    """

    document: JsonLimits = field(default_factory=JsonLimits)
    max_steps: int = 64
    max_bindings: int = 64
    max_name_bytes: int = 256
    max_path_bytes: int = 1_024
    max_path_segments: int = 32

    @property
    def parameters(self) -> JsonLimits:
        """Return the document's limits as seen from inside the `parameters` of a step."""
        return replace(
            self.document, max_depth=max(1, self.document.max_depth - _BRACKETS_AROUND_PARAMETERS)
        )
