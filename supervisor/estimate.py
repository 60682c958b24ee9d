"""Pure: how much memory a model will take, by device, before it was ever loaded. ENGINE.md, 19.

Weights go where llama.cpp puts them: token embeddings on the CPU, the last `n_gpu_layers` layers on the GPU, the output
counting as one more. The KV cache lies beside its layer. Compute buffers are an approximation: the mask of the
attention, and the activations of the widest layer. Weights that are mapped count as if they were read: they have to be
in the page cache for the model to be of use.
"""

from __future__ import annotations

from itertools import groupby

import msgspec

from supervisor.card import Card, Layer, Shape, sequence_ids
from supervisor.config import Model
from supervisor.ggml_types import BLOCKS, TYPES

RAM = "ram"
PROCESS = 48 * 2**20  # a worker without a model: interpreter, libraries; measured: 27 MiB of its own, 20 of files
DEVICE = 400 * 2**20  # what a driver takes for a process on a GPU, beside buffers; not measured
_PADDING = 256  # of the cache, in cells
_TYPE = {name.lower(): number for number, name in TYPES.items()}
_FLOAT, _HALF = 4, 2


class Estimate(msgspec.Struct, frozen=True):
    """Bytes. `devices`: by "ram", "gpu:0", …, the sum of all; the others say what of it is what."""

    devices: dict[str, int] = {}
    weights: int = 0
    kv: int = 0
    compute: int = 0

    @property
    def total(self) -> int:
        return sum(self.devices.values())


def gpu(index: int) -> str:
    """The name of a device that is not the CPU."""
    return f"gpu:{index}"


def estimate(card: Card, model: Model, gpus: int = 0) -> Estimate:
    """The need of a model with these settings on a machine with so many GPUs, among which layers are divided evenly."""
    shape = card.shape
    if not shape.layers:
        return Estimate()
    homes = _homes(len(shape.layers), model.n_gpu_layers, gpus)
    cells, ubatch = _cells(card, model), min(model.n_ubatch, model.n_batch)
    ids = _ids(shape, model)
    devices: dict[str, int] = {RAM: PROCESS + shape.input + card.projector_size}
    kv = 0
    for (layer, home), alike in groupby(zip(shape.layers, homes, strict=False)):  # most layers are as the one before
        count = sum(1 for _ in alike)
        cached = layer_cache(layer, cells, model, ubatch, ids)
        kv += count * cached
        devices[home] = devices.get(home, 0) + count * (layer.weights + cached)
    for name, size in _adapters(card, homes).items():
        devices[name] = devices.get(name, 0) + size
    last = homes[-1]
    copy = shape.tied if last != RAM else 0
    devices[last] = devices.get(last, 0) + shape.output + copy
    compute = compute_buffer(card, model, cells, ubatch)
    on_gpu = [name for name in devices if name != RAM]
    for name in on_gpu:
        devices[name] += compute + DEVICE
    devices[RAM] += _host_buffer(card, cells, ubatch) if on_gpu else compute
    weights = _weights(shape) + copy + sum(each.size for each in card.adapters)
    return Estimate(devices, weights, kv, compute)


def _adapters(card: Card, homes: list[str]) -> dict[str, int]:
    """Bytes of LoRA adapters by device: a part of each lies beside what it changes."""
    size, layers = sum(each.size for each in card.adapters), homes[:-1]
    return {home: size * layers.count(home) // len(layers) for home in dict.fromkeys(layers)} if size else {}


def _homes(layers: int, on_gpu: int, gpus: int) -> list[str]:
    """The device of each layer, and, as one more, of the output."""
    places = layers + 1
    count = min(places, places if on_gpu < 0 else on_gpu) if gpus else 0
    return [RAM] * (places - count) + [gpu(index * gpus // count) for index in range(count)]


def _cells(card: Card, model: Model) -> int:
    """Tokens that the cache holds, of all sequences."""
    longest = card.n_ctx_train or model.n_ctx
    wanted = model.kv_cells or min(model.n_ctx or longest, longest) * model.parallel
    return -(-wanted // _PADDING) * _PADDING


def _ids(shape: Shape, model: Model) -> int:
    kinds = set(shape.layers)
    windows = not model.swa_full and any(layer.window for layer in kinds)
    return sequence_ids(model.parallel, cuttable=not windows and not any(layer.state for layer in kinds))


def layer_cache(layer: Layer, cells: int, model: Model, ubatch: int, ids: int) -> int:
    """Bytes that one layer caches: K and V of each token, or a state for each sequence id."""
    if layer.window and not model.swa_full:
        needed = layer.window * ids + ubatch
        cells = min(cells, -(-needed // _PADDING) * _PADDING)
    block, size = BLOCKS[_TYPE[model.kv]]
    return cells * ((layer.k + layer.v) // block * size) + layer.state * _FLOAT * ids


def compute_buffer(card: Card, model: Model, cells: int, ubatch: int) -> int:
    """Roughly what a batch of `ubatch` tokens needs while it is computed, with its output."""
    shape = card.shape
    attends = any(layer.k for layer in set(shape.layers))
    mask = cells * ubatch * _HALF if attends else 0
    scores = cells * ubatch * shape.heads * _FLOAT if attends and model.flash_attention == "off" else 0
    activations = ubatch * (4 * card.n_embd + 3 * shape.width) * _FLOAT
    output = 2 * _ids(shape, model) * card.n_vocab * _FLOAT
    return mask + scores + activations + output


def _host_buffer(card: Card, cells: int, ubatch: int) -> int:
    """What is left for the CPU where a GPU computes: the inputs."""
    return cells * ubatch * _HALF + ubatch * card.n_embd * _FLOAT


def _weights(shape: Shape) -> int:
    return shape.input + shape.output + sum(layer.weights for layer in shape.layers)
