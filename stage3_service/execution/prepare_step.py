"""What can be known about a step before its turn in the log: parameters, schema, commitments.

Bindings are resolved outside the transaction because they depend on outputs already recorded, not
on state that another plan could change; gate 4 reports the verdict in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from servicekit.tlog.commitment import SALT_BYTES, commitment
from stage3_service.authorization.authorized_step import PreparedStep
from stage3_service.authorization.data_gate import decide_parameters, deny_unresolved
from stage3_service.plan.bindings import BindingUnresolved, resolve_bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servicekit.ijson import JsonValue
    from stage3_service.execution.house import House
    from stage3_service.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class CommittedBytes:
    """Hold what an event says about bytes it must not contain, and the salts kept beside it."""

    facts: Mapping[str, JsonValue]
    salts: tuple[tuple[str, bytes], ...] = field(repr=False)


NOTHING_COMMITTED = CommittedBytes({}, ())


def commit_to(
    name: str, value: bytes, entropy: Callable[[int], bytes], **facts: JsonValue
) -> CommittedBytes:
    """Return a salted commitment to `value` under `name`, its length, and further facts."""
    salt = entropy(SALT_BYTES)
    return CommittedBytes(
        {
            f"{name}_bytes": len(value),
            f"{name}_commitment": commitment(salt, value).hex(),
            **facts,
        },
        ((name, salt),),
    )


def prepare_step(
    plan: Plan,
    index: int,
    outputs: Mapping[int, JsonValue],
    *,
    house: House,
    entropy: Callable[[int], bytes],
) -> tuple[PreparedStep, CommittedBytes]:
    """Return a step ready for its gates, and the commitment to its final bytes."""
    step = plan.steps[index]
    try:
        resolved = resolve_bindings(
            step, plan.bindings_into(index), outputs, house.limits.parameters
        )
    except BindingUnresolved as unresolved:
        denial = deny_unresolved(unresolved, step=index)
        return PreparedStep(step, b"", denial), NOTHING_COMMITTED
    method = house.catalogue.method(step.domain, step.method)
    mismatch = None if method is None else decide_parameters(method, resolved, step=index)
    facts: dict[str, JsonValue] = {}
    if resolved.filled:
        facts["filled"] = [
            {
                "binding": filled.binding,
                "source_path": filled.source_path,
                "source_step": filled.source_step,
                "target_path": filled.target_path,
            }
            for filled in resolved.filled
        ]
    return (
        PreparedStep(step, resolved.json_bytes, mismatch),
        commit_to("parameters", resolved.json_bytes, entropy, **facts),
    )
