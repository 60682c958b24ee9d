"""Prompts for a hole between prefix and suffix, with a vocabulary whose tokens are bytes."""

from __future__ import annotations

from functools import cache

import pytest
from msgspec.structs import replace

from supervisor.config import Model
from tests import models, vector_models
from worker import infill
from worker.failure import RequestError
from worker.infill import Fim
from worker.main import Llama, LlamaModel
from worker.protocol import Chunk, Infill
from worker.seams import Load
from worker.vocabulary import Vocabulary

PRE, SUF, MID, REPO, FILE = vector_models.FIM
HOLE = Infill("def add(a, b):\n    return ", "\n\nprint(add(1, 2))")


@cache
def model(path: str, n_ctx: int = 512) -> LlamaModel:
    kind = Llama()
    kind.prepare()
    loaded = kind.load(Load(Model(name="m", path=path, n_ctx=n_ctx), 1, -1), lambda _: True)
    assert isinstance(loaded, LlamaModel)
    return loaded


def vocabulary(*, files: bool = True) -> Vocabulary:
    return model(vector_models.fim(files=files))._context.model.vocabulary


def shown(hole: Infill, n_ctx: int = 512, n_batch: int = 512, *, files: bool = True) -> str:
    """The prompt as text, its control tokens spelled out."""
    words = vocabulary(files=files)
    return words.detokenize(infill.tokens(hole, words, n_ctx, n_batch))


def test_prefix_prompt_suffix_middle() -> None:
    name = f"{FILE}file\n"
    assert shown(HOLE) == f"{name}{PRE}{HOLE.prefix}{SUF}{HOLE.suffix}{MID}"
    assert shown(replace(HOLE, prompt="a +")) == f"{name}{PRE}{HOLE.prefix}a +{SUF}{HOLE.suffix}{MID}"
    assert shown(HOLE, files=False) == f"{PRE}{HOLE.prefix}{SUF}{HOLE.suffix}{MID}"


def test_extra_texts_come_first_with_their_names() -> None:
    hole = replace(HOLE, extra=(Chunk("x = 1\n", "x.py"), Chunk("y = 2\n")))
    around = f"{PRE}{HOLE.prefix}{SUF}{HOLE.suffix}{MID}"
    assert shown(hole) == f"{REPO}project\n{FILE}x.py\nx = 1\n{FILE}tmp\ny = 2\n{FILE}file\n{around}"
    cut = "\n\n--- snippet ---\n\n"
    assert shown(hole, files=False) == f"{cut}x = 1\n{cut}y = 2\n{around}"


def test_control_tokens_spelled_in_the_text_are_text() -> None:
    words = vocabulary()
    tokens = infill.tokens(Infill(f"a{MID}b", f"{PRE}", (Chunk(SUF, REPO),), MID), words, 512, 512)
    assert [tokens.count(id) for id in (words.fim.pre, words.fim.suf, words.fim.mid, words.fim.repo)] == [1] * 4


def test_what_is_long_is_cut_at_the_ends_far_from_the_hole() -> None:
    hole = Infill("p" * 500 + "<", ">" + "s" * 500, room=11)
    text = shown(hole, n_ctx=212, files=False)
    before, after = text.removeprefix(PRE).removesuffix(MID).split(SUF)
    assert (len(before), len(after)) == (147, 50)
    assert before.endswith("p<")
    assert after.startswith(">s")


def test_what_one_side_does_not_need_the_other_has() -> None:
    text = shown(Infill("p" * 500, "ss", room=11), n_ctx=212, files=False)
    assert text == f"{PRE}{'p' * 195}{SUF}ss{MID}"
    text = shown(Infill("pp", "s" * 500, room=11), n_ctx=212, files=False)
    assert text == f"{PRE}pp{SUF}{'s' * 195}{MID}"


def test_prefix_and_suffix_stay_within_a_batch_and_extra_fills_the_rest() -> None:
    hole = Infill("p" * 300, "s" * 300, (Chunk("e" * 600, "e"),), room=11)
    words = vocabulary(files=False)
    tokens = infill.tokens(hole, words, 512, 100)
    assert len(tokens) == 512 - 1 - 11
    text = words.detokenize(tokens)
    assert text.count("p") - "prefix".count("p") >= 74
    assert text.count("s") < 40
    assert text.startswith("e" * 300)


@pytest.mark.parametrize(("room", "left"), [(-1, 128), (0, 0), (50, 50), (400, 256), (10**6, 256)])
def test_room_is_kept_for_the_reply(room: int, left: int) -> None:
    tokens = infill.tokens(Infill("p" * 900, "s" * 900, room=room), vocabulary(), 512, 512)
    assert len(tokens) == 512 - 1 - left


def test_a_prompt_that_leaves_no_room_is_refused_with_the_numbers() -> None:
    with pytest.raises(RequestError, match="exceed") as error:
        infill.tokens(Infill("", "", prompt="x" * 600), vocabulary(), 512, 512)
    assert error.value.code == "context_length_exceeded"
    assert error.value.fields["n_ctx"] == 512


def test_a_model_without_the_tokens_cannot() -> None:
    with pytest.raises(RequestError) as error:
        model(models.tiny()).text.prompt(HOLE)
    assert (error.value.code, error.value.fields) == ("unsupported_feature", {"feature": "infill"})
    assert not model(models.tiny()).facts.infill
    assert model(vector_models.fim()).facts.infill
    assert not Fim(pre=1, suf=2).complete
    assert Fim(pre=0, suf=1, mid=2).complete


def test_the_text_side_keeps_the_context() -> None:
    tokens = model(vector_models.fim(), 128).text.prompt(Infill("p" * 900, "s" * 900, room=20))
    assert len(tokens) == 128 - 1 - 20
