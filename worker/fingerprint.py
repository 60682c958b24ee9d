"""Which model, context and build a parked state belongs to: another one must never use it. ENGINE.md, 5."""

from __future__ import annotations

import hashlib
import os

from supervisor import config
from worker import binding

_HEAD = 8 * 2**20  # bytes: the header, with the largest vocabularies
_SAMPLE, _SAMPLES = 64 * 1024, 16
_SETTINGS = ("n_gpu_layers", "flash_attention", "kv", "swa_full", "mmproj")


def of(settings: config.Model) -> bytes:
    """A hash over the file's header, its size, samples of its weights, what shapes its states, and the library."""
    digest = hashlib.blake2b(digest_size=16)
    with open(settings.path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(f"{size} {binding.version()}".encode())
        digest.update(file.read(_HEAD))
        for place in range(_SAMPLES):
            file.seek(size * place // _SAMPLES)
            digest.update(file.read(_SAMPLE))
    for name in _SETTINGS:
        digest.update(f"{name}={getattr(settings, name, None)}\n".encode())
    return digest.digest()
