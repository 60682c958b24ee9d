"""Pure: the headers of a model's files → its Card. The template is searched, not run: what it says is a guess."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from supervisor.cache_shape import shape
from supervisor.card import Capabilities, Card
from supervisor.ggml_types import FILE_TYPES, POOLINGS, TYPES, VOCABULARIES
from supervisor.gguf import Array, Header, Tensor

_GUESSED = 1024  # a flag in general.file_type
_TOOLS = re.compile(r"\btools\b")
_REASONING = re.compile(r"<think>|</think>|\benable_thinking\b|\breasoning_content\b|\breasoning_effort\b")
_FIM_KEYS = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")
_FIM_TOKENS = (
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<|code_prefix|>",
    "▁<PRE>",
    "<PRE>",
)
_EMBEDDING = ("mean", "cls", "last")


def card(headers: Sequence[Header], projector: Header | None = None) -> Card:
    """The facts of a model whose shards have these headers, in order; the first one has the metadata."""
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.tensors]
    architecture = text(first, "general.architecture")
    pooling = POOLINGS.get(number(first, f"{architecture}.pooling_type", -1), "")
    return Card(
        kind=kind(first),
        architecture=architecture,
        name=text(first, "general.name"),
        quantization=quantization(first, tensors),
        n_params=sum(tensor.elements for tensor in tensors),
        size=sum(tensor.size for tensor in tensors),
        files=len(headers),
        n_ctx_train=number(first, f"{architecture}.context_length"),
        n_embd=number(first, f"{architecture}.embedding_length"),
        n_vocab=_vocabulary(first, architecture),
        vocab_type=VOCABULARIES.get(text(first, "tokenizer.ggml.model"), 0),
        pooling=pooling,
        capabilities=_capabilities(first, architecture, pooling, projector),
        shape=shape(first, tensors, architecture),
        projector_size=sum(tensor.size for tensor in projector.tensors) if projector else 0,
    )


def kind(header: Header) -> str:
    """ "model", "projector", "adapter", or another word of general.type."""
    said = text(header, "general.type") or "model"
    if said == "mmproj" or text(header, "general.architecture") == "clip":
        return "projector"
    return said


def shards(header: Header) -> int:
    """Of how many files this is the first."""
    return max(1, number(header, "split.count", 1))


def quantization(header: Header, tensors: Sequence[Tensor]) -> str:
    """ "Q4_K_M" where the file says so; else the type that most of its bytes have."""
    said = number(header, "general.file_type", -1)
    if said >= 0 and (name := FILE_TYPES.get(said & ~_GUESSED)):
        return name
    sizes: Counter[int] = Counter()
    for tensor in tensors:
        sizes[tensor.type] += tensor.size
    return TYPES[sizes.most_common(1)[0][0]] if sizes else ""


def unreadable(problem: str, cause: str = "file_corrupt") -> Card:
    """For a model whose header cannot be read."""
    return Card(cause=cause, problem=problem)


def dated(known: Card, modified: int, file_size: int) -> Card:
    """With what the file system says."""
    return msgspec.structs.replace(known, modified=modified, file_size=file_size)


def text(header: Header, key: str) -> str:
    found = header.metadata.get(key)
    return found if isinstance(found, str) else ""


def number(header: Header, key: str, default: int = 0) -> int:
    found = header.metadata.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**63 else default


def _vocabulary(header: Header, architecture: str) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return tokens.count if isinstance(tokens, Array) else number(header, f"{architecture}.vocab_size")


def _capabilities(header: Header, architecture: str, pooling: str, projector: Header | None) -> Capabilities:
    template = text(header, "tokenizer.chat_template")
    tool_template = "tokenizer.chat_template.tool_use" in header.metadata
    encoder = header.metadata.get(f"{architecture}.attention.causal") is False
    sees = projector.metadata if projector else {}
    hears = sees.get("clip.has_audio_encoder") is True
    return Capabilities(
        vision=sees.get("clip.has_vision_encoder", not hears) is True if projector else False,
        audio=hears,
        function_calling=tool_template or bool(_TOOLS.search(template)),
        reasoning=bool(_REASONING.search(template)),
        embedding=pooling in _EMBEDDING or (encoder and pooling != "rank"),
        reranker=pooling == "rank",
        infill=_fills(header),
    )


def _fills(header: Header) -> bool:
    if any(key in header.metadata for key in _FIM_KEYS):
        return True
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return isinstance(tokens, Array) and any(_entry(token) in tokens.data for token in _FIM_TOKENS)


def _entry(token: str) -> bytes:
    """A text as it stands in an array: with its length, so that a part of a longer one is not taken for it."""
    raw = token.encode()
    return len(raw).to_bytes(8, "little") + raw
