"""Phase 3a: the data boundary. A domain is handed four values and shares memory with nobody."""

from __future__ import annotations

import dataclasses
import gc
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from servicekit.ijson import JsonLimits, JsonValue
from stage3_service.adapters.declarations_file import builtin_catalogue
from stage3_service.adapters.registry import OpenDomains, create_domain_state, open_domains
from stage3_service.adapters.shielded_call import RAISED, RaisedError
from stage3_service.domains.answer import AnswerInvalid, read_answer
from stage3_service.domains.port import Answer, Invocation, MethodFailed, Output
from stage3_service.plan.bindings import ResolvedParameters, resolve_bindings
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import RawBinding, RawPlan, RawStep, parse_plan
from stage3_service.plan.plan import Plan
from tests.fakes.domains import TRIAL_MAX_RESPONSE_BYTES, TrialDomain, trial_domain
from tests.harness.eventually import eventually
from tests.harness.fixtures import TRIAL_S, Trial
from tests.harness.stage3 import Stage3UnderTest, step

SECRET = "hunter2"


@dataclasses.dataclass
class _House:
    opened: OpenDomains
    trial: TrialDomain
    raised: list[RaisedError]
    late: list[tuple[str, Answer]]

    def call(self, method: str, raw: bytes = b"{}", key: str = "plan/0") -> Answer:
        return self.opened.domains["trial"].invoke(Invocation(method, raw, 5.0, key))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[_House]:
    """Every builtin domain and a trial domain, opened as a service opens them."""
    extra, trial = trial_domain()
    raised: list[RaisedError] = []
    late: list[tuple[str, Answer]] = []
    create_domain_state(builtin_catalogue(), tmp_path)
    opened = open_domains(
        builtin_catalogue(),
        tmp_path,
        on_late=lambda key, answer: late.append((key, answer)),
        on_raised=raised.append,
        extra_domains=[extra],
    )
    yield _House(opened, trial, raised, late)
    trial.release.set()
    opened.close()


class TestTheContextIsImmutable:
    """What a call is handed cannot be changed, by the domain or by anybody else."""

    @pytest.mark.parametrize(
        "field", ["method", "parameters_json", "deadline_s", "idempotency_key"]
    )
    def test_no_field_of_an_invocation_can_be_set(self, field: str) -> None:
        """Assignment is refused, field by field."""
        invocation = Invocation("echo", b"{}", 5.0, "plan/0")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(invocation, field, "other")

    def test_no_field_can_be_added_to_an_invocation(self) -> None:
        """There is no place to hang a message to the next call on."""
        invocation = Invocation("echo", b"{}", 5.0, "plan/0")
        with pytest.raises((AttributeError, TypeError)):
            invocation.note = "for later"  # type: ignore[attr-defined]
        assert not hasattr(invocation, "__dict__")

    def test_no_field_of_an_invocation_can_be_deleted(self) -> None:
        """Nor be made to disappear."""
        invocation = Invocation("echo", b"{}", 5.0, "plan/0")
        with pytest.raises(dataclasses.FrozenInstanceError):
            del invocation.method

    def test_mutable_parameters_never_become_an_invocation(self) -> None:
        """A buffer that its owner can still change is memory shared with the domain."""
        with pytest.raises(TypeError, match="immutable"):
            Invocation("echo", bytearray(b"{}"), 5.0, "plan/0")  # type: ignore[arg-type]

    def test_an_answer_that_could_still_change_is_a_failed_method(self, house: _House) -> None:
        """The domain must not rewrite what was already checked."""
        assert house.call("mutable_output") == RAISED

    def test_an_answer_cannot_be_changed_after_it_was_given(self, house: _House) -> None:
        """Both kinds of answer are frozen."""
        output = house.call("echo")
        failed = house.call("fail")
        assert isinstance(output, Output)
        assert isinstance(failed, MethodFailed)
        with pytest.raises(dataclasses.FrozenInstanceError):
            output.json_bytes = b"[]"  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            failed.message = "other"  # type: ignore[misc]

    def test_a_domain_cannot_add_a_method_to_its_declaration(self, house: _House) -> None:
        """The catalogue is read-only to everybody."""
        declared = house.opened.catalogue.domains["trial"].methods
        with pytest.raises(TypeError):
            declared["more"] = declared["echo"]  # type: ignore[index]


