"""A stream put together is the unstreamed answer, for replies cut anywhere.

Chat, completions, native, Ollama's generate. Anthropic, Responses and Ollama's chat have theirs in their own files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import native_completion, openai_chat, openai_completions
from proxy.dialects.answer import Answer
from proxy.dialects.fields import Fields
from proxy.dialects.ollama_reply import GenerateShape, OllamaReply
from proxy.dialects.reply import encode
from supervisor.config import LLAMA_DEFAULTS
from tests.proxy.synthetic import TEXT, TIMINGS, Row, collected, events, rows, streamed
from worker.protocol import Accepted, Delta, Details, Event, Finished, Started

DONE = "data: [DONE]"
REASONS = st.sampled_from(("eos", "word", "limit", "context"))
SIZES = st.lists(st.integers(0, 5))
Parse = Callable[[dict[str, Any], str], Any]


def reply(parse: Parse, stream: bool, **body: Any) -> Answer:
    answer: Answer = parse(body | {"stream": stream}, "r").reply("m")
    return answer


def data_of(body: str, *, ends: bool = True) -> list[dict[str, Any]]:
    """The objects of a stream without names."""
    records = body.removesuffix("\n\n").split("\n\n")
    if ends:
        assert records.pop() == DONE
    assert all(record.startswith("data: ") and "\n" not in record for record in records)
    return [json.loads(record.removeprefix("data: ")) for record in records]


def chat_message(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """As OpenAI's package does it: what is an index leads to a place, what is text is appended."""
    *parts, last = chunks
    assert last["choices"] == []
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    calls: list[dict[str, Any]] = []
    reason = None
    for (choice,) in (part["choices"] for part in parts):
        delta, reason = choice["delta"], reason or choice["finish_reason"]
        message["content"] += delta.get("content") or ""
        if "reasoning_content" in delta:
            message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(calls):
                calls.append({key: value for key, value in call.items() if key != "index"})
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    heads = [{key: part[key] for key in ("id", "created", "model", "system_fingerprint")} for part in chunks]
    assert heads == [heads[0]] * len(heads)
    told = {"message": message, "finish_reason": reason, "index": 0}
    return {"choices": [told], "usage": last["usage"], "timings": last["timings"]}


@given(st.data(), rows(), REASONS, SIZES)
def test_a_chat(data: st.DataObject, row: Row, reason: str, sizes: list[int]) -> None:
    asked = {"messages": [{"role": "user", "content": "x"}], "stream_options": {"include_usage": True}}
    one = reply(openai_chat.parse, True, **asked)
    other = reply(openai_chat.parse, False, **asked)
    put = chat_message(data_of(streamed(one, data.draw(events(row, reason)), sizes)))
    whole = collected(other, data.draw(events(row, reason, whole=True)))
    for name in ("id", "created", "model", "system_fingerprint", "object"):
        assert whole.pop(name)
    assert put == whole


@st.composite
def several(draw: st.DrawFn, texts: list[str], reason: str) -> list[tuple[int, Event]]:
    """The events of one choice for each text, cut anywhere and mixed."""
    queues: list[list[Event]] = [[Accepted(n, 7), Started(n, 3)] for n in range(len(texts))]
    for number, text in enumerate(texts):
        places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        queues[number] += [Delta(number, piece) for piece in pieces]
        queues[number].append(Finished(number, reason, "", TIMINGS, Details(LLAMA_DEFAULTS, 9, "\n" in text)))
    found: list[tuple[int, Event]] = []
    while any(queues):
        number = draw(st.sampled_from([n for n, queue in enumerate(queues) if queue]))
        found.append((number, queues[number].pop(0)))
    return found


def in_batches(answer: Answer, found: list[tuple[int, Event]], sizes: list[int]) -> str:
    data, at = b"", 0
    for size in [*sizes, len(found)]:
        data += answer.records(found[at : at + size])
        at += size
    assert answer.done
    return data.decode()


TEXTS = st.lists(TEXT | st.just(""), min_size=1, max_size=3)


@given(st.data(), TEXTS, REASONS, SIZES, st.booleans())
def test_completions_of_several_prompts(
    data: st.DataObject, texts: list[str], reason: str, sizes: list[int], echo: bool
) -> None:
    asked = {"prompt": [f"p{n}" for n in range(len(texts))], "echo": echo}
    one = reply(openai_completions.parse, True, **asked)
    chunks = data_of(in_batches(one, data.draw(several(texts, reason)), sizes))
    put = [{"text": "", "index": n, "logprobs": None, "finish_reason": None} for n in range(len(texts))]
    for (choice,) in (chunk["choices"] for chunk in chunks):
        place = put[choice["index"]]
        assert place["finish_reason"] is None, "after its end"
        place |= {"text": place["text"] + choice["text"], "finish_reason": choice["finish_reason"]}
    other = reply(openai_completions.parse, False, **asked)
    other.collect(data.draw(several(texts, reason)))
    whole = other.object()
    assert put == whole["choices"]
    assert {name: chunks[-1][name] for name in ("usage", "timings")} == {n: whole[n] for n in ("usage", "timings")}


@given(st.data(), TEXTS, REASONS, SIZES)
def test_native_completions(data: st.DataObject, texts: list[str], reason: str, sizes: list[int]) -> None:
    asked = {"prompt": [f"p{n}" for n in range(len(texts))]}
    one = reply(native_completion.parse, True, **asked)
    objects = data_of(in_batches(one, data.draw(several(texts, reason)), sizes), ends=False)
    contents, last = [""] * len(texts), dict[int, dict[str, Any]]()
    for found in objects:
        assert found["index"] not in last, "after its end"
        contents[found["index"]] += found["content"]
        if found["stop"]:
            last[found["index"]] = found
    other = reply(native_completion.parse, False, **asked)
    other.collect(data.draw(several(texts, reason)))
    whole = json.loads(encode(other.object() if len(texts) > 1 else [other.object()]))
    put = [last[n] | {"content": contents[n]} for n in range(len(texts))]
    for streams, objects in ((True, put), (False, whole)):
        assert [found["generation_settings"].pop("stream") for found in objects] == [streams] * len(texts)
    assert put == whole


@given(st.data(), rows(), st.sampled_from(("eos", "word", "limit")), SIZES)
def test_ollamas_generate(data: st.DataObject, row: Row, reason: str, sizes: list[int]) -> None:
    row = [part for part in row if part[0] != "call"]
    one, other = (OllamaReply(GenerateShape(), "m", Fields()) for _ in range(2))
    lines = [json.loads(line) for line in streamed(one, data.draw(events(row, reason)), sizes).splitlines()]
    put = lines[-1] | {"response": "".join(line["response"] for line in lines)}
    if thoughts := "".join(line.get("thinking", "") for line in lines):
        put["thinking"] = thoughts
    whole = collected(other, data.draw(events(row, reason, whole=True)))
    for found in (put, whole):
        assert found.pop("created_at")
        assert found.pop("total_duration") > 0
    assert put == whole
