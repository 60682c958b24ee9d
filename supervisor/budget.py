"""Pure: how much memory models may take on each device, from the configuration and what the machine has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from supervisor.config import Placement
from supervisor.estimate import RAM, gpu
from supervisor.schema import Invalid

_DEVICE = re.compile(r"(?:gpu|cuda|rocm|vulkan):([0-9]{1,2})")
_GIB = 2**30


def budgets(placement: Placement, ram: int, gpus: Sequence[int]) -> dict[str, int]:
    """Bytes by device; one that is not there has no limit. `ram` and `gpus` are the machine's, 0 if not known.

    auto leaves a tenth of the RAM to everything else, from 0.5 to 4 GiB, and a twentieth of each GPU, at most 1 GiB.
    """
    if not isinstance(placement.memory, str):
        return {device(name): size for name, size in placement.memory.items()}
    found = {gpu(index): size - min(_GIB, size // 20) for index, size in enumerate(gpus)}
    if ram:
        found[RAM] = ram - min(4 * _GIB, max(_GIB // 2, ram // 10))
    return found


def device(name: str) -> str:
    """Our name for a device of the configuration: "ram", "gpu:0". Raises Invalid."""
    if name == RAM:
        return name
    match = _DEVICE.fullmatch(name)
    if match is None:
        raise Invalid(("placement", "memory", name), 'a device, "ram" or like "cuda:0"', name)
    return gpu(int(match[1]))
