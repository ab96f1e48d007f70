"""The gates as somebody would write them on one page: slow, mutable, and in the contract's words.

It shares no code with Stage-3. It is told what operators and clients do, and says which events must
be in the log and what the client must be told. Deliberately absent: bytes of events, commitments,
concurrency; a plan that is submitted while a step runs is a call inside that step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

METHOD_MAX_BYTES = 4096
PLAN_MAX_BYTES = 4300
ORDINARY_LIFETIME_S = 1800
DECLARED = {
    "trial": {"echo", "effect", "fail", "unreachable", "silent", "garbage", "raise_error"},
    "strict": {"echo"},
}
GARBAGE_BYTES = len(b"{this is not JSON")


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step, with its parameters as text so that a plan is a value."""

    domain: str
    method: str
    parameters_json: str = "{}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the digest covers: a plan is the same plan when all of it is equal.

    `bound_path` declares one binding: from that path of step 0 into `n` of the last step.
    """

    user_id: str
    trigger_type: str
    steps: tuple[PlanStep, ...]
    bound_path: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A plan with its surroundings. `during` names what happens while step i runs."""

    plan: Plan
    credential: str
    caller: str
    request_id: str
    plan_id: str
    time_left: bool = True
    during: tuple[Any, ...] = ()


@dataclass(slots=True)
class Grant:
    """A token, what it was granted, and what has become of it."""

    token_id: str
    user_id: str
    callers: frozenset[str]
    bearer: bool
    triggers: frozenset[str]
    scope: dict[str, frozenset[str]]
    issued_us: int
    lifetime_s: int
    bound_to: Plan | None = None
    max_invocations: int | None = None
    max_plans: int | None = None
    window_s: int = 0
    max_response_bytes: int | None = None
    max_total_bytes: int | None = None
    revoked: bool = False
    used: bool = False
    expiry_seen: bool = False
    invocations: int = 0
    total_bytes: int = 0
    starts_us: list[int] = field(default_factory=list)

    @property
    def reserve(self) -> int:
        """Return what a response may have at most, and is charged in advance."""
        return min(METHOD_MAX_BYTES, self.max_response_bytes or METHOD_MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Told:
    """What a client is told: `kind` is `refused`, or the kind of the plan's outcome."""

    kind: str
    reason: str = ""
    step: int = 0
    effects: str = "none"
    replay: bool = False


@dataclass(slots=True)
class Request:
    """What a request identifier was consumed by."""

    credential: str
    token_id: str
    plan: Plan
    told: Told | None = None


PUBLIC = {
    "token_revoked": "TOKEN_NOT_ACCEPTED",
    "token_unknown": "TOKEN_NOT_ACCEPTED",
    "user_mismatch": "TOKEN_NOT_ACCEPTED",
    "caller_mismatch": "TOKEN_NOT_ACCEPTED",
    "request_token_mismatch": "TOKEN_NOT_ACCEPTED",
    "token_expired": "TOKEN_EXPIRED",
    "trigger_not_allowed": "TRIGGER_NOT_ALLOWED",
    "plan_not_bound": "PLAN_NOT_BOUND",
    "domain_not_in_scope": "DOMAIN_NOT_IN_SCOPE",
    "method_not_in_scope": "METHOD_NOT_IN_SCOPE",
    "domain_unknown": "DOMAIN_UNKNOWN",
    "method_undeclared": "METHOD_UNDECLARED",
    "invocations_exhausted": "LIMIT_EXCEEDED",
    "frequency_exhausted": "LIMIT_EXCEEDED",
    "response_bytes_exhausted": "LIMIT_EXCEEDED",
    "plan_bytes_exhausted": "LIMIT_EXCEEDED",
    "no_time_left": "DEADLINE_EXCEEDED",
    "binding_unresolved": "BINDING_UNRESOLVED",
    "parameters_invalid": "PARAMETERS_INVALID",
}
GATE_EVENTS = {
    "token": "TOKEN_VALIDATION",
    "scope": "AUTHORIZATION_SCOPE_CHECK",
    "limits": "RESOURCE_LIMIT_CHECK",
    "data": "DATA_BOUNDARY_CHECK",
}


class Model:
    """The state that the contract speaks of, and the trail that it demands."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.halted = False
        self.grants: dict[str, Grant] = {}
        self.requests: dict[tuple[str, str, str], Request] = {}
        self.plan_ids: set[str] = set()
        self.events: list[tuple[Any, ...]] = []
        self.effects: list[str] = []
        self.happen: Callable[[Any], None] = lambda _what: None

    def emit(
        self,
        event_type: str,
        status: str,
        *,
        user: str | None = None,
        token: str | None = None,
        plan: str | None = None,
        step: int | None = None,
        where: tuple[str | None, str | None] = (None, None),
        reason: str | None = None,
        terminal: bool = False,
    ) -> None:
        """Demand one event, now."""
        self.events.append(
            (event_type, status, user, token, plan, step, *where, reason, terminal, self.now_us)
        )

    # Operators

    def issue(self, credential: str, grant: Grant) -> None:
        """Take note of a new token."""
        self.grants[credential] = grant
        self.emit("TOKEN_ISSUED", "success", user=grant.user_id, token=grant.token_id)

    def revoke(self, credential: str) -> None:
        """Revoke for good; a second time changes and records nothing."""
        grant = self.grants[credential]
        if not grant.revoked:
            grant.revoked = True
            self.emit(
                "TOKEN_REVOKED", "success", user=grant.user_id, token=grant.token_id, reason="model"
            )

    def halt(self, *, halted: bool) -> None:
        """Halt or resume; what is so already is not recorded."""
        if self.halted is not halted:
            self.halted = halted
            self.emit("SERVICE_HALTED" if halted else "SERVICE_RESUMED", "success", reason="model")

    # Clients

    def submit(self, sub: Submission) -> Told:
        """Return what the client must be told, having demanded every event."""
        key = (sub.caller, sub.plan.user_id, sub.request_id)
        prior = self.requests.get(key)
        if prior is not None and prior.told is not None:
            told = prior.told
            if prior.credential == sub.credential and prior.plan == sub.plan:
                return Told(told.kind, told.reason, told.step, told.effects, replay=True)
        if sub.plan_id in self.plan_ids:
            self.emit("EXECUTION_DENIED", "denied", reason="PLAN_INVALID")
            return Told("refused", "PLAN_INVALID")
        grant = self.grants.get(sub.credential)
        token_id = None if grant is None else grant.token_id
        if prior is not None:
            return self._refuse_consumed(sub, prior, token_id)
        if self.halted:
            return Told("refused", "SERVICE_HALTED")
        self.plan_ids.add(sub.plan_id)
        if reason := self._gate_1(sub, grant):
            self._observe_expiry(grant, reason)
            self._deny(sub, token_id, "token", reason)
            return Told("refused", PUBLIC[reason])
        assert grant is not None
        if refused := self._forbidden(sub, grant):
            gate, index, reason = refused
            self._plan_event(sub, token_id, "TOKEN_VALIDATION", "success")
            self._deny(sub, token_id, gate, reason, index)
            return Told("refused", PUBLIC[reason])
        self._plan_event(sub, token_id, "TOKEN_VALIDATION", "success")
        if not grant.used:
            grant.used = True
            self.emit("TOKEN_FIRST_USED", "success", user=grant.user_id, token=token_id)
        request = self.requests[key] = Request(sub.credential, grant.token_id, sub.plan)
        request.told = self._run(sub, grant)
        return request.told

    def _refuse_consumed(self, sub: Submission, prior: Request, token_id: str | None) -> Told:
        if prior.credential == sub.credential and prior.plan == sub.plan:
            return Told("refused", "REQUEST_IN_PROGRESS")
        self.plan_ids.add(sub.plan_id)
        if prior.credential != sub.credential:
            self._deny(sub, token_id, "token", "request_token_mismatch")
            return Told("refused", "TOKEN_NOT_ACCEPTED")
        reason = "REQUEST_ID_REUSED"
        self._plan_event(
            sub, prior.token_id, "EXECUTION_DENIED", "denied", reason=reason, terminal=True
        )
        return Told("refused", reason)

    # Gates

    def _gate_1(self, sub: Submission, grant: Grant | None) -> str | None:
        if grant is None:
            return "token_unknown"
        long_life = grant.lifetime_s > ORDINARY_LIFETIME_S
        questions = (
            ("token_revoked", grant.revoked),
            ("user_mismatch", grant.user_id != sub.plan.user_id),
            ("caller_mismatch", not grant.bearer and sub.caller not in grant.callers),
            ("token_expired", self.now_us >= grant.issued_us + grant.lifetime_s * 1_000_000),
            ("trigger_not_allowed", sub.plan.trigger_type not in grant.triggers),
            ("plan_not_bound", grant.bound_to is not None and grant.bound_to != sub.plan),
            ("plan_not_bound", long_life and grant.max_invocations != len(sub.plan.steps)),
        )
        return next((reason for reason, is_so in questions if is_so), None)

    def _gate_2(self, grant: Grant, step: PlanStep) -> str | None:
        if step.domain not in grant.scope:
            return "domain_not_in_scope"
        if step.method not in grant.scope[step.domain]:
            return "method_not_in_scope"
        if step.domain not in DECLARED:
            return "domain_unknown"
        return None if step.method in DECLARED[step.domain] else "method_undeclared"

    def _gate_3(
        self, grant: Grant, *, needed: int, first: bool, plan_bytes: int, time_left: bool
    ) -> str | None:
        recent = [s for s in grant.starts_us if self.now_us - s < grant.window_s * 1_000_000]
        limit, total = grant.max_invocations, grant.max_total_bytes
        questions = (
            ("invocations_exhausted", limit is not None and grant.invocations + needed > limit),
            (
                "frequency_exhausted",
                first and grant.max_plans is not None and len(recent) >= grant.max_plans,
            ),
            (
                "response_bytes_exhausted",
                total is not None and grant.total_bytes + grant.reserve > total,
            ),
            ("plan_bytes_exhausted", plan_bytes + grant.reserve > PLAN_MAX_BYTES),
            ("no_time_left", not time_left),
        )
        return next((reason for reason, is_so in questions if is_so), None)

    def _forbidden(self, sub: Submission, grant: Grant) -> tuple[str, int, str] | None:
        for index, step in enumerate(sub.plan.steps):
            if reason := self._gate_2(grant, step):
                return "scope", index, reason
        for index in range(len(sub.plan.steps)):
            reason = self._gate_3(
                grant, needed=index + 1, first=index == 0, plan_bytes=0, time_left=sub.time_left
            )
            if reason:
                return "limits", index, reason
        return None

    # Steps

    def _run(self, sub: Submission, grant: Grant) -> Told:
        outputs: list[str] = []
        for index in range(len(sub.plan.steps)):
            parameters, fault = self._resolve(sub.plan, index, outputs)
            if told := self._refused_at(sub, grant, index, fault, sum(map(len, outputs))):
                return told
            if told := self._executed(sub, grant, index, parameters, outputs):
                return told
        raise AssertionError("a plan has a last step")

    def _refused_at(
        self, sub: Submission, grant: Grant, index: int, fault: str | None, plan_bytes: int
    ) -> Told | None:
        """Ask every gate about one step, in the moment in which it would start."""
        limits = self._gate_3(
            grant, needed=1, first=index == 0, plan_bytes=plan_bytes, time_left=sub.time_left
        )
        if reason := self._gate_1(sub, grant):
            self._observe_expiry(grant, reason)
            return self._end_at_gate(sub, grant, "token", reason, index)
        for gate, reason in (
            ("scope", self._gate_2(grant, sub.plan.steps[index])),
            ("limits", limits),
            ("data", fault),
        ):
            if reason:
                return self._end_at_gate(sub, grant, gate, reason, index)
            self._step_event(sub, grant, GATE_EVENTS[gate], "success", index)
        return None

    def _end_at_gate(
        self, sub: Submission, grant: Grant, gate: str, reason: str, index: int
    ) -> Told:
        self._deny(sub, grant.token_id, gate, reason, index)
        return Told("denied", PUBLIC[reason], index, "some" if index else "none")

    def _executed(
        self, sub: Submission, grant: Grant, index: int, parameters: str, outputs: list[str]
    ) -> Told | None:
        """Start one step, let happen what happens, and end it; None if another one follows."""
        self._step_event(sub, grant, "EXECUTION_STARTED", "started", index)
        grant.invocations += 1
        grant.total_bytes += grant.reserve
        if index == 0 and grant.max_plans is not None:
            grant.starts_us.append(self.now_us)
        happening = sub.during[index] if index < len(sub.during) else None
        if happening not in (None, "cancel", "timeout"):
            self.happen(happening)
        output, failure, size = self._invoke(sub, index, parameters, grant.reserve)
        if failure == "STEP_IN_DOUBT":
            self._end_step(sub, grant, "OPERATION_ABORTED", "aborted", index, failure)
            return Told("in_doubt", failure, index, "unknown")
        grant.total_bytes += min(size, grant.reserve) - grant.reserve
        if failure:
            self._end_step(sub, grant, "EXECUTION_COMPLETED", "failed", index, failure)
            so_far = "some" if index else "none"
            unreached = failure == "DOMAIN_UNREACHABLE"
            return Told("failed", failure, index, so_far if unreached else "unknown")
        outputs.append(output)
        last = index + 1 == len(sub.plan.steps)
        self._step_event(sub, grant, "EXECUTION_COMPLETED", "success", index, terminal=last)
        if last:
            return Told("completed", effects="some")
        stop = None
        if self.halted:
            stop = "PLAN_HALTED"
        elif happening in ("cancel", "timeout"):
            stop = "CLIENT_CANCELLED" if happening == "cancel" else "DEADLINE"
        if stop is None:
            return None
        self._end_step(sub, grant, "OPERATION_ABORTED", "aborted", index + 1, stop)
        return Told("aborted", stop, index + 1, "some")

    def _end_step(
        self, sub: Submission, grant: Grant, event: str, status: str, index: int, reason: str
    ) -> None:
        self._step_event(sub, grant, event, status, index, reason=reason, terminal=True)

    def _resolve(self, plan: Plan, index: int, outputs: list[str]) -> tuple[str, str | None]:
        """Return the final parameters of a step, and what gate 4 says of them."""
        step = plan.steps[index]
        text = step.parameters_json
        if plan.bound_path is not None and 0 < index == len(plan.steps) - 1:
            source = json.loads(outputs[0])
            if plan.bound_path not in source:
                return "", "binding_unresolved"
            filled = {**json.loads(text), "n": source[plan.bound_path]}
            text = json.dumps(filled, sort_keys=True, separators=(",", ":"))
        if step.domain == "strict" and type(json.loads(text).get("n")) is not int:
            return text, "parameters_invalid"
        return text, None

    def _invoke(
        self, sub: Submission, index: int, parameters: str, most: int
    ) -> tuple[str, str | None, int]:
        """Return the output, or why there is none, and the size of what was answered."""
        match sub.plan.steps[index].method:
            case "fail" | "raise_error":
                return "", "DOMAIN_FAILED", 0
            case "unreachable":
                return "", "DOMAIN_UNREACHABLE", 0
            case "silent":
                return "", "STEP_IN_DOUBT", 0
            case "garbage":
                return "", "ANSWER_INVALID", GARBAGE_BYTES
            case "effect":
                self.effects.append(f"{sub.plan_id}/{index}")
                output = f'{{"effects":{len(self.effects)}}}'
            case _:
                output = parameters
        return output, "ANSWER_INVALID" if len(output) > most else None, len(output)

    # Events

    def _plan_event(
        self, sub: Submission, token: str | None, event_type: str, status: str, **more: Any
    ) -> None:
        self.emit(event_type, status, user=sub.plan.user_id, token=token, plan=sub.plan_id, **more)

    def _step_event(
        self, sub: Submission, grant: Grant, event_type: str, status: str, index: int, **more: Any
    ) -> None:
        step = sub.plan.steps[index]
        where = (step.domain, step.method)
        self._plan_event(sub, grant.token_id, event_type, status, step=index, where=where, **more)

    def _deny(
        self, sub: Submission, token: str | None, gate: str, reason: str, index: int | None = None
    ) -> None:
        where: dict[str, Any] = {}
        if index is not None:
            step = sub.plan.steps[index]
            where = {"step": index, "where": (step.domain, step.method)}
        self._plan_event(sub, token, GATE_EVENTS[gate], "denied", reason=reason, **where)
        self._plan_event(
            *(sub, token, "EXECUTION_DENIED", "denied"),
            reason=PUBLIC[reason],
            terminal=True,
            **where,
        )

    def _observe_expiry(self, grant: Grant | None, reason: str) -> None:
        if reason == "token_expired" and grant is not None and not grant.expiry_seen:
            grant.expiry_seen = True
            self.emit("TOKEN_EXPIRED", "expired", user=grant.user_id, token=grant.token_id)
