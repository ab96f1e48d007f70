"""The example clients on the host, through the published port of the composed pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.compose.marks import COMPOSED
from tests.compose.stack import TRUST_DOMAIN, Stack, free_port
from tests.harness.example_clients import LANGUAGES, PLACEHOLDER, Ended, ExampleClient

pytestmark = COMPOSED

COMPLETED, REFUSED, OUTCOME_UNKNOWN, UNREACHABLE = 0, 1, 3, 69
UPPER = {"domain": "text", "method": "upper", "parameters": {"text": "published"}}
EFFECT = {"domain": "trial", "method": "effect", "parameters": {}}
SLOW = {"domain": "trial", "method": "slow", "parameters": {"seconds": 4}}


class Host:
    """One example on the host, holding the client `demo` and its token."""

    def __init__(self, language: str, pair: Stack, directory: Path) -> None:
        keys = pair.home / "client"
        self.pair = pair
        self.token = (pair.home / "token").read_text().strip()
        self.client = ExampleClient(
            language,
            f"127.0.0.1:{pair.port}",
            f"stage4.{TRUST_DOMAIN}",
            keys / "ca.crt",
            keys / "demo",
            directory,
        )

    def run(self, *steps: object, request_id: str, token: str | None = None, **how: str) -> Ended:
        """Submit a plan of these steps."""
        plan = {
            "user_id": "ada",
            "token_hash": PLACEHOLDER,
            "trigger_type": "manual",
            "steps": steps,
        }
        name = f"{self.client.language}-{request_id}"
        timeout_s = float(how.pop("timeout_s", "30"))
        return self.client.run(
            json.dumps(plan).encode(), token or self.token, name, timeout_s=timeout_s, **how
        )


@pytest.fixture(params=LANGUAGES)
def host(request: pytest.FixtureRequest, pair: Stack, tmp_path: Path) -> Host:
    """Return each example."""
    return Host(request.param, pair, tmp_path)


def test_a_plan_completes_once(host: Host) -> None:
    """And the same identifier answers the same bytes, with one effect in the world."""
    before = len(host.pair.effects())
    first, again = (host.run(UPPER, EFFECT, request_id="once") for _ in range(2))
    assert (first.code, again.code) == (COMPLETED, COMPLETED), again.said
    assert json.loads(first.result)["results"][0]["output"] == {"text": "PUBLISHED"}
    assert (again.result, again.facts["replay"]) == (first.result, True)
    assert len(host.pair.effects()) == before + 1


def test_refusals_are_read(host: Host) -> None:
    """PLAN_INVALID with its path; TOKEN_NOT_ACCEPTED without a word of the token."""
    invalid = host.run({**UPPER, "method": "No"}, request_id="invalid")
    assert (invalid.code, invalid.facts["reason"]) == (REFUSED, "PLAN_INVALID"), invalid.said
    assert invalid.facts["violations"][0][0] == "steps[0].method"
    unknown = host.run(UPPER, request_id="unknown", token="token_" + "A" * 43)
    assert (unknown.code, unknown.facts["reason"]) == (REFUSED, "TOKEN_NOT_ACCEPTED"), unknown.said
    assert unknown.facts["effects"] == "none"


def test_a_deadline_in_mid_plan_is_not_the_end(host: Host) -> None:
    """The outcome is unknown, then found under the same identifier."""
    ended = host.run(SLOW, request_id="deadline", timeout_s="2")
    assert ended.code == OUTCOME_UNKNOWN, ended.said
    assert ended.facts["effects"] == "unknown"
    while (found := host.run(SLOW, request_id="deadline")).code == OUTCOME_UNKNOWN:
        assert found.facts["reason"] == "REQUEST_IN_PROGRESS"
    assert (found.code, found.facts["replay"]) == (COMPLETED, True), found.said


def test_nobody_listens_there(host: Host) -> None:
    """Nothing was sent."""
    ended = host.run(
        UPPER,
        request_id="nobody",
        address=f"127.0.0.1:{free_port()}",
        connect_timeout_s="1",
    )
    assert (ended.code, ended.facts["effects"]) == (UNREACHABLE, "none"), ended.said
