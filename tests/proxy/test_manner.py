"""How a model is to answer: what its configuration puts into a request."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.manner import instructed
from supervisor.config import Model, Sampling
from worker.protocol import Chat, Count, Generate, Render, Text, Tokenize

USER = {"role": "user", "content": "hi"}
OWN = {"role": "system", "content": "be kind"}


def chat(*messages: dict[str, Any], **kwargs: Any) -> Chat:
    return Chat(list(messages), template_kwargs=kwargs)


def test_a_model_that_says_nothing_changes_nothing() -> None:
    ask = Generate(0, "r", chat(OWN, USER, x=1), Sampling(top_k=5))
    assert instructed(ask, Model(name="m", sampling=Sampling(top_p=0.5))) == ask


def test_a_request_counts_before_a_variant_and_force_before_both() -> None:
    model = Model(name="v", base="m", sampling=Sampling(top_k=1, top_p=0.1, seed=1), force=Sampling(seed=9))
    ask = instructed(Generate(0, "r", Text(("x",)), Sampling(top_k=5, seed=5)), model)
    assert isinstance(ask, Generate)
    assert ask.sampling == Sampling(top_k=5, top_p=0.1, seed=9)
    assert ask.prompt == Text(("x",))


@pytest.mark.parametrize("kind", [lambda c: Generate(0, "r", c), lambda c: Count(0, c), lambda c: Render(0, c)])
def test_every_use_of_a_conversation_has_the_prompt_and_the_arguments(kind: Any) -> None:
    model = Model(name="m", system_prompt="be kind", chat_template_kwargs={"x": 0, "y": 0})
    assert instructed(kind(chat(USER, x=1)), model) == kind(chat(OWN, USER, x=1, y=0))


@pytest.mark.parametrize(
    ("mode", "messages", "expected"),
    [
        ("missing", [USER], [OWN, USER]),
        ("missing", [{"role": "system", "content": "own"}, USER], [{"role": "system", "content": "own"}, USER]),
        ("always", [USER], [OWN, USER]),
        (
            "always",
            [{"role": "system", "content": "own"}, USER],
            [{"role": "system", "content": "be kind\n\nown"}, USER],
        ),
        (
            "always",
            [{"role": "system", "content": [{"type": "text", "text": "own"}]}],
            [{"role": "system", "content": [{"type": "text", "text": "be kind\n\n"}, {"type": "text", "text": "own"}]}],
        ),
        ("always", [{"role": "system", "content": None}], [{"role": "system", "content": "be kind"}]),
        ("always", [USER, {"role": "system", "content": "late"}], [OWN, USER, {"role": "system", "content": "late"}]),
    ],
)
def test_the_system_prompt_is_one_message(mode: Any, messages: list[Any], expected: list[Any]) -> None:
    model = Model(name="m", system_prompt="be kind", system_prompt_mode=mode)
    assert instructed(Render(0, chat(*messages)), model) == Render(0, chat(*expected))


def test_what_is_no_conversation_stays() -> None:
    ask = Tokenize(0, ("x",))
    assert instructed(ask, Model(name="m", system_prompt="be kind", force=Sampling(top_k=1))) is ask
