"""How many and how long: the bounds of a plan document.

Each number is a default of `settings.py`. The bounds on bytes are asked before any rule, the bounds
on counts after the last one, so that a plan that breaks a rule is told the rule. Deliberately
absent: limits on what a plan may do. Those belong to the token, and the token to Stage-3.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """Bounds of one plan document; every bound is inclusive."""

    # 256 KiB holds 64 steps of 4 KiB each and still parses in a few milliseconds.
    max_bytes: int = 262_144
    # Nested objects and arrays, the plan itself being the first.
    max_depth: int = 32
    # JSON values of every kind, the plan itself included.
    max_values: int = 10_000
    max_key_bytes: int = 128
    max_string_bytes: int = 65_536
    # user_id, token_hash and trigger_type are names, not texts.
    max_identifier_bytes: int = 256
    max_steps: int = 64
    max_bindings: int = 64
    # Of a data binding.
    max_path_bytes: int = 1024
    max_path_segments: int = 32
