"""The highest memory of a process."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_PROCESS_STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """Highest resident memory of this process so far.

    On Linux ``getrusage`` counts what the parent process had when it started this one, so the
    number of the memory map is taken where there is one.

    Returns
    -------
    int
        Bytes.
    """
    if _PROCESS_STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", _PROCESS_STATUS.read_text())
        if found:
            return int(found[1]) * 1024
    if os.name == "nt":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
