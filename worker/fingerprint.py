"""Which model, context and build a parked state belongs to: another one must never use it. ENGINE.md, 5."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from supervisor import config
from worker import binding

_HEAD = 8 * 2**20  # bytes: the header, with the largest vocabularies
_SAMPLE, _SAMPLES = 64 * 1024, 16
_SETTINGS = ("n_gpu_layers", "flash_attention", "kv", "swa_full", "mmproj")


def of(settings: config.Model) -> bytes:
    """A hash over the file's header, its size, samples of its weights, what shapes its states, and the library.

    The same over its adapters, whose ids mean nothing without them; scales are in the names of the states.
    """
    digest = hashlib.blake2b(binding.version().encode(), digest_size=16)
    for path in (settings.path, *(each.path for each in settings.adapters)):
        _look_at(path, digest.update)
    for name in _SETTINGS:
        digest.update(f"{name}={getattr(settings, name, None)}\n".encode())
    return digest.digest()


def _look_at(path: str, update: Callable[[bytes], None]) -> None:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        update(f" {size} ".encode())
        update(file.read(_HEAD))
        for place in range(_SAMPLES):
            file.seek(size * place // _SAMPLES)
            update(file.read(_SAMPLE))
