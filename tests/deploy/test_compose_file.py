"""What compose.yaml says, readable without an engine; the compose tests show that packets obey."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples.domain_service.ledger import ledger
from servicekit.settings import load_settings
from stage3_service.settings import Stage3Settings
from stage4_service.settings import Stage4Settings
from stagegate_domain.declaration import declaration
from stagegate_domain.settings import DomainSettings
from tests.deploy.manifests import ROOT, compose, documents

NETWORKS = {
    "stage3": {"back", "domains", "state3"},
    "stage4": {"front", "back", "state4"},
    "domain-example": {"domains"},
}
SERVICES = (
    "stage3",
    "stage4",
    "domain-example",
    "init-certificates",
    "init-stage3",
    "init-stage4",
    "ops",
)


def test_there_is_no_other_service() -> None:
    """The rules below speak about all of them."""
    assert set(compose()["services"]) == set(SERVICES)


def test_each_service_is_on_its_networks_alone() -> None:
    """The topology of the contract; only front is no internal network."""
    document = compose()
    found = {
        name: set(service["networks"])
        for name, service in document["services"].items()
        if "networks" in service
    }

    assert found == NETWORKS
    assert {
        name: bool(network.get("internal")) for name, network in document["networks"].items()
    } == {"front": False, "back": True, "domains": True, "state3": True, "state4": True}


def test_only_stage4_is_published_and_only_on_loopback() -> None:
    """A port on all addresses would be reachable from every network, through the gateway."""
    ports = {
        name: service["ports"]
        for name, service in compose()["services"].items()
        if "ports" in service
    }

    assert ports == {"stage4": ["127.0.0.1:${STAGE4_PORT:-7401}:7401"]}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    """Nothing writable, nothing to gain, bounded; one capability for one container that ends."""
    service = compose()["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service.get("cap_add") == (["CHOWN"] if name == "init-certificates" else None)
    assert ("user" in service and service["user"].startswith("0:")) == (name == "init-certificates")
    assert service.get("privileged") is None


def test_the_services_would_start_with_these_settings() -> None:
    """Every variable is a setting, with the variables of compose.yaml at their defaults."""

    def variables(name: str) -> dict[str, str]:
        found = compose()["services"][name]["environment"]
        return {key: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for key, value in found.items()}

    stage3 = load_settings(
        Stage3Settings, file=None, environ=variables("stage3"), env_prefix="STAGE3_"
    )
    stage4 = load_settings(
        Stage4Settings, file=None, environ=variables("stage4"), env_prefix="STAGE4_"
    )

    domain = load_settings(
        DomainSettings,
        file=None,
        environ={
            name: value
            for name, value in variables("domain-example").items()
            if name.startswith("STAGEGATE_DOMAIN_")
        },
        env_prefix="STAGEGATE_DOMAIN_",
    )

    assert domain.insecure_loopback is False
    assert stage3.listen.operators.startswith("127.0.0.1:")
    assert stage3.listen.metrics.startswith("127.0.0.1:")
    assert stage4.listen.metrics.startswith("127.0.0.1:")
    assert stage3.listen.plans == stage4.stage3.address
    assert (stage3.insecure_loopback, stage4.insecure_loopback) == (False, False)
    assert (stage3.reflection, stage4.reflection) == (False, False)


def test_a_scraper_joins_networks_that_the_services_do_not_share() -> None:
    """What deploy/compose/metrics.yaml adds: one address on one new internal network for each."""
    (added,) = documents((ROOT / "deploy/compose/metrics.yaml").read_text())
    (scraper,) = documents((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    before = compose()
    scraped = {
        each["job_name"].removeprefix("stagegate-"): each["static_configs"][0]["targets"]
        for each in scraper["scrape_configs"]
    }

    assert set(added["services"]) == {"stage3", "stage4"}
    for name, service in added["services"].items():
        ((network, joined),) = service["networks"].items()
        ((variable, address),) = service["environment"].items()
        assert network not in before["networks"]
        assert added["networks"][network] == {"internal": True}
        assert variable == f"{name.upper()}_LISTEN__METRICS"
        assert [address.partition(":")[0]] == joined["aliases"]
        assert scraped[name] == [address]
        assert set(service) == {"environment", "networks"}
    first, second = (set(each["networks"]) for each in added["services"].values())
    assert first.isdisjoint(second)


def test_a_volume_of_keys_is_mounted_where_it_is_needed() -> None:
    """No service mounts another's keys, and the authority's are mounted by what ends."""
    mounts = {
        name: {
            source for volume in service["volumes"] if "/" not in (source := volume.split(":")[0])
        }
        for name, service in compose()["services"].items()
    }

    assert mounts == {
        "stage3": {"state3", "checkpoint3", "outcome-keys3", "keys3"},
        "stage4": {"state4", "checkpoint4", "outcome-keys4", "keys4"},
        "domain-example": {"ledger", "keys-ledger"},
        "init-certificates": {
            *("authority", "keys3", "keys4", "keys-ledger", "operator", "client")
        },
        "init-stage3": {"state3", "checkpoint3", "outcome-keys3", "keys3"},
        "init-stage4": {"state4", "checkpoint4", "outcome-keys4", "keys4"},
        "ops": {"operator"},
    }


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_no_image_is_named_but_the_base(name: str) -> None:
    """What is built and run comes from this tree and one base image."""
    text = Path(ROOT / name).read_text()
    named = re.findall(r"^(?:FROM|\s*image:)\s+(\S+)", text, re.MULTILINE)

    assert set(named) <= {
        "${BASE_IMAGE}",
        "stagegate-stage3",
        "stagegate-stage4",
        "stagegate-domain",
    }
    assert "# syntax" not in text


def test_the_domains_file_offers_what_the_example_declares() -> None:
    """The table of the ledger is the one that its program prints."""
    printed = declaration(ledger, "domain-example:7411", "ledger.dev.test")

    assert printed.strip() in (ROOT / "deploy/compose/domains.toml").read_text()
