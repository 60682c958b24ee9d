"""Tiny GGUF files, one per way in which llama.cpp keeps a sequence: each below 1 MB, written in a moment, seeded.

    gqa        llama with fewer KV heads: every position has a cell
    moe        llama with four experts, of which two compute
    swa        gemma3, windowed and global layers in turn: windowed cells are dropped after 64 positions
    recurrent  mamba: one state per sequence, whatever its length
    hybrid     jamba: mamba layers around one of attention
    rollback   lfm2, short convolutions around one layer of attention: a hybrid whose state can go back (n_rs_seq)
    mrope      the text part of qwen2vl: four positions per cell
    spm        llama with a SentencePiece vocabulary: byte tokens, a space before the text, BOS

Weights are random, drawn such that text depends on what lies far back. Only printable ASCII can be the most likely
token, so a greedy text never ends by itself, and each of its characters says which token it was.
"""

from __future__ import annotations

from pathlib import Path

import gguf

from tests import models
from tests.model_classes import architectures, sentencepiece, weights

_VERSION = 1  # raise it when what is written changes
CONTEXT = 2048
WINDOW = architectures.WINDOW
NAMES = tuple(architectures.ALL)


def path(name: str, *, seed: int = 1) -> str:
    """The path of the model of this class."""
    return models.cached(f"class-{name}-{_VERSION}-{seed}", lambda file: write(file, name, seed))


def write(file: Path, name: str, seed: int) -> None:
    """Writes the model of this class."""
    architecture = architectures.ALL[name]
    writer = gguf.GGUFWriter(file, architecture.name)
    writer.add_name(f"tiny {name}")
    writer.add_context_length(CONTEXT)
    for key, value in architecture.keys.items():
        getattr(writer, f"add_{key}")(value)
    if name == "spm":
        speakable = sentencepiece.add_vocabulary(writer)
    else:
        models.add_vocabulary(writer)
        speakable = [len(text) == 1 and " " < text <= "~" for text, _ in models.vocabulary()]
    for tensor, shape in architectures.tensors(architecture, len(speakable)).items():
        values = weights.draw(tensor, shape, seed, speakable)
        if weights.multiplies(tensor, shape):
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor, values)
    models.finish(writer)
