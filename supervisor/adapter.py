"""Pure: the header of a LoRA adapter → what it is, and whether a model can wear it. ENGINE.md, 14 and 17.

llama.cpp checks less than it relies on: shapes and types that pass there end the process at the first decode, and a key
of another type at once. So both the scan child and the worker ask here first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from supervisor.card import Adapter, Card
from supervisor.ggml_types import TYPES
from supervisor.gguf import FLOAT32, Header, Tensor
from supervisor.header_facts import kind, text

_TASK, _PREFIX = "adapter.lora.task_name", "adapter.lora.prompt_prefix"
_ALPHA, _INVOCATION = "adapter.lora.alpha", "adapter.alora.invocation_tokens"
_WORDS = ("general.type", "general.architecture", "adapter.type", _TASK, _PREFIX)
_USABLE = {
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
    "IQ4_XS",
}  # fmt: skip
_A, _B, _NORM = ".lora_a", ".lora_b", "_norm.weight"
_EMBEDDINGS = "token_embd.weight"


def facts(header: Header) -> Adapter:
    """What it says of itself."""
    size = sum(tensor.size for tensor in header.tensors)
    return Adapter(size, text(header, _TASK), text(header, _PREFIX))


def added(card: Card, path: str, header: Header, model: Sequence[Header]) -> Card:
    """The card of the model with one more adapter; if it cannot wear that, with why a load of it must fail."""
    found = msgspec.structs.replace(card, adapters=(*card.adapters, facts(header)))
    if card.cause or not (reason := problem(header, model)):
        return found
    return msgspec.structs.replace(found, cause="config_error", problem=f"{path}: {reason}")


def problem(header: Header, model: Sequence[Header]) -> str:
    """Why a model whose files have these headers cannot wear it, in a sentence; "" if it can."""
    return _not_one(header, text(model[0], "general.architecture")) or _misfit(
        header.tensors, {tensor.name: tensor for part in model for tensor in part.tensors}
    )


def _not_one(header: Header, architecture: str) -> str:
    for key in _WORDS:
        if not isinstance(header.metadata.get(key, ""), str):
            return f"the value of {key} is no text"
    if kind(header) != "adapter":
        return f"not a LoRA adapter: general.type is {kind(header)!r:.60}, not 'adapter'"
    if (said := text(header, "adapter.type")) != "lora":
        return f"not a LoRA adapter: adapter.type is {said!r:.60}, not 'lora'"
    if header.kinds.get(_ALPHA, FLOAT32) != FLOAT32:
        return f"the value of {_ALPHA} is no 32-bit float"
    if (said := text(header, "general.architecture")) != architecture:
        return f"an adapter for the architecture {said!r:.60}, but the model is of {architecture!r:.60}"
    if _INVOCATION in header.metadata:
        return "an activated LoRA (aLoRA), which begins at certain tokens: not supported, only plain LoRA is"
    return ""


def _misfit(tensors: Sequence[Tensor], model: Mapping[str, Tensor]) -> str:
    """Of the pairs of matrices with the model's."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        name, end = tensor.name[: -len(_A)], tensor.name[-len(_A) :]
        if end in (_A, _B):
            pairs.setdefault(name, {})[end] = tensor
        elif not tensor.name.endswith(_NORM):  # which llama.cpp leaves out as well
            return f"tensor {tensor.name!r:.100}: expected a name that ends in {_A} or {_B}"
    if not pairs:
        return "it has no tensors"
    found = (_unfit(name, pair, model) for name, pair in pairs.items())
    return next((f"{reason}; is it for another model?" for reason in found if reason), "")


def _unfit(name: str, pair: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> str:
    if len(pair) < 2:
        return f"tensor {name!r:.100} has only one of {_A} and {_B}"
    if (base := model.get(name)) is None:
        return f"the model has no tensor {name!r:.100}"
    for tensor in pair.values():
        if TYPES[tensor.type] not in _USABLE:
            return f"tensor {tensor.name!r:.100} is of type {TYPES[tensor.type]}, which cannot be multiplied"
    if name == _EMBEDDINGS and "output.weight" not in model:
        return f"{_EMBEDDINGS} is the model's output as well, which no adapter can change"
    (a0, a1, *a), (b0, b1, *b), (m0, m1, *m) = (_padded(each) for each in (pair[_A], pair[_B], base))
    if name.endswith(_EMBEDDINGS):
        fits = (a0, a1, b1) == (b0, m1, m0)
    else:
        fits = (a0, a1, b1) == (m0, b0, m1)
    if not fits or b0 < 1 or a != m or b != m:
        shapes = " and ".join(str(pair[end].shape) for end in (_A, _B))
        return f"tensor {name!r:.100}: shapes {shapes} do not fit the model's {base.shape}"
    return ""


def _padded(tensor: Tensor) -> tuple[int, ...]:
    return (*tensor.shape, 1, 1, 1, 1)[:4]
