"""Tiny LoRA adapters for the models of tests.models and tests.model_classes: seeded, kept in the same folder.

They change every matrix of the layers, by about as much as there is, so that the text is another one. Their matrices
have 8 bits, like those of the models: a row then has the same result in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from tests import models
from tests.model_classes.weights import multiplies

_VERSION = 1  # raise it when what is written changes
_KIND = gguf.GGMLQuantizationType.Q8_0
_LEFT_OUT = ("token_embd", "output.weight", "norm", "conv")
RANK = 32
TASK, PREFIX = "piracy", "Arr: "
Shape = tuple[int, ...]
Pair = tuple[str, Shape, Shape]  # the tensor's name, and its two matrices, rows first


def lora(base: str, seed: int = 1) -> str:
    """The path of an adapter for the model of this file."""
    return models.cached(f"lora-{Path(base).stem}-{_VERSION}-{seed}", lambda path: write(path, base, seed))


def write(
    path: Path,
    base: str,
    seed: int = 1,
    *,
    architecture: str = "",
    change: Callable[[list[Pair]], list[Pair]] = lambda pairs: pairs,
    keys: Callable[[gguf.GGUFWriter], None] | None = None,
    kind: gguf.GGMLQuantizationType = _KIND,
) -> None:
    """Writes one. `change` may spoil the shapes; `keys` writes the header instead of what is right."""
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(path, architecture or str(reader.fields["general.architecture"].contents()))
    (keys or right)(writer)
    for name, *shapes in change([_pair(each.name, tuple(map(int, each.shape[::-1]))) for each in _matrices(reader)]):
        for part, shape in zip("ab", shapes, strict=True):
            random = np.random.default_rng([seed, ord(part), *name.encode()])
            values = (random.standard_normal(shape) * 1.3 / np.sqrt(max(1, shape[-1]))).astype(np.float32)
            _add(writer, f"{name}.lora_{part}", values, kind)
    models.finish(writer)


def right(writer: gguf.GGUFWriter) -> None:
    """The keys of a plain LoRA."""
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    writer.add_string("adapter.lora.task_name", TASK)
    writer.add_string("adapter.lora.prompt_prefix", PREFIX)


def _matrices(reader: gguf.GGUFReader) -> list[gguf.ReaderTensor]:
    return [
        each
        for each in reader.tensors
        if multiplies(each.name, tuple(each.shape[::-1])) and not any(word in each.name for word in _LEFT_OUT)
        and each.shape[0] % RANK == 0
    ]  # fmt: skip


def _pair(name: str, shape: Shape) -> Pair:
    *experts, rows, columns = shape
    return name, (*experts, RANK, columns), (*experts, rows, RANK)


def _add(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType) -> None:
    if kind == gguf.GGMLQuantizationType.F32 or values.shape[-1] % RANK or not values.size:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
