"""Which replica a request goes to."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.affinity import KEPT, Affinity, trail
from worker.protocol import Chat, Embed, Generate, Infill, Request, Text


@dataclass
class Worker:
    name: str
    leases: int = 0
    slots: int = 4

    @property
    def free(self) -> int:
        return self.slots - self.leases


def chat(*texts: str, system: str = "Be kind.") -> list[Request]:
    """A conversation of user and assistant by turns."""
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": "system", "content": system}]
    messages += [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [Generate(0, "r", Chat(messages))]


def workers(*leases: int) -> list[Worker]:
    return [Worker(f"m#{number}", count) for number, count in enumerate(leases, 1)]


def test_the_next_turn_has_the_trail_of_the_one_before() -> None:
    before, after = trail(chat("hi")), trail(chat("hi", "hello!", "how are you?"))
    assert after[: len(before)] == before
    assert len(after) == 3


def test_a_system_prompt_leaves_no_trail_but_counts() -> None:
    assert trail(chat()) == ()
    assert set(trail(chat("hi"))).isdisjoint(trail(chat("hi", system="Be rude.")))


def test_texts_leave_a_step_for_each_whole_piece() -> None:
    text = [Generate(0, "r", Text(("x" * 1500,)))]
    longer = [Generate(0, "r", Text(("x" * 1700,)))]
    tokens = [Generate(0, "r", Text(tuple(range(300))))]
    assert (len(trail(text)), len(trail(longer)), len(trail(tokens))) == (2, 3, 2)
    assert trail(longer)[:2] == trail(text)


def test_what_is_not_generated_leaves_none() -> None:
    assert trail([]) == ()
    assert trail([Embed(0, "r", (("text",),))]) == ()
    assert trail([Generate(0, "r", Infill("a", "b"))]) == ()


def test_a_conversation_stays_where_it_is_known() -> None:
    affinity = Affinity()
    assert affinity.choose(workers(1, 0), trail(chat("hi"))).name == "m#2"
    assert affinity.choose(workers(0, 3), trail(chat("hi", "hello!", "and you?"))).name == "m#2"
    assert affinity.choose(workers(0, 3), trail(chat("something else"))).name == "m#1"


def test_it_moves_on_rather_than_wait_and_is_known_there_then() -> None:
    affinity, conversation = Affinity(), trail(chat("hi"))
    affinity.choose(workers(1, 0), conversation)
    assert affinity.choose(workers(2, 4), conversation).name == "m#1"
    assert affinity.choose(workers(2, 0), conversation).name == "m#1"


def test_where_all_have_to_wait_it_waits_where_it_is_known() -> None:
    affinity, conversation = Affinity(), trail(chat("hi"))
    affinity.choose(workers(1, 0), conversation)
    assert affinity.choose(workers(4, 7), conversation).name == "m#2"


def test_the_least_busy_takes_what_is_new_and_of_equals_the_first() -> None:
    affinity = Affinity()
    assert affinity.choose(workers(2, 1, 1), ()).name == "m#2"
    assert affinity.choose(workers(0, 0, 0), ()).name == "m#1"


def test_one_that_is_there_no_more_is_no_reason() -> None:
    affinity, conversation = Affinity(), trail(chat("hi"))
    affinity.choose(workers(1, 0), conversation)
    assert affinity.choose(workers(1), conversation).name == "m#1"


def test_what_is_remembered_is_bounded() -> None:
    affinity, first = Affinity(), trail(chat("the first"))
    affinity.choose(workers(1, 0), first)
    for number in range(KEPT):
        affinity.choose(workers(0, 1), trail(chat(f"{number}")))
    assert affinity.choose(workers(0, 0), first).name == "m#1"
