"""Phase 1d: a plan runs for one of five reasons, spelled exactly; everything else is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import pytest

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.authorization.gate import Denial, DenialReason
from stage3_service.authorization.token_gate import decide_token
from stage3_service.errors import Reason
from stage3_service.tokens.refusal import IssueRefused
from stage3_service.tokens.trigger_type import TriggerType, parse_trigger_types
from tests.harness.stage3 import Stage3UnderTest
from tests.harness.stage3 import step as plan_step
from tests.unit.stage3.grants import facts, issue, token

ALLOWED = ["manual", "direct_command", "async_request", "acknowledgment", "scheduled"]
REFUSED = [
    *("cron", "webhook", "background", "polling", "*", "", "any", "all", "auto", "automatic"),
    *("timer", "interval", "event", "continuous", "loop", "daemon", "self", "recursive", "retry"),
    *("on_startup", "file_watch", "queue", "autonomous", "agent", "system", "internal"),
    *("Manual", "MANUAL", "manual ", " manual", "manual\n", "mаnual", "manu", "manual*", "manual?"),
    *("direct-command", "directcommand", "async", "acknowledgement", "schedule", "ｍanual"),
    *("manual|cron", "manual,cron", ".*", "%", "null", "None", "\x00", "manual\x00"),
]


class TestClosedList:
    """The list is the contract's, and there is no other."""

    def test_the_list_is_the_contracts(self) -> None:
        """Five, in this spelling."""
        assert [member.value for member in TriggerType] == ALLOWED

    @pytest.mark.parametrize("name", ALLOWED)
    def test_each_allowed_type_can_be_issued_and_used(self, name: str) -> None:
        """A token that names it accepts it."""
        granted = token(allowed_trigger_types=(name,))
        assert decide_token(facts(granted, trigger_type=name)) is None

    @pytest.mark.parametrize("name", REFUSED)
    def test_every_other_type_is_refused_at_issue(self, name: str) -> None:
        """No token allows it."""
        with pytest.raises(IssueRefused) as caught:
            issue(allowed_trigger_types=(name,))
        assert caught.value.field == "allowed_trigger_types"

    @pytest.mark.parametrize("name", REFUSED)
    def test_one_unlawful_type_spoils_the_list(self, name: str) -> None:
        """The lawful ones beside it do not save it."""
        with pytest.raises(IssueRefused):
            issue(allowed_trigger_types=("manual", name))

    @pytest.mark.parametrize("name", REFUSED)
    def test_every_other_type_is_refused_at_use(self, name: str) -> None:
        """Not even a token with every lawful type lets it pass."""
        granted = token(allowed_trigger_types=tuple(ALLOWED))
        denial = decide_token(facts(granted, trigger_type=name))
        assert denial == Denial(DenialReason.TRIGGER_NOT_ALLOWED, None)
        assert denial.public is Reason.TRIGGER_NOT_ALLOWED


class TestEachTokenAllowsItsOwn:
    """A lawful type is allowed only where the token names it."""

    @pytest.mark.parametrize("granted", ALLOWED)
    @pytest.mark.parametrize("used", ALLOWED)
    def test_only_the_named_type_passes(self, granted: str, used: str) -> None:
        """All 25 pairs: equal passes, different does not."""
        denial = decide_token(facts(token(allowed_trigger_types=(granted,)), trigger_type=used))
        assert (denial is None) == (granted == used)

    def test_several_types_are_kept_in_order(self) -> None:
        """What was asked for is what is recorded."""
        names = ("scheduled", "manual")
        assert token(allowed_trigger_types=names).allowed_trigger_types == names

    def test_types_are_members_not_texts(self) -> None:
        """A parsed type is a member of the closed list."""
        assert parse_trigger_types(("manual",)) == (TriggerType.MANUAL,)
        assert type(parse_trigger_types(("manual",))[0]) is TriggerType

    @pytest.mark.parametrize("names", [(), ("manual", "manual")])
    def test_empty_and_repeated_lists_are_refused(self, names: Any) -> None:
        """Neither silence nor repetition allows anything."""
        with pytest.raises(IssueRefused):
            parse_trigger_types(names)

    def test_a_token_read_back_with_a_foreign_type_cannot_be_made(self) -> None:
        """The closed list holds for whatever a store returns."""
        stored: Any = ("cron",)
        with pytest.raises(IssueRefused, match="cron"):
            replace(token(), allowed_trigger_types=stored)


class TestAtTheDoors:
    """The same, of a running service."""

    STEP = plan_step("text", "upper", text="a")

    @pytest.mark.parametrize("name", ALLOWED)
    def test_each_allowed_type_runs_a_plan(self, stage3: Stage3UnderTest, name: str) -> None:
        """Issued with it, used with it."""
        credential = stage3.issue(allowed_trigger_types=[name]).token_hash
        assert stage3.run(credential, self.STEP, trigger_type=name).kind == "completed"

    @pytest.mark.parametrize("name", ["cron", "webhook", "background", "polling", "*", "Manual"])
    def test_no_token_is_issued_for_another_type(self, stage3: Stage3UnderTest, name: str) -> None:
        """Refused by field."""
        with pytest.raises(grpc.RpcError) as caught:
            stage3.issue(allowed_trigger_types=["manual", name])
        (violation,) = decode_rpc_error(caught.value).violations
        assert violation[0] == "allowed_trigger_types"

    @pytest.mark.parametrize("name", ["cron", "webhook", "background", "*", "MANUAL", "scheduled"])
    def test_no_plan_runs_for_another_reason(self, stage3: Stage3UnderTest, name: str) -> None:
        """Nothing starts, and the log has the precise reason."""
        answer = stage3.run(stage3.issue().token_hash, self.STEP, trigger_type=name)
        assert answer.reason == "TRIGGER_NOT_ALLOWED"
        (event,) = stage3.events(event_type="TOKEN_VALIDATION")
        assert (event["status"], event["reason"]) == ("denied", "trigger_not_allowed")
        assert stage3.events(event_type="EXECUTION_STARTED") == []
