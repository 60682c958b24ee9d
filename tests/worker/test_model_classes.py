"""The tiny models are what they are made for: of their class, attentive to what lies far back, and repeatable."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import llama_cpp.llama_cpp as native
import numpy as np
import numpy.typing as npt
import pytest

from supervisor.config import Sampling
from tests import model_classes
from tests.worker.test_engine import Bench
from worker.protocol import Text

GREEDY = Sampling(temperature=0.0, max_tokens=96)
PROMPT = "Once upon a time"
FAR = 8 * model_classes.WINDOW  # tokens: more than four windowed layers could hand on
NEOX, MROPE, NO_ROPE = 2, 8, -1  # llama_rope_type


@dataclass(frozen=True)
class Kind:
    """What llama.cpp says of a class. `cuts`: whether a part of a sequence can be removed from its end."""

    recurrent: bool = False
    hybrid: bool = False
    window: int = 0
    rope: int = 0
    cuts: bool = True


KINDS = {
    "gqa": Kind(),
    "moe": Kind(),
    "swa": Kind(window=model_classes.WINDOW, rope=NEOX),
    "recurrent": Kind(recurrent=True, rope=NO_ROPE, cuts=False),
    "hybrid": Kind(hybrid=True, rope=NO_ROPE, cuts=False),
    "rollback": Kind(hybrid=True, rope=NEOX, cuts=False),
    "mrope": Kind(rope=MROPE),
    "spm": Kind(),
}


class Loaded:
    """A class's model in the engine, and llama.cpp's own calls on its context."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bench = Bench(model_classes.path(name), n_ctx=1024, parallel=2)
        self.context = self.bench.model._context
        self.model = self.context.model.handle
        self.memory = native.llama_get_memory(self.context.handle)

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """The last row's, of a prefill into the empty cache."""
        self.context.clear()
        size = self.context.n_batch
        batch = native.llama_batch_init(size, 0, 1)
        for start in range(0, len(tokens), size):
            part = tokens[start : start + size]
            batch.n_tokens = len(part)
            for row, token in enumerate(part):
                batch.token[row], batch.pos[row] = token, start + row
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
                batch.logits[row] = start + row == len(tokens) - 1
            assert native.llama_decode(self.context.handle, batch) == 0
        native.llama_synchronize(self.context.handle)
        row_type = ctypes.c_float * self.context.model.vocabulary.size
        address = native.llama_get_logits_ith(self.context.handle, -1)
        row = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(row_type)).contents).copy()
        native.llama_batch_free(batch)
        return row


@pytest.fixture(scope="module", params=model_classes.NAMES)
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    model = Loaded(request.param)
    yield model
    model.context.close()
    model.context.model.close()


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    """Bytes, which every class has as tokens; one of them is changed early by who wants to see whether it matters."""
    return [int(token) for token in np.random.default_rng(3).integers(5, 256, FAR)]


def test_file_is_small_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in model_classes.NAMES:
        path = Path(model_classes.path(name))
        again = tmp_path / path.name
        model_classes.write(again, name, 1)
        assert path.stat().st_size < 1_000_000
        assert again.read_bytes() == path.read_bytes()
        model_classes.write(again, name, 2)
        assert again.read_bytes() != path.read_bytes()


def test_llama_cpp_says_that_it_is_of_its_class(loaded: Loaded, tokens: list[int]) -> None:
    kind = KINDS[loaded.name]
    assert native.llama_model_is_recurrent(loaded.model) == kind.recurrent
    assert native.llama_model_is_hybrid(loaded.model) == kind.hybrid
    assert native.llama_model_n_swa(loaded.model) == kind.window
    assert native.llama_model_rope_type(loaded.model) == kind.rope
    loaded.logits(tokens)
    assert native.llama_memory_seq_rm(loaded.memory, 0, FAR - 3, -1) == kind.cuts
    assert native.llama_memory_seq_pos_max(loaded.memory, 0) == (FAR - 4 if kind.cuts else FAR - 1)


def test_tokens_beyond_every_window_still_matter(loaded: Loaded, tokens: list[int]) -> None:
    changed = [*tokens]
    changed[2] ^= 7
    before, after = loaded.logits(tokens), loaded.logits(changed)
    assert np.abs(before - after).max() > 0.01
    assert before.std() > 1


def test_greedy_text_is_the_same_again_and_in_company(loaded: Loaded) -> None:
    bench = loaded.bench
    bench.new()
    alone = bench.reply(PROMPT, GREEDY)
    bench.new()
    assert bench.reply(PROMPT, GREEDY) == alone
    bench.new()
    ids = [bench.start(PROMPT, GREEDY), bench.start("Quite another one", GREEDY)]
    bench.run()
    assert bench.text(ids[0]) == alone
    assert bench.text(ids[1]) != alone


def test_greedy_text_is_printable_varied_and_does_not_end(loaded: Loaded) -> None:
    bench = loaded.bench
    bench.new()
    id = bench.start(PROMPT, GREEDY)
    bench.run()
    text = bench.text(id)
    assert bench.end(id).reason == "limit"
    assert text.isascii()
    assert text.isprintable()
    assert len({*pairwise(text)}) > 40, text


def test_gqa_shares_a_kv_head() -> None:
    model = Loaded("gqa").model
    assert native.llama_model_n_head_kv(model) < native.llama_model_n_head(model)


def test_moe_has_experts() -> None:
    model = Loaded("moe").context.model
    assert (model.meta("llama.expert_count"), model.meta("llama.expert_used_count")) == ("4", "2")


def test_spm_adds_bos_and_a_space_and_spells_the_rest_in_bytes() -> None:
    bench = Loaded("spm").bench
    prompt = bench.model.text.prompt(Text(("the é",)))
    vocabulary = bench.model._context.model.vocabulary
    assert [vocabulary.text_of(token) for token in prompt] == ["<s>", "▁the", "▁", "<0xC3>", "<0xA9>"]
