"""What would end the process inside llama.cpp is refused before the call. ENGINE.md, 17.

Each case also runs the unchecked call in a child process, so that the day on which llama.cpp no longer aborts is seen.
Grammars are in test_hostile, vectors in test_embed.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import models
from tests.worker.test_engine import Bench
from worker import binding
from worker.sequences import Sequence

_SCRIPT = """
from tests import models
from tests.worker.test_engine import Bench
from worker import binding
context = Bench(models.tiny(), n_ctx=128, n_batch=32, parallel=2).model._context
{call}
"""
_CALLS = {
    "rows beyond n_batch": """
context._make_batch(100)
context._pos[:100] = range(100)
context._batch.n_tokens = 100
binding.decode(context.handle, context._batch)
""",
    "outputs beyond n_outputs_max": """
context._pos[:] = range(context.n_batch)
context._output[:] = 1
context._batch.n_tokens = context.n_batch
binding.decode(context.handle, context._batch)
""",
    "a sampler at a row without output": """
from worker.sequences import Sequence
context.fill([], [(Sequence([1, 2, 3], 128, 0), 2)])
context.decode()
import llama_cpp.llama_cpp as native
native.llama_sampler_sample(binding.sampler_init_greedy(), context.handle, 0)
""",
}


@pytest.fixture(scope="module")
def tiny() -> Bench:
    return Bench(models.tiny(), n_ctx=128, n_batch=32, parallel=2)


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
def test_the_unchecked_call_ends_the_process(call: str) -> None:
    command = [sys.executable, "-c", _SCRIPT.format(call=call)]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert done.returncode < 0, done.stderr.decode()[-500:]


def test_rows_beyond_the_batch_are_refused(tiny: Bench) -> None:
    context = tiny.model._context
    with pytest.raises(AssertionError, match="n_batch"):
        context.fill([], [(Sequence([1] * 100, 128, 0), context.n_batch + 1)])


def test_outputs_beyond_the_context_are_refused(tiny: Bench) -> None:
    context = tiny.model._context
    many = [Sequence([1], 128, id) for id in range(context.ids + 2)]
    with pytest.raises(AssertionError, match="n_outputs_max"):
        context.fill(many, [])


def test_a_row_without_output_has_no_logits(tiny: Bench) -> None:
    context = tiny.model._context
    context.clear()
    context.fill([], [(Sequence([1, 2, 3], 128, 0), 2)])
    context.decode()
    with pytest.raises(AssertionError, match="no logits"):
        context.logits(0)


def test_nothing_here_moves_positions() -> None:
    """seq_add asserts on M-RoPE, and moves shared cells for all who hold them."""
    assert not [name for name in vars(binding) if "seq_add" in name or "seq_div" in name]


@pytest.mark.parametrize("parallel", [1, 8, 200])
def test_a_context_has_an_output_for_every_sequence(parallel: int) -> None:
    context = Bench(models.tiny(), n_ctx=64, parallel=parallel).model._context
    assert context.ids + 1 <= 256
    assert context.ids >= parallel
