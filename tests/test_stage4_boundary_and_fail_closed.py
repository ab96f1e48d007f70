"""The promised catalogue: the boundary around Stage-4, and that every way out of it is closed.

The boundary is tried from outside over mTLS; where a failure must be forced, the fake stands in
that passes the port's contract suite.
"""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage3.v1 import audit_service_pb2, token_service_pb2
from stagegate.stage3.v1.plan_execution_service_pb2 import DESCRIPTOR
from stagegate.stage4.v1 import plan_service_pb2

import stage4_service
from stage4_service import Stage4ExecutionPlan, Stage4Orchestrator
from stage4_service.audit import NewEvent, PlanEnded, PlanOpened, Stage4AuditEvent
from stage4_service.errors import JournalUnavailable
from stage4_service.wire.status import STATUSES
from tests.fakes.stage3_service import TOKEN, FakeStage3, completed, refuse, serving
from tests.harness.fixtures import Trial
from tests.harness.pki import pki
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage4 import Stage4UnderTest, running_stage4

SOURCES = sorted(Path(stage4_service.__file__).parent.rglob("*.py"))

# Said of who calls Stage-3, and that is never the client.
OF_STAGE4_ITSELF = {"CLIENT_UNAUTHENTICATED", "METHOD_NOT_PERMITTED"}


@pytest.fixture
def fake() -> FakeStage3:
    """Give a Stage-3 that does as it is told."""
    return FakeStage3()


@pytest.fixture
def stage4(tmp_path: Path, fake: FakeStage3) -> Iterator[Stage4UnderTest]:
    """Run a real Stage-4 in front of the fake."""
    with serving(fake) as address, running_stage4(tmp_path, address) as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path, stage3: Stage3UnderTest) -> Iterator[Stage4UnderTest]:
    """Run the whole pair."""
    with running_stage4(tmp_path, stage3.service.plans.address) as running:
        yield running


def _step(method: str = "echo", domain: str = "trial", **parameters: Any) -> dict[str, Any]:
    return {"domain": domain, "method": method, "parameters": parameters}


def _plan(*steps: dict[str, Any], token: str = TOKEN) -> dict[str, Any]:
    return {
        "user_id": "ada",
        "token_hash": token,
        "trigger_type": "manual",
        "steps": list(steps) or [_step()],
    }


def _imported(path: Path) -> set[str]:
    """Return every module that a source file imports, however deep in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _imports(*modules: str) -> list[str]:
    """Return the source files of Stage-4 that import one of these modules, or a part of one."""
    return [
        f"{path.name}: {name}"
        for path in SOURCES
        for name in sorted(_imported(path))
        if any(name == module or name.startswith(module + ".") for module in modules)
    ]


def _called_names() -> set[str]:
    """Return every name that Stage-4's source calls."""
    called: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                if isinstance(function, ast.Name):
                    called.add(function.id)
                elif isinstance(function, ast.Attribute):
                    called.add(function.attr)
    return called


