"""LoRA adapters in the engine: what one set computed is never another's, whoever else runs. ENGINE.md, 14 and 20.

With q8_0 KV, flash attention and matrices of 8 bits, logits are exact in any company (measured).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from supervisor.config import Adapter, Sampling
from tests import adapters, model_classes, models
from tests.worker.test_engine import Bench
from tests.worker.test_oracles import GREEDY, PLENTY, PROMPTS, SMALL_STEPS, STORY, alone, cuttable, park, read
from worker import fingerprint, park_image
from worker.adapter_set import BARE
from worker.failure import RequestError
from worker.protocol import Generate, Text
from worker.seams import Wear

NONE, FIRST, SECOND, HALF = (), ((0, 1.0),), ((1, 1.0),), ((0, 0.5),)
SETS = (NONE, FIRST, SECOND, HALF, ((0, 0.7), (1, -0.5)))
SEEDED = Sampling(seed=11, max_tokens=20, ignore_eos=True)


@pytest.fixture(scope="module", params=["gqa", "moe", "swa", "recurrent", "hybrid"])
def dressed(request: pytest.FixtureRequest) -> Bench:
    base = model_classes.path(request.param)
    both = (adapters.lora(base, 1), Adapter(path=adapters.lora(base, 2), scale=0.0))
    return Bench(base, n_ctx=1024, lora=both)


@pytest.fixture
def bench(dressed: Bench) -> Iterator[Bench]:
    dressed.new()
    yield dressed
    assert not dressed.engine.pool.live, "a sequence was not given back"


@pytest.fixture(scope="module")
def plain(dressed: Bench) -> Bench:
    """The same model without adapters."""
    settings = dressed.model._settings
    return Bench(settings.path, n_ctx=1024)


def in_each(bench: Bench, prompt: str, sampling: Sampling = GREEDY) -> list[str]:
    """What each set makes of a prompt, alone in an empty cache."""
    found = []
    for lora in SETS:
        bench.new()
        found.append(bench.reply(prompt, sampling, lora=lora))
    return found


def test_each_set_says_something_else_and_none_is_the_model_alone(bench: Bench, plain: Bench) -> None:
    found = in_each(bench, STORY)
    assert len(set(found)) == len(SETS)
    assert found[0] == alone(plain, STORY)
    bench.new()
    assert bench.reply(STORY, GREEDY, lora=((0, 0.0), (1, 0.0))) == found[0]


def test_who_does_not_say_gets_the_configured_scales_until_others_are_set(bench: Bench) -> None:
    bare, first, second, *_ = in_each(bench, STORY)
    bench.new()._adapters = bench.model._adapters
    assert bench.reply(STORY, GREEDY) == first
    running = bench.start(STORY, GREEDY)
    bench.engine.step()
    bench.engine.obey(Wear(SECOND))
    later = bench.start(STORY, GREEDY)
    bench.run()
    assert (bench.text(running), bench.text(later)) == (first, second)  # who has begun goes on as he began
    bench.engine.obey(Wear(BARE))
    assert bench.reply(STORY, GREEDY) == bare


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_in_a_mix_of_sets_the_text_is_the_same(bench: Bench, sampling: Sampling) -> None:
    expected = [in_each(bench, prompt, sampling) for prompt in PROMPTS]
    bench.new()._limits = SMALL_STEPS
    ids = []
    for place, _ in enumerate(SETS):
        for prompt in PROMPTS:
            ids.append(bench.start(prompt, sampling, lora=SETS[place]))
            bench.engine.step()
    bench.run()
    assert [bench.text(id) for id in ids] == [each[place] for place, _ in enumerate(SETS) for each in expected]


def test_a_prefix_is_shared_within_a_set_only(bench: Bench) -> None:
    prompt = STORY + " The hen said"
    expected = in_each(bench, prompt)
    bench.new()
    said = ((lora, end) for lora in (FIRST, SECOND) for end in (" The fox said", " The dog said"))
    for lora, end in said:  # where states cannot be cut, the second shows where prompts part
        bench.reply(STORY + end, GREEDY, lora=lora)
    ids = [bench.start(prompt, GREEDY, lora=lora) for lora in SETS]
    bench.run()
    assert [bench.text(id) for id in ids] == expected
    shared = [bench.cached(id) > 300 for id in ids]
    assert shared == [lora in (FIRST, SECOND) for lora in SETS] or not cuttable(bench)
    assert not any(hit for hit, lora in zip(shared, SETS, strict=True) if lora not in (FIRST, SECOND))


def test_nobody_follows_a_leader_of_another_set(bench: Bench) -> None:
    expected = in_each(bench, STORY)
    bench.new()._limits = SMALL_STEPS
    ids = [bench.start(STORY, GREEDY, lora=lora) for lora in SETS]
    bench.engine.step()
    assert len(bench.engine.running) == bench.model._context.parallel
    bench.run()
    assert [bench.text(id) for id in ids] == expected
    assert [bench.cached(id) for id in ids] == [0] * len(SETS)


def test_choices_have_the_set_of_their_request(bench: Bench) -> None:
    hot = Sampling(seed=5, max_tokens=12, ignore_eos=True, temperature=2.0)
    expected = []
    for seed in (5, 6):
        bench.new()
        expected.append(bench.reply(STORY, Sampling(seed=seed).over(hot), lora=FIRST))
    bench.new()
    ids = [bench.start(STORY, hot, siblings=(901,), lora=FIRST), 901]
    other = bench.start(STORY, hot, lora=SECOND)
    bench.run()
    assert [bench.text(id) for id in ids] == expected
    assert bench.text(other) not in expected


@pytest.mark.parametrize("parked", [True, False], ids=["park", "recompute"])
def test_interrupted_again_and_again_the_text_is_the_same(bench: Bench, parked: bool) -> None:
    expected = in_each(bench, STORY[:300])
    engine = bench.new(park(bench) if parked else None)
    ids = [bench.start(STORY[:300], GREEDY, lora=lora) for lora in SETS]
    steps = 0
    while engine.busy:
        engine.step()
        steps += 1
        if steps % 3 == 0:
            engine._interrupt_one()
    assert [bench.text(id) for id in ids] == expected


def test_parked_states_come_back_to_their_own_set_only(bench: Bench) -> None:
    expected = in_each(bench, STORY)
    parked = park(bench)
    bench.new(parked)
    for lora in SETS[:3]:
        bench.reply(STORY, GREEDY, lora=lora)
    bench.engine.parking.save_all(time.monotonic() + 60)
    fd = os.memfd_create("image")
    park_image.write(fd, b"same", parked, PLENTY, time.monotonic() + 60)
    bench.new(read(bench, fd))
    ids = [bench.start(STORY, GREEDY, lora=lora) for lora in SETS]
    bench.run()
    assert [bench.text(id) for id in ids] == expected
    assert [bench.cached(id) > 300 for id in ids] == [True] * 3 + [False] * 2


def test_states_of_other_adapters_have_another_fingerprint(dressed: Bench) -> None:
    settings = dressed.model._settings
    first, second = settings.adapters
    sets = [(), (first,), (second,), (first, second), (second, first)]
    found = {fingerprint.of(type(settings)(path=settings.path, lora=each)) for each in sets}
    assert len(found) == len(sets)
    scaled = type(settings)(path=settings.path, lora=(Adapter(path=first.path, scale=0.3),))
    assert fingerprint.of(scaled) in found  # the scale is in the names of the states


def test_what_was_computed_with_is_told(bench: Bench) -> None:
    id = bench.start("x", lora=((1, 0.5), (0, 0.0)), details=True)
    bench.run()
    details = bench.end(id).details
    assert details is not None
    assert details.lora == ((1, 0.5),)


def test_an_adapter_that_is_not_there_is_refused_with_its_place(dressed: Bench) -> None:
    def check(bench: Bench, *lora: tuple[int, float]) -> str:
        with pytest.raises(RequestError) as caught:
            bench.model.text.check(Generate(1, "r", Text(("x",)), lora=lora))
        assert caught.value.code == "invalid_value"
        assert caught.value.fields == {"param": "lora[1].id"}
        return str(caught.value)

    assert check(dressed, (0, 1.0), (2, 1.0)) == "lora[1].id: expected the id of an adapter, 0 to 1, got 2"
    dressed.model.text.check(Generate(1, "r", Text(("x",)), lora=((1, 1.0),)))


def test_turns_leave_nothing_in_the_log(dressed: Bench, caplog: pytest.LogCaptureFixture) -> None:
    log = dressed.model._context.model.log
    before = len(log.sizes)
    with caplog.at_level("INFO", "llama.cpp"):
        in_each(dressed, "x")
    assert (len(log.sizes), caplog.records) == (before, [])


def test_there_may_be_many_at_once() -> None:
    """llama.cpp plans a graph's size when the context is made: the adapters must be there by then."""
    base = model_classes.path("gqa")
    bench = Bench(base, n_ctx=128, lora=(adapters.lora(base),) * 40)
    assert bench.reply("x", GREEDY, lora=tuple((id, 0.02) for id in range(40)))


def test_a_model_without_adapters_has_nothing_to_do_with_them() -> None:
    bench = Bench(models.tiny(), n_ctx=128)
    assert bench.engine._turns is None
    with pytest.raises(RequestError, match="no adapter, got 0; this model has none"):
        bench.model.text.check(Generate(1, "r", Text(("x",)), lora=((0, 1.0),)))
    bench.model.text.check(Generate(1, "r", Text(("x",)), lora=()))
