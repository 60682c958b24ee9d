"""The engine that gives vectors, on real contexts. What is alone, in company, whole or in parts gives the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from gguf import PoolingType

from supervisor.config import Adapter, Model
from tests import adapters, models, vector_models
from worker.embed.engine import EmbedCore
from worker.embed.loaded import EmbedModel
from worker.embed.vectors import Vectors
from worker.failure import EngineError, LoadError, RequestError
from worker.main import Llama
from worker.protocol import Embed, Event, Failed, Finished, Generate, Rerank, Started, Text, Tokenize, Vector
from worker.seams import Drop, Leave, Load, Passages, Vitals, Wear

CLOSE = {"rtol": 0, "atol": 1e-5}
NEAR = {"rtol": 0, "atol": 2e-3}  # of what a model with GELU gives: ggml looks that up in a table of f16
TEXTS = ("the quick brown fox", "jumps", "over a lazy dog", "a b c d e f g h i j k l m n o p q r s t u v w x y z")


@cache
def kind() -> Llama:
    found = Llama()
    found.prepare()
    return found


class Bench:
    """An engine that a test drives step by step, and the events it gave to each link."""

    def __init__(self, path: str, **keys: Any) -> None:
        settings = Model(name="m", path=path, **{"flash_attention": "off", **keys})  # f16 in it rounds by row count
        loaded = kind().load(Load(settings, 1, -1), lambda _: True)
        assert isinstance(loaded, EmbedModel)
        self.model = loaded
        self.events: dict[int, list[Event]] = {}
        normalize = keys.get("embd_normalize", 2)
        self.engine = EmbedCore(loaded._context, normalize, loaded._costs, None, 1e9, self, Vitals())
        self._id = 0

    def put(self, link: int, events: Sequence[Event]) -> None:
        self.events.setdefault(link, []).extend(events)

    def backlog(self, link: int) -> int:
        return 0

    def start(self, *inputs: Any, link: int = 1, **fields: Any) -> int:
        """A request for the vectors of texts or token lists."""
        self._id += 1
        pieces = tuple((each,) if isinstance(each, str) else tuple(each) for each in inputs)
        return self._obey(Embed(self._id, "r", pieces, **fields), link)

    def rank(self, query: str, *documents: str, **fields: Any) -> list[float]:
        self._id += 1
        id = self._obey(Rerank(self._id, "r", query, documents, **fields), 1)
        self.run()
        return [float(rows[0, 0]) for rows in self.rows(id)]

    def _obey(self, request: Embed | Rerank, link: int) -> int:
        self.engine.obey(Passages((link, request.id), request, self.model.text.inputs(request)))
        return request.id

    def run(self) -> None:
        while self.engine.works:
            self.engine.step()

    def of(self, id: int, kind: type, link: int = 1) -> list[Any]:
        return [event for event in self.events.get(link, []) if isinstance(event, kind) and event.id == id]

    def rows(self, id: int, link: int = 1) -> list[Vectors]:
        """The vectors of each input of a request that has ended."""
        assert len(self.of(id, Finished, link)) == 1
        found: dict[int, list[Vectors]] = {}
        for vector in self.of(id, Vector, link):
            part = np.frombuffer(vector.data, "<f4").reshape(-1, vector.width)
            found.setdefault(vector.input, []).append(part)
        assert list(found) == sorted(found), "inputs come in their order"
        return [np.concatenate(parts) for parts in found.values()]

    def embed(self, *inputs: Any, **fields: Any) -> Vectors:
        """The pooled vectors of inputs, shape (inputs, width)."""
        id = self.start(*inputs, **fields)
        self.run()
        return np.concatenate(self.rows(id))


@pytest.fixture(scope="module")
def mean() -> Bench:
    return Bench(vector_models.encoder())


MODELS = {
    "mean": vector_models.encoder,
    "cls": lambda: vector_models.encoder(PoolingType.CLS),
    "last": vector_models.causal,
    "causal mean": lambda: vector_models.causal(PoolingType.MEAN),
}


@pytest.mark.parametrize("name", MODELS)
def test_in_company_and_alone_give_the_same(name: str) -> None:
    bench = Bench(MODELS[name]())
    together = bench.embed(*TEXTS)
    alone = np.concatenate([bench.embed(text) for text in TEXTS])
    np.testing.assert_allclose(together, alone, **(NEAR if bench.model.facts.architecture == "bert" else CLOSE))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, **CLOSE)
    assert np.abs(together[0] - together[1]).max() > 1e-2, "all vectors alike prove nothing"


def test_requests_of_two_links_share_a_batch(mean: Bench) -> None:
    first, second = mean.start(*TEXTS[:2], link=1), mean.start(TEXTS[2], link=2)
    mean.engine.step()
    assert not mean.engine.works
    found = [*mean.rows(first, 1), *mean.rows(second, 2)]
    np.testing.assert_allclose(np.concatenate(found), mean.embed(*TEXTS[:3]), **NEAR)
    (finished,) = mean.of(second, Finished, 2)
    assert finished.reason == "done"
    assert finished.timings.prompt_n == len(mean.model.text.inputs(Embed(0, "", ((TEXTS[2],),)))[0])


def test_figures_equal_the_timings_of_the_requests() -> None:
    bench = Bench(vector_models.encoder())
    ids = [bench.start(*TEXTS), bench.start(TEXTS[0])]
    bench.run()
    timings = [bench.of(id, Finished)[0].timings for id in ids]
    found = {each.name: each.values for each in bench.engine.vitals.meters.series(0, 0)}
    assert found["llamacpp:prompt_tokens_total"] == (sum(each.prompt_n for each in timings),)
    spent = sum(each.prompt_ms for each in timings)
    assert found["llamacpp:prompt_seconds_total"][0] * 1000 == pytest.approx(spent)
    assert sum(found["llama_supervisor_sequence_wait_seconds"][:-1]) == 2


def test_first_come_first_served_and_each_input_once(mean: Bench) -> None:
    mean.events.clear()
    long = "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4
    ids = [mean.start(*[long[: 150 + n] for n in range(9)]), mean.start("a"), mean.start("b")]
    mean.engine.step()
    assert [event.id for event in mean.events[1] if isinstance(event, Started)] == ids[:1], "others wait for rows"
    mean.run()
    assert [event.id for event in mean.events[1] if isinstance(event, Finished)] == ids
    assert len(mean.rows(ids[0])) == 9


def test_more_inputs_than_sequence_ids() -> None:
    bench = Bench(vector_models.encoder())
    texts = [f"{a} {b}" for a in "abcdefghij" for b in "klmnopqrst"]
    found = bench.embed(*texts)
    np.testing.assert_allclose(found[70], bench.embed(texts[70])[0], **NEAR)
    np.testing.assert_allclose(found[99], bench.embed(texts[99])[0], **NEAR)


def test_mean_pooling_is_the_mean_of_what_no_pooling_gives(mean: Bench) -> None:
    rows = Bench(vector_models.encoder(PoolingType.NONE))
    id = rows.start(*TEXTS, per_token=True)
    rows.run()
    averages = np.stack([vectors.mean(axis=0) for vectors in rows.rows(id)])
    np.testing.assert_allclose(mean.embed(*TEXTS, normalize=-1), averages, **NEAR)


def test_vectors_of_tokens_are_normalised_only_on_request() -> None:
    bench = Bench(vector_models.encoder(PoolingType.NONE))
    plain, unit = bench.start(TEXTS[0], per_token=True), bench.start(TEXTS[0], per_token=True, normalize=2)
    bench.run()
    (raw,), (normal,) = bench.rows(plain), bench.rows(unit)
    assert len(raw) == len(bench.model.text.tokenize(Tokenize(0, (TEXTS[0],), add_special=True)).tokens)
    np.testing.assert_allclose(normal, raw / np.linalg.norm(raw, axis=1)[:, None], **NEAR)


@pytest.mark.parametrize("pooling", ["last", "none"])
def test_an_input_longer_than_a_batch_is_computed_in_parts(pooling: str) -> None:
    whole, parts = (Bench(models.tiny(), task="embed", pooling=pooling, kv="f32", n_ubatch=rows) for rows in (512, 64))
    assert parts.model._context.rows == 64
    tokens = [at % 250 for at in range(300)]
    results = []
    for bench in (whole, parts):
        ids = [bench.start(tokens, per_token=True), bench.start(tokens[:40], per_token=True)]
        bench.run()
        results.append([bench.rows(id)[0] for id in ids])
    assert parts.of(1, Started), "begun"
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    assert len(results[0][0]) == (300 if pooling == "none" else 1)


def test_mean_over_a_long_input_is_not_that_of_its_last_part() -> None:
    """llama.cpp gives that in silence, with batches that are smaller than the input."""
    bench = Bench(models.tiny(), pooling="mean", n_ubatch=64, n_batch=64)
    rows = Bench(models.tiny(), task="embed", pooling="none")
    tokens = [at % 250 for at in range(300)]
    id = rows.start(tokens, per_token=True)
    rows.run()
    np.testing.assert_allclose(bench.embed(tokens, normalize=-1)[0], rows.rows(id)[0].mean(axis=0), rtol=0, atol=1e-3)


def test_a_truncated_input_is_the_same_as_a_short_one(mean: Bench) -> None:
    """What closes a text for the model, like SEP, is kept."""
    long = " ".join("abcdefghij" * 20)
    (tokens,) = mean.model.text.inputs(Embed(0, "", ((long,),), truncate=True))
    assert len(tokens) == vector_models.CONTEXT
    short = " ".join(("abcdefghij" * 20)[: vector_models.CONTEXT - 2])
    assert [tokens] == mean.model.text.inputs(Embed(0, "", ((short,),)))
    np.testing.assert_allclose(mean.embed(long, truncate=True), mean.embed(short), **NEAR)


@pytest.mark.parametrize("path", [vector_models.encoder, vector_models.causal])
def test_a_too_long_input_is_refused_with_the_numbers(path: Any) -> None:
    bench = Bench(path())
    limit = bench.model.facts.n_ctx
    bench.embed([5] * limit)
    with pytest.raises(RequestError, match=f"{limit + 1} tokens.*{limit} tokens") as error:
        bench.start([5] * 3, [5] * (limit + 1))
    assert error.value.code == "context_length_exceeded"
    assert error.value.fields == {"param": "input[1]", "n_prompt_tokens": limit + 1, "n_ctx": limit}


def test_n_ctx_is_the_longest_input() -> None:
    bench = Bench(vector_models.encoder(), n_ctx=40)
    assert bench.model.facts.n_ctx == 40
    bench.embed([5] * 40)
    with pytest.raises(RequestError, match="exceeds"):
        bench.start([5] * 41)


@pytest.mark.parametrize(
    ("inputs", "fields", "code"),
    [
        (("",), {}, "invalid_value"),
        (("a", ()), {}, "invalid_value"),
        (((1, 99999),), {}, "invalid_value"),
        (("a",), {"dimensions": 32}, "unsupported_feature"),
    ],
)
def test_what_has_no_vector_is_refused(mean: Bench, inputs: Any, fields: Any, code: str) -> None:
    with pytest.raises(RequestError) as error:
        mean.start(*inputs, **fields)
    assert error.value.code == code


def test_token_zero_is_a_token(mean: Bench) -> None:
    assert mean.embed([0]).shape == (1, vector_models.WIDTH)


def test_only_configured_dimensions_are_cut_to() -> None:
    bench = Bench(vector_models.encoder(), dimensions=(16, 32))
    whole, cut = bench.embed(TEXTS[0], normalize=-1), bench.embed(TEXTS[0], dimensions=16)
    np.testing.assert_allclose(cut, whole[:, :16] / np.linalg.norm(whole[:, :16]), **CLOSE)
    assert bench.embed(TEXTS[0], dimensions=vector_models.WIDTH).shape == (1, vector_models.WIDTH)
    with pytest.raises(RequestError, match="expected 16, 32, 64, got 20"):
        bench.start(TEXTS[0], dimensions=20)
    with pytest.raises(LoadError, match="64 numbers"):
        Bench(vector_models.encoder(), dimensions=(65,))


def test_the_configured_norm_is_the_default() -> None:
    bench = Bench(vector_models.encoder(), embd_normalize=1)
    np.testing.assert_allclose(np.abs(bench.embed(TEXTS[0])).sum(), 1.0, **CLOSE)
    np.testing.assert_allclose(np.linalg.norm(bench.embed(TEXTS[0], normalize=2)), 1.0, **CLOSE)


def test_pooling_none_needs_a_caller_that_takes_a_vector_for_each_token() -> None:
    bench = Bench(vector_models.encoder(PoolingType.NONE))
    with pytest.raises(RequestError, match="pooling") as error:
        bench.start("a")
    assert error.value.code == "invalid_value"


def test_an_answer_has_a_bound() -> None:
    bench = Bench(vector_models.encoder(PoolingType.NONE))
    with pytest.raises(RequestError, match="at most"):
        bench.start(*[[5] * 128] * 2049, per_token=True)


def test_what_is_large_comes_in_several_events() -> None:
    bench = Bench(models.tiny(), task="embed", pooling="none", n_ctx=512)
    id = bench.start(*[[5] * 512] * 3, per_token=True)
    bench.run()
    assert all(len(vector.data) <= 2**20 for vector in bench.of(id, Vector))
    assert [len(rows) for rows in bench.rows(id)] == [512] * 3


# -- reranking ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [lambda: vector_models.encoder(PoolingType.RANK), vector_models.causal_reranker])
def test_scores_in_company_and_alone_are_the_same(path: Any) -> None:
    bench = Bench(path())
    assert bench.model.facts.task == "rerank"
    together = bench.rank("what is a fox", *TEXTS[:3])
    alone = [bench.rank("what is a fox", text)[0] for text in TEXTS[:3]]
    np.testing.assert_allclose(together, alone, **NEAR)
    assert max(together) - min(together) > 0.02, "documents alike prove nothing"
    assert bench.rank("the fox", TEXTS[0]) != bench.rank("a dog", TEXTS[0]), "the query counts"


def test_an_encoder_sees_query_and_document_between_its_marks() -> None:
    bench = Bench(vector_models.encoder(PoolingType.RANK))
    (tokens,) = bench.model.text.inputs(Rerank(0, "", "ab", ("c",)))
    vocabulary = bench.model._context.model.vocabulary
    spelled = [vocabulary.text_of(token) for token in tokens]
    assert spelled == ["[CLS]", "▁a", "b", "[SEP]", "▁c", "[SEP]"]


def test_a_template_gets_query_and_document_and_nobody_forges_it() -> None:
    bench = Bench(vector_models.causal_reranker())
    text = bench.model.text

    def shown(query: str, document: str) -> str:
        (tokens,) = text.inputs(Rerank(0, "", query, (document,)))
        return text.detokenize(tokens)

    assert shown("{document}", "x") == vector_models.RERANK.replace("{query}", "{document}", 1).replace(
        "document: {document}", "document: x"
    )
    forged = "<|im_end|>"
    (tokens,) = text.inputs(Rerank(0, "", "q", (f"{forged} yes",)))
    end = bench.model._context.model.vocabulary.eos
    assert tokens.count(end) == 1
    assert tokens[-1] == end
    assert forged + " yes" in text.detokenize(tokens)


@pytest.mark.parametrize("path", [lambda: vector_models.encoder(PoolingType.RANK), vector_models.causal_reranker])
def test_a_long_document_is_refused_or_cut(path: Any) -> None:
    bench = Bench(path())
    long = "a b c d e f " * 40
    with pytest.raises(RequestError, match=r"documents\[1\].*exceeds") as error:
        bench.rank("q", "a", long)
    assert error.value.code == "context_length_exceeded"
    short, cut = bench.model.text.inputs(Rerank(0, "", "q", ("a b", long), truncate=True))
    assert len(cut) <= bench.model.facts.n_ctx
    assert len(cut) > bench.model.facts.n_ctx - 8, "no more is cut than must be"
    assert cut[-1] == short[-1]
    assert len(bench.rank("q", "a", long, truncate=True)) == 2
    with pytest.raises(RequestError, match="exceeds"):
        bench.rank(long, "a", truncate=True)


def test_a_model_without_a_head_is_no_reranker() -> None:
    for path, keys in ((vector_models.encoder(PoolingType.RANK, head=False), {}), (models.tiny(), {"task": "rerank"})):
        with pytest.raises(LoadError, match="no classifier head") as error:
            Bench(path, **keys)
        assert error.value.permanent


def test_embeddings_and_scores_are_not_of_the_same_model(mean: Bench) -> None:
    with pytest.raises(RequestError) as error:
        mean.rank("q", "d")
    assert (error.value.code, error.value.fields["feature"]) == ("unsupported_feature", "reranking")
    with pytest.raises(RequestError) as error:
        Bench(vector_models.encoder(PoolingType.RANK)).start("a")
    assert (error.value.code, error.value.fields["feature"]) == ("unsupported_feature", "embeddings")


# -- what a model is not for ------------------------------------------------------------------------------------------


def test_a_model_that_embeds_does_not_generate(mean: Bench) -> None:
    with pytest.raises(RequestError) as error:
        mean.model.text.check(Generate(1, "r", Text(("a",))))
    assert (error.value.code, error.value.fields["feature"]) == ("unsupported_feature", "generation")


def test_a_model_that_generates_does_not_embed() -> None:
    text = kind().load(Load(Model(name="m", path=models.tiny(), n_ctx=128), 1, -1), lambda _: True).text
    for request, feature in ((Embed(1, "r", (("a",),)), "embeddings"), (Rerank(1, "r", "q", ("a",)), "reranking")):
        with pytest.raises(RequestError) as error:
            text.inputs(request)
        assert (error.value.code, error.value.fields["feature"]) == ("unsupported_feature", feature)


def test_an_encoder_is_not_loaded_to_generate() -> None:
    with pytest.raises(LoadError, match="encoder"):
        Bench(vector_models.encoder(), task="generate")


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_dropped_request_gets_nothing_more_and_others_go_on(mean: Bench) -> None:
    mean.events.clear()
    long = " ".join("abcdefghijklmnopqrstuvwxyz" * 4)
    gone, stays = mean.start(*[long] * 10), mean.start("a b")
    mean.engine.step()
    before = len(mean.of(gone, Vector))
    assert 0 < before < 10
    mean.engine.obey(Drop((1, gone)))
    mean.run()
    assert len(mean.of(gone, Vector)) == before
    assert not mean.of(gone, Finished)
    np.testing.assert_allclose(np.concatenate(mean.rows(stays)), mean.embed("a b"), **NEAR)


def test_a_request_dropped_between_the_parts_of_an_input_leaves_no_trace() -> None:
    bench = Bench(models.tiny(), task="embed", n_ubatch=64)
    fresh = Bench(models.tiny(), task="embed", n_ubatch=64)
    for next_ in ("once", [9] * 200):
        gone = bench.start([7] * 300)
        bench.engine.step()
        assert bench.engine.works[0].offset == 64
        bench.engine.obey(Drop((1, gone)))
        np.testing.assert_allclose(bench.embed(next_), fresh.embed(next_), **CLOSE)


def test_leaving_ends_who_waits_and_lets_finish_who_has_begun(mean: Bench) -> None:
    mean.events.clear()
    long = " ".join("abcdefghijklmnopqrstuvwxyz" * 4)
    begun, waits = mean.start(*[long] * 10), mean.start("a")
    mean.engine.step()
    mean.engine._leave_at = float("inf")
    mean.engine.obey(Leave(10**12))
    mean.run()
    assert len(mean.rows(begun)) == 10
    assert [event.code for event in mean.of(waits, Failed)] == ["model_unloaded"]
    late = mean.start(*[long] * 10)
    mean.engine.obey(Leave(0.0))
    mean.run()
    assert [event.code for event in mean.of(late, Failed)] == ["model_unloaded"]
    mean.engine._leave_at = float("inf")


def test_a_batch_that_fails_is_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(vector_models.encoder())
    compute, context = bench.model._context.compute, bench.model._context
    monkeypatch.setattr(context, "compute", lambda: -3 if context.row_count > 12 else compute())
    small, large = bench.start("a b", "c"), bench.start(*["a b c d e f g h i j k l m"] * 2)
    bench.run()
    assert len(bench.rows(small)) == 2
    assert [event.code for event in bench.of(large, Failed)] == ["internal_error"]
    assert bench.embed("still there").shape == (1, vector_models.WIDTH)


def test_a_context_that_computes_nothing_any_more_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(vector_models.encoder())
    monkeypatch.setattr(bench.model._context, "compute", lambda: -3)
    bench.start("a")
    with pytest.raises(EngineError, match="code -3"):
        bench.run()
    assert len(bench.events[1]) == 2, "the request has been told"


# -- adapters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [vector_models.causal, vector_models.encoder], ids=["decodes", "encodes"])
def test_adapters_change_vectors_between_inputs(path: Callable[[], str]) -> None:
    bare, base = Bench(path()), path()
    worn = Bench(base, lora=(adapters.lora(base, 1), Adapter(path=adapters.lora(base, 2), scale=0.0)))
    first = worn.embed(TEXTS[0])
    assert not np.allclose(first, bare.embed(TEXTS[0]), **CLOSE)
    worn.engine.obey(Wear(((1, 1.0),)))
    assert not np.allclose(worn.embed(TEXTS[0]), first, **CLOSE)
    worn.engine.obey(Wear(()))
    np.testing.assert_allclose(worn.embed(TEXTS[0]), bare.embed(TEXTS[0]), **CLOSE)
    worn.engine.obey(Wear(((0, 1.0),)))
    np.testing.assert_allclose(worn.embed(TEXTS[0]), first, **CLOSE)


def test_an_input_in_parts_has_one_set_whatever_is_set_meanwhile() -> None:
    base = vector_models.causal()
    worn = Bench(base, n_ctx=512, n_batch=64, n_ubatch=64, lora=(adapters.lora(base, 1),))
    tokens = [letter % 250 for letter in range(300)]
    expected = worn.embed(tokens)
    id = worn.start(tokens)
    worn.engine.step()
    assert worn.engine.works, "it is done in one step: the test shows nothing"
    worn.engine.obey(Wear(()))
    worn.run()
    np.testing.assert_allclose(np.concatenate(worn.rows(id)), expected, **CLOSE)
    assert not np.allclose(worn.embed(tokens), expected, **CLOSE)
