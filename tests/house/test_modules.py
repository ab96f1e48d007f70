"""Every module says what it guards, stays small and keeps to its own means."""

import ast
import re
from pathlib import Path
from statistics import median

from tests.house.tree import PACKAGES, modules, parsed, shown, source_files

SHIPPED = modules(*PACKAGES)
RUN = modules(*PACKAGES, "examples", "bench", "deploy")
WRITTEN = modules(*PACKAGES, "tests", "examples", "bench", "deploy")
LINES_AT_MOST = 400
MEDIAN_LINES_AT_MOST = 150
# A name that says where code was put away, not what it guards.
NAMELESS = {"base", "common", "handler", "helper", "helpers", "manager", "misc", "util", "utils"}


def lines(path: Path) -> int:
    """Return the number of lines of the module."""
    return len(path.read_text(encoding="utf-8").splitlines())


def calls(path: Path, name: str) -> list[int]:
    """Return the lines on which the module calls the builtin `name`."""
    return [
        node.lineno
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def test_there_are_modules_to_look_at() -> None:
    """The rules below speak about every package."""
    assert {shown(path).split("/")[0] for path in SHIPPED} == set(PACKAGES)


def test_every_module_has_a_docstring() -> None:
    """A module opens with what it guards."""
    silent = [shown(path) for path in WRITTEN if not ast.get_docstring(parsed(path))]

    assert silent == []


def test_no_module_is_long() -> None:
    """One idea per file: no module outside the tests' catalogues has more than 400 lines."""
    long = {shown(path): lines(path) for path in RUN if lines(path) > LINES_AT_MOST}

    assert long == {}


def test_the_median_module_is_small() -> None:
    """Half of the shipped modules stay around a hundred lines."""
    measured = median(lines(path) for path in SHIPPED)

    assert measured <= MEDIAN_LINES_AT_MOST, f"the median module has {measured} lines"


def test_only_entry_points_print() -> None:
    """Services log and answer; printing belongs to command lines, examples and benches."""
    printing = {
        shown(path): calls(path, "print")
        for path in SHIPPED
        if not {"cli", "__main__"} & {*path.parts, path.stem} and calls(path, "print")
    }

    assert printing == {}


def test_modules_are_named_for_what_they_guard() -> None:
    """No file or folder is called utils, helpers, base, common, misc or manager."""
    nameless = [
        shown(path)
        for path in WRITTEN
        if NAMELESS & set(re.split(r"[/_.]", shown(path).removesuffix(".py")))
    ]

    assert nameless == []


def test_no_test_mocks_what_it_tests() -> None:
    """Fakes pass their port's contract suite; of unittest.mock only `sentinel` is used."""
    mocking = [
        f"{shown(path)}:{node.lineno}"
        for path in modules("tests")
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Import) and any(a.name.startswith("unittest") for a in node.names))
        or (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("unittest")
            and [alias.name for alias in node.names] != ["sentinel"]
        )
    ]

    assert mocking == []


def test_every_suppression_gives_its_reason() -> None:
    """A `noqa` names its rules and says why they do not apply, on the same line."""
    bare = re.compile(r"# noqa(?!: [A-Z]+\d+(, ?[A-Z]+\d+)* +[-#] *\w)")
    unexplained = [
        f"{shown(path)}:{number}"
        for path in RUN
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line)
    ]

    assert unexplained == []


def test_every_make_target_a_page_names_exists() -> None:
    """What the pages tell people to type is there."""
    makefile = next(path for path in source_files() if shown(path) == "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    missing = [
        f"{shown(path)}: make {target}"
        for path in source_files()
        if path.suffix == ".md"
        for target in re.findall(r"`make ([a-z][a-z-]*)", path.read_text(encoding="utf-8"))
        if target not in targets
    ]

    assert missing == []
