"""From built images to the first executed plan, as a stranger does it: `make compose-run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compose.engine import Engine
from tests.compose.marks import COMPOSED
from tests.compose.stack import ROOT, Stack, free_port

pytestmark = COMPOSED

FIRST_PLAN_S = 60.0


@pytest.fixture
def shipped(engine: Engine, images: dict[str, float], tmp_path: Path) -> Iterator[Stack]:
    """Return compose.yaml as it ships, not yet started."""
    running = Stack(engine, "stagegate-first", ("compose.yaml",), tmp_path, free_port())
    running.down()
    yield running
    running.down()


def test_the_first_plan_runs_within_a_minute(
    shipped: Stack, record_property: Callable[[str, object], None]
) -> None:
    """Three steps over two domains, through the published port, and 16 events about them."""
    began = time.monotonic()
    up_s = shipped.up()
    done = subprocess.run(
        [sys.executable, "examples/compose_run.py", "--home", str(shipped.home / "run")],
        cwd=ROOT,
        env={**os.environ, **shipped.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    took_s = time.monotonic() - began

    assert done.returncode == 0, done.stderr
    assert '"status": "completed"' in done.stdout
    assert "16 events" in done.stdout
    token = (shipped.home / "run" / "demo.token").read_text().strip()
    assert token not in done.stdout + done.stderr
    assert took_s <= FIRST_PLAN_S
    record_property(
        "figure",
        f"from built images to the first plan: {took_s:.1f} s, {up_s:.1f} s of them until healthy",
    )


def test_a_second_up_keeps_what_is_there(shipped: Stack) -> None:
    """Starting again makes no certificate and no store anew."""
    shipped.up()
    before = shipped.execute("stage3", "print(open('/run/stagegate/stage3.crt').read())")
    shipped.compose("down")

    shipped.up()

    assert shipped.execute("stage3", "print(open('/run/stagegate/stage3.crt').read())") == before


def test_a_new_authority_keeps_both_logs(shipped: Stack) -> None:
    """As docs/operations.md replaces all certificates: other keys, the same stores, a plan runs."""
    shipped.up()
    script = "print(open('/run/stagegate/stage3.crt').read())"
    before = shipped.execute("stage3", script)
    shipped.fetch("client", shipped.home / "client")
    shipped.issue_token("text:upper")
    step = {"domain": "text", "method": "upper", "parameters": {"text": "a"}}
    first = shipped.run_plan([step], "before")
    shipped.compose("--profile", "ops", "down")
    for volume in ("authority", "keys3", "keys4", "keys-ledger", "operator", "client"):
        shipped.engine.run("docker", "volume", "rm", f"{shipped.project}_{volume}")

    shipped.up()
    assert shipped.execute("stage3", script) != before
    assert shipped.run_plan([step], "refused").get("error") is not None
    shipped.fetch("client", shipped.home / "client")
    again = shipped.run_plan([step], "before")

    assert first["status"] == "completed"
    assert (again["replay"], again["results"]) == (True, first["results"])


def test_a_key_of_outcomes_is_rotated(shipped: Stack) -> None:
    """As docs/operations.md does it: recorded, and what the key before it sealed is still told."""
    shipped.up()
    shipped.fetch("client", shipped.home / "client")
    shipped.issue_token("text:upper")
    step = {"domain": "text", "method": "upper", "parameters": {"text": "a"}}
    first = shipped.run_plan([step], "before")
    rotate = ("key", "rotate", "--config", "/dev/null", "--json")

    shipped.compose("stop", "stage3")
    told = shipped.compose(
        *("run", "--rm", "-T", "--no-deps", "--entrypoint", "stage3", "init-stage3", *rotate)
    )
    shipped.up()
    (event,) = shipped.operate("audit", "list", "--type", "KEY_ROTATED")["events"]
    again = shipped.run_plan([step], "before")

    assert event["additional_data"]["key_id"] == json.loads(told)["key_id"]
    assert (again["replay"], again["results"]) == (True, first["results"])


def test_a_lost_store_is_not_replaced_by_an_empty_one(shipped: Stack) -> None:
    """Without its volume Stage-3 does not start, and says what to do."""
    shipped.up()
    shipped.compose("down")
    shipped.engine.run("docker", "volume", "rm", f"{shipped.project}_state3")

    with pytest.raises(AssertionError, match="init-stage3"):
        shipped.up()

    assert "Restore the volume" in shipped.compose("logs", "--no-color", "init-stage3")
    assert shipped.inspect("init-stage3")["State"]["ExitCode"] == 74
    assert shipped.inspect("stage3")["State"]["Running"] is False


def test_it_drains_and_ends_cleanly(shipped: Stack) -> None:
    """SIGTERM reaches the service itself, which ends with 0 and well within its grace."""
    shipped.up()
    began = time.monotonic()
    shipped.compose("stop")

    assert time.monotonic() - began < 15
    assert {name: shipped.inspect(name)["State"]["ExitCode"] for name in ("stage3", "stage4")} == {
        "stage3": 0,
        "stage4": 0,
    }


def test_nothing_has_more_than_it_needs(shipped: Stack) -> None:
    """What the engine has granted: no capability, no way to gain one, nothing to write on."""
    shipped.up()

    for name in ("stage3", "stage4"):
        host = shipped.inspect(name)["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert host["CapAdd"] in (None, [])
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["ReadonlyRootfs"] is True
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
    published = {
        name: shipped.inspect(name)["HostConfig"]["PortBindings"] or {}
        for name in ("stage3", "stage4")
    }
    assert published["stage3"] == {}
    assert [binding["HostIp"] for binding in published["stage4"]["7401/tcp"]] == ["127.0.0.1"]
