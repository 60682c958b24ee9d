"""GGUF headers, and the card that is made of one: read, or refused with GgufError, in little time and memory."""

from __future__ import annotations

import struct

from supervisor import gguf, header_facts
from tests.fuzz import engine


def _text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _small() -> bytes:
    """A header with everything that a card is made of."""
    tokens = struct.pack("<IQ", 8, 3) + _text("a") + _text("<|im_end|>") + _text("b")
    pairs = [
        _pair("general.architecture", 8, _text("llama")),
        _pair("general.name", 8, _text("small")),
        _pair("general.file_type", 4, struct.pack("<I", 2)),
        _pair("llama.context_length", 4, struct.pack("<I", 4096)),
        _pair("llama.embedding_length", 4, struct.pack("<I", 64)),
        _pair("llama.block_count", 4, struct.pack("<I", 2)),
        _pair("llama.attention.head_count", 4, struct.pack("<I", 4)),
        _pair("llama.attention.head_count_kv", 9, struct.pack("<IQII", 4, 2, 2, 2)),
        _pair("llama.attention.sliding_window", 4, struct.pack("<I", 512)),
        _pair("llama.pooling_type", 4, struct.pack("<I", 1)),
        _pair("split.count", 2, struct.pack("<H", 1)),
        _pair("tokenizer.chat_template", 8, _text("{{ messages }}{{ tools }}")),
        _pair("tokenizer.ggml.tokens", 9, tokens),
        _pair("x.nested", 9, struct.pack("<IQIQB", 9, 1, 0, 1, 7)),
        _pair("x.float", 6, struct.pack("<f", 0.5)),
        _pair("x.bool", 7, b"\1"),
    ]
    tensors = [_text(name) + struct.pack("<IQQIQ", 2, 64, 3, 0, at * 768) for at, name in enumerate(("t.weight", "o"))]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    return head + b"".join(pairs) + b"".join(tensors) + b"\0" * 64


CORPUS = [_small(), b"GGUF" + struct.pack("<IQQ", 3, 0, 0), b"GGUF" + struct.pack("<IQQ", 2, 2**60, 2**60)]
_ARRAYS = [struct.pack("<IQ", 9, 1), struct.pack("<IQ", 9, 2**61)]
WORDS = [_text("general.architecture"), _text("llama.block_count"), *_ARRAYS]


def fuzz(data: bytes) -> None:
    try:
        header = gguf.parse(data)
    except gguf.GgufError:
        return
    for value in header.metadata.values():
        if isinstance(value, gguf.Array):
            value.values()
    try:
        header_facts.shards(header)
        header_facts.card([header], None)
        header_facts.card([header], header)
    except gguf.GgufError:
        pass


def run(count: int, seed: int) -> str:
    return engine.run("headers", fuzz, CORPUS, WORDS, count, seed)
