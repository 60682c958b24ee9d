"""Models that give vectors, through the real tree, spoken to by the `openai` package and by hand."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest
from gguf import PoolingType

from tests import models, vector_models
from tests.e2e.server import Server, until
from tests.echo_worker import vector

NEAR = {"rtol": 0, "atol": 2e-3}
TEXTS = ["the quick brown fox", "jumps", "over a lazy dog"]
TOML = f"""
[placement]
max_models = 8
[defaults]
flash_attention = "off"
[models.embed]
path = "{vector_models.encoder()}"
dimensions = [16, 32]
[models.tokens]
path = "{vector_models.encoder(PoolingType.NONE)}"
[models.rank]
path = "{vector_models.causal_reranker()}"
[models.chat]
path = "{vector_models.fim()}"
n_ctx = 256
[models.echo]
worker = "tests.echo_worker:main"
[models.wrong]
path = "{models.tiny()}"
task = "rerank"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("vectors"), TOML) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as running:
        yield running


def post(server: Server, path: str, **body: Any) -> Any:
    response = server.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_openai_package_gets_embeddings(server: Server, client: openai.OpenAI) -> None:
    """It asks for base64 unless told otherwise."""
    found = client.embeddings.create(model="embed", input=TEXTS)
    plain = client.embeddings.create(model="embed", input=TEXTS, encoding_format="float")
    assert [entry.index for entry in found.data] == [0, 1, 2]
    assert found.usage.prompt_tokens == found.usage.total_tokens > 20
    for one, other in zip(found.data, plain.data, strict=True):
        assert np.array_equal(np.array(one.embedding, np.float32), np.array(other.embedding, np.float32))
        np.testing.assert_allclose(np.linalg.norm(one.embedding), 1.0, rtol=1e-5)
    small = client.embeddings.create(model="embed", input=TEXTS[0], dimensions=16)
    assert len(small.data[0].embedding) == 16


def test_token_ids_mean_what_tokenize_says(server: Server, client: openai.OpenAI) -> None:
    tokens = post(server, "/tokenize", model="embed", content=TEXTS[0], add_special=True)["tokens"]
    by_tokens = client.embeddings.create(model="embed", input=[tokens]).data[0].embedding
    by_text = client.embeddings.create(model="embed", input=TEXTS[0]).data[0].embedding
    np.testing.assert_allclose(by_tokens, by_text, **NEAR)


def test_many_clients_at_once_get_what_is_theirs(server: Server) -> None:
    alone = [post(server, "/embedding", model="embed", content=text)[0]["embedding"][0] for text in TEXTS]
    with ThreadPoolExecutor(12) as pool:
        asks = [pool.submit(post, server, "/embedding", model="embed", content=text) for text in TEXTS * 8]
        found = [ask.result()[0]["embedding"][0] for ask in asks]
    np.testing.assert_allclose(found, alone * 8, **NEAR)