class TestWhatInvokeIsHanded:
    """Exactly method, parameters, deadline and idempotency key."""

    def test_an_invocation_has_four_fields_and_no_other(self) -> None:
        """A token, a user or a plan has no field to travel in."""
        fields = {field.name for field in dataclasses.fields(Invocation)}
        assert fields == {"method", "parameters_json", "deadline_s", "idempotency_key"}

    def test_a_domain_is_handed_exactly_these_values(self, house: _House) -> None:
        """The wrapper passes on what it got; here the plan's deadline is the shorter one."""
        house.opened.domains["trial"].invoke(Invocation("echo", b'{"a": 1}', 4.5, "p1/3"))
        assert house.trial.received == [Invocation("echo", b'{"a": 1}', 4.5, "p1/3")]

    def test_a_domain_is_handed_one_positional_value(self, house: _House) -> None:
        """No keyword, no context object: the fake's signature would refuse more."""
        house.call("echo")
        (handed,) = house.trial.received
        assert type(handed) is Invocation

    def test_the_parameters_are_the_clients_own_bytes(self, house: _House) -> None:
        """White space, order and spelling of numbers arrive as they were written."""
        raw = b'{ "z":1.0,"a" : [ 1e2 ] }'
        house.call("echo", raw)
        assert house.trial.received[0].parameters_json == raw

    def test_a_deadline_is_all_a_domain_learns_of_time(self, house: _House) -> None:
        """Seconds left, never a point in time or the age of the plan."""
        house.opened.domains["trial"].invoke(Invocation("echo", b"{}", 1000.0, "p/0"))
        assert house.trial.received[0].deadline_s == 5.0

    def test_nothing_reachable_from_an_invocation_leads_back_to_the_service(
        self, house: _House
    ) -> None:
        """Following every reference out of it finds strings, bytes and a number."""
        house.call("echo", b'{"a":1}')
        (handed,) = house.trial.received
        reached = [item for item in gc.get_referents(handed) if item is not Invocation]
        assert {type(item) for item in reached} <= {str, bytes, float}

    def test_a_domain_runs_on_a_thread_that_holds_nothing_of_its_caller(
        self, house: _House
    ) -> None:
        """Context variables of the request stay with the request."""
        import contextvars

        token = contextvars.ContextVar("token", default="none")
        seen: list[tuple[str, int]] = []
        original = house.trial.invoke

        def looking(invocation: Invocation) -> Answer:
            seen.append((token.get(), threading.get_ident()))
            return original(invocation)

        house.trial.invoke = looking  # type: ignore[method-assign]
        token.set(SECRET)
        house.call("echo")
        assert seen[0][0] == "none"
        assert seen[0][1] != threading.get_ident()


