"""Pure: a header → the Shape of which the memory estimate is made: weights by layer, and what each layer caches.

Which layer attends and which is recurrent is seen from the tensors it has. Sources: llama.cpp's llama-model.cpp (heads,
windows), llama-kv-cache.cpp (K and V, MLA without V), llama-memory-recurrent.cpp (states).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from supervisor.card import Layer, Shape
from supervisor.gguf import Array, Header, Tensor

_BLOCK = re.compile(r"blk\.([0-9]{1,4})\.(.+)")
_INPUT = ("token_embd", "per_layer_token_embd", "position_embd", "token_types")
_MOST_LAYERS = 1024
# every n-th layer sees everything, the others a window; where the file does not say it
_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "llama4": 4, "olmo2": 4, "exaone4": 4}
_NO_WINDOW = ("phi3",)  # says one, but llama.cpp does not use it


def shape(header: Header, tensors: Sequence[Tensor], architecture: str) -> Shape:
    """Of all tensors of all shards, and the first shard's metadata."""
    keys = _Keys(header, architecture)
    weights: dict[int, int] = defaultdict(int)
    parts: dict[int, set[str]] = defaultdict(set)
    first, last = 0, 0
    for tensor in tensors:
        block = _BLOCK.match(tensor.name)
        if block and int(block[1]) < _MOST_LAYERS:
            weights[int(block[1])] += tensor.size
            parts[int(block[1])].add(block[2])
        elif tensor.name.partition(".")[0] in _INPUT:
            first += tensor.size
        else:
            last += tensor.size
    count = max(weights, default=-1) + 1
    layers = tuple(_layer(keys, index, count, weights[index], parts[index]) for index in range(count))
    names = {tensor.name: tensor.size for tensor in tensors}
    tied = 0 if "output.weight" in names else names.get("token_embd.weight", 0)
    heads = max((keys.per_layer("attention.head_count", index) for index in range(count)), default=0)
    return Shape(layers, first, last, tied, heads, _width(keys, count))


class _Keys:
    """The keys of one architecture, as numbers."""

    def __init__(self, header: Header, architecture: str) -> None:
        self._metadata, self.architecture = header.metadata, architecture
        self._lists: dict[str, tuple[object, ...]] = {}

    def number(self, key: str, default: int = 0) -> int:
        return self._plain(self._metadata.get(f"{self.architecture}.{key}"), default)

    def per_layer(self, key: str, index: int, default: int = 0) -> int:
        """A key that is one number for all layers, or a list of one for each."""
        found = self._metadata.get(f"{self.architecture}.{key}")
        if not isinstance(found, Array):
            return self._plain(found, default)
        if found.count > _MOST_LAYERS:
            return default
        values = self._lists.setdefault(key, found.values())
        return self._plain(values[index], default) if index < len(values) else default

    def is_list(self, key: str) -> bool:
        return isinstance(self._metadata.get(f"{self.architecture}.{key}"), Array)

    @staticmethod
    def _plain(value: object, default: int) -> int:
        return int(value) if isinstance(value, int) and 0 <= value < 2**31 else default


def _layer(keys: _Keys, index: int, count: int, weights: int, parts: set[str]) -> Layer:
    recurrent = any(part.startswith(("ssm_", "time_mix_", "shortcon")) for part in parts)
    attends = any(part.startswith(("attn_k.", "attn_kv_a_mqa.", "attn_k_b.")) for part in parts)
    attends = attends or (not recurrent and any(part.startswith("attn_qkv.") for part in parts))
    predicts = index >= count - keys.number("nextn_predict_layers")
    shares = index >= count - keys.number("attention.shared_kv_layers")
    window = _window(keys, index)
    k, v = _cached(keys, index, bool(window)) if attends and not predicts and not shares else (0, 0)
    return Layer(weights, k, v, window, _state(keys) if recurrent else 0)


def _cached(keys: _Keys, index: int, windowed: bool) -> tuple[int, int]:
    """Values of K and V that a layer keeps for a token."""
    if keys.number("attention.kv_lora_rank") and keys.number("attention.key_length_mla"):
        return keys.number("attention.key_length"), 0  # MLA: the latent vector only
    heads = keys.per_layer("attention.head_count", index)
    kv_heads = keys.per_layer("attention.head_count_kv", index, heads)
    plain = keys.number("embedding_length") // max(1, heads)
    k, v = keys.number("attention.key_length", plain), keys.number("attention.value_length", plain)
    if windowed:
        k, v = keys.number("attention.key_length_swa", k), keys.number("attention.value_length_swa", v)
    return k * kv_heads, v * kv_heads


def _window(keys: _Keys, index: int) -> int:
    """How many tokens a layer looks back, 0 for all."""
    window = keys.number("attention.sliding_window") or keys.number("attention.chunk_size")
    if not window or keys.architecture in _NO_WINDOW:
        return 0
    if keys.is_list("attention.sliding_window_pattern"):
        return window if keys.per_layer("attention.sliding_window_pattern", index) else 0
    every = keys.number("attention.sliding_window_pattern", _PATTERNS.get(keys.architecture, 1))
    return 0 if every and index % every == every - 1 else window


def _state(keys: _Keys) -> int:
    """Values of recurrent state that a layer keeps for a sequence: the convolution's and the scan's."""
    if short := keys.number("shortconv.l_cache"):
        return keys.number("embedding_length") * (short - 1)
    if head := keys.number("wkv.head_size"):
        return keys.number("embedding_length") * (keys.number("token_shift_count", 2) + head)
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    convolution = max(0, keys.number("ssm.conv_kernel") - 1) * (inner + 2 * keys.number("ssm.group_count") * state)
    return convolution + inner * state


def _width(keys: _Keys, count: int) -> int:
    plain = max((keys.per_layer("feed_forward_length", index) for index in range(count)), default=0)
    experts = keys.number("expert_used_count") * keys.number("expert_feed_forward_length")
    return max(plain, experts)
