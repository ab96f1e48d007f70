"""The domains file is read again as a whole, between plans, and on somebody's word."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage3.v1 import operator_service_pb2

from servicekit.serving.client_errors import ClientError, decode_rpc_error
from tests.fakes.remote_domain import running_remote_domain
from tests.harness.processes import stage3_process
from tests.harness.remote import domain_client, write_domains_file
from tests.harness.stage3 import Stage3UnderTest, running_stage3, step

WORDS = {"adapter": "builtin", "endpoint": "text", "methods": {"upper": {}}}
SCOPE = {"words": ("upper", "lower"), "more": ("upper",), "trial": ("echo", "hang", "effect")}
UPPER = step("words", "upper", text="a")


def declare(file: Path, **domains: Any) -> Path:
    """Write a domains file."""
    file.write_text(json.dumps({"domains": domains}))
    return file


def reload(stage3: Stage3UnderTest) -> operator_service_pb2.ReloadDomainsResponse | ClientError:
    """Ask for a reload; return the answer or the error."""
    request = operator_service_pb2.ReloadDomainsRequest()
    try:
        return stage3.operator("curator").ReloadDomains(request, timeout=20)
    except grpc.RpcError as error:
        return decode_rpc_error(error)


def test_a_new_file_is_served_and_recorded(tmp_path: Path) -> None:
    """A domain more, a method less; one event with the very bytes' digest."""
    file = declare(
        tmp_path / "domains.json", words={**WORDS, "methods": {"upper": {}, "lower": {}}}
    )
    with running_stage3(tmp_path, domains_file=file) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        lower, more = step("words", "lower", text="A"), step("more", "upper", text="a")
        assert stage3.run(token, lower).kind == "completed"
        assert stage3.run(token, more).reason == "DOMAIN_UNKNOWN"
        declare(file, words=WORDS, more=WORDS)
        # Nobody watches the file.
        assert stage3.run(token, lower).kind == "completed"
        reloaded = reload(stage3)
        assert isinstance(reloaded, operator_service_pb2.ReloadDomainsResponse)
        assert list(reloaded.domains) == ["words", "more"]
        assert stage3.run(token, lower).reason == "METHOD_UNDECLARED"
        assert stage3.run(token, more).outputs == [{"text": "A"}]
        (event,) = stage3.events(event_type="DOMAINS_RELOADED")
    assert event["additional_data"] == {
        "by": "curator",
        "domains": ["words", "more"],
        "declarations_digest": sha256(file.read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"domains": {}}',
        json.dumps({"domains": {"words": WORDS, "more": {**WORDS, "endpoint": "txt"}}}),
        # Its file was never made.
        json.dumps(
            {
                "domains": {
                    "words": WORDS,
                    "diary": {
                        "adapter": "builtin",
                        "endpoint": "notebook",
                        "methods": {"append_note": {}},
                    },
                }
            }
        ),
    ],
    ids=["no-json", "nothing", "a-wrong-key", "a-missing-notebook"],
)
def test_a_file_that_cannot_be_used_changes_nothing(tmp_path: Path, content: str) -> None:
    """The operator is told why, what was served is served, and no event says otherwise."""
    file = declare(tmp_path / "domains.json", words=WORDS)
    with running_stage3(tmp_path, domains_file=file) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        file.write_text(content)
        refused = reload(stage3)
        assert isinstance(refused, ClientError)
        assert refused.reason == "REQUEST_INVALID"
        assert refused.violations[0][0] == "domains_file"
        assert stage3.run(token, UPPER).outputs == [{"text": "A"}]
        assert stage3.events(event_type="DOMAINS_RELOADED") == []


def test_a_plan_keeps_the_declarations_it_began_with(tmp_path: Path) -> None:
    """Its domain is gone from the file in mid-plan: it goes on, and is closed after its end."""
    with running_remote_domain() as remote:
        file = write_domains_file(tmp_path / "domains.json", remote.address, max_duration_s=60)
        with running_stage3(
            tmp_path, domains_file=file, domain_client=domain_client(), accept=["trial"]
        ) as stage3:
            token = stage3.issue(scope=SCOPE).token_hash
            before = stage3.service._domains.opened
            request = stage3.request(token, [step("trial", "hang"), step("trial", "effect")])
            answers = []
            plan = threading.Thread(target=lambda: answers.append(stage3.send(request)))
            plan.start()
            assert remote.entered.acquire(timeout=20)

            declare(file, words=WORDS)
            assert not isinstance(reload(stage3), ClientError)
            assert stage3.run(token, step("trial", "echo")).reason == "DOMAIN_UNKNOWN"
            assert stage3.run(token, UPPER).outputs == [{"text": "A"}]
            remote.trial.release.set()
            plan.join(20)
            (answer,) = answers
            assert answer.outputs == [{"released": True}, {"effects": 1}]
            # Closed once its last plan has ended; the suite's own time limit ends this.
            while not before.domains["trial"]._closed:  # type: ignore[attr-defined]
                pass
    assert remote.trial.effects == [f"{request.plan_id}/1"]


def test_plans_that_run_beside_reloads_each_see_one_file(tmp_path: Path) -> None:
    """Two files take turns under load; a plan of two steps never sees one step of each."""
    file = tmp_path / "domains.json"
    both = {"words": WORDS, "more": WORDS}
    declare(file, **both)
    with running_stage3(tmp_path, domains_file=file) as stage3:
        token = stage3.issue(scope=SCOPE).token_hash
        steps = (UPPER, step("more", "upper", text="b"))
        requests = [stage3.request(token, steps) for _ in range(120)]
        with ThreadPoolExecutor(6) as clients:
            running = [clients.submit(stage3.send, request) for request in requests]
            reloads = 0
            while not all(one.done() for one in running):
                declare(file, **(both if reloads % 2 else {"words": WORDS}))
                assert not isinstance(reload(stage3), ClientError)
                reloads += 1
        told = {(one.result().kind, one.result().reason) for one in running}
        events = stage3.events(event_type="DOMAINS_RELOADED")
        started = stage3.events(event_type="EXECUTION_STARTED")
    assert told <= {("completed", ""), ("refused", "DOMAIN_UNKNOWN")}
    assert len(events) == reloads
    completed = [one for one in running if one.result().kind == "completed"]
    assert len(started) == 2 * len(completed)


def test_a_signal_reloads_a_process_and_a_broken_file_is_only_logged(tmp_path: Path) -> None:
    """SIGHUP names nobody; the process goes on whatever the file holds."""
    file = declare(tmp_path / "domains.json", words=WORDS)
    with stage3_process(tmp_path, domains_file=file) as process:
        stage3 = process.under_test
        token = stage3.issue(scope=SCOPE).token_hash
        file.write_text("{")
        process.process.send_signal(signal.SIGHUP)
        while "the domains file cannot be used" not in process.log_file.read_text():
            pass
        assert stage3.run(token, UPPER).kind == "completed"
        declare(file, more=WORDS)
        process.process.send_signal(signal.SIGHUP)
        # The event is there first, and the new declarations a moment later.
        while (answer := stage3.run(token, UPPER)).kind == "completed":
            pass
        assert answer.reason == "DOMAIN_UNKNOWN"
        events = stage3.events(event_type="DOMAINS_RELOADED")
    assert [event["additional_data"]["by"] for event in events] == [None]
