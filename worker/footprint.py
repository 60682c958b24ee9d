"""How much memory a loaded model takes. llama.cpp's log says what it allocated where; the kernel, what the process has.

RAM is what belongs to the process alone, and the files it has mapped: at least the weights that llama.cpp mapped for
the CPU, whether all their pages were touched yet or not. On GPUs NVML knows more than the log, if it can be asked:
the driver's own share.
"""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from supervisor.control import Footprint

_BUFFER = re.compile(r"(\S+)\s+(model|LoRA|KV|RS|compute|output) buffer size\s*=\s*([0-9.]+) MiB")
_CACHES = ("KV", "RS")
_DEVICE = re.compile(r"[A-Za-z]+([0-9]+)")
_MAPPED = "CPU_Mapped"


def buffers(lines: Iterable[str]) -> dict[tuple[str, str], int]:
    """(device, kind) → bytes, of llama.cpp's lines; a device is as llama.cpp calls it.

    A compute buffer takes the place of the one before: it is made anew where a batch needs another plan.
    """
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if match := _BUFFER.search(line):
            place, size = (match[1], match[2]), round(float(match[3]) * 2**20)
            found[place] = max(found[place], size) if match[2] == "compute" else found[place] + size
    return dict(found)


def footprint(lines: Iterable[str]) -> Footprint:
    """Of this process, which has loaded a model."""
    allocated = buffers(lines)
    devices: Counter[str] = Counter()
    for (device, _), size in allocated.items():
        if match := _DEVICE.fullmatch(device):  # CUDA0, Vulkan1; not CPU, CPU_Mapped, CUDA_Host
            devices[f"gpu:{match[1]}"] += size
    for device, size in _nvml().items():
        if size:
            devices[device] = max(devices[device], size)
    memory = _resident()
    devices["ram"] = (
        memory["RssAnon"] + memory["RssShmem"] + max(memory["RssFile"], allocated.get((_MAPPED, "model"), 0))
    )
    cached = sum(size for (_, kind), size in allocated.items() if kind in _CACHES)
    return Footprint(dict(devices), cached)


def _resident() -> dict[str, int]:
    """Bytes of this process in memory, by kind."""
    found = dict.fromkeys(("RssAnon", "RssFile", "RssShmem"), 0)
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found


def _nvml() -> dict[str, int]:
    """What the driver says that this process has, by device; {} where it cannot be asked."""
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return {}
    try:
        library.nvmlInit()
        try:
            return {f"gpu:{index}": _used(library, index) for index in range(library.nvmlDeviceGetCount())}
        finally:
            library.nvmlShutdown()
    except library.NVMLError:
        return {}


def _used(library: Any, index: int) -> int:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    processes = library.nvmlDeviceGetComputeRunningProcesses(handle)
    return sum(process.usedGpuMemory or 0 for process in processes if process.pid == os.getpid())
