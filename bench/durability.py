"""What a durable write costs here and now: the median fdatasync, and how many a plan makes."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

BLOCK: Final = 4096
BLOCKS: Final = 256
ATTACH_TIMEOUT_S: Final = 10.0

_COUNTED: Final = re.compile(r"\s(\d+)\s+(?:\d+\s+)?(?:fsync|fdatasync)$", re.MULTILINE)


def median_fdatasync_ms(directory: Path, samples: int = BLOCKS) -> float:
    """Overwrite blocks of a preallocated file, as a warm write-ahead log does, and time each."""
    path = directory / "fdatasync"
    block = os.urandom(BLOCK)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, block * BLOCKS, 0)
        os.fsync(descriptor)
        times = []
        for sample in range(samples):
            os.pwrite(descriptor, block, sample % BLOCKS * BLOCK)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return median(times) * 1e3


def count_syncs(pid: int, directory: Path, work: Callable[[], None]) -> int | None:
    """Count the fsyncs and fdatasyncs of a process during `work`; None where nobody may watch."""
    tracer = shutil.which("strace")
    if tracer is None:
        return None
    report = directory / f"syncs-{pid}"
    options = ["-f", "-c", "-U", "calls,errors,name", "-e", "trace=fsync,fdatasync"]
    with subprocess.Popen(
        [tracer, *options, "-o", str(report), "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    ) as tracing:
        attached = tracing.stderr is not None and "attached" in tracing.stderr.readline()
        if attached:
            work()
        tracing.send_signal(signal.SIGINT)
        tracing.wait(ATTACH_TIMEOUT_S)
    if not attached:
        return None
    return sum(int(calls) for calls in _COUNTED.findall(report.read_text()))