class TestParametersAreIsolated:
    """No call sees, keeps alive or changes what another was given."""

    def test_two_calls_share_no_parameters(self, house: _House) -> None:
        """Each is handed its own."""
        house.call("echo", b'{"a":1}', "p/0")
        house.call("echo", b'{"b":2}', "p/1")
        assert [handed.parameters_json for handed in house.trial.received] == [
            b'{"a":1}',
            b'{"b":2}',
        ]

    def test_an_output_reaches_no_later_call_without_a_binding(self, house: _House) -> None:
        """A step after a step with an output is handed its own parameters only."""
        house.call("echo", b'{"password":"hunter2"}', "p/0")
        house.call("echo", b"{}", "p/1")
        assert SECRET.encode() not in house.trial.received[1].parameters_json

    def test_a_finished_call_leaves_its_parameters_nowhere(self, house: _House) -> None:
        """Neither worker nor wrapper keeps them until the next call."""

        def is_kept() -> bool:
            return any(
                isinstance(item, Invocation) and b"kept-by-nobody" in item.parameters_json
                for item in gc.get_objects()
            )

        house.call("echo", b'{"mark":"kept-by-nobody"}')
        assert is_kept()
        house.trial.received.clear()
        # The worker tells its caller a moment before it lets go.
        assert eventually(lambda: not is_kept())

    def test_text_keeps_nothing_between_calls(self, house: _House) -> None:
        """The same call gives the same bytes, whatever came between."""
        text = house.opened.domains["text"]
        call = Invocation("upper", b'{"text":"a"}', 5.0, "p/0")
        first = text.invoke(call)
        text.invoke(Invocation("upper", b'{"text":"other"}', 5.0, "p/1"))
        assert text.invoke(call) == first

    def test_a_raised_errors_text_reaches_nobody_but_the_operator(self, house: _House) -> None:
        """Careless code quotes its parameters; the answer has a fixed message."""
        answer = house.call("raise_error", b'{"password":"hunter2"}')
        assert answer == RAISED
        assert SECRET not in repr(answer)
        assert SECRET in str(house.raised[0].error)

    def test_an_invalid_answer_is_described_without_quoting_it(self, house: _House) -> None:
        """A description goes into the log, an answer does not."""
        answer = house.call("echo", b'{"password":"hunter2","password":"hunter2"}')
        assert isinstance(answer, Output)
        with pytest.raises(AnswerInvalid) as caught:
            read_answer(answer.json_bytes, TRIAL_MAX_RESPONSE_BYTES)
        assert SECRET not in str(caught.value)

    def test_a_late_answer_goes_to_nobodys_next_call(self, house: _House) -> None:
        """It is delivered under its own key; the next call gets its own answer."""
        from stage3_service.domains.port import DomainSilent

        domain = house.opened.domains["trial"]
        with pytest.raises(DomainSilent):
            domain.invoke(Invocation("hang", b"{}", 0.05, "p/0"))
        house.trial.release.set()
        assert house.call("echo", b"[2]", "p/1") == Output(b"[2]")
        house.opened.close()

    def test_notes_of_one_plan_are_no_parameters_of_another(self, house: _House) -> None:
        """Only what a plan asks for by number or page is read."""
        notebook = house.opened.domains["notebook"]
        note = json.dumps({"title": "private", "text": SECRET}).encode()
        notebook.invoke(Invocation("append_note", note, 5.0, "one/0"))
        answer = notebook.invoke(
            Invocation("append_note", b'{"title":"mine","text":""}', 5.0, "two/0")
        )
        assert answer == Output(b'{"note_id":2}')


class TestBindingsCopy:
    """The one way from a step to a later one hands over a copy, and only of what it names."""

    @staticmethod
    def _resolved(outputs: dict[int, JsonValue]) -> tuple[Plan, ResolvedParameters]:
        plan = parse_plan(
            RawPlan(
                user_id="operations",
                token_hash="token_" + "A" * 43,
                trigger_type="manual",
                steps=(
                    RawStep("trial", "echo", b"{}"),
                    RawStep("trial", "echo", b'{ "kept":[1] }'),
                    RawStep("trial", "echo", b'{ "own" : 1.0 }'),
                ),
                bindings=(RawBinding(0, "public", 1, "filled"),),
            ),
            PlanLimits(),
        )
        step = plan.steps[1]
        resolved = resolve_bindings(step, plan.bindings_into(1), outputs, JsonLimits())
        return plan, resolved

    def test_only_the_named_part_of_an_output_is_handed_over(self) -> None:
        """What stands beside it in the same output stays behind."""
        _, resolved = self._resolved({0: {"public": [1], "password": SECRET}})
        assert resolved.json_bytes == b'{"filled":[1],"kept":[1]}'

    def test_the_filled_parameters_share_nothing_with_output_or_plan(self) -> None:
        """Changing them changes neither the recorded output nor the client's plan."""
        output: dict[int, JsonValue] = {0: {"public": [1]}}
        plan, resolved = self._resolved(output)
        filled, kept = resolved.value["filled"], resolved.value["kept"]
        assert isinstance(filled, list)
        assert isinstance(kept, list)
        filled.append("changed")
        kept.append("changed")
        assert output == {0: {"public": [1]}}
        assert plan.steps[1].parameters == {"kept": [1]}

    def test_a_step_without_a_binding_is_handed_the_clients_own_bytes(self, house: _House) -> None:
        """Not a re-encoding of them, whatever earlier steps answered."""
        plan, _ = self._resolved({0: {"public": SECRET}})
        step = plan.steps[2]
        resolved = resolve_bindings(
            step, plan.bindings_into(2), {0: {"public": SECRET}}, JsonLimits()
        )
        house.call("echo", resolved.json_bytes)
        assert house.trial.received[0].parameters_json == b'{ "own" : 1.0 }'


