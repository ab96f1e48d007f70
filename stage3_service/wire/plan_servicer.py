"""The door of the one RPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stagegate.stage3.v1 import plan_execution_service_pb2_grpc

from servicekit.serving.call_facts import call_facts
from stage3_service.errors import Refusal
from stage3_service.wire.codec import decode_submission, encode_answer
from stage3_service.wire.status import STATUSES, wire_error

if TYPE_CHECKING:
    import grpc
    from stagegate.stage3.v1.plan_execution_service_pb2 import (
        ExecuteMultiDomainPlanRequest,
        ExecuteMultiDomainPlanResponse,
    )

    from servicekit.serving.call_facts import CallFacts
    from stage3_service.execution.execute_plan import PlanExecutor
    from stage3_service.wire.plan_tally import PlanTally


class _Call:
    """Show the story how the client's call stands."""

    __slots__ = ("_context", "_facts")

    def __init__(self, context: grpc.ServicerContext, facts: CallFacts) -> None:
        self._context = context
        self._facts = facts

    def time_left_s(self) -> float:
        """Return the seconds until the client stops waiting."""
        return self._facts.remaining_s()

    def cancelled(self) -> bool:
        """Return whether the client is gone before its deadline was."""
        return not self._context.is_active() and self._facts.remaining_s() > 0


class PlanExecutionServicer(plan_execution_service_pb2_grpc.PlanExecutionServiceServicer):
    """Decode a submission, have it executed, encode the answer."""

    def __init__(self, executor: PlanExecutor, tally: PlanTally) -> None:
        self._executor = executor
        self._tally = tally

    def ExecuteMultiDomainPlan(
        self, request: ExecuteMultiDomainPlanRequest, context: grpc.ServicerContext
    ) -> ExecuteMultiDomainPlanResponse:
        """Execute one plan; see the service's definition."""
        try:
            answer = self._executor.execute(
                decode_submission(request), _Call(context, call_facts(context))
            )
        except Refusal as refusal:
            self._tally.refused(refusal)
            STATUSES.abort(context, wire_error(refusal))
        self._tally.answered(answer)
        return encode_answer(answer)
