"""The examples and the page on domains: what they show is what is served."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from stage3_service.adapters.declarations_file import builtin_catalogue, read_declarations
from stage3_service.domains.declaration import MethodDeclaration
from stage3_service.plan.limits import PlanLimits
from stage3_service.plan.parse import PlanInvalid, RawBinding, RawPlan, RawStep, parse_plan
from stage3_service.plan.plan import Plan

ROOT = Path(__file__).parents[4]
PLANS = sorted((ROOT / "examples" / "plans").glob("*.json"))
PLACEHOLDER = "REPLACE_WITH_TOKEN"


def _parsed(path: Path) -> Plan:
    document = json.loads(path.read_text())
    steps = tuple(
        RawStep(step["domain"], step["method"], json.dumps(step["parameters"]).encode())
        for step in document["steps"]
    )
    bindings = document.get("data_bindings")
    return parse_plan(
        RawPlan(
            user_id=document["user_id"],
            token_hash=document["token_hash"],
            trigger_type=document["trigger_type"],
            steps=steps,
            bindings=None if bindings is None else tuple(RawBinding(**each) for each in bindings),
        ),
        PlanLimits(),
    )


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_every_example_plan_is_what_its_name_says(path: Path) -> None:
    """Those named invalid are refused, all others are plans; each has the placeholder token."""
    assert json.loads(path.read_text())["token_hash"] == PLACEHOLDER
    if path.name.startswith("invalid_"):
        with pytest.raises(PlanInvalid):
            _parsed(path)
    else:
        assert _parsed(path).steps


def test_the_first_plan_shows_what_the_readme_promises() -> None:
    """Three steps over both domains, one binding, one note."""
    plan = _parsed(ROOT / "examples" / "plans" / "first.json")
    assert [(step.domain, step.method) for step in plan.steps] == [
        ("text", "upper"),
        ("notebook", "append_note"),
        ("notebook", "list_notes"),
    ]
    assert len(plan.bindings or ()) == 1


@pytest.mark.parametrize(
    "path", [path for path in PLANS if not path.name.startswith("invalid_")], ids=lambda p: p.name
)
def test_every_step_of_an_example_is_declared_or_meant_not_to_be(path: Path) -> None:
    """Only the plan named for leaving the scope does."""
    catalogue = read_declarations(ROOT / "examples" / "domains.toml")
    undeclared = [
        step.domain
        for step in _parsed(path).steps
        if catalogue.method(step.domain, step.method) is None
    ]
    assert undeclared == (["ledger"] if path.name == "outside_the_scope.json" else [])


def _documented_methods(heading: str) -> set[str]:
    page = (ROOT / "docs" / "domains.md").read_text()
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_the_page_on_domains_lists_exactly_the_builtin_methods() -> None:
    """A method is documented when it is served and served when it is documented."""
    for domain in builtin_catalogue():
        assert _documented_methods(domain.name) == set(domain.methods)


def test_the_page_on_domains_shows_a_file_that_is_accepted(tmp_path: Path) -> None:
    """The first fenced TOML is read as it stands, and says what the text says it says."""
    page = (ROOT / "docs" / "domains.md").read_text()
    path = tmp_path / "domains.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0])
    (domain,) = read_declarations(path)
    append = domain.methods["append_note"]
    assert isinstance(append, MethodDeclaration)
    assert (domain.name, domain.endpoint, append.max_duration_s) == ("notes", "notebook", 2.5)
