"""The real model through the real tree, spoken to by the `openai` package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import model_classes, models
from tests.e2e.server import SMOLLM2, Server, until

QUESTION = [{"role": "user", "content": "Count from one to ten in words."}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("smollm2")
    broken = "".join(f'[models.{kind}]\npath = "{path}"\n' for kind, path in models.broken().items())
    two = SMOLLM2.format(name="small") + 'aliases = ["default"]\npreload = true\n' + SMOLLM2.format(name="twin")
    # What this one says is the same wherever its cells lie: see tests/worker/test_oracles.py.
    exact = f'[models.exact]\npath = "{model_classes.path("gqa")}"\nn_ctx = 256\nflash_attention = "off"\n'
    with Server(folder, "[admission]\ndefault_model = 'small'\n" + two + exact + broken) as running:
        until(lambda: running.state("small") == "ready")
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as running:
        yield running


def greedy(client: openai.OpenAI, model: str, text: str, tokens: int = 24, **more: Any) -> str:
    messages = [{"role": "user", "content": text}]
    reply = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=tokens, extra_body=more
    )  # type: ignore[call-overload]
    assert reply.model == model
    return reply.choices[0].message.content or ""


def test_a_chat_streams_and_counts(client: openai.OpenAI) -> None:
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="small", messages=QUESTION, temperature=0, max_tokens=24, stream=True, stream_options=options
        )  # type: ignore[call-overload]
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = client.chat.completions.create(model="default", messages=QUESTION, temperature=0, max_tokens=24)  # type: ignore[arg-type]
    assert text == whole.choices[0].message.content
    assert len(text) > 20
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 24  # type: ignore[union-attr]
    assert whole.choices[0].finish_reason == "length"
    assert whole.model == "small"


def test_a_conversation_goes_on_from_what_the_slot_holds(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Tell me about the sea. " * 20}]
    first = client.chat.completions.create(model="small", messages=messages, temperature=0, max_tokens=8)  # type: ignore[arg-type]
    messages += [{"role": "assistant", "content": first.choices[0].message.content or ""}]
    messages += [{"role": "user", "content": "And the sky?"}]
    second = client.chat.completions.create(model="small", messages=messages, temperature=0, max_tokens=8)  # type: ignore[arg-type]
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert first.usage is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens


def test_more_requests_than_sequences_are_answered_each_with_its_own_text(client: openai.OpenAI) -> None:
    """Equality with the same request alone is a test of the engine: here, cells have holes, which moves logits."""

    def ask(number: int) -> str:
        text, grammar = f"Write one sentence about the number {number}.", f'root ::= "{number}" [^0-9]*'
        return greedy(client, "small", text, grammar=grammar, ignore_eos=True)

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(ask, range(6)))
    assert [re.findall("[0-9]", reply) for reply in replies] == [[str(number)] for number in range(6)]
    assert all(len(reply) > 20 for reply in replies)


def test_two_models_answer_at_once(client: openai.OpenAI) -> None:
    def ask(model: str) -> str:
        return greedy(client, model, "Name three colours.", grammar=f'root ::= "{model}: " [^:]*', ignore_eos=True)

    with ThreadPoolExecutor(2) as pool:
        for model, reply in zip(("small", "twin"), pool.map(ask, ("small", "twin")), strict=True):
            assert reply.startswith(f"{model}: ")
            assert len(reply) > 20


def test_completions_and_stop_strings(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="small", prompt="1, 2, 3, 4,", max_tokens=20, temperature=0, stop=["7"])
    assert reply.choices[0].text.startswith(" 5, 6")
    assert "7" not in reply.choices[0].text
    assert reply.choices[0].finish_reason == "stop"


def test_a_seed_repeats_and_another_differs(client: openai.OpenAI) -> None:
    def sampled(seed: int) -> str:
        reply = client.completions.create(model="exact", prompt="Once", max_tokens=16, temperature=2.0, seed=seed)
        return str(reply.choices[0].text)

    assert sampled(7) == sampled(7) != sampled(8)


def test_json_by_a_schema_streams_and_fits(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"enum": ["small", "large"]}},
        "required": ["city", "size"],
    }
    messages = [{"role": "user", "content": "Name a city and say how large it is."}]
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    chunks = client.chat.completions.create(
        model="small", messages=messages, response_format=form, stream=True, seed=1, max_tokens=1000
    )  # type: ignore[call-overload]
    found = json.loads("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    assert list(found) == ["city", "size"]
    assert found["size"] in ("small", "large")
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "no"}}}}}
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="small", messages=messages, response_format=form)  # type: ignore[call-overload]
    assert wrong.value.code == "invalid_grammar"
    assert "#/properties/a" in str(wrong.value)


def test_choices_with_logprobs(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="small",
        messages=QUESTION,
        n=3,
        seed=4,
        max_tokens=6,
        logprobs=True,
        top_logprobs=2,
        extra_body={"ignore_eos": True},
    )  # type: ignore[call-overload]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage.completion_tokens == 18
    for choice in reply.choices:
        said = b"".join(bytes(entry.bytes) for entry in choice.logprobs.content)
        assert said.decode("utf-8", "replace") == choice.message.content
        assert all(len(entry.top_logprobs) == 2 for entry in choice.logprobs.content)


def test_tokens_round_trip(server: Server) -> None:
    tokens = server.http.post("/tokenize", json={"content": "Hello wörld, 你好"}).json()["tokens"]
    assert server.http.post("/detokenize", json={"tokens": tokens}).json() == {"content": "Hello wörld, 你好"}
    prompt = server.http.post("/apply-template", json={"messages": QUESTION}).json()["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n")


def test_errors_are_the_clients_own_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        greedy(client, "gpt-3.5-turbo", "x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        greedy(client, "small", "word " * 5000)
    assert long.value.code == "context_length_exceeded"


@pytest.mark.parametrize("kind", ["empty", "cut", "random"])
def test_a_broken_file_fails_alone_with_its_reason(server: Server, client: openai.OpenAI, kind: str) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        greedy(client, kind, "x")
    assert failed.value.status_code == 503
    status = server.status(kind)
    assert (status["state"], status["value"], status["failed"]) == ("failed", "unloaded", True)
    assert status["cause"] == "file_corrupt"
    assert status["message"]
    assert greedy(client, "small", "still here?")


def test_root_and_proxy_map_neither_the_library_nor_a_model(server: Server) -> None:
    for role in ("root", "proxy-0"):
        maps = Path(f"/proc/{server.pid(role)}/maps").read_text()
        assert "llama" not in maps
        assert ".gguf" not in maps
