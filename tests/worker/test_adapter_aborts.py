"""Adapters that would end the process inside llama.cpp are refused before the call. ENGINE.md, 17.

Each case also runs the unchecked calls in a child process, so that the day on which llama.cpp no longer dies is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests import adapters, model_classes, models
from tests.worker.test_engine import Bench
from worker.failure import LoadError

_SCRIPT = """
import sys
from tests.worker.test_engine import Bench
from worker import adapters
adapters._checked = lambda settings: [each.path for each in settings.adapters]
Bench(sys.argv[1], n_ctx=128, lora=(sys.argv[2],))
"""
BASE = model_classes.path("gqa")
VOCABULARY = len(models.vocabulary())


def whole_numbers(path: Path) -> str:
    """Matrices of integers."""
    writer = gguf.GGUFWriter(path, "llama")
    adapters.right(writer)
    for part, shape in (("a", (adapters.RANK, 64)), ("b", (64, adapters.RANK))):
        writer.add_tensor(f"blk.0.attn_q.weight.lora_{part}", np.zeros(shape, np.int32))
    models.finish(writer)
    return BASE


def alpha_in_words(path: Path) -> str:
    def keys(writer: gguf.GGUFWriter) -> None:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_string("adapter.lora.alpha", "32")

    adapters.write(path, BASE, keys=keys)
    return BASE


def fewer_experts(path: Path) -> str:
    base = model_classes.path("moe")
    adapters.write(path, base, change=lambda pairs: [(name, a[-2:], b[-2:]) for name, a, b in pairs])
    return base


def two_ranks_for_the_embeddings(path: Path) -> str:
    adapters.write(path, BASE, change=lambda pairs: [("token_embd.weight", (VOCABULARY, 32), (64, 64))])
    return BASE


def embeddings_that_are_the_output(path: Path) -> str:
    base = models.cached("class-gqa-tied-1", _tie)
    adapters.write(path, base, change=lambda pairs: [("token_embd.weight", (VOCABULARY, 32), (64, 32))])
    return base


def _tie(path: Path) -> None:
    """The same model without a matrix for its output."""
    reader, writer = gguf.GGUFReader(BASE), gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            several = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=several)
    for tensor in reader.tensors:
        if tensor.name != "output.weight":
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    models.finish(writer)


SPOILED: list[Callable[[Path], str]] = [
    whole_numbers, alpha_in_words, fewer_experts, two_ranks_for_the_embeddings, embeddings_that_are_the_output
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_would_end_the_process_is_refused(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    path = tmp_path / "spoiled.gguf"
    base = spoil(path)
    with pytest.raises(LoadError) as caught:
        Bench(base, n_ctx=128, lora=(str(path),))
    assert (caught.value.cause, caught.value.permanent) == ("load_error", True)
    assert caught.value.message.startswith(f"{path}: ")
    command = [sys.executable, "-c", _SCRIPT, base, str(path)]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert done.returncode < 0, done.stderr.decode()[-500:]


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "file_corrupt"), (b"GGUF", "file_corrupt"), (4000, "file_corrupt"), (None, "file_missing")],
    ids=["empty", "header", "cut", "none"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: Any, cause: str) -> None:
    path = tmp_path / "damaged.gguf"
    if content is not None:
        whole = Path(adapters.lora(BASE)).read_bytes()
        path.write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(LoadError) as caught:
        Bench(BASE, n_ctx=128, lora=(str(path),))
    assert (caught.value.cause, caught.value.permanent) == (cause, True)
    assert os.fspath(path) in caught.value.message


def test_what_llama_cpp_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.adapters._checked", lambda settings: [each.path for each in settings.adapters])
    adapters.write(tmp_path / "other.gguf", BASE, architecture="qwen2")
    with pytest.raises(LoadError, match="model arch and LoRA arch mismatch"):
        Bench(BASE, n_ctx=128, lora=(str(tmp_path / "other.gguf"),))
