"""The probe's exit code is what the board says, and a word for everything else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from servicekit.probe import main
from servicekit.serving.health import HealthBoard

SERVICE = "trial.v1.Trial"


@pytest.fixture
def board() -> HealthBoard:
    """Return a board with one service on it."""
    return HealthBoard((SERVICE,))


@pytest.fixture
def address(board: HealthBoard) -> Iterator[str]:
    """Return where the board answers."""
    server = grpc.server(ThreadPoolExecutor(2))
    board.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def test_it_follows_the_board(board: HealthBoard, address: str) -> None:
    """1 before the service is ready, 0 then, and 1 again as soon as it drains."""
    codes = [main([address])]
    board.set_all_serving()
    codes += [main([address]), main([address, SERVICE])]
    board.close()
    codes.append(main([address]))

    assert codes == [1, 0, 0, 1]


def test_nobody_there_and_a_service_nobody_knows_are_told_apart_from_not_serving(
    address: str,
) -> None:
    """69: no answer about this service came."""
    assert main(["127.0.0.1:1"]) == 69
    assert main([address, "unknown"]) == 69


@pytest.mark.parametrize(
    "arguments", [[], ["a", "b", "c"], ["example.test:7405"], ["7405"]], ids=str
)
def test_a_wrong_command_line_is_64(arguments: list[str]) -> None:
    """No address, too many words, an address off this machine, or none at all."""
    assert main(arguments) == 64


def test_it_runs_as_a_module(board: HealthBoard, address: str) -> None:
    """As a container's health check calls it."""
    board.set_all_serving()

    done = subprocess.run([sys.executable, "-m", "servicekit.probe", address], check=False)

    assert done.returncode == 0
