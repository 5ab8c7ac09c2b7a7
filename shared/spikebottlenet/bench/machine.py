"""The machine and the versions that figures come from."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from spikebottlenet import __version__

_CPUINFO = Path("/proc/cpuinfo")
_LIBRARIES = ("torch", "onnxruntime", "grpcio", "numpy", "pillow", "constriction", "litserve")


def machine_facts() -> dict[str, Any]:
    """What a reader needs to know where figures come from."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_mib": _memory_mib(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "spikebottlenet": __version__,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """The processor's name as the kernel shows it."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Processor"):
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
