"""A machine's output as events, and what a reply makes of tokens: stop strings, hidden markers, one call only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.worker.outputs import CASES, HARMONY, HERMES, TOOLS, machine
from worker.chat.parser import Parser
from worker.chat.split import Split
from worker.protocol import CallDelta, CallStart, Chat, Delta, Event, Finished, Generate, Reasoning
from worker.reply import Reply
from worker.seams import Job
from worker.sequences import Sequence as Running

THOUGHT = "<think>stop here</think>"
RUN = '<tool_call>{"name": "run", "arguments": {"code": "stop"}}</tool_call>'


def split(output: str, *stop: str) -> tuple[list[Event], str]:
    reader = Split(machine(HERMES), stop)
    for char in output:
        reader.feed(char)
        if reader.stop_word:
            break
    reader.finish(complete=True)
    return reader.events(1, 9), reader.stop_word


def test_stop_strings_count_in_content_only() -> None:
    (thought, text), word = split(THOUGHT + "a stop b", "stop")
    assert (thought, text, word) == (Reasoning(1, "stop here", 9), Delta(1, "a ", 0), "stop")
    events, word = split(THOUGHT + RUN, "stop")
    assert not word
    assert isinstance(events[1], CallStart)
    assert events[2] == CallDelta(1, 0, '{"code": "stop"}', 0)


def test_what_may_become_a_stop_string_comes_before_the_call_that_follows_it() -> None:
    events, _ = split("a sto" + RUN, "stop")
    assert [type(event) for event in events] == [Delta, CallStart, CallDelta]
    assert events[0] == Delta(1, "a sto", 9)


def test_nothing_is_shown_behind_a_stop_string() -> None:
    assert split("a stop" + RUN, "stop") == ([Delta(1, "a ", 9)], "stop")


def test_nothing_behind_a_stop_string_is_shown_that_came_with_it() -> None:
    reader = Split(machine(HERMES), ("stop",))
    reader.feed("a stop" + RUN)
    assert reader.events(1, 1) == [Delta(1, "a ", 1)]


def test_the_beginning_of_a_stop_string_is_shown_in_the_end() -> None:
    assert split("a sto", "stop") == ([Delta(1, "a sto", 9)], "")


def test_the_tokens_of_events_add_up() -> None:
    reader = Split(machine(HERMES), ())
    output = CASES["hermes"].output
    events: list[Any] = []
    silent = 0
    for char in output:
        silent += 1
        if reader.feed(char):
            events += reader.events(1, silent)
            silent = 0
    reader.finish(complete=True)
    events += reader.events(1, 0)
    assert sum(event.tokens for event in events) == len(output) - silent


# -- in a reply ---------------------------------------------------------------------------------------------------

SPECIALS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|constrain|>", "<|other|>")
END = 0


def vocabulary(words: list[str]) -> Any:
    return SimpleNamespace(
        pieces=[b"" if word in SPECIALS else word.encode() for word in words],
        end={END}, adds_space=False,
        hidden=lambda texts: {at: word.encode() for at, word in enumerate(words) if word in SPECIALS
                              and any(word in text for text in texts)},
    )  # fmt: skip


def answer(words: list[str], template: str, *, machines: bool = True, **keys: Any) -> list[Event]:
    """The events of a reply whose tokens are these words, and an end token."""
    known = vocabulary(["", *words])
    ask = Generate(1, "r", Chat([], tools=TOOLS), **{"parse_tools": True, "reasoning_format": "auto"} | keys)
    found = Parser(template, known.hidden).machine(ask, str) if machines else None
    slot = Running((), 1000, id=0)
    reply = Reply(Job((1, 1), ask, [5], () if found is None else (found,)), slot, 0, None, -1, known)  # type: ignore[arg-type]
    events: list[Event] = []
    for token in [*range(1, len(words) + 1), END]:
        events += reply.take(token)
        if reply.reason:
            break
    return events


HARMONIC = [
    "<|channel|>", "analysis", "<|message|>", "Hm", ".", "<|end|>", "<|start|>", "assistant", "<|channel|>",
    "commentary", " to=functions.", "run", " ", "<|constrain|>", "json", "<|message|>", '{"code"', ': "1"}',
]  # fmt: skip


def test_hidden_tokens_that_a_family_names_reach_its_machine_and_no_client() -> None:
    events = answer([*HARMONIC[:4], "<|other|>", *HARMONIC[4:]], HARMONY)
    shown = [event for event in events if not isinstance(event, Finished)]
    assert [type(event) for event in shown] == [Reasoning, Reasoning, CallStart, CallDelta, CallDelta]
    assert "".join(event.text for event in shown if isinstance(event, Reasoning)) == "Hm."
    assert "".join(event.text for event in shown if isinstance(event, CallDelta)) == '{"code": "1"}'


def test_without_a_machine_they_stay_hidden() -> None:
    events = answer(HARMONIC[:8], HARMONY, machines=False)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "analysisHm.assistant"


def test_raw_output_has_the_markers_in_it() -> None:
    events = answer(HARMONIC[:6], HARMONY, reasoning_format="none", parse_tools=False)
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == "<|channel|>analysis<|message|>Hm.<|end|>"


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_ends_after_the_one_call_that_is_wanted(stream: bool) -> None:
    words = [*(RUN + RUN)]
    events = answer(words, HERMES, parallel_tool_calls=False, stream=stream)
    assert sum(isinstance(event, CallStart) for event in events) == 1
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.timings.predicted_n) == ("eos", RUN.index("}") + 1)


def test_an_unstreamed_reply_has_one_event_for_each_part() -> None:
    events = answer([*(THOUGHT + "Hi." + RUN)], HERMES, stream=False)
    assert [type(event) for event in events] == [Reasoning, Delta, CallStart, CallDelta, Finished]


def test_a_stop_string_ends_a_reply_that_is_split() -> None:
    end = answer([*(THOUGHT + "a stop b")], HERMES, stop=("stop",))[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.stop_word) == ("word", "stop")
