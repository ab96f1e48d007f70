"""Who reaches whom, as packets see it: tried from inside the containers, by name and by address.

Every target answers to somebody, which the controls show with the same knock; and every boundary
is broken once, by joining the caller to the network it must not be on, to see that the knock would
have told.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.compose.marks import COMPOSED
from tests.compose.stack import Stack

pytestmark = COMPOSED

STAGE3_PORTS = (7403, 7404, 7405, 9403)
STAGE4_PORTS = (7401, 7402, 9404)
DEFAULT_ROUTE = "00000000"
NAMES = {"stage3": ("stage3", "stage3-back"), "stage4": ("stage4", "stage4-front")}


@dataclass(frozen=True, slots=True)
class Way:
    """A caller, a target and the ports it must not reach there."""

    caller: str
    target: str
    ports: Sequence[int]

    def __str__(self) -> str:
        return f"{self.caller} to {self.target}"


DENIED = (
    Way("front-client", "stage3", STAGE3_PORTS),
    Way("front-client", "store3", (5432,)),
    Way("front-client", "store4", (5432,)),
    Way("front-client", "domain-service", (7410,)),
    Way("stage4", "stage3", (7404, 7405, 9403)),
    Way("stage4", "store3", (5432,)),
    Way("stage4", "domain-service", (7410,)),
    Way("stage3", "stage4", STAGE4_PORTS),
    Way("stage3", "store4", (5432,)),
    Way("stage3", "front-client", (8000,)),
    Way("front-client", "domain-example", (7411, 7412)),
    Way("stage4", "domain-example", (7411, 7412)),
    Way("stage3", "domain-example", (7412,)),
    Way("domain-example", "stage3", STAGE3_PORTS),
    Way("domain-example", "stage4", STAGE4_PORTS),
    Way("domain-example", "store3", (5432,)),
    Way("domain-service", "stage3", STAGE3_PORTS),
    Way("domain-service", "stage4", STAGE4_PORTS),
    Way("domain-service", "store3", (5432,)),
    Way("domain-service", "store4", (5432,)),
)
REACHED = (
    ("front-client", "stage4-front:7401"),
    ("stage4", "stage3-back:7403"),
    ("back-caller", "stage3-back:7403"),
    ("stage3", "domain-example:7411"),
    ("stage3", "domain-service:7410"),
    ("stage3", "store3:5432"),
    ("stage4", "store4:5432"),
    ("stage4", "front-client:8000"),
    # Every listener is alive on its own side of the wall.
    ("stage3", "127.0.0.1:7404"),
    ("stage3", "127.0.0.1:7405"),
    ("stage4", "127.0.0.1:7402"),
    ("stage3", "127.0.0.1:9403"),
    ("stage4", "127.0.0.1:9404"),
)
BROKEN = (
    ("front-client", "back", "stage3", "back", 7403),
    ("front-client", "state3", "store3", "state3", 5432),
    ("stage4", "state3", "store3", "state3", 5432),
    ("stage4", "domains", "domain-service", "domains", 7410),
    ("stage3", "front", "stage4", "front", 7401),
    ("stage3", "state4", "store4", "state4", 5432),
)


@pytest.mark.parametrize(("caller", "target"), REACHED)
def test_what_must_be_reached_is_reached(pair: Stack, caller: str, target: str) -> None:
    """The controls: each target answers to whom it is there for."""
    assert pair.knock(caller, [target]) == {target: "connected"}


@pytest.mark.parametrize("way", DENIED, ids=str)
def test_what_must_not_be_reached_is_not(pair: Stack, way: Way) -> None:
    """Neither a name nor any address of the target leads to one of these ports."""
    hosts = (*NAMES.get(way.target, (way.target,)), *pair.addresses(way.target).values())
    targets = [f"{host}:{port}" for host in hosts for port in way.ports]

    reached = pair.knock(way.caller, targets)

    assert len(reached) == len(targets)
    assert {target for target, answer in reached.items() if answer == "connected"} == set()


@pytest.mark.parametrize(("caller", "joined", "target", "network", "port"), BROKEN)
def test_a_broken_boundary_would_be_noticed(
    pair: Stack, caller: str, joined: str, target: str, network: str, port: int
) -> None:
    """The failing control: on one network too many, the same knock connects; off it, not."""
    address = f"{pair.addresses(target)[network]}:{port}"

    with pair.joined(caller, joined):
        assert pair.knock(caller, [address]) == {address: "connected"}

    assert pair.knock(caller, [address])[address] != "connected"


@pytest.mark.parametrize("caller", ["stage3", "stage4", "domain-service", "store3"])
def test_the_published_port_is_no_way_around(pair: Stack, caller: str) -> None:
    """It is on the host's loopback alone: no gateway of any network leads to it."""
    with socket.create_connection(("127.0.0.1", pair.port), 2):
        pass
    targets = [f"{gateway}:{pair.port}" for gateway in gateways(pair)]

    assert "connected" not in pair.knock(caller, targets).values()


@pytest.mark.parametrize("caller", ["stage3", "domain-service", "store3", "store4"])
def test_only_front_leads_out(pair: Stack, caller: str) -> None:
    """A container on internal networks has no route to anywhere else."""
    routes = destinations(pair, caller)

    assert routes
    assert DEFAULT_ROUTE not in routes


def test_front_does_lead_out(pair: Stack) -> None:
    """The control: a container on front has a default route."""
    assert DEFAULT_ROUTE in destinations(pair, "front-client")


def test_each_key_is_where_it_is_needed_and_nowhere_else(pair: Stack) -> None:
    """Stage-4 has no key of Stage-3, neither has the operator's, and the authority's is nowhere."""
    script = (
        "import json, pathlib; print(json.dumps(sorted(p.name for p in"
        " pathlib.Path('/run/stagegate').iterdir())))"
    )
    assert json.loads(pair.execute("stage3", script)) == [
        *("ca.crt", "made", "stage3-caller.crt", "stage3-caller.key", "stage3.crt", "stage3.key")
    ]
    assert json.loads(pair.execute("stage4", script)) == [
        *("ca.crt", "made", "stage4-caller.crt", "stage4-caller.key", "stage4.crt", "stage4.key")
    ]


def destinations(pair: Stack, service: str) -> list[str]:
    """Return the destinations in a container's routing table, as the kernel writes them."""
    table = pair.execute(service, "print(open('/proc/net/route').read().strip())")
    return [route.split()[1] for route in table.splitlines()[1:]]


def gateways(pair: Stack) -> Iterator[str]:
    """Yield the host's address on each network."""
    for network in ("front", "back", "domains", "state3", "state4"):
        told = pair.engine.run("docker", "network", "inspect", f"{pair.project}_{network}")
        yield json.loads(told)[0]["IPAM"]["Config"][0]["Gateway"]
