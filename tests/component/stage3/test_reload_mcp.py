"""A reload beside MCP servers that run here: the same is kept, another is drained and reaped."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from stagegate.stage3.v1 import operator_service_pb2

from servicekit.serving.client_errors import decode_rpc_error
from stage3_service.adapters.kept_domains import KeptDomains
from tests.harness.eventually import eventually
from tests.harness.mcp import children, mcp_table, node_keys, trial_keys
from tests.harness.processes import stage3_process
from tests.harness.stage3 import Stage3UnderTest, running_stage3, step

METHODS = {"echo": "echo", "effect": "effect", "later": "later"}
SCOPE = {"far": tuple(METHODS), "memory": ("read",)}
READ = step("memory", "read")


def declare(directory: Path, **changes: Any) -> Path:
    """Declare the trial server, and a real one that nobody here wrote."""
    far = mcp_table(METHODS, **trial_keys(directory))
    memory = mcp_table(
        {"read": "read_graph"},
        **node_keys("memory", environment={"MEMORY_FILE_PATH": str(directory / "graph.json")}),
    )
    far["methods"]["echo"] |= changes
    file = directory / "domains.json"
    file.write_text(json.dumps({"domains": {"far": far, "memory": memory}}))
    return file


def reload(stage3: Stage3UnderTest) -> None:
    """Ask for a reload."""
    stage3.operator("curator").ReloadDomains(
        operator_service_pb2.ReloadDomainsRequest(), timeout=30
    )


def servers(name: str) -> set[int]:
    """Return the processes whose command names this server."""
    return {pid for pid, command in children().items() if name in command}


@pytest.fixture
def stage3(tmp_path: Path) -> Iterator[Stage3UnderTest]:
    """A Stage-3 that has both servers; none of them is left when it ends."""
    declared = declare(tmp_path)
    with running_stage3(tmp_path, domains_file=declared, accept=["far", "memory"]) as running:
        yield running
    assert eventually(lambda: not servers("trial_mcp") | servers("server-memory"))
    assert "zombie" not in children().values()


@pytest.mark.parametrize("keeps", [True, False], ids=["keeps", "control"])
def test_servers_that_are_declared_the_same_are_kept(
    stage3: Stage3UnderTest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    keeps: bool,
) -> None:
    """The same processes and sessions, also where only words and a gate's schema are others.

    Control: opened anew, each runs twice for a moment, and then as another process.
    """
    if not keeps:
        monkeypatch.setattr(
            KeptDomains, "open", lambda _, declaration, open_domain: open_domain(declaration)
        )
    token = stage3.issue(scope=SCOPE).token_hash
    assert stage3.run(token, step("far", "echo"), READ).kind == "completed"
    before = servers("trial_mcp") | servers("server-memory")
    for words in ("One.", "Two."):
        declare(tmp_path, description=words, parameters_schema={"maxProperties": len(words) - 4})
        reload(stage3)
        assert stage3.run(token, step("far", "echo", a=1), READ).reason == "PARAMETERS_INVALID"
        assert stage3.run(token, step("far", "echo"), READ).kind == "completed"
    assert eventually(lambda: len(servers("trial_mcp") | servers("server-memory")) == 2)
    assert ((servers("trial_mcp") | servers("server-memory")) == before) is keeps


def test_a_server_that_is_declared_otherwise_is_drained_and_reaped(
    stage3: Stage3UnderTest, tmp_path: Path
) -> None:
    """A plan under way ends where it began, and its server with it; the other is not touched."""
    token = stage3.issue(scope=SCOPE).token_hash
    assert stage3.run(token, step("far", "echo"), READ).kind == "completed"
    (old,), memory = servers("trial_mcp"), servers("server-memory")
    request = stage3.request(token, [step("far", "later"), step("far", "effect", note="old")])
    answers: list[Any] = []
    plan = threading.Thread(target=lambda: answers.append(stage3.send(request)))
    plan.start()
    assert eventually((tmp_path / "notes").exists)

    declare(tmp_path, max_duration_s=59.0)
    reload(stage3)
    assert stage3.run(token, step("far", "echo")).kind == "completed"
    assert len(servers("trial_mcp")) == 2
    (tmp_path / "notes.go").touch()
    plan.join()
    assert answers[0].kind == "completed"
    assert (tmp_path / "notes").read_text().split() == ["later", "old"]
    assert eventually(lambda: old not in servers("trial_mcp"))
    assert len(servers("trial_mcp")) == 1
    assert servers("server-memory") == memory


def test_a_server_that_is_declared_no_more_is_reaped(
    stage3: Stage3UnderTest, tmp_path: Path
) -> None:
    """Nobody uses it: it ends with the reload."""
    assert stage3.run(stage3.issue(scope=SCOPE).token_hash, step("far", "echo"), READ).outputs
    file = declare(tmp_path)
    declared = json.loads(file.read_text())["domains"]
    file.write_text(json.dumps({"domains": {"far": declared["far"]}}))
    reload(stage3)
    assert eventually(lambda: not servers("server-memory"))
    assert len(servers("trial_mcp")) == 1


def test_a_refused_file_leaves_the_servers_as_they_are(
    stage3: Stage3UnderTest, tmp_path: Path
) -> None:
    """What was opened for it is closed again, and what is served is not."""
    token = stage3.issue(scope=SCOPE).token_hash
    assert stage3.run(token, step("far", "echo"), READ).kind == "completed"
    before = servers("trial_mcp") | servers("server-memory")
    assert len(before) == 2
    file = declare(tmp_path)
    document = json.loads(file.read_text())
    # The second server is opened before the notebook is found to be missing.
    document["domains"]["second"] = document["domains"]["far"]
    document["domains"]["diary"] = {
        "adapter": "builtin",
        "endpoint": "notebook",
        "methods": {"append_note": {}},
    }
    file.write_text(json.dumps(document))
    with pytest.raises(grpc.RpcError) as refused:
        reload(stage3)
    assert decode_rpc_error(refused.value).reason == "REQUEST_INVALID"
    assert eventually(lambda: servers("trial_mcp") | servers("server-memory") == before)
    assert stage3.run(token, step("far", "echo"), READ).kind == "completed"


def test_a_signal_keeps_the_server_of_a_process(tmp_path: Path) -> None:
    """SIGHUP: the same session goes on, and ends with the service."""
    declared = declare(tmp_path)
    with stage3_process(tmp_path, domains_file=declared) as process:
        stage3 = process.under_test
        stage3.accept("far")
        stage3.accept("memory")
        token = stage3.issue(scope=SCOPE).token_hash
        assert stage3.run(token, step("far", "echo"), READ).kind == "completed"

        def of_the_process() -> set[int]:
            # The kernel keeps them by the thread that started them.
            threads = Path(f"/proc/{process.process.pid}/task").glob("*/children")
            return {int(pid) for thread in threads for pid in thread.read_text().split()}

        assert eventually(lambda: len(of_the_process()) == 2)
        before = of_the_process()
        process.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(stage3.events(event_type="DOMAINS_RELOADED")) == 1)
        assert stage3.run(token, step("far", "echo"), READ).kind == "completed"
        assert of_the_process() == before
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before))
