"""I10: the recorded decisions, asked again of nothing but the log before each of them.

Written from the contract, with no code of Stage-3: tokens as TOKEN_ISSUED describes them, charges
counted from EXECUTION_STARTED. Deliberately absent: time left and bytes, which no log holds.
"""

from __future__ import annotations

from typing import Any

_BEFORE_A_START = ["AUTHORIZATION_SCOPE_CHECK", "RESOURCE_LIMIT_CHECK", "DATA_BOUNDARY_CHECK"]
# What a token may grant and no declaration has.
_UNDECLARED = {"domain_unknown", "method_undeclared"}

Event = dict[str, Any]


class GatesReplay:
    """Walk a log from its start, and assert each decision of the gates."""

    def __init__(self) -> None:
        self._issued: dict[str, dict[str, Any]] = {}
        self._expires: dict[str, str] = {}
        self._revoked: set[str] = set()
        self._starts: dict[str, int] = {}
        self._halted = False
        self._recent: dict[str, list[Event]] = {}

    def follow(self, event: Event) -> None:
        """Assert the next event, then believe it."""
        token_id, plan_id = event["token_id"], event["plan_id"]
        match event["event_type"], event["status"]:
            case "TOKEN_ISSUED", _:
                self._issued[token_id] = event["additional_data"]
            case "TOKEN_REVOKED", _:
                self._revoked.add(token_id)
            case "SERVICE_HALTED", _:
                self._halted = True
            case "SERVICE_RESUMED", _:
                self._halted = False
            case "TOKEN_VALIDATION", "success":
                self._assert_token(event)
            case "TOKEN_VALIDATION" | "RESOURCE_LIMIT_CHECK", "denied":
                self._assert_denial(event)
            case "AUTHORIZATION_SCOPE_CHECK", "denied":
                assert self._in_scope(event) == (event["reason"] in _UNDECLARED), event
            case "EXECUTION_STARTED", _:
                self._assert_start(event)
                self._starts[token_id] = self._starts.get(token_id, 0) + 1
            case _:
                pass
        if plan_id is not None:
            self._recent.setdefault(plan_id, []).append(event)

    def _assert_token(self, event: Event) -> None:
        issued, facts = self._issued[event["token_id"]], event["additional_data"]
        assert event["token_id"] not in self._revoked, event
        assert event["timestamp"] < issued["expires_at"], event
        assert issued["bearer"] or facts["caller"] in issued["client_identities"], event
        assert facts["trigger_type"] in issued["allowed_trigger_types"], event
        assert not self._halted, event

    def _assert_start(self, event: Event) -> None:
        issued = self._issued[event["token_id"]]
        assert event["token_id"] not in self._revoked, event
        assert event["timestamp"] < issued["expires_at"], event
        assert self._in_scope(event), event
        assert not self._halted, event
        most = issued["resource_limits"]["max_invocations"]
        assert most is None or self._starts.get(event["token_id"], 0) < most, event
        asked = self._recent[event["plan_id"]][-3:]
        assert [each["event_type"] for each in asked] == _BEFORE_A_START, asked
        assert {(each["status"], each["step"]) for each in asked} == {("success", event["step"])}

    def _assert_denial(self, event: Event) -> None:
        token_id = event["token_id"]
        issued = self._issued.get(token_id)
        reason = event["reason"]
        # The order of gate 1: revoked before all else.
        assert (reason == "token_revoked") == (
            token_id in self._revoked
            and event["event_type"] == "TOKEN_VALIDATION"
            and reason != "request_token_mismatch"
        ), event
        if issued is None:
            assert reason in {"token_unknown", "request_token_mismatch"}, event
        elif reason == "token_expired":
            assert event["timestamp"] >= issued["expires_at"], event
        elif reason == "caller_mismatch":
            assert not issued["bearer"], event
            assert event["additional_data"]["caller"] not in issued["client_identities"], event
        elif reason == "invocations_exhausted":
            most = issued["resource_limits"]["max_invocations"]
            assert most is not None, event
            assert self._starts.get(token_id, 0) + self._needed(event) > most, event

    def _needed(self, event: Event) -> int:
        """Return how many invocations gate 3 asked for: all at admission, then one at a time."""
        earlier = self._recent[event["plan_id"]]
        if any(each["event_type"] == "EXECUTION_STARTED" for each in earlier):
            return 1
        return int(earlier[0]["additional_data"]["steps"])

    def _in_scope(self, event: Event) -> bool:
        scope = self._issued[event["token_id"]]["method_scope"]
        return event["method"] in scope.get(event["domain"], ())
