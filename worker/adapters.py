"""The LoRA adapters of a loaded model: loaded with it, and put on its context before a batch. ENGINE.md, 14 and 17."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from supervisor import adapter, config, gguf, shelf
from worker import binding
from worker.adapter_set import BARE, AdapterSet
from worker.failure import LoadError
from worker.native_log import NativeLog


class Adapters:
    """All of a model's, numbered in the order of Model.lora. They are freed with the model.

    They must be there before a context is made, which plans its graphs for them.
    """

    def __init__(self, model: int, settings: config.Model, log: NativeLog) -> None:
        """`model`: its handle. Raises LoadError."""
        self.handles = [_loaded(model, path, log) for path in _checked(settings)]

    def __len__(self) -> int:
        return len(self.handles)

    @property
    def all(self) -> AdapterSet:
        """Every one of them, which needs the most memory."""
        return tuple((id, 1.0) for id in range(len(self)))


class Worn:
    """The set that a context computes with. To change it makes llama.cpp plan anew: some milliseconds."""

    def __init__(self, context: int, adapters: Adapters) -> None:
        self._context, self._adapters = context, adapters
        self.now: AdapterSet = BARE

    def change(self, wanted: AdapterSet) -> None:
        """From the next batch on."""
        if wanted == self.now:
            return
        handles = (binding.Adapter * len(wanted))(*(self._adapters.handles[id] for id, _ in wanted))
        scales = (ctypes.c_float * len(wanted))(*(scale for _, scale in wanted))
        code = binding.set_adapters(self._context, handles, len(wanted), scales)
        assert code == 0, f"llama.cpp refuses the adapters {wanted}: {code}"
        self.now = wanted


def _checked(settings: config.Model) -> Sequence[str]:
    """The paths of the adapters, each one fit for the model. Raises LoadError."""
    paths = [each.path for each in settings.adapters]
    if paths:
        model = [_header(path) for path in shelf.siblings(settings.path)]
        for path in paths:
            if problem := adapter.problem(_header(path), model):
                raise LoadError("load_error", f"{path}: {problem}", permanent=True)
    return paths


def _header(path: str) -> gguf.Header:
    try:
        return gguf.read(path)[0]
    except gguf.GgufError as error:
        raise LoadError("file_corrupt", f"{path}: {error}", permanent=True) from None
    except FileNotFoundError:
        raise LoadError("file_missing", f"no such file: {path}", permanent=True) from None
    except OSError as error:
        raise LoadError("load_error", f"{path}: {error.strerror}", permanent=False) from None


def _loaded(model: int, path: str, log: NativeLog) -> Any:
    log.clear()
    if not (handle := binding.adapter_init(model, path.encode())):
        reason = log.reason or "llama.cpp refused the adapter and gave no reason"
        raise LoadError("load_error", f"{path}: {reason}", permanent=True)
    return handle