class TestThroughStage3:
    """The same boundary around a running Stage-3, seen from inside a domain."""

    SCOPE: ClassVar = {"trial": ("echo", "raise_error", "garbage"), "text": ("upper",)}

    def test_a_domain_is_handed_four_values_of_its_own_step(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Method, the client's bytes, the method's maximum, and plan and step as the key."""
        token = stage3.issue(scope=self.SCOPE)
        raw = b'{ "a" : 1.0 }'
        answer = stage3.run(
            token.token_hash,
            step("text", "upper", text="a"),
            {"domain": "trial", "method": "echo", "parameters_json": raw},
        )
        assert answer.kind == "completed"
        assert trial.domain.received == [Invocation("echo", raw, TRIAL_S, "plan-1/1")]

    def test_neither_token_nor_user_nor_caller_reaches_a_domain(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Searched for in everything it was handed."""
        issued = stage3.issue(scope=self.SCOPE)
        stage3.run(issued.token_hash, step("trial", "echo", a=1))
        handed = repr(trial.domain.received)
        for kept in (issued.token_hash, issued.token.token_id, "ada", "client/cli", "manual"):
            assert kept not in handed

    def test_an_earlier_steps_output_is_not_handed_to_a_later_step(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Without a binding a step has its own parameters only."""
        token = stage3.issue(scope=self.SCOPE)
        stage3.run(
            token.token_hash, step("trial", "echo", password=SECRET), step("trial", "echo", a=1)
        )
        assert SECRET.encode() in trial.domain.received[0].parameters_json
        assert SECRET not in repr(trial.domain.received[1])

    def test_a_binding_hands_over_the_named_part_only(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """And in canonical form."""
        token = stage3.issue(scope=self.SCOPE)
        stage3.run(
            token.token_hash,
            step("trial", "echo", public=[1], password=SECRET),
            {"domain": "trial", "method": "echo", "parameters_json": b'{ "z":0 }'},
            bindings=[
                {
                    "source_step": 0,
                    "source_path": "public",
                    "target_step": 1,
                    "target_path": "filled",
                }
            ],
        )
        assert trial.domain.received[1].parameters_json == b'{"filled":[1],"z":0}'

    @pytest.mark.parametrize("method", ["echo", "raise_error", "garbage"])
    def test_parameters_are_in_the_log_as_commitments_only(
        self, stage3: Stage3UnderTest, method: str
    ) -> None:
        """Whatever the method does with them."""
        token = stage3.issue(scope=self.SCOPE)
        stage3.run(token.token_hash, step("trial", method, password=SECRET))
        events = stage3.events(plan_id="plan-1")
        assert len(events) == 6
        assert SECRET not in json.dumps(events)

    def test_two_plans_at_once_are_handed_each_their_own(
        self, stage3: Stage3UnderTest, trial: Trial
    ) -> None:
        """Twenty plans on eight threads: key and parameters belong together."""
        token = stage3.issue(scope=self.SCOPE)
        requests = [
            stage3.request(token.token_hash, [step("trial", "echo", mine=number)])
            for number in range(1, 21)
        ]
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(stage3.send, requests))
        assert [answer.outputs for answer in answers] == [[{"mine": n}] for n in range(1, 21)]
        handed = {item.idempotency_key: item.parameters_json for item in trial.domain.received}
        assert handed == {f"plan-{n}/0": b'{"mine": %d}' % n for n in range(1, 21)}
