"""Embeddings and reranking: what goes to the worker, and the shapes in which its vectors come back."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from typing import Any

import pytest

from proxy.dialects import embeddings, rerank
from proxy.dialects.vectors import Found, VectorPlan
from proxy.errors import ApiError
from tests.proxy.harness import WITHIN, FakeWorker, Harness, until
from worker.protocol import Accepted, Embed, Failed, Finished, Rerank, Started, Timings, Vector, encode

VECTORS = ((0.5, -0.25, 3.0), (0.1, 1e-30, -7.5))


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def reply(worker: FakeWorker, id: int, *rows: tuple[float, ...], tokens: int = 9) -> None:
    vectors = [Vector(id, at, len(row), packed(*row)) for at, row in enumerate(rows)]
    worker.send(Accepted(id, tokens), Started(id, 0), *vectors, Finished(id, "done", "", Timings()))


def answered(plan: VectorPlan, *rows: tuple[float, ...]) -> Any:
    """The answer to a plan, without a worker."""
    found = plan.found()
    found.take([Accepted(1, 9), *(Vector(1, at, len(row), packed(*row)) for at, row in enumerate(rows))])
    return json.loads(plan.body("m", found))


# -- embeddings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("a", (("a",),)),
        (["a", "b"], (("a",), ("b",))),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (["a", [1, 2]], (("a",), (1, 2))),
        ([1, "a"], ((1, "a"),)),
    ],
)
def test_each_form_of_input(value: Any, inputs: Any) -> None:
    assert embeddings.parse({"input": value}, "r").ask == Embed(0, "r", inputs)
    for field in ("input", "content"):
        assert embeddings.parse_native({field: value}, "r").ask == Embed(0, "r", inputs, per_token=True, field=field)


def test_fields_reach_the_worker() -> None:
    body = {"input": "a", "dimensions": 64, "embd_normalize": 0, "truncate": True, "user": "u", "model": "m"}
    assert embeddings.parse(body, "r").ask == Embed(0, "r", (("a",),), 0, 64, True)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_field", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": 5}, "invalid_value", "input"),
        ({"input": ["a", None]}, "invalid_value", "input[1]"),
        ({"input": [[1, -1]]}, "invalid_value", "input[0][1]"),
        ({"input": ["a"] * 2049}, "invalid_value", "input"),
        ({"input": {"content": []}}, "unsupported_feature", "input"),
        ({"input": "a", "encoding_format": "hex"}, "invalid_value", "encoding_format"),
        ({"input": "a", "dimensions": 0}, "invalid_value", "dimensions"),
        ({"input": "a", "embd_normalize": -2}, "invalid_value", "embd_normalize"),
    ],
)
def test_bad_embedding_requests_name_the_field(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as error:
        embeddings.parse(body, "r")
    assert (error.value.code, error.value.object["error"]["param"]) == (code, param)


async def test_embeddings_have_exactly_openais_fields() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/embeddings", model="m-alias", input=["a", "b"])
        ask = await worker.next()
        assert isinstance(ask, Embed)
        reply(worker, ask.id, *VECTORS)
        response = await task
        assert response.json() == {
            "object": "list",
            "model": "m",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 3.0]},
                {"object": "embedding", "index": 1, "embedding": list(struct.unpack("<3f", packed(*VECTORS[1])))},
            ],
            "usage": {"prompt_tokens": 9, "total_tokens": 9},
        }
        assert response.headers["content-type"] == "application/json"
        assert float(response.headers["x-queue-ms"]) >= 0


def test_base64_is_the_same_numbers() -> None:
    plain = answered(embeddings.parse({"input": ["a", "b"]}, "r"), *VECTORS)
    coded = answered(embeddings.parse({"input": ["a", "b"], "encoding_format": "base64"}, "r"), *VECTORS)
    for one, other in zip(plain["data"], coded["data"], strict=True):
        assert struct.pack("<3f", *one["embedding"]) == base64.b64decode(other["embedding"])


def test_the_native_shape_has_a_row_for_each_vector() -> None:
    plan = embeddings.parse_native({"content": ["a", "b"]}, "r")
    assert answered(plan, *VECTORS)[0] == {"index": 0, "embedding": [[0.5, -0.25, 3.0]]}
    found = plan.found()
    parts = [Vector(1, 0, 2, packed(1, 2)), Vector(1, 0, 2, packed(3, 4, 5, 6)), Vector(1, 1, 2, packed(7, 8))]
    found.take([Accepted(1, 4), *parts])
    assert json.loads(plan.body("m", found)) == [
        {"index": 0, "embedding": [[1, 2], [3, 4], [5, 6]]},
        {"index": 1, "embedding": [[7, 8]]},
    ]


def test_a_repeated_call_begins_anew() -> None:
    found = Found(1)
    found.take([Accepted(1, 4), Vector(1, 0, 1, packed(1)), Accepted(1, 4), Vector(1, 0, 1, packed(2))])
    assert found.rows(0) == [(2.0,)]
    assert found.size == 4


async def test_a_large_answer_is_whole() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/embedding", content=["a"] * 100)
        ask = await worker.next()
        rows = [[float(n + at) for n in range(1024)] for at in range(100)]
        vectors = [Vector(ask.id, at, len(row), packed(*row)) for at, row in enumerate(rows)]
        events = [Accepted(ask.id, 9), *vectors, Finished(ask.id, "done", "", Timings())]
        await asyncio.get_running_loop().sock_sendall(worker.far, encode(events))
        found = (await task).json()
        assert [entry["embedding"][0][:2] for entry in found] == [[at, at + 1] for at in range(100)]


async def test_what_the_worker_refuses_is_told() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/embeddings", input="a")
        ask = await worker.next()
        worker.send(Failed(ask.id, "unsupported_feature", "this model generates", {"feature": "embeddings"}))
        response = await task
        assert response.status_code == 501
        assert response.json()["error"]["feature"] == "embeddings"
        assert response.headers["x-should-retry"] == "false"


async def test_a_client_that_leaves_cancels_its_request() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/embeddings", input=["a"] * 10)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 5), Started(ask.id, 0), Vector(ask.id, 0, 1, packed(1)))
        task.cancel()
        await until(lambda: worker.cancelled == [ask.id])


# -- reranking ----------------------------------------------------------------------------------------------------


SCORES = ((-2.0,), (3.0,), (0.5,))
DOCUMENTS = ["a", "b", "c"]


async def test_jinas_form() -> None:
    async with Harness() as server:
        worker = await server.attach()
        for number, path in enumerate(("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"), 1):
            task = server.post(path, query="q", documents=DOCUMENTS)
            ask = await worker.next(number)
            assert ask == Rerank(ask.id, ask.request_id, "q", ("a", "b", "c"))
            reply(worker, ask.id, *SCORES)
            assert (await task).json() == {
                "model": "m",
                "object": "list",
                "usage": {"prompt_tokens": 9, "total_tokens": 9},
                "results": [
                    {"index": 1, "relevance_score": 3.0},
                    {"index": 2, "relevance_score": 0.5},
                    {"index": 0, "relevance_score": -2.0},
                ],
            }


def ranked(**body: Any) -> Any:
    return answered(rerank.parse({"query": "q"} | body, "r"), *SCORES)


def test_teis_form() -> None:
    found = ranked(texts=DOCUMENTS)
    assert found == [{"index": 1, "score": 3.0}, {"index": 2, "score": 0.5}, {"index": 0, "score": -2.0}]
    assert ranked(texts=DOCUMENTS, return_text=True, top_n=1) == [{"index": 1, "score": 3.0, "text": "b"}]


def test_top_n_and_documents_on_request() -> None:
    found = ranked(documents=["a", {"text": "b"}, "c"], return_documents=True, top_n=2)["results"]
    assert found == [
        {"index": 1, "relevance_score": 3.0, "document": {"text": "b"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
    ]
    assert len(ranked(documents=DOCUMENTS, top_n=50)["results"]) == 3


def test_equal_scores_keep_their_order() -> None:
    plan = rerank.parse({"query": "q", "documents": DOCUMENTS}, "r")
    assert [each["index"] for each in answered(plan, (1.0,), (1.0,), (1.0,))["results"]] == [0, 1, 2]


@pytest.mark.parametrize("body", [{"normalize": True}, {"raw_scores": False}])
def test_scores_between_0_and_1_on_request(body: dict[str, Any]) -> None:
    found = {each["index"]: each["score"] for each in ranked(texts=DOCUMENTS, **body)}
    assert found == {at: pytest.approx(1 / (1 + math.exp(-raw))) for at, (raw,) in enumerate(SCORES)}
    plan = rerank.parse({"query": "q", "texts": ["a", "b"], **body}, "r")
    assert [each["score"] for each in answered(plan, (-2000.0,), (2000.0,))] == [1.0, 0.0]


def test_the_score_is_the_first_of_several_numbers() -> None:
    plan = rerank.parse({"query": "q", "documents": ["a", "b"]}, "r")
    assert answered(plan, (0.1, 0.9), (0.7, 0.3))["results"][0]["index"] == 1


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"documents": ["a"]}, "missing_field", "query"),
        ({"query": 5, "documents": ["a"]}, "invalid_value", "query"),
        ({"query": "q"}, "missing_field", "documents"),
        ({"query": "q", "documents": []}, "invalid_value", "documents"),
        ({"query": "q", "texts": []}, "invalid_value", "texts"),
        ({"query": "q", "documents": "a"}, "invalid_value", "documents"),
        ({"query": "q", "documents": ["a", 5]}, "invalid_value", "documents[1]"),
        ({"query": "q", "documents": [{"title": "a"}]}, "invalid_value", "documents[0].text"),
        ({"query": "q", "documents": ["a"], "texts": ["a"]}, "conflicting_fields", "texts"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "invalid_value", "top_n"),
        ({"query": "q", "texts": ["a"] * 2049}, "invalid_value", "texts"),
    ],
)
def test_bad_rerank_requests_name_the_field(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as error:
        rerank.parse(body, "r")
    assert (error.value.code, error.value.object["error"]["param"]) == (code, param)


async def test_a_worker_that_dies_before_it_begins_costs_nothing() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/rerank", query="q", documents=DOCUMENTS)
        await worker.next()
        worker.die()
        server.lose("signal")
        again = await asyncio.wait_for(server.attach(generation=2), WITHIN)
        ask = await again.next()
        reply(again, ask.id, *SCORES)
        assert len((await task).json()["results"]) == 3
