"""Whose words `stage3 status` shows: those of the halt that it tells of, and of no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from stagegate.stage3.v1.operator_service_pb2 import (
    GetStatusRequest,
    HaltRequest,
    ResumeRequest,
)
from typer.testing import CliRunner

from servicekit.clock import SystemClock
from stage3_service.cli.application import app
from tests.fakes.faulty_disk import Fault, FaultyDisk
from tests.fakes.manual_clock import ManualClock
from tests.harness.pki import TRUST_DOMAIN, pki, server_dns
from tests.harness.stage3 import TIMEOUT_S, Stage3UnderTest, running_stage3

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "the words of last week"


def halt(stage3: Stage3UnderTest) -> None:
    """Halt it in these words."""
    stage3.operator().Halt(HaltRequest(reason=WORDS), timeout=TIMEOUT_S)


def status(stage3: Stage3UnderTest, directory: Path, caller: str = "oona") -> str:
    """Return what the command shows."""
    keys = pki()
    profile = directory / f"{caller}.toml"
    profile.write_text(
        f'address = "{stage3.service.operators.address}"\n'
        f'server_name = "{server_dns("stage3")}"\n'
        f'trust_domain = "{TRUST_DOMAIN}"\n'
        f'authority_file = "{keys.file("ca.crt")}"\n'
        f'certificate_file = "{keys.file(f"{caller}.crt")}"\n'
        f'key_file = "{keys.file(f"{caller}.key")}"\n'
    )
    done = CliRunner().invoke(app, ["status", "--profile", str(profile)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_operators_halt_is_shown_with_its_words(tmp_path: Path) -> None:
    """The control of the others: they would be shown, by whom and since when."""
    with running_stage3(tmp_path) as stage3:
        halt(stage3)
        said = status(stage3, tmp_path)
        assert WORDS in said
        assert "oona" in said
        assert (
            stage3.operator().GetStatus(GetStatusRequest(), timeout=TIMEOUT_S).HasField("halt_time")
        )


def test_a_halt_for_the_clock_has_no_words(tmp_path: Path) -> None:
    """An operator halted and resumed before; of this halt nobody said anything."""
    clock = ManualClock(SystemClock().now_us())
    with running_stage3(tmp_path, clock=clock) as stage3:
        halt(stage3)
        stage3.operator().Resume(ResumeRequest(reason="done"), timeout=TIMEOUT_S)
        clock.step(-3600)
        stage3.revoke(stage3.issue().token.token_id)
        said = status(stage3, tmp_path)
        assert "clock" in said
        assert WORDS not in said
        assert "oona" not in said


def test_a_sealed_service_is_not_said_to_be_an_operators_doing(tmp_path: Path) -> None:
    """Its operator's halt stands, but what is told first is the seal: no words, and no time."""
    disk = FaultyDisk()
    with running_stage3(tmp_path, vfs=disk.name) as stage3:
        token_id = stage3.issue().token.token_id
        halt(stage3)
        disk.arm(0, Fault.EIO, forever=True)
        with pytest.raises(grpc.RpcError):
            stage3.revoke(token_id)
        disk.armed = False
        said = status(stage3, tmp_path)
        assert "seal" in said
        assert WORDS not in said
        assert (
            not stage3.operator()
            .GetStatus(GetStatusRequest(), timeout=TIMEOUT_S)
            .HasField("halt_time")
        )


def test_whoever_may_not_read_the_log_is_shown_the_halt_without_words(tmp_path: Path) -> None:
    """A halter sees that an operator did it, and since when."""
    with running_stage3(tmp_path) as stage3:
        halt(stage3)
        said = status(stage3, tmp_path, "halter")
        assert "operator" in said
        assert WORDS not in said
