"""Tiny GGUF files that give vectors: encoders, causal models, rerankers; and one with FIM tokens. See tests.models."""

from __future__ import annotations

from pathlib import Path

import gguf
from gguf import PoolingType, TokenType

from tests import models

WIDTH, CONTEXT = 64, 128  # of the encoder and the causal reranker
LETTERS = "abcdefghijklmnopqrstuvwxyz"
RERANK = "<|im_start|>judge\nquery: {query}\ndocument: {document}<|im_end|>"
FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>")
_HEADS, _LAYERS, _FF = 2, 2, 128
_CLS, _SEP = 2, 3


def encoder(pooling: PoolingType | None = PoolingType.MEAN, *, head: bool = True, marks: bool = True) -> str:
    """A BERT with one token for each letter. A rank one has a classifier's head with one output, unless told not to.

    Without `marks` the header names no CLS and SEP, which such a vocabulary puts around every text.
    """
    said = "unsaid" if pooling is None else pooling.name.lower()
    name = f"bert-{said}{'' if head else '-headless'}{'' if marks else '-markless'}"
    return models.made(name, 1, lambda path: _bert(path, pooling, head, marks))


def causal(pooling: PoolingType = PoolingType.LAST) -> str:
    """The tiny llama, whose header names a pooling."""
    return models.tiny(f"pooled-{pooling.name.lower()}", keys=lambda writer: writer.add_pooling_type(pooling))


def causal_reranker() -> str:
    """A Qwen3 with a head of two labels and a template `rerank`, as Qwen3-Reranker's files have them."""
    return models.made("qwen3-rank", 1, _qwen3)


def fim(*, files: bool = True) -> str:
    """The tiny llama with FIM tokens; `files`: also those that name a project and its files."""
    return models.tiny(f"fim-{int(files)}", words=FIM if files else FIM[:3])


def _bert(path: Path, pooling: PoolingType | None, head: bool, marks: bool) -> None:
    writer = gguf.GGUFWriter(path, "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*words, *(f"▁{letter}" for letter in LETTERS), *LETTERS, "▁.", "▁,"]
    kinds = [*([TokenType.CONTROL] * len(words)), *([TokenType.NORMAL] * (len(tokens) - len(words)))]
    _dimensions(writer)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    if marks:
        writer.add_bos_token_id(_CLS)
        writer.add_sep_token_id(_SEP)
        writer.add_eos_token_id(_SEP)
    writer.add_unk_token_id(1)
    writer.add_pad_token_id(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(tokens), WIDTH),
        "token_types.weight": (2, WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        **_norm("token_embd_norm"),
    }
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes |= {f"{block}.{part}.weight": (WIDTH, WIDTH), f"{block}.{part}.bias": (WIDTH,)}
        shapes |= _norm(f"{block}.attn_output_norm") | _norm(f"{block}.layer_output_norm")
        shapes |= {f"{block}.ffn_up.weight": (_FF, WIDTH), f"{block}.ffn_up.bias": (_FF,)}
        shapes |= {f"{block}.ffn_down.weight": (WIDTH, _FF), f"{block}.ffn_down.bias": (WIDTH,)}
    if pooling is PoolingType.RANK and head:
        shapes |= {"cls.weight": (WIDTH, WIDTH), "cls.bias": (WIDTH,), "cls.output.weight": (1, WIDTH)}
    models.add_tensors(writer, 1, shapes)
    models.finish(writer)


def _qwen3(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "qwen3")
    tokens = models.vocabulary()
    _dimensions(writer)
    writer.add_head_count_kv(_HEADS)
    writer.add_key_length(WIDTH // _HEADS)
    writer.add_value_length(WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_pooling_type(PoolingType.RANK)
    writer.add_classifier_output_labels(["yes", "no"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_merges(["Ġ a"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template([{"name": "default", "template": models.TEMPLATE}, {"name": "rerank", "template": RERANK}])
    shapes = models.tensors(len(tokens)) | {"cls.output.weight": (2, WIDTH)}
    for layer in range(_LAYERS):
        shapes |= {f"blk.{layer}.attn_{part}_norm.weight": (WIDTH // _HEADS,) for part in "qk"}
    models.add_tensors(writer, 1, shapes)
    models.finish(writer)


def _dimensions(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FF)
    writer.add_head_count(_HEADS)


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
