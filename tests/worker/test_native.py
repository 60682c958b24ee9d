"""What llama.cpp's own completion needs of the engine, on a real context: ids, details, and limits by lines."""

from __future__ import annotations

import pytest

from supervisor.config import LLAMA_DEFAULTS, Sampling
from tests.worker.test_engine import GREEDY, Bench
from worker.protocol import Delta, Details, Started, Text

COUNT = "1\n2\n3\n4\n5\n6\n"


def ids(bench: Bench, id: int) -> list[int]:
    deltas = [event for event in bench.events if isinstance(event, Delta) and event.id == id]
    return [token for delta in deltas for token in delta.ids or ()]


def details(bench: Bench, id: int) -> Details:
    found = bench.end(id).details
    assert found is not None
    return found


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stop", [(), ("9",)])
def test_the_ids_of_all_tokens_come_with_the_text(smollm: Bench, stream: bool, stop: tuple[str, ...]) -> None:
    smollm.new()
    id = smollm.start(COUNT, GREEDY, stream=stream, stop=stop, return_tokens=True)
    smollm.run()
    found = ids(smollm, id)
    assert len(found) == smollm.end(id).timings.predicted_n
    text = smollm.model.text.detokenize(found)
    assert text.partition("9")[0] == smollm.text(id) if stop else text == smollm.text(id)


def test_an_end_token_is_among_the_ids(smollm: Bench) -> None:
    smollm.new()
    end = min(smollm.model.text._vocabulary.end)
    id = smollm.start(COUNT, Sampling(temperature=0.0, logit_bias=((end, 1000.0),)), return_tokens=True)
    smollm.run()
    assert (ids(smollm, id), smollm.text(id), smollm.end(id).reason) == ([end], "", "eos")


def test_details_are_the_parameters_in_effect_and_what_the_cache_holds(smollm: Bench) -> None:
    smollm.new()
    id = smollm.start("One", Sampling(top_k=7, max_tokens=5, ignore_eos=True), details=True)
    smollm.run()
    found = details(smollm, id)
    assert found.sampling.over(LLAMA_DEFAULTS) == found.sampling, "something was not said"
    assert (found.sampling.top_k, found.sampling.max_tokens) == (7, 5)
    assert found.sampling.seed not in (-1, None)
    assert found.cached == len(smollm.model.text.prompt(Text(("One",)))) + 4
    again = smollm.reply("One", found.sampling)
    assert again == smollm.text(id)
    (started,) = [event for event in smollm.events if isinstance(event, Started) and event.id == id]
    assert 0 <= started.slot < 4


def test_without_a_wish_nothing_is_added(smollm: Bench) -> None:
    smollm.new()
    id = smollm.start("One")
    smollm.run()
    assert smollm.end(id).details is None
    assert not ids(smollm, id)


def test_a_line_with_too_little_indent_is_the_end(smollm: Bench) -> None:
    smollm.new()
    id = smollm.start(COUNT, GREEDY, n_indent=1, details=True)
    smollm.run()
    assert smollm.text(id) == "7\n"
    assert smollm.end(id).reason == "limit"
    assert details(smollm, id).new_line


def test_a_time_ends_a_reply_with_its_line(smollm: Bench) -> None:
    smollm.new()
    id = smollm.start(COUNT, GREEDY, t_max_predict_ms=1)
    smollm.run()
    assert smollm.text(id) == "7\n"
    assert (smollm.end(id).reason, smollm.end(id).stop_word) == ("limit", "")
    free = smollm.start(COUNT, GREEDY, t_max_predict_ms=0)
    smollm.run()
    assert smollm.end(free).timings.predicted_n == GREEDY.max_tokens


def test_nothing_to_predict_has_details_too(smollm: Bench) -> None:
    smollm.new()
    id = smollm.start("One two", Sampling(max_tokens=0), details=True, return_tokens=True)
    smollm.run()
    assert (smollm.text(id), ids(smollm, id), smollm.end(id).reason) == ("", [], "limit")
    assert details(smollm, id).sampling.max_tokens == 0
