"""OpenAI Responses: what a body means, its typed events, and that they add up to the unstreamed answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import responses
from proxy.dialects.fields import Fields
from proxy.dialects.responses_reply import ResponseReply
from proxy.errors import ApiError
from tests.proxy.harness import CHAT, Harness
from tests.proxy.synthetic import Row, collected, events, named, rows, streamed
from worker.protocol import Accepted, Counted, Delta, Failed, Finished, Probability, Progress, Started, Timings

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True}
NESTED = {"type": "function", "function": {name: TOOL[name] for name in ("name", "parameters", "strict")}}


def ask(**body: Any) -> Any:
    return responses.parse({"input": "hi"} | body, "r").asks[0]


def messages(*items: Any, **body: Any) -> list[dict[str, Any]]:
    return list(ask(input=list(items), **body).prompt.messages)


def refusal(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        responses.parse({"input": "hi"} | body, "r")
    return caught.value


def reply() -> ResponseReply:
    return ResponseReply({}, "m", Fields())


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_text_with_instructions() -> None:
    assert ask(instructions="Be brief").prompt.messages == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "hi"},
    ]


def call(id: str) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": "f", "arguments": '{"a": 1}'}


def nested(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_items_of_one_turn_are_one_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sure"}]}
    result = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    other = {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "43"}]}
    summary = {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "So"}]}
    found = messages(
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        thought, said, call("c1"), call("c2"), result, other, summary, said, said,
        {"role": "user", "content": "bye"},
    )  # fmt: skip
    assert found == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": "Sure",
            "reasoning_content": "Hm",
            "tool_calls": [nested("c1"), nested("c2")],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "tool", "content": "43", "tool_call_id": "c2"},
        {"role": "assistant", "content": "Sure", "reasoning_content": "So"},
        {"role": "assistant", "content": "Sure"},
        {"role": "user", "content": "bye"},
    ]


def test_generation_fields() -> None:
    found = ask(max_output_tokens=9, temperature=0.5, top_k=3, stream=True, reasoning={"effort": "low"}, store=True)
    assert (found.sampling.max_tokens, found.sampling.temperature, found.sampling.top_k) == (9, 0.5, 3)
    assert found.stream
    assert found.prompt.template_kwargs == {"reasoning_effort": "low"}
    assert ask(include=["message.output_text.logprobs"], top_logprobs=3).n_probs == 3
    assert ask(include=["reasoning.encrypted_content"]).n_probs == -1


def test_tools_and_formats() -> None:
    found = ask(tools=[{"type": "web_search"}, TOOL], tool_choice="auto", parallel_tool_calls=False)
    assert found.prompt.tools == [NESTED]
    assert found.parallel_tool_calls is False
    assert refusal(tools=[TOOL], tool_choice={"type": "function", "name": "g"}).param == "tool_choice.function.name"
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    assert json.loads(ask(text={"format": form, "verbosity": "low"}).json_schema) == {"type": "object"}
    assert ask(text={"format": {"type": "json_object"}}).json_schema == "{}"


def user(part: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": None}, "missing_field", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": 5}, "invalid_value", "input"),
        ({"input": ["x"]}, "invalid_value", "input[0]"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"role": "user"}]}, "invalid_value", "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "unsupported_feature", "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "x"}]}, "invalid_value", "input[0].name"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "invalid_value", "input[0].summary"),
        (user({"type": "input_file", "file_id": "x"}), "unsupported_feature", "input[0].content[0].type"),
        (user({"type": "input_image", "image_url": "data:"}), "unsupported_feature", "input[0]"),
        (user({"type": {"type": "input_text"}, "text": "x"}), "invalid_value", "input[0].content[0].type"),
        (user({"type": "input_text"}), "invalid_value", "input[0].content[0].text"),
        ({"previous_response_id": "resp_1"}, "unsupported_feature", "previous_response_id"),
        ({"conversation": {"id": "x"}}, "unsupported_feature", "conversation"),
        ({"background": True}, "unsupported_feature", "background"),
        ({"tools": [{"type": "function"}]}, "invalid_value", "tools[0].name"),
        ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
        ({"max_output_tokens": "5"}, "invalid_value", "max_output_tokens"),
        ({"tool_choice": "some"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "unsupported_feature", "tool_choice"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: dict[str, Any], code: str, param: str) -> None:
    error = refusal(**body)
    assert (error.code, error.param) == (code, param)


# -- answers ----------------------------------------------------------------------------------------------------------

SAID: Row = [("reasoning", "Hm."), ("text", "Sure."), ("call", ("c1", "f", '{"a": 1}'))]


@given(events(SAID, whole=True))
def test_a_response_has_its_fields(found: Any) -> None:
    response = collected(reply(), found)
    assert response["id"].startswith("resp_")
    assert (response["object"], response["status"], response["model"]) == ("response", "completed", "m")
    thought, message, called = response["output"]
    assert [item.pop("id").partition("_")[0] for item in response["output"]] == ["rs", "msg", "fc"]
    assert thought == {
        "type": "reasoning", "status": "completed", "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }  # fmt: skip
    part = {"type": "output_text", "text": "Sure.", "annotations": [], "logprobs": []}
    assert message == {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
    assert called == {
        "type": "function_call", "status": "completed", "call_id": "c1", "name": "f", "arguments": '{"a": 1}',
    }  # fmt: skip
    assert response["usage"] == {
        "input_tokens": 7, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 9, "total_tokens": 16,
    }  # fmt: skip


@given(events(SAID, whole=True))
def test_events_come_in_the_documented_order(found: Any) -> None:
    data = named(streamed(reply(), found, []))
    assert all(name == body["type"] for name, body in data)
    assert [body["sequence_number"] for _, body in data] == list(range(len(data)))
    assert [(name.removeprefix("response."), body.get("output_index")) for name, body in data] == [
        ("created", None), ("in_progress", None),
        ("output_item.added", 0), ("reasoning_text.delta", 0), ("reasoning_text.done", 0), ("output_item.done", 0),
        ("output_item.added", 1), ("content_part.added", 1), ("output_text.delta", 1), ("output_text.done", 1),
        ("content_part.done", 1), ("output_item.done", 1),
        ("output_item.added", 2), ("function_call_arguments.delta", 2), ("function_call_arguments.done", 2),
        ("output_item.done", 2),
        ("completed", None),
    ]  # fmt: skip
    assert all(body["content_index"] == 0 for name, body in data if "text" in name or "part" in name)
    assert data[-1][1]["timings"]["predicted_n"] == 9


def put_together(body: str) -> list[dict[str, Any]]:
    """The items as their deltas say; what each `done` repeats must agree."""
    items: list[dict[str, Any]] = []
    for name, data in named(body):
        kind = name.removeprefix("response.")
        item = items[data["output_index"]] if "output_index" in data and kind != "output_item.added" else {}
        if "item_id" in data:
            assert data["item_id"] == item["id"]
        match kind:
            case "output_item.added":
                assert data["output_index"] == len(items)
                items.append(data["item"])
            case "content_part.added":
                item["content"].append(data["part"])
            case "output_text.delta":
                item["content"][0]["text"] += data["delta"]
                item["content"][0]["logprobs"] += data["logprobs"]
            case "reasoning_text.delta":
                item["content"] = item["content"] or [{"type": "reasoning_text", "text": ""}]
                item["content"][0]["text"] += data["delta"]
            case "function_call_arguments.delta":
                item["arguments"] += data["delta"]
            case "output_text.done" | "reasoning_text.done":
                assert data["text"] == item["content"][0]["text"]
            case "function_call_arguments.done":
                assert data["arguments"] == item["arguments"]
            case "content_part.done":
                assert data["part"] == item["content"][0]
            case "output_item.done":
                item["status"] = data["item"]["status"]
                assert data["item"] == item
    return items


def bare(response: dict[str, Any]) -> dict[str, Any]:
    """Without what is random."""
    for item in response["output"]:
        item["id"] = item["id"].partition("_")[0]
    return response | {"id": "", "created_at": 0, "completed_at": 0}


@given(st.data(), rows(), st.sampled_from(("eos", "word", "limit")), st.lists(st.integers(0, 5)))
def test_a_stream_put_together_is_the_unstreamed_answer(
    data: st.DataObject, row: Row, reason: str, sizes: list[int]
) -> None:
    text = streamed(reply(), data.draw(events(row, reason)), sizes)
    (name, last) = named(text)[-1]
    assert last["response"]["output"] == put_together(text)
    assert name == ("response.incomplete" if reason == "limit" else "response.completed")
    assert bare(last["response"]) == bare(collected(reply(), data.draw(events(row, reason, whole=True))))


def test_a_reply_that_is_cut_off_is_incomplete() -> None:
    found = [Accepted(1, 7), Started(1, 3), Delta(1, "a"), Finished(1, "limit", "", Timings())]
    response = collected(reply(), found)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize("stream", [True, False])
def test_probabilities_are_beside_the_text(stream: bool) -> None:
    found = [Accepted(1, 7), Started(1, 3), Delta(1, "a", 1, [Probability(5, b"a", -0.5, [])])]
    found.append(Finished(1, "eos", "", Timings()))
    output = put_together(streamed(reply(), found, [])) if stream else collected(reply(), found)["output"]
    (entry,) = output[0]["content"][0]["logprobs"]
    assert (entry["token"], entry["logprob"]) == ("a", -0.5)


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_a_streamed_response_with_progress(path: str) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(path, input="hi", stream=True, return_progress=True, metadata={"a": "b"})
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Progress(ask.id, 7, 3, 7, 1.0), Delta(ask.id, "ok"))
        worker.send(Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 2, 1.0)))
        response = await task
        data = named(response.text)
        assert [name for name, _ in data[:3]] == ["response.created", "response.in_progress", "response.in_progress"]
        assert data[2][1]["prompt_progress"]["processed"] == 7
        assert "[DONE]" not in response.text
        assert data[-1][1]["response"]["metadata"] == {"a": "b"}


async def test_an_error_inside_the_stream_is_its_last_event() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/responses", input="hi", stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a"))
        worker.send(Failed(ask.id, "internal_error", "broken"))
        data = named((await task).text)
        (name, last) = data[-1]
        assert (name, last["type"], last["code"], last["message"]) == ("error", "error", "internal_error", "broken")
        assert last["error"]["status"] == 500
        assert [body["sequence_number"] for _, body in data] == list(range(len(data)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses/input_tokens", {"input": "hi"}),
        ("/responses/input_tokens", {"input": "hi"}),
        ("/v1/chat/completions/input_tokens", CHAT),
        ("/chat/completions/input_tokens", CHAT),
    ],
)
async def test_tokens_are_counted(path: str, body: dict[str, Any]) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(path, **body)
        ask = await worker.next()
        assert ask.chat.messages == CHAT["messages"]
        worker.send(Counted(ask.id, 42))
        assert (await task).json() == {"object": "response.input_tokens", "input_tokens": 42}


async def test_old_items_may_be_left_out() -> None:
    history = [{"role": "user", "content": f"{number}" * 50} for number in range(6)]
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/responses", input=history, truncation="auto")
        ask = await worker.next()
        fields = {"n_prompt_tokens": 600, "n_ctx": 300}
        worker.send(Failed(ask.id, "context_length_exceeded", "exceeds", fields))
        again = await worker.next(2)
        assert len(again.prompt.messages) < len(history)
        worker.reply(again, "ok")
        assert (await task).json()["output"][0]["content"][0]["text"] == "ok"
