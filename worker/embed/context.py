"""A llama_context that gives vectors, not logits; nothing stays in it from one batch to the next. ENGINE.md, 16, 17."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from supervisor import config
from worker import binding, cores
from worker.adapters import Worn
from worker.embed.packing import most_rows
from worker.embed.vectors import Vectors
from worker.model import NativeModel, refused

MAX_IDS = 64  # sequences of one batch; each costs a row of the output buffer


class EmbedContext:
    """`limit` is the longest input, `rows` what inputs together may have, `split` whether a longer one may be cut up.

    Mean and cls need the whole input in one llama_decode: over several, llama.cpp would silently return that of the
    last part. So there the batch is as large as the longest input. Not thread-safe: the engine's own.
    """

    def __init__(self, model: NativeModel, settings: config.Model, pooling: str) -> None:
        """Raises LoadError if the memory does not suffice."""
        self.model, self.pooling = model, pooling
        self.limit = min(settings.n_ctx or model.n_ctx_train, model.n_ctx_train)
        self.threads = cores.threads(settings.threads, on_cpu=model.on_cpu)
        self.split = model.header.causal and pooling in ("last", "rank", "none")
        self.rows = max(
            MAX_IDS, most_rows(settings.n_batch, settings.n_ubatch, model.vocabulary.size, on_cpu=model.on_cpu)
        )
        self._open(settings)
        has_memory = bool(binding.get_memory(self.handle))
        if self.split and not (has_memory and binding.get_causal_attn(self.handle)):
            binding.context_free(self.handle)  # the file's header says something else than llama.cpp does
            self.split = False
            self._open(settings)
        self.rows = min(self.rows, self.n_batch)
        self.worn = Worn(self.handle, model.adapters)
        self.width: int = model.n_cls_out if pooling == "rank" else model.n_embd_out
        self._memory = binding.get_memory(self.handle)
        self._compute = binding.encode if model.encodes_only else binding.decode
        self._make_batch(self.n_batch)

    def _open(self, settings: config.Model) -> None:
        params = binding.context_default_params()
        params.n_batch = self.rows if self.split else max(self.rows, self.limit)
        params.n_ubatch = min(settings.n_ubatch, params.n_batch) if self.split else params.n_batch
        params.n_ctx = max(self.limit, params.n_batch)
        params.n_seq_max = MAX_IDS
        params.n_outputs_max = 0  # every row is an output
        params.kv_unified = True
        params.embeddings = True
        params.pooling_type = binding.POOLING[self.pooling]
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = binding.FLASH_ATTENTION[settings.flash_attention]
        params.type_k = params.type_v = binding.KV_TYPES[settings.kv]
        params.no_perf = True
        self.model.log.clear()
        self.handle = binding.init_from_model(self.model.handle, params)
        if not self.handle:
            raise refused(self.model.log.reason or "no context could be made: not enough memory?")
        self.n_batch: int = binding.n_batch(self.handle)
        self.n_ubatch: int = binding.n_ubatch(self.handle)

    def _make_batch(self, rows: int) -> None:
        self._token = np.zeros(rows, np.int32)
        self._pos = np.zeros(rows, np.int32)
        self._seq = np.zeros(rows, np.int32)
        self._output = np.ones(rows, np.int8)
        self._one = np.ones(rows, np.int32)
        # llama.cpp wants a pointer per row to that row's sequence ids: each points into the one flat array
        self._seq_pointers = self._seq.ctypes.data + 4 * np.arange(rows, dtype=np.uintp)
        addresses = {
            "token": self._token.ctypes.data,
            "pos": self._pos.ctypes.data,
            "n_seq_id": self._one.ctypes.data,
            "seq_id": self._seq_pointers.ctypes.data,
            "logits": self._output.ctypes.data,
        }
        kinds = dict(binding.Batch._fields_)
        fields = {name: ctypes.cast(address, kinds[name]) for name, address in addresses.items()}
        self._batch = binding.Batch(n_tokens=0, **fields)

    def fill(self, parts: Sequence[Sequence[int]], start: int = 0) -> None:
        """Writes the inputs, each under its index as sequence id; `start` is the first one's place in its input."""
        count = 0
        assert 0 < len(parts) <= MAX_IDS, f"{len(parts)} inputs in one batch"
        for number, tokens in enumerate(parts):
            end = count + len(tokens)
            assert count < end <= self.n_batch, "more rows than n_batch would abort the process"
            first = start if number == 0 else 0
            assert first + len(tokens) <= self.limit, "a place beyond the limit would abort the process"
            self._token[count:end] = tokens
            self._pos[count:end] = np.arange(first, first + len(tokens), dtype=np.int32)
            self._seq[count:end] = number
            count = end
        self._batch.n_tokens = count

    @property
    def row_count(self) -> int:
        """Rows of the filled batch."""
        return int(self._batch.n_tokens)

    def compute(self) -> int:
        """Computes the filled batch and waits for the result; llama_decode's return code."""
        code = self._compute(self.handle, self._batch)
        binding.synchronize(self.handle)
        return int(code)

    def pooled(self, number: int) -> Vectors:
        """A copy of the vector of the batch's input of that number, shape (1, width)."""
        return self._copy(binding.get_embeddings_seq(self.handle, number), 1)

    def every(self) -> Vectors:
        """A copy of the vectors of all rows of the batch, without pooling; shape (rows, width)."""
        return self._copy(binding.get_embeddings(self.handle), self.row_count)

    def _copy(self, address: int | None, rows: int) -> Vectors:
        assert address, "the batch gave no vectors"
        flat = (ctypes.c_float * (rows * self.width)).from_address(address)
        return np.array(flat, np.float32).reshape(rows, self.width)

    def clear(self) -> None:
        """Forgets what was computed."""
        if self._memory:
            binding.memory_clear(self._memory, False)

    def close(self) -> None:
        binding.context_free(self.handle)
