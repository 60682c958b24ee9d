"""Decode throughput of the engine against a bare loop of ctypes calls, in one run: `python -m tests.bench.decode`.

Both decode greedily over the same context (sequences and their lengths, threads, cells); the bare loop does nothing but
fill the batch, llama_decode and argmax.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Iterator, Sequence

import llama_cpp.llama_cpp as native
import numpy as np

from supervisor.config import Model, Sampling
from tests import models
from tests.bench.table import Pairs, Row
from worker import binding
from worker.context import Context
from worker.engine import EngineCore
from worker.main import Llama, LlamaModel
from worker.protocol import Event, Generate, Text
from worker.seams import Drop, Job, Load, Vitals

PAIRS = {1: 21, 4: 11, 16: 7, 32: 7}  # by sequences: a short run is told from the machine's own moods by many of them
PROMPT = "A long story about a fox, a dog and a hen that lived beside the old mill begins like this:"


class Nowhere:
    """An outbox that nobody reads."""

    def put(self, link: int, events: Sequence[Event]) -> None:
        pass

    def backlog(self, link: int) -> int:
        return 0


def load(parallel: int, **keys: object) -> LlamaModel:
    kind = Llama()
    kind.prepare()
    settings = Model(name="bench", path=models.smollm(), n_ctx=512, parallel=parallel, **keys)  # type: ignore[arg-type]
    loaded = kind.load(Load(settings, 1, -1), lambda _: True)
    assert isinstance(loaded, LlamaModel)
    return loaded


def bare(context: Context, prompt: Sequence[int], ahead: Sequence[int], tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds for `tokens` decode steps, prefill not counted, and the greedy tokens of each sequence.

    Each sequence has its prompt and as many more tokens as `ahead` says, since attention takes longer behind more.
    """
    context.clear()
    batch = native.llama_batch_init(context.n_batch, 0, 1)
    n_vocab = context.model.vocabulary.size
    row = ctypes.c_float * n_vocab

    def decode(rows: Sequence[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, output) in enumerate(rows):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, sequence, output
        assert binding.decode(context.handle, batch) == 0
        binding.synchronize(context.handle)

    def argmax(index: int) -> int:
        address = binding.get_logits_ith(context.handle, index)
        return int(np.ctypeslib.as_array(row.from_address(address)).argmax())

    last = len(prompt) - 1
    texts: list[list[int]] = [[] for _ in ahead]

    def step(sequences: Sequence[int]) -> None:
        decode([(texts[each][-1], last + len(texts[each]), each, True) for each in sequences])
        for index, each in enumerate(sequences):
            texts[each].append(argmax(index))

    for left in range(max(ahead), -1, -1):  # they come in turn, as cells that lie side by side are read faster
        for new in [each for each, more in enumerate(ahead) if more == left]:
            decode([(token, position, new, position == last) for position, token in enumerate(prompt)])
            texts[new].append(argmax(last))
        if left:
            step([each for each, more in enumerate(ahead) if more >= left])
    everyone = range(len(ahead))
    began = time.monotonic()
    for _ in range(tokens):
        step(everyone)
    seconds = time.monotonic() - began
    native.llama_batch_free(batch)
    return seconds, texts


def engine(model: LlamaModel, prompt: list[int], sequences: int, tokens: int) -> tuple[float, list[int]]:
    """Seconds the engine takes for the same, from the first step in which all decode; and how far they were then."""
    model._context.clear()
    core = EngineCore(model._context, model.facts.sampling, model._costs, None, 0.25, Nowhere(), Vitals())
    sampling = Sampling(temperature=0.0, max_tokens=tokens + sequences + 64)
    request = Generate(0, "bench", Text((PROMPT,)), sampling, cache_prompt=False)
    for sequence in range(sequences):
        core.obey(Job((1, sequence), request, prompt))
    while core.waiting or not core.running or not all(reply.decoding for reply in core.running):
        core.step()
    assert len(core.running) == sequences, "a sequence ended early: the comparison is void"
    ahead = [reply.n_out for reply in core.running]
    began = time.monotonic()
    for _ in range(tokens):
        core.step()
    seconds = time.monotonic() - began
    assert len(core.running) == sequences, "a sequence ended early: the comparison is void"
    for sequence in range(sequences):
        core.obey(Drop((1, sequence)))
    return seconds, ahead


def compare(sequences: int, tokens: int = 48, rounds: int = 7) -> Pairs:
    """Tokens/s of the bare loop and of the engine."""
    model = load(sequences)
    prompt = model.text.prompt(Text((PROMPT,)))
    pairs = Pairs([], [])
    for _ in range(rounds):
        seconds, ahead = engine(model, prompt, sequences, tokens)
        pairs.second.append(sequences * tokens / seconds)
        pairs.first.append(sequences * tokens / bare(model._context, prompt, ahead, tokens)[0])
    model._context.close()
    return pairs


def rows() -> Iterator[Row]:
    for sequences, rounds in PAIRS.items():
        pairs = compare(sequences, rounds=rounds)
        what = f"decode ÷ bare ctypes loop, {sequences} sequence{'s' * (sequences > 1)}"
        yield Row(what, f"{pairs.ratio:.2f}", pairs.rates, "≥ 0.97", pairs.ratio >= 0.97)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("sequences", type=int, nargs="*", default=[1, 4, 16])
    options = parser.parse_args()
    for sequences in options.sequences:
        pairs = compare(sequences, options.tokens, options.rounds)
        print(f"{sequences} sequences: {pairs.ratio:.3f}, {pairs.rates}")


if __name__ == "__main__":
    main()
