"""The bench that judges mutants: what is noticed is killed, and what is not noticed survives."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.mutation.exchange import changed_functions, functions_of
from tests.mutation.operators import mutants, unchanged
from tests.mutation.reach import REACHED, noted
from tests.mutation.runner import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''
LIMIT = 1

class Rule:
    @property
    def asked(self):
        """Say whether it is asked."""
        return len(self.name) > 3

    name = "rule"

def judge(value):
    if value > LIMIT:
        return "too much"
    return "enough"

def unasked(value):
    return value + 1
'''
TESTS = """
from judged import LIMIT, Rule, judge

def test_what_is_too_much_is_said():
    assert (judge(1), judge(2)) == ("enough", "too much")
    assert Rule().asked

def test_the_limit():
    assert LIMIT == 1
"""
PROGRAM = """
import sys
from pathlib import Path
from tests.mutation.operators import mutants
from tests.mutation.runner import load_shared, verdicts
made = list(mutants(Path("judged.py").read_text()))
for mutant, verdict in verdicts("judged", made, [str(Path("test_judged.py").resolve())]):
    print(verdict.name, mutant.before, "->", mutant.after)
"""


def test_each_mutant_of_a_small_module_is_judged_as_its_tests_do(tmp_path: Path) -> None:
    """A changed function, a changed constant and a changed property are noticed; that is all."""
    (tmp_path / "judged.py").write_text(SOURCE)
    (tmp_path / "test_judged.py").write_text(TESTS)
    path = f"{tmp_path}:{ROOT}:{ROOT / 'protos/gen'}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env={"PYTHONPATH": path, "PATH": ""},
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    said = done.stdout.splitlines()

    assert len(said) == len(list(mutants(SOURCE)))
    assert "KILLED 1 -> 2" in said
    assert "KILLED value > LIMIT -> value >= LIMIT" in said
    assert "KILLED return len(self.name) > 3 -> return None" in said
    # Not noticed: whether three letters are enough, and what nothing calls.
    assert {line for line in said if not line.startswith("KILLED")} == {
        "SURVIVED len(self.name) > 3 -> len(self.name) >= 3",
        "SURVIVED value + 1 -> value - 1",
        "SURVIVED return value + 1 -> return None",
        "SURVIVED 1 -> 2",
    }


def test_a_change_to_what_an_import_makes_is_told_from_one_to_a_function() -> None:
    """Code of functions can be exchanged where it is; a constant may have been copied."""
    plain = unchanged(SOURCE)
    changes = {
        (each.line, each.after): changed_functions(plain, each.source) for each in mutants(SOURCE)
    }

    assert changes[2, "2"] is None
    judged = changes[13, "value >= LIMIT"]
    assert judged is not None
    assert judged.keys() == {"judge"}
    assert changed_functions(plain, plain) == {}


def test_a_noted_function_says_which_lines_it_came_to() -> None:
    """The line of each statement that was begun, and of no other."""
    lines: list[int] = []
    names: dict[str, object] = {REACHED: lines.append}
    exec(noted(SOURCE), names)  # noqa: S102 - the source is ours
    judge = names["judge"]
    assert callable(judge)

    assert judge(0) == "enough"
    assert lines == [13, 15]
    assert functions_of(noted(SOURCE)).keys() == {"Rule.asked", "judge", "unasked"}
