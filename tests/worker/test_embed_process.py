"""The worker that gives vectors as a process: two links, turns, tokens, leaving."""

from __future__ import annotations

import numpy as np
from gguf import PoolingType

from supervisor.config import Model
from supervisor.control import LoadFailed, Phase, Ready, Stop
from tests import models, vector_models
from tests.worker.rig import PATIENCE, Link, Worker
from worker.protocol import Accepted, Embed, Event, Failed, Finished, Rerank, Started, Tokenize, Tokens, Vector

ENTRY = "worker.main:main"


def embed(id: int, *texts: str) -> Embed:
    return Embed(id, f"r{id}", tuple((text,) for text in texts))


def ask(link: Link, request: Embed | Rerank) -> list[Event]:
    link.send(request)
    return list(link.events(request.id))


def test_vectors_of_a_real_process() -> None:
    with Worker(ENTRY) as worker:
        ready = worker.load(Model(name="bert", path=vector_models.encoder()))
        assert isinstance(ready, Ready)
        assert (ready.facts.task, ready.facts.pooling, ready.facts.n_ctx) == ("embed", "mean", vector_models.CONTEXT)
        one, two = worker.link(), worker.link()
        alone = ask(one, embed(1, "a b", "c"))
        assert [type(event) for event in alone] == [Accepted, Started, Vector, Vector, Finished]
        worker.crowd(2)  # takes turns from now on, with nobody
        one.send(embed(2, "a b"))
        two.send(embed(2, "c"))
        for link, index in ((one, 2), (two, 3)):
            (vector,) = [event for event in link.events(2) if isinstance(event, Vector)]
            first = alone[index]
            assert isinstance(first, Vector)
            np.testing.assert_allclose(
                np.frombuffer(vector.data, "<f4"), np.frombuffer(first.data, "<f4"), rtol=0, atol=2e-3
            )
        one.send(Tokenize(3, ("a b",), add_special=True))
        tokens = one.event()
        assert isinstance(tokens, Tokens)
        assert len(tokens.tokens) == 4
        (refused,) = one.ask(4, "a")
        assert isinstance(refused, Failed)
        assert refused.code == "unsupported_feature"
        assert worker.ping().phase is Phase.IDLE
        assert worker.stop(1.0) == 0
        assert "Traceback" not in worker.stderr()


def test_a_vocabulary_without_the_tokens_it_adds_kills_nobody() -> None:
    """llama.cpp would abort."""
    with Worker(ENTRY) as worker:
        worker.load(Model(name="bert", path=vector_models.encoder(marks=False)))
        link = worker.link()
        assert isinstance(ask(link, embed(1, "a b"))[-1], Finished)
        link.send(Tokenize(2, ("a b",), add_special=True))
        tokens = link.event()
        assert isinstance(tokens, Tokens)
        assert len(tokens.tokens) == 2


def test_a_process_that_leaves_tells_who_waits_and_goes_on_with_who_has_begun() -> None:
    with Worker(ENTRY) as worker:
        worker.load(Model(name="smol", path=models.smollm(), task="embed", n_ctx=512))
        link = worker.link()
        link.send(embed(1, *["a long story about the sea " * 40] * 40))
        assert [type(link.event()), type(link.event())] == [Accepted, Started]
        assert worker.ping().active == 1
        link.send(embed(2, "b"))
        worker.tell(Stop(30.0))
        *before, refused = link.events(2)
        assert isinstance(refused, Failed)
        assert refused.code == "model_unloaded"
        while not isinstance(event := link.event(), Vector):
            assert not isinstance(event, Failed)
        assert event.id == 1
        assert sum(isinstance(event, Vector) for event in before) < 39


def test_a_reranker_and_what_is_none() -> None:
    with Worker(ENTRY) as worker:
        ready = worker.load(Model(name="rank", path=vector_models.causal_reranker()))
        assert isinstance(ready, Ready)
        events = ask(worker.link(), Rerank(1, "r", "q", ("a", "b")))
        assert [event.width for event in events if isinstance(event, Vector)] == [2, 2]
    with Worker(ENTRY) as worker:
        failed = worker.load(Model(name="none", path=vector_models.encoder(PoolingType.RANK, head=False)))
        assert isinstance(failed, LoadFailed)
        assert failed.permanent
        assert "classifier head" in failed.message
        assert worker.process.wait(PATIENCE) == 78
