"""What a client sends in a benchmark, and how it knows that the answer is right."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

from stagegate.stage4.v1.plan_service_pb2 import ExecutePlanRequest, ExecutePlanResponse

ECHO_METHOD: Final = "/stagegate.bench.Echo/Call"
PLAN_METHOD: Final = "/stagegate.stage4.v1.PlanService/ExecutePlan"

# Stage-3's events of a plan of three steps: 1 + 5n; Stage-4's: received, started, completed.
STAGE3_EVENTS_A_PLAN: Final = 16
STAGE4_EVENTS_A_PLAN: Final = 3
# n + 1 commits in Stage-3, 2 in Stage-4.
COMMITS_A_PLAN: Final = 6


class WrongAnswerError(Exception):
    """The answer to a benchmark's call was not the one that the work asks for."""


class Work(Protocol):
    """A kind of call: its method, its requests, and the check of its answers."""

    @property
    def method(self) -> str:
        """Full name of the RPC."""

    def request(self, label: str) -> bytes:
        """Make a request that no other label makes."""

    def verify(self, label: str, request: bytes, response: bytes) -> None:
        """Raise WrongAnswerError unless this is the right answer."""


_LABEL: Final = b"(label)"


@dataclass(frozen=True)
class PlanWork:
    """Dependent SHA-256 steps on the builtin text domain, three unless told otherwise."""

    user_id: str
    token_hash: str
    steps: int = 3

    @property
    def method(self) -> str:
        """Name Stage-4's RPC."""
        return PLAN_METHOD

    def request(self, label: str) -> bytes:
        """Make a plan whose first step hashes the label."""
        return ExecutePlanRequest(plan_json=self.plan_json(label)).SerializeToString()

    def plan_json(self, label: str) -> bytes:
        """Write the plan document."""
        return self._template.replace(_LABEL, label.encode())

    @cached_property
    def _template(self) -> bytes:
        """Write the document of every plan once: the callers share the machine with the pair."""
        step = {"domain": "text", "method": "sha256"}
        bindings = [
            {
                "source_step": source,
                "source_path": "sha256",
                "target_step": source + 1,
                "target_path": "text",
                "expected_type": "string",
            }
            for source in range(self.steps - 1)
        ]
        plan = {
            "user_id": self.user_id,
            "token_hash": self.token_hash,
            "trigger_type": "manual",
            "steps": [
                {**step, "parameters": {"text": _LABEL.decode()}},
                *({**step, "parameters": {}} for _ in range(self.steps - 1)),
            ],
            "data_bindings": bindings,
        }
        return json.dumps(plan).encode()

    def verify(self, label: str, request: bytes, response: bytes) -> None:
        """Compare all digests, and require an answer that was executed, not replayed."""
        del request
        answer = ExecutePlanResponse.FromString(response)
        digest = label
        results = []
        for step in range(self.steps):
            digest = hashlib.sha256(digest.encode()).hexdigest()
            results.append({"step": step, "output": {"sha256": digest}})
        if json.loads(answer.result_json) != {"status": "completed", "results": results}:
            raise WrongAnswerError(f"unexpected result {answer.result_json[:200]!r}")
        if (
            answer.replay
            or not answer.plan_id
            or len(answer.plan_digest) != hashlib.sha256().digest_size
        ):
            raise WrongAnswerError("the plan was not executed for this call")


@dataclass(frozen=True, slots=True)
class ToolWork:
    """So many steps that ask an MCP server the same; see `bench.tools`.

    `answered` is in every output that is right, as JSON.
    """

    user_id: str
    token_hash: str
    domain: str
    tool: str
    steps: int
    asked: dict[str, str]
    answered: str

    @property
    def method(self) -> str:
        """Name Stage-4's RPC."""
        return PLAN_METHOD

    def request(self, label: str) -> bytes:
        """Make a plan; what tells it from another is its request identifier, minted by Stage-4."""
        del label
        step = {"domain": self.domain, "method": self.tool, "parameters": self.asked}
        return _plan(self.user_id, self.token_hash, [step] * self.steps)

    def verify(self, label: str, request: bytes, response: bytes) -> None:
        """Require the server's answer in every step."""
        del label, request
        results = json.loads(ExecutePlanResponse.FromString(response).result_json)["results"]
        told = [self.answered in json.dumps(one["output"]) for one in results]
        if told != [True] * self.steps:
            raise WrongAnswerError(f"unexpected result {results!r}")


@dataclass(frozen=True, slots=True)
class UpperWork:
    """So many steps that each write a label in capitals, in this domain."""

    user_id: str
    token_hash: str
    domain: str = "text"
    steps: int = 1

    @property
    def method(self) -> str:
        """Name Stage-4's RPC."""
        return PLAN_METHOD

    def request(self, label: str) -> bytes:
        """Make a plan that writes the label in capitals."""
        step = {"domain": self.domain, "method": "upper", "parameters": {"text": label}}
        return _plan(self.user_id, self.token_hash, [step] * self.steps)

    def verify(self, label: str, request: bytes, response: bytes) -> None:
        """Require the capitals in every step."""
        del request
        results = json.loads(ExecutePlanResponse.FromString(response).result_json)["results"]
        output = {"text": label.upper()}
        if results != [{"step": index, "output": output} for index in range(self.steps)]:
            raise WrongAnswerError(f"unexpected result {results!r}")


def _plan(user_id: str, token_hash: str, steps: Sequence[Mapping[str, object]]) -> bytes:
    plan = {
        "user_id": user_id,
        "token_hash": token_hash,
        "trigger_type": "manual",
        "steps": steps,
    }
    return ExecutePlanRequest(plan_json=json.dumps(plan).encode()).SerializeToString()


@dataclass(frozen=True, slots=True)
class EchoWork:
    """Bytes there and back, as many as a plan's request."""

    size: int

    @property
    def method(self) -> str:
        """Name the echo's RPC."""
        return ECHO_METHOD

    def request(self, label: str) -> bytes:
        """Make a request that starts with the label."""
        return label.encode().ljust(self.size, b".")

    def verify(self, label: str, request: bytes, response: bytes) -> None:
        """Require the request's own bytes."""
        del label
        if response != request:
            raise WrongAnswerError("the echo is not what was sent")


def plan_sized_echo() -> EchoWork:
    """Make the echo whose requests are as long as a plan's."""
    plan = PlanWork(user_id="bench@example.org", token_hash="token_" + "0" * 43)
    return EchoWork(size=len(plan.request("bench-000000-000000")))
