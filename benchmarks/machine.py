"""What a figure was measured on, and the memory a process took."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from pathlib import Path
from typing import Any


def describe(threads: int) -> dict[str, Any]:
    """Return processor, memory, versions, commit and load, ready for JSON."""
    import numpy
    import torch

    from fedpeft.experiment.folder import commit

    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "commit": commit(),
        "load": load(),
    }


def load() -> float:
    """Return the mean number of busy or waiting threads over the last minute."""
    return round(os.getloadavg()[0], 2)


def peak_bytes() -> int:
    """Return the most memory this process has held in RAM so far, in bytes.

    Linux hands a child the peak of the process that started it in `ru_maxrss`; `VmHWM` starts
    afresh with the child's own program, so it is preferred.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        if found:
            return found[1].strip()
    return platform.processor() or "unknown"