class TestStage4Stage3Boundaries:
    """One RPC in one direction, and nobody in between."""

    def test_the_door_to_stage3_has_exactly_one_method(self) -> None:
        """Expect one service with one RPC in the contract that Stage-4 is given."""
        services = {
            name: [method.name for method in service.methods]
            for name, service in DESCRIPTOR.services_by_name.items()
        }
        assert services == {"PlanExecutionService": ["ExecuteMultiDomainPlan"]}

    def test_only_one_module_speaks_to_stage3(self) -> None:
        """Expect the stub of the one RPC to be imported in one file, and no other of Stage-3's."""
        assert _imports("stage3_service") == []
        stubs = _imports("stagegate.stage3")
        assert stubs
        assert {entry.split(":")[0] for entry in stubs} == {"stage3_client.py"}

    def test_stage4_may_not_call_what_operators_call(
        self, stage3: Stage3UnderTest, pair: Stage4UnderTest
    ) -> None:
        """Expect Stage-4's own certificate to be refused where tokens and logs are."""
        for call in (
            lambda: stage3.tokens("stage4").ListTokens(
                token_service_pb2.ListTokensRequest(), timeout=5
            ),
            lambda: stage3.audit("stage4").ListEvents(
                audit_service_pb2.ListEventsRequest(), timeout=5
            ),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    def test_a_client_may_not_call_stage3(self, stage3: Stage3UnderTest, trial: Trial) -> None:
        """Expect a client's certificate to be refused at Stage-3's plan listener."""
        token = stage3.issue(scope={"trial": ("effect",)}).token_hash
        request = stage3.request(token, [_step("effect")])
        answer = stage3.send(request, caller="cli")
        assert answer.reason == "METHOD_NOT_PERMITTED"
        assert trial.domain.effects == []

    @pytest.mark.parametrize("caller", ["oona", "stage4", "domain", "reader"])
    def test_only_clients_submit_plans(
        self, stage4: Stage4UnderTest, fake: FakeStage3, caller: str
    ) -> None:
        """Expect operators, Stage-4 itself, domains and auditors to be refused and recorded."""
        executed = stage4.execute(_plan(), caller=caller)
        assert (executed.code, executed.reason) == ("PERMISSION_DENIED", "METHOD_NOT_PERMITTED")
        assert fake.received == []
        record = stage4.events("reader")[-1]
        assert record["record_type"] == "caller_refused"
        assert record["details"]["method"].endswith("/ExecutePlan")


class TestFailClosedExhaustiveness:
    """Every way in which a plan can end is told under a stable reason, and recorded."""

    @pytest.mark.parametrize(
        "reason", sorted(set(STATUSES.codes) - {"REQUEST_INVALID"} - OF_STAGE4_ITSELF), ids=str
    )
    def test_every_reason_of_stage3_reaches_the_client_unchanged(
        self, stage4: Stage4UnderTest, fake: FakeStage3, reason: str
    ) -> None:
        """Expect reason and code as Stage-3 gave them, and the same reason in the log."""
        fake.script = lambda _request, context: refuse(context, reason)
        executed = stage4.execute(_plan())
        assert executed.reason == reason
        assert executed.code == STATUSES.codes[reason].name
        record = stage4.events(plan_id=executed.outcome.plan_id)[-1]
        assert record["event_type"] == "execution_failed"
        assert record["details"]["reason"] == reason

    @pytest.mark.parametrize("reason", sorted(OF_STAGE4_ITSELF))
    def test_what_stage3_holds_against_stage4_is_no_fault_of_the_client(
        self, stage4: Stage4UnderTest, fake: FakeStage3, reason: str
    ) -> None:
        """Expect STAGE3_UNREACHABLE: the client's own certificate is good, and nothing happened."""
        fake.script = lambda _request, context: refuse(context, reason)
        executed = stage4.execute(_plan())
        assert (executed.code, executed.reason) == ("UNAVAILABLE", "STAGE3_UNREACHABLE")
        record = stage4.events(plan_id=executed.outcome.plan_id)[-1]
        assert record["details"]["reason"] == "STAGE3_UNREACHABLE"

    @pytest.mark.parametrize(
        "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    )
    def test_every_bare_status_means_that_nobody_knows(
        self, stage4: Stage4UnderTest, fake: FakeStage3, code: grpc.StatusCode
    ) -> None:
        """Expect a code without a reason to be no answer of Stage-3's, whatever it says."""
        fake.script = lambda _request, context: context.abort(code, "all is well")
        executed = stage4.execute(_plan())
        pending = code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert executed.reason == ("OUTCOME_PENDING" if pending else "OUTCOME_UNKNOWN")
        assert "all is well" not in str(executed.error)
        assert executed.outcome.effects == 3
        assert stage4.plan(executed.outcome.plan_id).state == plan_service_pb2.PLAN_STATE_UNKNOWN

    @pytest.mark.parametrize("spoil", ["no outcome", "other request", "other plan"])
    def test_an_answer_that_is_not_one_is_not_believed(
        self, stage4: Stage4UnderTest, fake: FakeStage3, spoil: str
    ) -> None:
        """Expect OUTCOME_UNKNOWN for a response without outcome or for another submission."""

        def answer(request: Any, _context: object) -> Any:
            response = completed(request, [{}])
            match spoil:
                case "no outcome":
                    response.ClearField("completed")
                case "other request":
                    response.request_id = "another"
                case _:
                    response.plan_id = "another"
            return response

        fake.script = answer
        assert stage4.execute(_plan()).reason == "OUTCOME_UNKNOWN"

    @pytest.mark.parametrize("failing", [0, 1])
    def test_without_a_record_nothing_is_done_and_nothing_is_told(self, failing: int) -> None:
        """Expect no call before the first record, and no success after a lost second one."""
        calls: list[object] = []

        class Port:
            def execute_multi_domain_plan(self, **plan: Any) -> object:
                calls.append(plan)
                return "the result"

        orchestrator = Stage4Orchestrator(Port(), journal=_JournalThatFails(failing))
        with pytest.raises(RuntimeError) as failed:
            orchestrator.execute_plan(_plan())
        expected = ["AUDIT_UNAVAILABLE", "OUTCOME_UNRECORDED"][failing]
        assert failed.value.reason == expected  # type: ignore[attr-defined]
        assert len(calls) == failing

    @pytest.mark.parametrize(
        "document",
        [b"", b"null", b"[]", b"{", b"{}", b"\xff", b'{"a":1,"a":2}', b"\xef\xbb\xbf{}", b"1 2"],
    )
    def test_every_malformed_document_is_refused_and_recorded(
        self, stage4: Stage4UnderTest, fake: FakeStage3, document: bytes
    ) -> None:
        """Expect INVALID_ARGUMENT with one violation, a record of two events, and no call."""
        executed = stage4.execute(document)
        assert (executed.code, executed.reason) == ("INVALID_ARGUMENT", "PLAN_INVALID")
        assert executed.error is not None
        assert len(executed.error.violations) == 1
        received, failed = stage4.events()
        assert (received["details"]["valid"], failed["details"]["reason"]) == (
            False,
            "PLAN_INVALID",
        )
        assert fake.received == []


class TestNegativeCapabilityProofs:
    """What Stage-4 cannot do, because nothing in it could."""

    def test_it_cannot_reach_stage3s_code_or_store(self) -> None:
        """Expect no import of Stage-3's package anywhere in Stage-4."""
        assert _imports("stage3_service") == []

    def test_it_cannot_reach_a_domain(self) -> None:
        """Expect no import of the contract that domains speak."""
        assert _imports("stagegate.domain") == []

    def test_it_cannot_make_or_revoke_tokens(self) -> None:
        """Expect neither the token service's contract nor a source of entropy."""
        tokens = _imports("stagegate.stage3.v1.token_service_pb2", "secrets", "random")
        assert tokens == []

    def test_it_cannot_start_processes_or_threads_for_a_plan(self) -> None:
        """Expect no process module, and no thread made outside the kit's bounded pools."""
        assert _imports("subprocess", "multiprocessing", "asyncio", "concurrent", "sched") == []
        assert not _called_names() & {"Thread", "Timer", "fork", "Popen", "start_new_thread"}

    def test_it_cannot_run_code_from_a_plan(self) -> None:
        """Expect no evaluator, importer or unpickler of text."""
        assert _imports("pickle", "marshal", "importlib", "code", "runpy") == []
        plain = {name for name in _called_names() if name != "compile"}
        assert not plain & {"eval", "exec", "__import__", "import_module"}

    def test_it_cannot_wait_and_try_again(self) -> None:
        """Expect no sleep, no scheduler and no retry loop: each plan is sent from one line."""
        assert _imports("time", "sched", "tenacity") == []
        assert "sleep" not in _called_names()
        sends = [
            node
            for path in SOURCES
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and node.attr == "ExecuteMultiDomainPlan"
        ]
        assert len(sends) == 1

    def test_it_cannot_reach_the_network_but_through_grpc(self) -> None:
        """Expect no socket and no HTTP client in any module."""
        assert _imports("socket", "http", "urllib", "ssl", "requests", "httpx") == []

    def test_it_cannot_see_another_clients_plans(self, stage4: Stage4UnderTest) -> None:
        """Expect a plan of one client not to exist for another, in every read."""
        plan_id = stage4.execute(_plan(), caller="cli").completed.plan_id
        assert stage4.events("other") == []
        for read in (
            lambda: stage4.plan(plan_id, "other"),
            lambda: stage4.events("other", plan_id=plan_id),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                read()
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND

    def test_it_cannot_keep_a_credential(self, stage4: Stage4UnderTest, tmp_path: Path) -> None:
        """Expect neither token nor parameters in any file of the store, nor in a plan's repr."""
        stage4.execute(_plan(_step(note="the parameter that nobody keeps")))
        stage4.execute(_plan(_step(method="fail", note="the parameter that nobody keeps")))
        stage4.service.journal.close()
        for path in (tmp_path / "stage4").iterdir():
            stored = path.read_bytes()
            assert TOKEN.encode() not in stored
            # The result of an echo is a result; nothing else of the plan is anywhere.
            assert stored.count(b"parameter that nobody keeps") <= 2
        assert TOKEN not in repr(Stage4ExecutionPlan(**_plan()))

    def test_it_cannot_be_told_to_skip_its_log(self) -> None:
        """Expect a real store where no journal is given, and no name that would switch it off."""
        orchestrator = Stage4Orchestrator(_Silent())
        orchestrator.execute_plan(_plan())
        assert len(orchestrator.get_audit_log()) == 3
        orchestrator.get_audit_log().clear()
        assert len(orchestrator.get_audit_log()) == 3
        names = {"audit_enabled", "disable_audit", "NullJournal", "skip_audit"}
        assert not any(name in path.read_text("utf-8") for path in SOURCES for name in names)

    def test_it_cannot_be_reached_without_a_certificate(self, stage4: Stage4UnderTest) -> None:
        """Expect a caller with the right authority and no certificate to get no connection."""
        credentials = grpc.ssl_channel_credentials(pki().file("ca.crt").read_bytes())
        options = [("grpc.ssl_target_name_override", "stage4.stagegate.test")]
        address = stage4.service.addresses.clients
        with grpc.secure_channel(address, credentials, options=options) as channel:
            call: Any = channel.unary_unary("/stagegate.stage4.v1.PlanService/ListPlans")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


class TestConsistencyUnderBoundaries:
    """The boundary holds under load, and what is told agrees with what is recorded."""

    def test_many_clients_at_once_get_their_own_answers(
        self, pair: Stage4UnderTest, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Expect each answer to hold its own parameters, and one effect for each plan."""
        token = stage3.issue(scope={"trial": ("echo", "effect")}).token_hash

        def submit(number: int) -> int:
            plan = _plan(_step("echo", n=number), _step("effect"), token=token)
            return int(pair.execute(plan).result["results"][0]["output"]["n"])

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(submit, range(40))) == list(range(40))
        assert len(set(trial.domain.effects)) == len(trial.domain.effects) == 40

    def test_what_the_client_was_told_is_in_the_log(
        self, stage4: Stage4UnderTest, fake: FakeStage3
    ) -> None:
        """Expect one terminal event for each plan, with the outcome that was answered."""
        started = threading.Barrier(3)

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            started.wait(10)
            match json.loads(request.steps[0].parameters_json)["n"]:
                case 0:
                    return completed(request, [{}])
                case 1:
                    return refuse(context, "TOKEN_EXPIRED")
                case _:
                    return context.abort(grpc.StatusCode.INTERNAL, "gone")

        fake.script = answer
        with ThreadPoolExecutor(3) as pool:
            told = list(pool.map(lambda n: stage4.execute(_plan(_step(n=n))), range(3)))
        assert [one.reason for one in told] == ["", "TOKEN_EXPIRED", "OUTCOME_UNKNOWN"]
        for one in told:
            plan_id = one.response.plan_id if one.response else one.outcome.plan_id
            events = stage4.events(plan_id=plan_id)
            terminal = [e for e in events if e["event_type"].startswith("execution_")][1:]
            assert [e["details"].get("reason", "") for e in terminal] == [one.reason]


class _Silent:
    def execute_multi_domain_plan(self, **_plan: Any) -> object:
        return None


class _JournalThatFails:
    """A journal whose n-th record is not durable."""

    def __init__(self, failing: int) -> None:
        self._left = failing

    def record(
        self,
        events: Any,
        *,
        opened: PlanOpened | None = None,
        ended: PlanEnded | None = None,
    ) -> tuple[Stage4AuditEvent, ...]:
        """Fail when the count is up."""
        assert all(isinstance(event, NewEvent) for event in events)
        if self._left == 0:
            raise JournalUnavailable("the disk is gone")
        self._left -= 1
        return ()

    def events(self) -> list[Stage4AuditEvent]:
        """Hold nothing."""
        return []
