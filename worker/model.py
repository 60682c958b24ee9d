"""Loads a GGUF file through llama.cpp and says what it is. ENGINE.md, 19."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from supervisor import config
from worker import binding
from worker.adapters import Adapters
from worker.embed.task import ENCODERS, Header
from worker.failure import LoadError
from worker.native_log import NativeLog
from worker.vocabulary import Vocabulary

_log = logging.getLogger(__name__)
_DAMAGED = ("corrupt", "magic", "key-value", "not within the file", "invalid", "tensor info", "failed to read")
_UNSUPPORTED = ("unknown model architecture", "unsupported", "unknown pre-tokenizer", "missing tensor", "key not found")
_NO_MEMORY = ("allocate", "out of memory", "memory")


class NativeModel:
    """A loaded model; `close` frees it. Its context is worker.context."""

    def __init__(self, settings: config.Model, log: NativeLog, progress: Callable[[float], bool]) -> None:
        """Raises LoadError. `progress` gets 0…1 as often as llama.cpp says; answering False cancels the load."""
        path = Path(settings.path)
        if not path.is_file():
            raise LoadError("file_missing", f"no such file: {path}", permanent=True)
        self.log = log
        self.on_cpu = True
        params = binding.model_default_params()
        params.n_gpu_layers = settings.n_gpu_layers
        params.load_mode = binding.LOAD_MODES[settings.mmap, settings.mlock]
        callback = binding.ProgressCallback(lambda done, _: progress(done))
        params.progress_callback = callback
        log.clear()
        self.handle = binding.model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise refused(log.reason or "llama.cpp refused the file and gave no reason")
        self.adapters = Adapters(self.handle, settings, log)
        self.on_cpu = not binding.supports_gpu_offload() or 0 <= settings.n_gpu_layers <= self.n_layer

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Made when it is first asked for, in any thread: some 1 µs a token."""
        return Vocabulary(self.handle, adds_space=self.meta("tokenizer.ggml.add_space_prefix") != "false")

    @property
    def n_layer(self) -> int:
        return int(binding.model_n_layer(self.handle))

    @property
    def n_ctx_train(self) -> int:
        return int(binding.model_n_ctx_train(self.handle))

    @property
    def n_embd(self) -> int:
        return int(binding.model_n_embd(self.handle))

    @property
    def n_embd_out(self) -> int:
        """Numbers in a vector."""
        return int(binding.model_n_embd_out(self.handle))

    @property
    def n_cls_out(self) -> int:
        """Numbers that a classifier gives."""
        return int(binding.model_n_cls_out(self.handle))

    @property
    def encodes_only(self) -> bool:
        """Whether llama_encode is what computes it."""
        return bool(binding.model_has_encoder(self.handle)) and not binding.model_has_decoder(self.handle)

    @cached_property
    def header(self) -> Header:
        """What the file says of the model's use."""
        architecture = self.meta("general.architecture") or ""
        pooling = {str(number): name for name, number in binding.POOLING.items() if number >= 0}
        return Header(
            architecture,
            pooling.get(self.meta(f"{architecture}.pooling_type") or "", ""),
            causal=self.meta(f"{architecture}.attention.causal") != "false" and architecture not in ENCODERS,
            diffusion=bool(binding.model_is_diffusion(self.handle)),
            labels=bool(binding.model_cls_label(self.handle, 0)),
        )

    @property
    def n_params(self) -> int:
        return int(binding.model_n_params(self.handle))

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return int(binding.model_size(self.handle))

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        binding.model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def chat_template(self, name: str = "") -> str:
        """A template of the GGUF, the default one without a name; "" if there is none."""
        raw: bytes | None = binding.model_chat_template(self.handle, name.encode() or None)
        return (raw or b"").decode("utf-8", "replace")

    def meta(self, key: str) -> str | None:
        """The value of a GGUF key as text, None if the file does not have it."""
        buffer = ctypes.create_string_buffer(1024)
        size = binding.model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def close(self) -> None:
        binding.model_free(self.handle)


def refused(reason: str) -> LoadError:
    """The error for llama.cpp's own words."""
    words = reason.lower()
    if any(word in words for word in _DAMAGED):
        return LoadError("file_corrupt", reason, permanent=True)
    if any(word in words for word in _NO_MEMORY):
        return LoadError("out_of_memory", reason, permanent=False)
    return LoadError("load_error", reason, permanent=any(word in words for word in _UNSUPPORTED))
