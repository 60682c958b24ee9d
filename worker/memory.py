"""The cells of a llama_context, by sequence: share, cut, save, load. ENGINE.md, 3, 5 and 7.

What can be done with them depends on the model's class:

    PLAIN      attention over everything: any prefix can be shared, cut, saved in parts
    WINDOW     sliding-window layers: only while the window before the cut is still there
    RECURRENT  state-space layers, alone or beside attention: only at a sequence's end, or at a checkpoint
"""

from __future__ import annotations

import ctypes
from enum import Enum, auto
from typing import Any

import numpy as np
import numpy.typing as npt

from worker import binding
from worker.prefix_tree import State


class Class(Enum):
    PLAIN = auto()
    WINDOW = auto()
    RECURRENT = auto()


def class_of(model: int) -> Class:
    """The class of a loaded model, by its handle."""
    if binding.model_is_recurrent(model) or binding.model_is_hybrid(model):
        return Class.RECURRENT
    return Class.WINDOW if binding.model_n_swa(model) > 0 else Class.PLAIN


class NativeMemory:
    """See worker.sequences.Memory. `scratch` is an id that no request uses."""

    def __init__(self, context: int, model: int, scratch: int, *, swa_full: bool = False) -> None:
        self._context = context
        self._memory = binding.get_memory(context)
        self._window = int(binding.model_n_swa(model))
        self._scratch = scratch
        self.kind = class_of(model)
        if swa_full and self.kind is Class.WINDOW:
            self.kind = Class.PLAIN

    @property
    def exact(self) -> bool:
        return self.kind is not Class.PLAIN

    def usable(self, id: int, length: int) -> bool:
        """Whether the sequence could go on from its first `length` positions, of more that it holds."""
        if self.kind is Class.WINDOW:
            return int(binding.memory_seq_pos_min(self._memory, id)) <= max(0, length - self._window)
        return self.kind is Class.PLAIN

    def held(self, id: int) -> int:
        """How many positions the cache really holds for the sequence."""
        return int(binding.memory_seq_pos_max(self._memory, id)) + 1

    def copy(self, source: int, target: int, length: int) -> None:
        """The target, which holds nothing, shares the source's first `length` positions."""
        binding.memory_seq_cp(self._memory, source, target, 0, length)
        if self.kind is Class.WINDOW:  # cells that two windows share are never used again: it gets its own
            self.restore(target, self.checkpoint(target), length)

    def cut(self, id: int, length: int) -> None:
        """Frees the positions from `length` on."""
        start = length or -1
        done = binding.memory_seq_rm(self._memory, id, start, -1)
        assert done, f"the state of sequence {id} cannot be cut at {length}"

    def clear(self) -> None:
        """Forgets every sequence. What the cells hold stays, masked: to zero 377 MB costs 50 ms (measured)."""
        binding.memory_clear(self._memory, False)

    # -- states ---------------------------------------------------------------------------------------------------

    def checkpoint(self, id: int) -> memoryview:
        """What cannot be cut back, as it is now."""
        return self._get(id, binding.STATE_PARTIAL_ONLY)

    def restore(self, id: int, state: State, length: int) -> None:
        """Puts a checkpoint of `length` positions into a sequence that shares or holds as many."""
        done = self._set(id, state, binding.STATE_PARTIAL_ONLY)
        assert done, f"the checkpoint at {length} does not fit sequence {id}"

    def save(self, id: int, start: int, end: int, checkpoint: State | None = None) -> memoryview:
        """The state of the positions from `start` to `end`.

        Unless the class is PLAIN, `start` is 0, and `end` the sequence's length or that of the checkpoint.
        """
        if self.exact and checkpoint is None:
            return self._get(id, 0)
        binding.memory_seq_cp(self._memory, id, self._scratch, start, end)
        try:
            if checkpoint is not None:
                self.restore(self._scratch, checkpoint, end)
            return self._get(self._scratch, 0)
        finally:
            binding.memory_seq_rm(self._memory, self._scratch, -1, -1)

    def load(self, id: int, start: int, end: int, data: State) -> bool:
        """Adds the positions from `start` to `end` of a saved state to the sequence; False if there is no room.

        Unless the class is PLAIN, the sequence holds nothing, and the state is a whole one.
        """
        if self.exact:
            done = self._set(id, data, 0)
            if not done:  # a part of it may be there
                self.cut(id, 0)
            return done
        done = self._set(self._scratch, data, 0)
        if done:
            binding.memory_seq_cp(self._memory, self._scratch, id, start, end)
        binding.memory_seq_rm(self._memory, self._scratch, -1, -1)
        return done

    def _get(self, id: int, flags: int) -> memoryview:
        size = binding.state_seq_get_size_ext(self._context, id, flags)
        buffer = np.empty(size, np.uint8)
        written = binding.state_seq_get_data_ext(self._context, _pointer(buffer), size, id, flags)
        return buffer.data[:written]

    def _set(self, id: int, data: State, flags: int) -> bool:
        pointer = _pointer(np.frombuffer(data, np.uint8))
        return int(binding.state_seq_set_data_ext(self._context, pointer, len(data), id, flags)) == len(data)


def _pointer(array: npt.NDArray[np.uint8]) -> Any:
    return ctypes.cast(array.ctypes.data, binding.BytePointer)
