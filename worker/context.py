"""One llama_context: the batch, decode, logits rows, and the cells of its sequences. ENGINE.md, 2, 3 and 17."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supervisor import config
from worker import binding, cores
from worker.model import NativeModel, refused
from worker.scheduler import MIN_CHUNK
from worker.sequences import Slot

Logits = npt.NDArray[np.float32]


class Context:
    """`parallel` sequences over one unified pool of `n_ctx` × `parallel` cells. Not thread-safe: the engine's own.

    The batch's C arrays are numpy arrays, so that filling it is slice assignment; a row of logits is a view that
    stays valid until the next decode.
    """

    def __init__(self, model: NativeModel, settings: config.Model) -> None:
        """Raises LoadError if the memory does not suffice."""
        self.model = model
        self.parallel = settings.parallel
        self.n_ctx = min(settings.n_ctx or model.n_ctx_train, model.n_ctx_train)
        self.threads = cores.threads(settings.threads, on_cpu=model.on_cpu)
        params = binding.context_default_params()
        params.n_ctx = self.n_ctx * self.parallel
        params.n_batch = max(settings.n_batch, self.parallel + MIN_CHUNK)  # every sequence must be able to decode
        params.n_ubatch = min(settings.n_ubatch, params.n_batch)
        params.n_seq_max = params.n_outputs_max = self.parallel
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
        self._memory = binding.get_memory(self.handle)
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

    def fill(self, decoding: Sequence[Slot], chunks: Sequence[tuple[Slot, int]]) -> list[int]:
        """Writes a row for each decoding slot, then the next tokens of each chunk's slot, as many as it says.

        Returns the batch index of each slot's last row, in that order; only those rows that complete their slot's
        tokens have logits.
        """
        count = len(decoding)
        if count:
            self._token[:count] = [slot.tokens[slot.held] for slot in decoding]
            self._pos[:count] = [slot.held for slot in decoding]
            self._seq[:count] = [slot.id for slot in decoding]
            self._output[:count] = 1
        last = list(range(count))
        for slot, rows in chunks:
            start, end = slot.held, slot.held + rows
            assert start < end <= slot.size, f"rows {start} to {end} of {slot.size}"
            assert count + rows <= self.n_batch, "more rows than n_batch would abort the process"
            part = slice(count, count + rows)
            self._token[part] = slot.tokens[start:end]
            self._pos[part] = self._ramp[start:end]
            self._seq[part] = slot.id
            self._output[part] = 0
            count += rows
            self._output[count - 1] = end == slot.size
            last.append(count - 1)
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

    def cut(self, slot: Slot) -> None:
        """Removes the slot's cells from position `held` on; clears the slot if the model cannot remove a part."""
        if not binding.memory_seq_rm(self._memory, slot.id, slot.held, -1):
            slot.held = 0
            binding.memory_seq_rm(self._memory, slot.id, -1, -1)

    def copy(self, source: Slot, target: Slot) -> None:
        """Makes the target hold what the source holds, without computing; the cells are shared."""
        binding.memory_seq_cp(self._memory, source.id, target.id, -1, -1)
        target.tokens[: source.size] = source.tokens[: source.size]
        target.size, target.held = source.size, source.held

    def held(self, slot: Slot) -> int:
        """How many positions the cache really holds for the slot."""
        return int(binding.memory_seq_pos_max(self._memory, slot.id)) + 1

    def clear(self) -> None:
        """Forgets every sequence. What the cells hold stays, masked: to zero 377 MB costs 50 ms (measured)."""
        binding.memory_clear(self._memory, False)

    def close(self) -> None:
        binding.context_free(self.handle)
