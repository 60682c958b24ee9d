"""Calls that are demanded, schemas behind reasoning, budgets: a real engine, and a model that was trained on none."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from supervisor.config import Sampling
from tests import models
from tests.worker.schemas import PERSON
from tests.worker.test_engine import Bench
from worker.protocol import CallDelta, CallStart, Chat, Delta, Reasoning
from worker.seams import Conclude

TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}. Call one: "
    '<tool_call>{"name": …, "arguments": …}</tool_call><|im_end|>\n{% endif %}'
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '<think>\n' if thinking }}{% endif %}{# </think> #}"
)
WEATHER = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "day": {"$ref": "#/$defs/day"},
    },
    "required": ["place", "day"],
    "$defs": {"day": {"type": "integer", "minimum": 1, "maximum": 31}},
}
CLOCK = {"type": "object", "properties": {"zone": {"type": "string", "maxLength": 8}}, "required": ["zone"]}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "clock", "parameters": CLOCK}},
]
SCHEMAS = {"weather": WEATHER, "clock": CLOCK}
ASK = [{"role": "user", "content": "How is the weather in Bern?"}]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    file = tmp_path_factory.mktemp("template") / "tools.jinja"
    file.write_text(TEMPLATE)
    return Bench(models.smollm(), n_ctx=1024, parallel=3, chat_template=str(file))


def start(bench: Bench, sampling: Sampling, *, thinking: bool = False, tools: bool = True, **keys: Any) -> int:
    chat = Chat(ASK, TOOLS if tools else None, template_kwargs={"thinking": thinking})
    return bench.start(chat, sampling, reasoning_format="auto", parse_tools=tools, **keys)


def calls(bench: Bench, id: int) -> list[tuple[str, Any]]:
    events = [event for event in bench.events if getattr(event, "id", None) == id]
    names = [event.name for event in events if isinstance(event, CallStart)]
    texts = [""] * len(names)
    for event in events:
        if isinstance(event, CallDelta):
            texts[event.index] += event.text
    return [(name, json.loads(text)) for name, text in zip(names, texts, strict=True)]


def reasoning(bench: Bench, id: int) -> str:
    return "".join(event.text for event in bench.events if isinstance(event, Reasoning) and event.id == id)


@pytest.mark.parametrize("stream", [True, False])
def test_every_choice_calls_a_tool_with_arguments_that_fit(bench: Bench, stream: bool) -> None:
    sampling = Sampling(seed=5, temperature=1.2, max_tokens=150)
    keys = {"must_call": ("weather", "clock"), "parallel_tool_calls": False, "siblings": (901, 902), "stream": stream}
    id = start(bench, sampling, **keys)
    bench.run()
    for each in (id, 901, 902):
        ((name, arguments),) = calls(bench, each)
        jsonschema.validate(arguments, SCHEMAS[name])
        assert (bench.text(each), bench.end(each).reason) == ("", "eos")
    bench.events.clear()


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_tool_that_is_named_is_called(bench: Bench, name: str) -> None:
    id = start(bench, Sampling(temperature=0, max_tokens=150), must_call=(name,), parallel_tool_calls=False)
    bench.run()
    ((called, arguments),) = calls(bench, id)
    assert called == name
    jsonschema.validate(arguments, SCHEMAS[name])


def test_a_call_is_demanded_after_the_reasoning(bench: Bench) -> None:
    keys = {"must_call": ("clock",), "parallel_tool_calls": False, "reasoning_budget": 8, "reasoning_message": " Stop."}
    id = start(bench, Sampling(temperature=0, max_tokens=150), thinking=True, **keys)
    bench.run()
    assert [name for name, _ in calls(bench, id)] == ["clock"]
    jsonschema.validate(calls(bench, id)[0][1], CLOCK)
    assert reasoning(bench, id).endswith(" Stop.")
    assert bench.end(id).reasoning_tokens > 8
    assert bench.end(id).reasoning_tokens < bench.end(id).timings.predicted_n


def test_a_schema_is_kept_to_after_the_reasoning(bench: Bench) -> None:
    sampling = Sampling(temperature=0.8, seed=3, max_tokens=250)
    id = start(bench, sampling, thinking=True, tools=False, reasoning_budget=20, json_schema=json.dumps(PERSON))
    bench.run()
    assert reasoning(bench, id)
    jsonschema.validate(json.loads(bench.text(id)), PERSON)


def test_no_reasoning_at_all_is_one_forced_end(bench: Bench) -> None:
    id = start(bench, Sampling(temperature=0, max_tokens=30), thinking=True, tools=False, reasoning_budget=0)
    bench.run()
    assert reasoning(bench, id) == ""
    assert bench.text(id)


def test_forced_tokens_have_probabilities_like_others(bench: Bench) -> None:
    for after in (True, False):
        keys = {"reasoning_budget": 2, "n_probs": 2, "post_sampling_probs": after}
        id = start(bench, Sampling(seed=1, max_tokens=30), thinking=True, tools=False, **keys)
        bench.run()
        deltas = [event for event in bench.events if isinstance(event, Delta) and event.id == id]
        found = [each for event in deltas for each in event.probs or ()]
        assert found
        assert all(0 <= each.value <= 1 if after else each.value <= 0 for each in found)


def test_a_budget_without_reasoning_changes_nothing(bench: Bench) -> None:
    sampling = Sampling(temperature=0, max_tokens=20)
    plain = start(bench, sampling, tools=False)
    bench.run()
    budget = start(bench, sampling, tools=False, reasoning_budget=0)
    bench.run()
    assert bench.text(plain) == bench.text(budget)


def test_the_reasoning_of_a_running_request_can_be_ended(bench: Bench) -> None:
    id = start(bench, Sampling(temperature=0, max_tokens=60), thinking=True, tools=False, reasoning_control=True)
    while not reasoning(bench, id):
        bench.engine.step()
    bench.engine.obey(Conclude((1, 12345)))
    bench.engine.obey(Conclude((1, id)))
    bench.run()
    assert bench.text(id)
    assert bench.end(id).reasoning_tokens < 20


def test_the_reasoning_of_a_request_that_waits_ends_when_it_begins(bench: Bench) -> None:
    id = start(bench, Sampling(temperature=0, max_tokens=60), thinking=True, tools=False, reasoning_control=True)
    bench.engine.obey(Conclude((1, id)))
    bench.run()
    assert bench.text(id)
    assert bench.end(id).reasoning_tokens < 5
