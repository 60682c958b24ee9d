"""Figures of the engine alone: shared prompts, a long prompt beside streams, Python's share at a long context."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np

from supervisor.config import Model, Sampling
from tests import models
from tests.bench.table import Row
from worker.engine import EngineCore
from worker.main import Llama, LlamaModel
from worker.protocol import Delta, Event, Finished, Generate, Text
from worker.seams import Job, Load, Vitals

_BUDGET = Model().prefill_time
_STORY = "A long story about a fox, a dog and a hen that lived beside the old mill near the river. "


class Client:
    """Takes an engine's events, with the time at which they came."""

    def __init__(self, model: LlamaModel) -> None:
        model._context.clear()
        self.model = model
        self.ends: dict[int, Finished] = {}
        self.deltas: dict[int, list[float]] = {}
        self.engine = EngineCore(model._context, model.facts.sampling, model._costs, None, _BUDGET, self, Vitals())
        self._ids = 0

    def put(self, link: int, events: Sequence[Event]) -> None:
        now = time.perf_counter()
        for event in events:
            if isinstance(event, Delta):
                self.deltas.setdefault(event.id, []).append(now)
            elif isinstance(event, Finished):
                self.ends[event.id] = event

    def backlog(self, link: int) -> int:
        return 0

    def start(self, prompt: str | Sequence[int], tokens: int) -> int:
        self._ids += 1
        sampling = Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        ids = self.tokens(prompt) if isinstance(prompt, str) else prompt
        self.engine.obey(Job((1, self._ids), Generate(self._ids, "bench", Text(("",)), sampling), ids))
        return self._ids

    def tokens(self, prompt: str) -> list[int]:
        return self.model.text.prompt(Text((prompt,)))

    def run(self) -> None:
        while self.engine.busy:
            self.engine.step()


def rows() -> Iterator[Row]:
    yield _shared()
    yield _long_prompt()
    yield _long_context()


def _shared() -> Row:
    """16 requests at once whose first 1,000 tokens are the same."""
    model = _smollm(n_ctx=2048, kv_cells=8192, parallel=16)
    client = Client(model)
    system = client.tokens(_STORY * 50)[:1000]
    tails = [client.tokens(f" Question {number}: what did the fox say?") for number in range(16)]
    ids = [client.start([*system, *tail], 4) for tail in tails]
    client.run()
    computed = sum(client.ends[id].timings.prompt_n for id in ids)
    wanted = len(system) + sum(map(len, tails))
    model._context.close()
    detail = f"{computed} prompt tokens computed; one prompt and the tails are {wanted}, all prompts {wanted + 15_000}"
    ratio = computed / wanted
    what = "16 requests with one 1,000-token system prompt: computed ÷ needed"
    return Row(what, f"{ratio:.2f}", detail, "≤ 1.10", ratio <= 1.1)


def _long_prompt() -> Row:
    """Four streams while a prompt of 8,000 tokens is prefilled: what the slowest tokens waited."""
    model = _smollm(n_ctx=8192, kv_cells=12288, parallel=5)
    client = Client(model)
    streams = [client.start(f"{number} {_STORY}", 4000) for number in range(4)]
    while len(client.deltas) < 4:
        client.engine.step()
    for _ in range(20):
        client.engine.step()
    prompt = client.start(client.tokens(_STORY * 370)[:8000], 1)
    began, chunks = time.perf_counter(), []
    while prompt not in client.ends:
        at = time.perf_counter()
        client.engine.step()
        chunks.append(time.perf_counter() - at)
    gaps = [gap for id in streams for gap in _gaps([at for at in client.deltas[id] if at >= began])]
    model._context.close()
    p99 = sorted(gaps)[int(len(gaps) * 0.99)]
    chunk = statistics.median(chunks)
    budget = f"budget {_BUDGET * 1000:.0f} ms"
    detail = f"p99 {p99 * 1000:.0f} ms, one chunk {chunk * 1000:.0f} ms ({budget}); the prompt took {sum(chunks):.0f} s"
    what = "token gap of 4 streams beside an 8,000-token prompt: p99 ÷ one chunk"
    return Row(what, f"{p99 / chunk:.2f}", detail, "≤ 2.00", p99 <= 2 * chunk)


def _gaps(times: list[float]) -> Iterator[float]:
    return (later - earlier for earlier, later in itertools.pairwise(times))


def _long_context() -> Row:
    """What the engine does in Python for a token, with little and with much text before it.

    Each decode is followed by a sweep over 64 MB, as the weights of a real model make it: else the short context would
    find its caches warm, and the long one cold.
    """
    kind = Llama()
    kind.prepare()
    path = models.tiny("long", context=32768)
    model = kind.load(Load(Model(name="long", path=path, n_ctx=32768, parallel=1), 1, -1), lambda _: True)
    assert isinstance(model, LlamaModel)
    near, far = [], []
    for _ in range(5):
        near.append(_python_time(model, 100))
        far.append(_python_time(model, 30_000))
    model._context.close()
    ratio = statistics.median(far) / statistics.median(near)
    detail = f"{statistics.median(near) * 1e6:.0f} µs at 100 tokens, {statistics.median(far) * 1e6:.0f} µs at 30,000"
    what = "Python time for a token at 30,000 tokens of context ÷ at 100"
    return Row(what, f"{ratio:.2f}", detail, "≤ 1.10", ratio <= 1.1)


def _python_time(model: LlamaModel, length: int) -> float:
    """Median seconds of a step outside llama_decode."""
    client = Client(model)
    native = 0.0
    decode = model._context.decode

    sweep = np.ones(64_000_000, np.int8)  # zeros would all be one page

    def timed() -> int:
        nonlocal native
        began = time.perf_counter()
        code = decode()
        sweep.sum()
        native = time.perf_counter() - began
        return code

    client.start([(7 * place) % 250 for place in range(length)], 100)
    while not client.engine.running or not client.engine.running[0].decoding:
        client.engine.step()
    model._context.decode = timed  # type: ignore[method-assign]
    outside = []
    while client.engine.busy:
        began = time.perf_counter()
        client.engine.step()
        outside.append(time.perf_counter() - began - native)
    model._context.decode = decode  # type: ignore[method-assign]
    return statistics.median(outside)


def _smollm(**keys: object) -> LlamaModel:
    kind = Llama()
    kind.prepare()
    settings = Model(name="bench", path=models.smollm(), **keys)  # type: ignore[arg-type]
    loaded = kind.load(Load(settings, 1, -1), lambda _: True)
    assert isinstance(loaded, LlamaModel)
    return loaded
