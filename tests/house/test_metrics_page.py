"""What a scraper is told, what the page explains and what alerts ask for are one list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stage3_service.metrics import HALT_REASONS as STAGE3_HALTS
from stage4_service.metrics import HALT_REASONS as STAGE4_HALTS
from tests.fakes.stage3_service import FakeStage3, serving
from tests.harness.scrape import fetch
from tests.harness.stage3 import running_stage3
from tests.harness.stage4 import running_stage4
from tests.house.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = ROOT / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, str]]:
    """Return the type of each metric that a real service of each kind tells."""
    directory: Path = tmp_path_factory.mktemp("told")
    with running_stage3(directory) as stage3:
        assert stage3.service.metrics is not None
        first = fetch(stage3.service.metrics.address, "/metrics")[1]
    with serving(FakeStage3()) as address, running_stage4(directory, address) as stage4:
        second = fetch(stage4.service.addresses.metrics, "/metrics")[1]
    return {"Stage-3": types(first), "Stage-4": types(second)}


def types(text: str) -> dict[str, str]:
    """Return name and type of each metric of this project in a scrape."""
    return dict(re.findall(r"^# TYPE (stagegate_\w+) (\w+)$", text, re.MULTILINE))


def explained(heading: str) -> dict[str, str]:
    """Return name and type of each metric that a section of the page explains."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    table = section.partition("\n## ")[0]
    return dict(re.findall(r"^\| `(stagegate_\w+)` \| (\w+) \|", table, re.MULTILINE))


@pytest.mark.parametrize("service", ["Stage-3", "Stage-4"])
def test_every_metric_is_explained_and_every_explained_one_is_told(
    told: Mapping[str, Mapping[str, str]], service: str
) -> None:
    """Name for name and type for type."""
    assert told[service] == explained("Both services") | explained(service)


@pytest.mark.parametrize("heading", ["Both services", "Stage-3", "Stage-4"])
def test_names_keep_the_conventions(heading: str) -> None:
    """Counters end with `_total`; histograms and only they have a unit or say what is counted."""
    for name, kind in explained(heading).items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert name.endswith("_total") == (kind == "counter"), name
        if kind == "histogram":
            assert name.endswith(("_seconds", "_works")), name


def test_the_reasons_of_a_halt_are_those_of_the_page() -> None:
    """Both lists are closed."""
    text = PAGE.read_text(encoding="utf-8")

    for name, reasons in (("stage3", STAGE3_HALTS), ("stage4", STAGE4_HALTS)):
        row = f"| `stagegate_{name}_halted` | gauge | reason: {', '.join(reasons)} |"
        assert row in text


ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
OTHERS = {"process_start_time_seconds"}
"""What alerts ask for that is told by prometheus_client itself."""


def rules() -> Mapping[str, str]:
    """Return the text of each alert, by its name."""
    _, *parts = re.split(r"^ +- alert: ", ALERTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts}


def test_alerts_ask_for_what_is_told() -> None:
    """A misspelled name is an alert that never fires."""
    kinds = {
        **explained("Both services"),
        **explained("Stage-3"),
        **explained("Stage-4"),
    }
    known = set(kinds) | OTHERS
    for name, kind in kinds.items():
        if kind == "histogram":
            known |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"}

    for alert, rule in rules().items():
        expression = rule.partition("labels:")[0]
        asked = set(re.findall(r"\b(?:stagegate_\w+|process_\w+)\b", expression))
        assert asked or "up{" in expression, alert
        assert asked <= known, alert


def test_every_alert_is_explained_where_its_link_leads() -> None:
    """Who is paged finds what to do under the alert's name, and the page has no other names."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## What each alert means\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (\w+)$", section, re.MULTILINE)

    assert headings == list(rules())
    for alert, rule in rules().items():
        assert f"runbook: docs/operations.md#{alert.lower()}\n" in rule
        assert re.search(r"^ +severity: |severity: (page|ticket)", rule), alert
        assert "summary: " in rule
        assert "description: " in rule
