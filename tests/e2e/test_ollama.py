"""The whole tree, as the `ollama` package sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ollama
import pytest

from tests.e2e.server import Server, until
from tests.worker.outputs import CASES, TOOLS, Case

QUESTION: Any = [{"role": "user", "content": "one two three"}]

pytestmark = pytest.mark.usefixtures("echoes")


@pytest.fixture(scope="module")
def client(echo_server: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=echo_server.url) as running:
        yield running


def test_chat_and_generate(client: ollama.Client) -> None:
    whole = client.chat("a", QUESTION, options={"num_predict": 4})
    assert whole.message.content == "one two three one"
    assert (whole.done_reason, whole.eval_count, whole.model) == ("length", 4, "a:latest")
    parts = list(client.chat("a:latest", QUESTION, stream=True, options={"num_predict": 4}))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert client.generate("a", "one two", options={"num_predict": 2}).response == "one two"


def test_every_line_end_of_unicode_arrives(client: ollama.Client) -> None:
    """The package reads lines by Python's idea of them, which is wider than that of JSON lines."""
    text = "a\x85b\u2028c\u2029d\x0be\x1ef"
    messages: Any = [{"role": "user", "content": json.dumps({"echo": {"raw": CASES["plain"].template}}) + text}]
    assert "".join(part.message.content or "" for part in client.chat("a", messages, stream=True)) == text


@pytest.mark.parametrize("name", ["hermes", "coder in thought", "mistral new", "plain", "think"])
def test_a_stream_is_the_answer(client: ollama.Client, name: str) -> None:
    case: Case = CASES[name]
    content = json.dumps({"echo": {"raw": case.template}}) + case.output
    messages: Any = [{"role": "user", "content": content}]
    whole = client.chat("a", messages, tools=TOOLS)
    calls = [(call.function.name, dict(call.function.arguments)) for call in whole.message.tool_calls or ()]
    assert (whole.message.content, whole.message.thinking or "") == (case.content, case.reasoning)
    assert calls == list(case.calls)
    content, thinking, streamed = "", "", list[Any]()
    for part in client.chat("a", messages, tools=TOOLS, stream=True):
        content += part.message.content or ""
        thinking += part.message.thinking or ""
        streamed += [(call.function.name, dict(call.function.arguments)) for call in part.message.tool_calls or ()]
    assert (content, thinking, streamed) == (case.content, case.reasoning, calls)


def test_models_are_listed_loaded_and_unloaded(client: ollama.Client, echoes: Server) -> None:
    assert [model.model for model in client.list().models] == ["a:latest", "b:latest"]
    assert client.show("a").modelinfo["general.architecture"] == "echo"  # type: ignore[index]
    assert client.generate("b", keep_alive="5m").done_reason == "load"
    assert echoes.state("b") == "ready"
    now = datetime.now(UTC)
    until(lambda: any(model.expires_at < now + timedelta(hours=1) for model in client.ps().models), what="b's end")
    stays, goes = client.ps().models
    assert (stays.model, goes.model) == ("a:latest", "b:latest")
    assert stays.expires_at > goes.expires_at  # type: ignore[operator]
    assert client.generate("b", keep_alive=0).done_reason == "unload"
    until(lambda: echoes.state("b") == "unloaded")


def test_a_request_without_time_to_live_has_its_model_unloaded(client: ollama.Client, echoes: Server) -> None:
    assert client.chat("b", QUESTION, keep_alive=0).message.content == "one two three"
    until(lambda: echoes.state("b") == "unloaded")
    assert echoes.status("b")["stop_reason"] == "idle"


def test_embeddings(client: ollama.Client) -> None:
    found = client.embed("b", ["one", "two"])
    assert len(found.embeddings) == 2
    assert list(client.embed("b", "one").embeddings[0]) == list(found.embeddings[0])
    assert len(client.embeddings("b", "one").embedding) == len(found.embeddings[0])


def test_errors(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat("none", QUESTION)
    assert (missing.value.status_code, missing.value.error) == (404, "model 'none' not found")
    fault: Any = [{"role": "user", "content": json.dumps({"echo": {"fault": "exit:1", "at": 1}}) + "one two"}]
    with pytest.raises(ollama.ResponseError, match="the worker of b ended"):
        list(client.chat("b", fault, stream=True))
