"""One llama_context: the batch, decode, logits rows, and the cells of its sequences. ENGINE.md, 2, 3 and 17."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Several

import numpy as np
import numpy.typing as npt

from supervisor import config
from supervisor.card import sequence_ids
from worker import binding, cores
from worker.adapters import Worn
from worker.memory import Class, NativeMemory, class_of
from worker.model import NativeModel, refused
from worker.scheduler import MIN_CHUNK
from worker.sequences import Sequence

Logits = npt.NDArray[np.float32]


class Context:
    """`ids` sequences, of which `parallel` run, over one pool of `cells`. Not thread-safe: the engine's own.

    The batch's C arrays are numpy arrays, so that filling it is slice assignment; a row of logits is a view that
    stays valid until the next decode.
    """

    def __init__(self, model: NativeModel, settings: config.Model) -> None:
        """Raises LoadError if the memory does not suffice."""
        self.model = model
        self.parallel = settings.parallel
        self.n_ctx = min(settings.n_ctx or model.n_ctx_train, model.n_ctx_train)
        if settings.kv_cells:
            self.n_ctx = min(self.n_ctx, settings.kv_cells)
        kind = class_of(model.handle)
        cuttable = kind is Class.PLAIN or (kind is Class.WINDOW and settings.swa_full)
        self.ids = sequence_ids(self.parallel, cuttable=cuttable) - 1  # the last one is for parking
        self.threads = cores.threads(settings.threads, on_cpu=model.on_cpu)
        params = binding.context_default_params()
        params.n_ctx = settings.kv_cells or self.n_ctx * self.parallel
        params.n_batch = max(settings.n_batch, self.parallel + MIN_CHUNK)  # every sequence must be able to decode
        params.n_ubatch = min(settings.n_ubatch, params.n_batch)
        params.n_seq_max = params.n_outputs_max = self.ids + 1
        params.swa_full = settings.swa_full
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = binding.FLASH_ATTENTION[settings.flash_attention]
        params.type_k = params.type_v = binding.KV_TYPES[settings.kv]
        params.no_perf = True
        model.log.clear()
        self.handle = binding.init_from_model(model.handle, params)
        if not self.handle:
            raise refused(model.log.reason or "no context could be made: not enough memory for the KV cache?")
        self.n_batch: int = binding.n_batch(self.handle)
        self.n_ubatch: int = binding.n_ubatch(self.handle)
        self.cells: int = binding.n_ctx(self.handle)
        self.memory = NativeMemory(self.handle, model.handle, self.ids, swa_full=settings.swa_full)
        self.worn = Worn(self.handle, model.adapters)
        self._make_batch(self.n_batch)
        self._row = np.ctypeslib.as_array
        self._row_type = ctypes.c_float * model.vocabulary.size
        self._rows: dict[int, Logits] = {}

    def _make_batch(self, rows: int) -> None:
        self._token = np.zeros(rows, np.int32)
        self._pos = np.zeros(rows, np.int32)
        self._seq = np.zeros(rows, np.int32)
        self._output = np.zeros(rows, np.int8)
        self._one = np.ones(rows, np.int32)
        self._ramp = np.arange(max(rows, self.n_ctx), dtype=np.int32)
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

    def fill(self, decoding: Several[Sequence], chunks: Several[tuple[Sequence, int]]) -> list[int]:
        """Writes a row for each decoding sequence, then the next tokens of each chunk's sequence, as many as it says.

        Returns the batch index of each sequence's last row, in that order; only rows that complete a sequence's tokens
        have logits.
        """
        count = len(decoding)
        if count:
            self._token[:count] = [sequence.tokens[sequence.held] for sequence in decoding]
            self._pos[:count] = [sequence.held for sequence in decoding]
            self._seq[:count] = [sequence.id for sequence in decoding]
            self._output[:count] = 1
        last = list(range(count))
        for sequence, rows in chunks:
            start, end = sequence.held, sequence.held + rows
            assert start < end <= sequence.size, f"rows {start} to {end} of {sequence.size}"
            assert count + rows <= self.n_batch, "more rows than n_batch would abort the process"
            part = slice(count, count + rows)
            self._token[part] = sequence.tokens[start:end]
            self._pos[part] = self._ramp[start:end]
            self._seq[part] = sequence.id
            self._output[part] = 0
            count += rows
            self._output[count - 1] = end == sequence.size
            last.append(count - 1)
        assert len(last) <= self.ids + 1, "more outputs than n_outputs_max would abort the process"
        self._batch.n_tokens = count
        return last

    @property
    def rows(self) -> int:
        """Rows of the filled batch."""
        return int(self._batch.n_tokens)

    def decode(self) -> int:
        """Computes the filled batch and waits for the result; llama_decode's return code."""
        code = binding.decode(self.handle, self._batch)
        binding.synchronize(self.handle)
        return int(code)

    def logits(self, index: int) -> Logits:
        """The row of logits, shape (n_vocab,), at a batch index whose row was an output."""
        address = binding.get_logits_ith(self.handle, index)
        assert address, f"no logits at row {index}"
        row = self._rows.get(address)
        if row is None:
            row = self._rows[address] = self._row(self._row_type.from_address(address))
        return row

    def clear(self) -> None:
        """Forgets every sequence."""
        self.memory.clear()

    def close(self) -> None:
        binding.context_free(self.handle)
