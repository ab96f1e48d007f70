"""How a serving process ends when its store has failed, and when a handler hangs."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from servicekit.cli.service_process import serve_process
from servicekit.store.errors import StorePoisoned

class Service:
    def __init__(self, seal):
        self.seal = seal
    def start(self):
        if "poison" in sys.argv:
            self.seal(StorePoisoned("the disk said no", advice="look at the disk"))
    def stop(self, drain_s):
        print(f"drained for {drain_s:g}", flush=True)
        if "hang" in sys.argv:
            threading.Thread(target=threading.Event().wait).start()
            return False
        if "stuck" in sys.argv:
            threading.Event().wait()
        return True

sys.exit(serve_process(
    "demo", Service, lambda service: print("ready", flush=True),
    log_level="info", cpu=None, drain_s=7,
))
"""


@pytest.mark.parametrize(("how", "drained"), [("", True), ("hang", True), ("stuck", True)])
def test_a_failed_store_ends_the_process(how: str, drained: bool) -> None:
    """Exit code 74, after a short drain, even when a handler or the drain itself never ends."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "poison", how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 74, done.stderr
    assert ("drained for 1" in done.stdout) is drained
    assert "the store has failed" in done.stderr


@pytest.mark.parametrize("how", ["", "hang"])
def test_a_signal_ends_the_process_with_0(how: str) -> None:
    """SIGTERM after the announcement: drained for as long as the settings say."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        said = process.stdout.read()

    assert process.returncode == 0
    assert said == "drained for 7\n"
