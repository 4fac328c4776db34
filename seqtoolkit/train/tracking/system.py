"""SystemMonitor: a thread that samples the machine, under MLflow's own names for what it samples."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

_PROC = Path("/proc")


class SystemMonitor:
    """Gives `log` a sample at once and every `every` seconds until it is stopped; what the machine does not tell is left out."""

    def __init__(self, log: Callable[[Mapping[str, float]], None], every: float) -> None:
        self._log, self._every = log, every
        self._stopped = threading.Event()
        self._busy = cpu_times()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sample no more."""
        self._stopped.set()

    def sample(self) -> dict[str, float]:
        """One sample; the processor's use is that since the sample before."""
        before, self._busy = self._busy, cpu_times()
        values = {**memory(), **disk(), **gpus()}
        if before and self._busy and self._busy[1] > before[1]:
            share = (self._busy[0] - before[0]) / (self._busy[1] - before[1])
            values["cpu_utilization_percentage"] = 100.0 * share
        return {f"system/{name}": round(value, 1) for name, value in values.items()}

    def _run(self) -> None:
        self._log(self.sample())
        while not self._stopped.wait(self._every):
            self._log(self.sample())


def cpu_times() -> tuple[float, float] | None:
    """Ticks that all processors together were busy, and ticks in all, since the machine started (Linux)."""
    try:
        ticks = [float(word) for word in (_PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = ticks[3] + ticks[4]  # idle and waiting for a disk
    return sum(ticks) - idle, sum(ticks)


def memory() -> dict[str, float]:
    """Memory in use by the machine and by this process (Linux)."""
    try:
        table = dict(line.split(":", 1) for line in (_PROC / "meminfo").read_text().splitlines())
        total, free = (float(table[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
        pages = float((_PROC / "self" / "statm").read_text().split()[1])
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    return {
        "system_memory_usage_megabytes": (total - free) / 1e6,
        "system_memory_usage_percentage": 100.0 * (total - free) / total,
        "process_memory_usage_megabytes": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


def disk() -> dict[str, float]:
    """Space on the disk of the working directory."""
    try:
        total, used, free = shutil.disk_usage(".")
    except OSError:
        return {}
    return {
        "disk_usage_percentage": 100.0 * used / total,
        "disk_usage_megabytes": used / 1e6,
        "disk_available_megabytes": free / 1e6,
    }


def gpus() -> dict[str, float]:
    """Memory that this process holds on each of its CUDA devices; asks torch's allocator, never the driver."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    values = {}
    for index in range(torch.cuda.device_count()):
        held = torch.cuda.memory_reserved(index)
        if held:
            total = torch.cuda.get_device_properties(index).total_memory
            values[f"gpu_{index}_memory_usage_megabytes"] = held / 1e6
            values[f"gpu_{index}_memory_usage_percentage"] = 100.0 * held / total
    return values
