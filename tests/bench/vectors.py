"""Embeddings per second of the engine: 16 inputs of 36 tokens from one request, against 16 requests one by one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from supervisor.config import Model
from tests import models, vector_models
from tests.bench.decode import Nowhere
from tests.bench.table import Row
from worker.embed.engine import EmbedCore
from worker.embed.loaded import EmbedModel
from worker.main import Llama
from worker.protocol import Embed
from worker.seams import Load, Passages, Vitals

_INPUTS, _TOKENS, _ROUNDS = 16, 36, 7


def rows() -> Iterator[Row]:
    yield _compare("SmolLM2-135M, pooling last", models.smollm())
    yield _compare("a BERT of 2 layers", vector_models.encoder())


def _compare(name: str, path: str) -> Row:
    core = _load(path)
    size = core.context.model.vocabulary.size
    inputs = [[(7 * number + at) % size for at in range(_TOKENS)] for number in range(_INPUTS)]
    _serve(core, [inputs])
    alone, together = [], []
    for _ in range(_ROUNDS):
        alone.append(_INPUTS / _serve(core, [[each] for each in inputs]))
        together.append(_INPUTS / _serve(core, [inputs]))
    one, all_ = statistics.median(alone), statistics.median(together)
    detail = f"{one:.0f} → {all_:.0f} a second; {_INPUTS} × {_TOKENS} tokens, medians of {_ROUNDS} rounds in turn"
    return Row(f"embeddings in batches ÷ one by one, {name}", f"{all_ / one:.2f}", detail, "≥ 0.95", all_ / one >= 0.95)


def _serve(core: EmbedCore, requests: Sequence[Sequence[Sequence[int]]]) -> float:
    """Seconds until these requests are answered, one after the other."""
    began = time.monotonic()
    for number, inputs in enumerate(requests):
        core.obey(Passages((1, number), Embed(number, "bench", ()), inputs))
        while core.works:
            core.step()
    return time.monotonic() - began


def _load(path: str) -> EmbedCore:
    kind = Llama()
    kind.prepare()
    loaded = kind.load(Load(Model(name="bench", path=path, n_ctx=512, task="embed"), 1, -1), lambda _: True)
    assert isinstance(loaded, EmbedModel)
    return EmbedCore(loaded._context, 2, loaded._costs, None, 0.25, Nowhere(), Vitals())
