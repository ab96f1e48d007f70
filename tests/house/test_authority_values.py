"""Authority travels as values, and each of them is made in exactly one room."""

import ast

import pytest

from tests.house.tree import PACKAGES, modules, shown

MADE_IN = {
    "AuthorizedStep": "stage3_service/authorization/authorized_step.py",
    "DurableIntent": "stage3_service/audit/journal.py",
    "Plan": "stage3_service/plan/parse.py",
    "CapabilityToken": "stage3_service/tokens/issue.py",
}
ALSO_READ_BACK_IN = {"CapabilityToken": {"stage3_service/store/token_rows.py"}}


def makers(name: str) -> set[str]:
    """Return the modules of the services that call a constructor of this name."""
    return {
        shown(path)
        for path in modules(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == name
        and "stage4_service" not in path.parts
    }


@pytest.mark.parametrize("name", MADE_IN)
def test_it_is_made_in_one_room(name: str) -> None:
    """A second maker would be a second way to have authority."""
    assert makers(name) - ALSO_READ_BACK_IN.get(name, set()) == {MADE_IN[name]}


def test_a_value_that_many_make_is_seen_as_such() -> None:
    """The control: the search finds makers in several rooms."""
    assert len(makers("Refusal")) > 1