def test_a_model_without_pooling_gives_a_row_for_each_token(server: Server) -> None:
    n = len(post(server, "/tokenize", model="tokens", content=TEXTS[0], add_special=True)["tokens"])
    for path in ("/embedding", "/embeddings"):
        (entry,) = post(server, path, model="tokens", content=TEXTS[0])
        assert (len(entry["embedding"]), len(entry["embedding"][0])) == (n, vector_models.WIDTH)
    refused = server.http.post("/v1/embeddings", json={"model": "tokens", "input": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")


def test_documents_are_ranked(server: Server) -> None:
    scores = {}
    for text in TEXTS:
        (alone,) = post(server, "/rerank", model="rank", query="fox", documents=[text])["results"]
        scores[text] = alone["relevance_score"]
    found = post(server, "/v1/rerank", model="rank", query="fox", documents=TEXTS, return_documents=True)
    assert [each["document"]["text"] for each in found["results"]] == sorted(TEXTS, key=lambda text: -scores[text])
    for each in found["results"]:
        assert each["relevance_score"] == pytest.approx(scores[each["document"]["text"]], abs=2e-3)


def test_the_echo_worker_gives_what_its_oracle_says(server: Server) -> None:
    found = post(server, "/embedding", model="echo", content=["abc", "d"])
    assert [entry["embedding"] for entry in found] == [[vector(b"abc")], [vector(b"d")]]
    ranks = post(server, "/rerank", model="echo", query="a b", texts=["c", "b a", "a"])
    assert [(rank["index"], rank["score"]) for rank in ranks] == [(1, 1.0), (2, 0.5), (0, 0.0)]
    lost = server.http.post("/rerank", json={"model": "echo", "query": '{"echo": {"fault": "exit:3"}}', "texts": ["a"]})
    assert (lost.status_code, lost.json()["error"]["code"]) == (500, "worker_died")


def test_a_hole_is_filled(server: Server, client: openai.OpenAI) -> None:
    hole = {"input_prefix": "def f(", "input_suffix": "):\n    pass", "temperature": 0, "n_predict": 8}
    found = post(server, "/infill", model="chat", **hole)
    assert found["tokens_predicted"] <= 8
    assert found["prompt"].endswith("<|fim_prefix|>def f(<|fim_suffix|>):\n    pass<|fim_middle|>")
    same = client.completions.create(model="chat", prompt="def f(", suffix="):\n    pass", temperature=0, max_tokens=8)
    assert same.choices[0].text == found["content"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("/v1/embeddings", {"model": "embed", "input": ["a", ""]}, 400, "invalid_value", "input[1]"),
        ("/v1/embeddings", {"model": "embed", "input": "a " * 200}, 400, "context_length_exceeded", "input"),
        ("/embedding", {"model": "embed", "content": ["a", "a " * 200]}, 400, "context_length_exceeded", "content[1]"),
        ("/v1/embeddings", {"model": "embed", "input": "a", "dimensions": 17}, 400, "invalid_value", "dimensions"),
        ("/v1/embeddings", {"model": "chat", "input": "a"}, 501, "unsupported_feature", None),
        ("/v1/embeddings", {"model": "rank", "input": "a"}, 501, "unsupported_feature", None),
        ("/rerank", {"model": "embed", "query": "a", "documents": ["b"]}, 501, "unsupported_feature", None),
        ("/rerank", {"model": "rank", "query": "a", "texts": ["b " * 200]}, 400, "context_length_exceeded", "texts[0]"),
        ("/v1/completions", {"model": "embed", "prompt": "a"}, 501, "unsupported_feature", None),
        ("/infill", {"model": "embed", "input_prefix": "", "input_suffix": ""}, 501, "unsupported_feature", None),
        ("/v1/embeddings", {"model": "wrong", "input": "a"}, 503, "model_failed", None),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(
    server: Server, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    response = server.http.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error
    if code == "context_length_exceeded":
        assert error["n_prompt_tokens"] > error["n_ctx"] == vector_models.CONTEXT
        assert "exceeds the available context size" in error["message"]


def test_a_model_says_what_it_is_for(server: Server) -> None:
    for name in ("embed", "rank", "chat"):
        post(server, "/models/load", model=name, wait=True)
    listed = {entry["id"]: entry for entry in server.http.get("/v1/models").json()["data"]}
    kinds = ("embedding", "reranker", "infill")
    able = {name: [kind for kind in kinds if entry["capabilities"][kind]] for name, entry in listed.items()}
    assert (able["embed"], able["rank"], able["chat"]) == (["embedding"], ["reranker"], ["infill"])
    assert listed["embed"]["meta"]["n_ctx"] == vector_models.CONTEXT
    assert server.http.get("/props?model=embed").json()["ui"] is False


def test_a_worker_that_dies_takes_only_its_own_requests(server: Server) -> None:
    before = server.pid("w:rank")
    post(server, "/embedding", model="embed", content="a")
    server.kill("w:embed")
    until(lambda: server.state("embed") == "ready")
    assert base64.b64decode(
        post(server, "/v1/embeddings", model="embed", input="a", encoding_format="base64")["data"][0]["embedding"]
    )
    assert server.pid("w:rank") == before
