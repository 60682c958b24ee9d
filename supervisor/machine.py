"""How much memory this machine has: RAM, within the limit of the cgroup, and that of GPUs that llama.cpp can use."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")
_GPU_LIBRARIES = ("*ggml-cuda*", "*ggml-hip*")


def ram(proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> int:
    """Bytes of RAM for the server; 0 if that cannot be found out. A cgroup's limit (v2) counts where it is lower."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
    return min([total, *_limits(proc, cgroups)])


def available(proc: Path = Path("/proc")) -> int:
    """Bytes that processes can still have without swapping; 0 if that cannot be found out."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def _limits(proc: Path, cgroups: Path) -> list[int]:
    """The limits of the cgroup we are in and of those around it."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    path = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    found: list[int] = []
    for folder in [cgroups / path, *(cgroups / path).parents]:
        if folder == cgroups.parent:
            break
        try:
            found.append(int((folder / "memory.max").read_text()))
        except (OSError, ValueError):
            pass  # "max", or no such controller
    return found


def gpus() -> tuple[int, ...]:
    """Bytes of each GPU, by NVML; none if llama.cpp was built without one or NVML cannot be asked. May take long."""
    if not _offloads():
        return ()
    try:
        library: Any = importlib.import_module("pynvml")
        library.nvmlInit()
    except Exception:  # not installed, no driver, or a driver in trouble: then placement counts models only
        return ()
    try:
        handles = map(library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount()))
        return tuple(int(library.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
    except library.NVMLError:
        return ()
    finally:
        library.nvmlShutdown()


def _offloads() -> bool:
    """Whether the installed llama.cpp has a library for GPUs; it is not loaded."""
    try:
        spec = importlib.util.find_spec("llama_cpp")
    except (ImportError, ValueError):
        return False
    folders = [Path(os.fspath(place)) / "lib" for place in (spec.submodule_search_locations or ())] if spec else []
    return any(any(folder.glob(pattern)) for folder in folders for pattern in _GPU_LIBRARIES)
