"""Metrics in compose: a scraper of one's own reads both services, and nobody gains a way by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compose.engine import Engine
from tests.compose.marks import COMPOSED
from tests.compose.stack import Stack, free_port

pytestmark = COMPOSED

FILES = ("compose.yaml", "deploy/compose/metrics.yaml", "tests/compose/scraper.yaml")
STAGE3 = "stage3-metrics:9403"
STAGE4 = "stage4-metrics:9404"
READ = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


@pytest.fixture(scope="module")
def opened(
    engine: Engine, images: dict[str, float], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Return the pair with both metrics listeners opened to a scraper."""
    running = Stack(
        engine, "stagegate-metrics", FILES, tmp_path_factory.mktemp("metrics"), free_port()
    )
    running.down()
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.mark.parametrize(("target", "service"), [(STAGE3, "stage3"), (STAGE4, "stage4")])
def test_a_scraper_reads_each_service(opened: Stack, target: str, service: str) -> None:
    """Over HTTP, by the alias of its network: the service is ready and says which it is."""
    told = opened.execute("scraper", READ, f"http://{target}/metrics")

    assert f'stagegate_build_info{{service="{service}"' in told
    assert "stagegate_ready 1.0" in told


@pytest.mark.parametrize(
    ("caller", "target", "ports"),
    [
        ("stage4", "stage3", (9403,)),
        ("stage3", "stage4", (9404,)),
        ("front-client", "stage3", (9403,)),
        ("front-client", "stage4", (9404,)),
        ("scraper", "stage3", (7403, 7404, 7405)),
        ("scraper", "stage4", (7401, 7402)),
    ],
)
def test_the_new_networks_open_nothing_else(
    opened: Stack, caller: str, target: str, ports: tuple[int, ...]
) -> None:
    """Neither service reaches the other's metrics, and the scraper reaches metrics alone.

    The scraper's own reading is the control: the same addresses answer on the metrics ports.
    """
    addresses = opened.addresses(target).values()
    targets = [f"{address}:{port}" for address in addresses for port in ports]

    assert targets
    assert "connected" not in opened.knock(caller, targets).values()
