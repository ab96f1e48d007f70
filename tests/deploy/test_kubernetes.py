"""The manifests say the same boundary, and nothing that a cluster or a service would refuse."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from servicekit.settings import load_settings
from stage3_service.settings import Stage3Settings
from stage4_service.settings import Stage4Settings
from tests.deploy.manifests import KUSTOMIZATIONS, of_kind, pods, rendered, validate

pytestmark = pytest.mark.slow

USERS = {"stage3": 10003, "stage4": 10004}
MODELS: dict[str, type[BaseModel]] = {"stage3": Stage3Settings, "stage4": Stage4Settings}
PORTS = (53, 5432, 7401, 7402, 7403, 7404, 7405, 7411, 9403, 9404)
WHO: dict[str, Any] = {
    "client": {"namespace": {"stagegate-clients": "true"}, "pod": {}},
    "scraper": {"namespace": {"stagegate-monitoring": "true"}, "pod": {}},
    "stranger": {"namespace": {}, "pod": {}},
    "stage3": {"namespace": None, "pod": {"app.kubernetes.io/name": "stage3"}},
    "stage4": {"namespace": None, "pod": {"app.kubernetes.io/name": "stage4"}},
    "domain": {"namespace": None, "pod": {"app.kubernetes.io/component": "domain"}},
    "job": {"namespace": None, "pod": {"app.kubernetes.io/name": "init-stage3"}},
    "names": {
        "namespace": {"kubernetes.io/metadata.name": "kube-system"},
        "pod": {"k8s-app": "kube-dns"},
    },
}
"""Who there is; `namespace` is None for pods of the pair's own, which its policies speak about."""


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_it_renders_and_every_object_is_valid(kustomization: str, tmp_path: Path) -> None:
    """Strictly: a field that the cluster would ignore is a promise that nobody keeps."""
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered(kustomization))

    done = validate(file)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelled_field_would_be_found(tmp_path: Path) -> None:
    """The control: the same objects with one letter wrong are refused."""
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered("base").replace("enableServiceLinks", "enableServiceLink"))

    assert validate(file).returncode != 0


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
@pytest.mark.parametrize("service", MODELS)
def test_the_settings_are_settings(kustomization: str, service: str) -> None:
    """Each service would start with them, and finds its files where volumes are mounted."""
    (found,) = [
        each["data"]
        for each in of_kind(kustomization, "ConfigMap")
        if each["metadata"]["name"].startswith(f"{service}-settings")
    ]
    settings = load_settings(
        MODELS[service], file=None, environ=found, env_prefix=f"{service.upper()}_"
    )
    (pod,) = [
        pod
        for pod in pods(kustomization)
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] == service
    ]
    (container,) = pod["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    files = {Path(value) for name, value in found.items() if name.endswith("_FILE")}

    written = {
        found[f"{service.upper()}_{name}"] for name in ("STATE_DIR", "CHECKPOINT__DIRECTORY")
    }
    assert {str(file.parent) for file in files} | written <= mounted
    probes = settings.model_dump()["listen"]["probes"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = ["python", "-m", "servicekit.probe", probes]
        assert container[probe]["exec"]["command"] == command


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_a_scraper_is_told_where_to_ask(kustomization: str) -> None:
    """The annotation, the named port and the setting are one port."""
    settings = {
        each["metadata"]["name"].rsplit("-", 1)[0]: each["data"]
        for each in of_kind(kustomization, "ConfigMap")
    }
    for set_ in of_kind(kustomization, "StatefulSet"):
        name = set_["metadata"]["name"]
        template = set_["spec"]["template"]
        (container,) = template["spec"]["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        listens = settings[f"{name}-settings"][f"{name.upper()}_LISTEN__METRICS"]

        assert template["metadata"]["annotations"]["prometheus.io/port"] == str(ports["metrics"])
        assert listens == f"0.0.0.0:{ports['metrics']}"


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_no_pod_has_more_than_it_needs(kustomization: str) -> None:
    """The image's own user, nothing writable but its volumes, no token, no variables of others."""
    for pod in pods(kustomization):
        spec = pod["spec"]
        (container,) = spec["containers"]
        name = container["image"].split(":")[0].removeprefix("stagegate-")

        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == USERS[name]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_keys_are_not_for_everybody(kustomization: str) -> None:
    """A key that others may read keeps a service from starting."""
    secrets = [
        volume["secret"]
        for pod in pods(kustomization)
        for volume in pod["spec"]["volumes"]
        if "secret" in volume
    ]

    assert {secret["secretName"] for secret in secrets} == {
        *("stage3-server", "stage4-server", "stage4-caller"),
        *("stage3-outcome-keys", "stage4-outcome-keys"),
    }
    assert {secret["defaultMode"] for secret in secrets} == {0o440}


def test_one_pod_per_store_and_a_budget_for_each() -> None:
    """A store has one writer; while stores are made there is none."""
    replicas = {
        (kustomization, each["metadata"]["name"]): each["spec"]["replicas"]
        for kustomization in KUSTOMIZATIONS
        for each in of_kind(kustomization, "StatefulSet")
    }
    claims = of_kind("base", "PersistentVolumeClaim")

    assert {count for (where, _), count in replicas.items() if "first" not in where} == {1}
    assert {count for (where, _), count in replicas.items() if "first" in where} == {0}
    assert {tuple(claim["spec"]["accessModes"]) for claim in claims} == {("ReadWriteOncePod",)}
    budgets = of_kind("base", "PodDisruptionBudget")
    assert sorted(budget["metadata"]["name"] for budget in budgets) == ["stage3", "stage4"]


@pytest.mark.parametrize("kustomization", KUSTOMIZATIONS)
def test_the_policies_open_these_ways_and_no_other(kustomization: str) -> None:
    """Every caller, every target and every port, decided as a cluster decides them."""
    policies = of_kind(kustomization, "NetworkPolicy")

    opened = {
        (caller, target, port)
        for caller, target, port in product(WHO, WHO, PORTS)
        if caller != target
        and may_reach(policies, caller, target, port)
        # What happens between namespaces of others is not said here.
        and (WHO[caller]["namespace"] is None or WHO[target]["namespace"] is None)
    }

    assert opened == {
        ("client", "stage4", 7401),
        ("scraper", "stage3", 9403),
        ("scraper", "stage4", 9404),
        ("stage4", "stage3", 7403),
        ("stage3", "domain", 7411),
        ("stage3", "names", 53),
        ("stage4", "names", 53),
    }


def may_reach(policies: list[dict[str, Any]], caller: str, target: str, port: int) -> bool:
    """Decide one way as the specification of NetworkPolicy says: both ends must permit it."""
    return _permits(policies, caller, "Egress", target, port) and _permits(
        policies, target, "Ingress", caller, port
    )


def _permits(
    policies: list[dict[str, Any]], subject: str, direction: str, peer: str, port: int
) -> bool:
    who = WHO[subject]
    if who["namespace"] is not None:
        return True
    concerned = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], who["pod"])
    ]
    if not concerned:
        return True
    side, end = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        any(each["port"] == port for each in rule["ports"])
        and any(_is_peer(each, peer) for each in rule[end])
        for spec in concerned
        for rule in spec.get(side, [])
    )


def _is_peer(described: dict[str, Any], peer: str) -> bool:
    who = WHO[peer]
    namespace = described.get("namespaceSelector")
    if (namespace is None) != (who["namespace"] is None):
        return False
    return (namespace is None or _selects(namespace, who["namespace"])) and _selects(
        described.get("podSelector", {}), who["pod"]
    )


def _selects(selector: dict[str, Any], labels: Any) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    chosen = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in chosen)
    return all(labels.get(name) == value for name, value in wanted) and all(
        labels.get(each["key"]) in each["values"] for each in chosen
    )
