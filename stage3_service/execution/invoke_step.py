"""Invoke one domain method, once, and read its answer as untrusted input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from stage3_service.domains.answer import AnswerInvalid, read_answer
from stage3_service.domains.port import (
    DomainUnreachable,
    Invocation,
    MethodFailed,
    Output,
)
from stage3_service.errors import Reason
from stage3_service.execution.prepare_step import NOTHING_COMMITTED, commit_to
from stage3_service.execution.settle_step import Failed, Silent, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servicekit.ijson import JsonValue
    from stage3_service.audit.journal import DurableIntent
    from stage3_service.authorization.authorized_step import AuthorizedStep
    from stage3_service.domains.port import Domain
    from stage3_service.execution.prepare_step import CommittedBytes
    from stage3_service.execution.settle_step import StepOutcome


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold what came back: the outcome to record, and the output where there is one."""

    outcome: StepOutcome
    output_json: bytes = field(default=b"", repr=False)
    output: JsonValue = field(default=None, repr=False)


def invoke_step(
    intent: DurableIntent, domains: Mapping[str, Domain], entropy: Callable[[int], bytes]
) -> Answered:
    """Hand a domain its method, parameters, deadline and idempotency key, and nothing else.

    The deadline is the method's declared maximum, not the client's: a client that gives up stops
    the next step, while an effect under way is recorded as it ends.
    """
    step = intent.step
    try:
        answer = domains[step.domain].invoke(
            Invocation(
                method=step.method,
                parameters_json=step.parameters_json,
                deadline_s=step.max_duration_s,
                idempotency_key=f"{step.plan_id}/{step.index}",
            )
        )
    except DomainUnreachable:
        return Answered(
            Failed(
                Reason.DOMAIN_UNREACHABLE,
                effects_possible=False,
                message=f"domain {step.domain} could not be reached; this step had no effect",
            )
        )
    except AnswerInvalid as refused:
        # Its size is not known, and what was reserved for it is the most that it may cost.
        return Answered(_invalid(step, refused, step.reserved_bytes, NOTHING_COMMITTED))
    except Exception:  # noqa: BLE001 - DomainSilent, or an adapter that broke its port: no answer
        return Answered(
            Silent(
                f"domain {step.domain} did not answer; look there whether {step.plan_id}"
                f"/{step.index} had its effect"
            )
        )
    match answer:
        case MethodFailed(message):
            return Answered(
                Failed(
                    Reason.DOMAIN_FAILED,
                    effects_possible=True,
                    message=f"{step.domain}.{step.method} answered that it failed",
                    committed=commit_to("failure", message.encode(), entropy),
                )
            )
        case Output(output_json):
            return _read(step, output_json, entropy)
        case _:
            assert_never(answer)


def _read(step: AuthorizedStep, output_json: bytes, entropy: Callable[[int], bytes]) -> Answered:
    committed = commit_to("output", output_json, entropy)
    try:
        output = read_answer(output_json, step.reserved_bytes)
    except AnswerInvalid as refused:
        return Answered(_invalid(step, refused, len(output_json), committed))
    return Answered(Succeeded(len(output_json), committed), output_json, output)


def _invalid(
    step: AuthorizedStep, refused: AnswerInvalid, answer_bytes: int, committed: CommittedBytes
) -> Failed:
    return Failed(
        Reason.ANSWER_INVALID,
        effects_possible=True,
        message=f"{step.domain}.{step.method} answered what may not be passed on: "
        f"{refused.description}",
        answer_bytes=answer_bytes,
        committed=committed,
    )
