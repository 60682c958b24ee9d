"""Whether a model has the classifier's head that ranking needs. llama.cpp does not say, and gives nonsense without."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from worker.failure import LoadError

_HEADER = 128 * 2**20  # bytes at a file's beginning in which the tensors are named; a large vocabulary has 20 MiB
_MOST_DIMENSIONS = 4


def check(path: Path, outputs: int) -> None:
    """Raises LoadError unless the file has a head that gives so many numbers."""
    # the last of the two that there is gives the scores; a part of a split file may not have it
    shape = shape_of(path, "cls.output.weight") or shape_of(path, "cls.weight")
    if "-of-" in path.name and not shape:
        return
    if not shape or (shape[1] if len(shape) > 1 else 1) != outputs:
        text = 'the model has no classifier head, so it cannot rank; task = "embed" gives its vectors'
        raise LoadError("load_error", text, permanent=True)


def shape_of(path: Path, tensor: str) -> tuple[int, ...]:
    """A tensor's dimensions as the header gives them; () if it names no such tensor."""
    name = struct.pack("<Q", len(tensor)) + tensor.encode()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(name, 0, min(len(data), _HEADER))
        if at < 0:
            return ()
        (count,) = struct.unpack_from("<I", data, at + len(name))
        return struct.unpack_from(f"<{min(count, _MOST_DIMENSIONS)}Q", data, at + len(name) + 4)
