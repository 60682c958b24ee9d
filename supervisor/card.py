"""What a model's file says of it, loaded or not: made by the scan child, kept by the root, shown by the proxies."""

from __future__ import annotations

import msgspec

MOST_IDS = 256  # llama.cpp's limit
_KEPT, _KEPT_STATES = 16, 2


def sequence_ids(parallel: int, *, cuttable: bool) -> int:
    """Sequences that a worker's context has: those that run, ended ones that are kept, and one for parking.

    Where a state cannot be cut (recurrent layers, sliding windows) few are kept, as each id has memory of its own.
    """
    return min(parallel + (_KEPT if cuttable else _KEPT_STATES) + 1, MOST_IDS)


class Layer(msgspec.Struct, frozen=True, array_like=True):
    """What one layer takes. `k`, `v`: values of the KV cache per token; `window`: tokens it looks back, 0 = all.

    `state`: values of recurrent state per sequence. A layer has a cache, a state, both, or neither.
    """

    weights: int = 0  # bytes
    k: int = 0
    v: int = 0
    window: int = 0
    state: int = 0


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """What the memory estimate needs. Sizes of weights in bytes, `heads` and `width` of the widest layer.

    `input` stays on the CPU: the token embeddings. `output` is what comes after the layers; `tied`: it has no matrix of
    its own, so that a GPU gets a copy of the token embeddings.
    """

    layers: tuple[Layer, ...] = ()
    input: int = 0
    output: int = 0
    tied: int = 0  # bytes of that copy
    heads: int = 0
    width: int = 0  # the feed-forward width of what is computed for one token, all its experts


class Capabilities(msgspec.Struct, frozen=True):
    """What it can be used for, as far as header and template text tell."""

    vision: bool = False
    audio: bool = False
    function_calling: bool = False
    reasoning: bool = False
    embedding: bool = False
    reranker: bool = False
    infill: bool = False


class Adapter(msgspec.Struct, frozen=True, array_like=True):
    """What a LoRA adapter's file says of it; bytes of its tensors. `task` and `prefix` are "" where it says none."""

    size: int = 0
    task: str = ""
    prefix: str = ""


class Card(msgspec.Struct, frozen=True):
    """The facts of one model. `size`: bytes of all tensors; `file_size`: of its `files` files, without the projector.

    `kind`: "model", or what else the file is: "projector", "adapter", …. `modified`: Unix time of the first file.
    `cause` and `problem` say in the API's word and in a sentence why there are no facts, or why a load must fail for
    what belongs to it; both are "" otherwise.
    """

    kind: str = "model"
    architecture: str = ""
    name: str = ""
    quantization: str = ""
    n_params: int = 0
    size: int = 0
    file_size: int = 0
    files: int = 1
    modified: int = 0
    n_ctx_train: int = 0
    n_embd: int = 0
    n_vocab: int = 0
    vocab_type: int = 0
    pooling: str = ""
    capabilities: Capabilities = Capabilities()
    shape: Shape = Shape()
    projector_size: int = 0
    adapters: tuple[Adapter, ...] = ()  # in the order of Model.lora
    cause: str = ""
    problem: str = ""
