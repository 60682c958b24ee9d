"""What a header tells: facts, capabilities, the shape of caches; and what the memory estimate makes of it."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from supervisor.card import Card, Layer, Shape
from supervisor.config import Model
from supervisor.estimate import DEVICE, PROCESS, RAM, estimate
from supervisor.gguf import Array, Header, Tensor, Value, read
from supervisor.header_facts import card, kind, shards
from tests import models

F32, F16, Q8_0, Q4_K = 0, 1, 8, 12


def words(*texts: str) -> Array:
    raw = [text.encode() for text in texts]
    return Array(8, len(raw), b"".join(struct.pack("<Q", len(word)) + word for word in raw))


def numbers(*values: int) -> Array:
    return Array(5, len(values), struct.pack(f"<{len(values)}i", *values))


def header(tensors: dict[str, tuple[int, ...]] | None = None, kind: int = F32, **keys: Value) -> Header:
    """`keys`: with __ for the dots; those of the architecture x stand under `x__`."""
    metadata: dict[str, Value] = {"general.architecture": "x"}
    metadata |= {key.replace("__", "."): value for key, value in keys.items()}
    made = (Tensor(name, shape, kind, 0) for name, shape in (tensors or {}).items())
    return Header(3, metadata, tuple(made), 0)


def test_smollm2_is_what_it_is() -> None:
    found = card([read(models.smollm())[0]])
    assert (found.kind, found.architecture, found.quantization) == ("model", "llama", "Q4_1")
    assert (found.n_params, found.n_ctx_train, found.n_embd, found.n_vocab) == (134515008, 8192, 576, 49152)
    assert found.shape.layers == (Layer(2216448, 192, 192),) * 30
    assert not any(getattr(found.capabilities, name) for name in found.capabilities.__struct_fields__)


@pytest.mark.parametrize(
    ("keys", "able"),
    [
        ({"tokenizer__chat_template": "{% if tools %}"}, {"function_calling"}),
        ({"tokenizer__chat_template": "stools"}, set()),
        ({"tokenizer__chat_template__tool_use": "{{ x }}"}, {"function_calling"}),
        ({"tokenizer__chat_template": "{{ '<think>' }}"}, {"reasoning"}),
        ({"tokenizer__chat_template": "{% if enable_thinking %}"}, {"reasoning"}),
        ({"x__pooling_type": 1}, {"embedding"}),
        ({"x__pooling_type": 0}, set()),
        ({"x__pooling_type": 4}, {"reranker"}),
        ({"x__attention__causal": False}, {"embedding"}),
        ({"x__attention__causal": False, "x__pooling_type": 4}, {"reranker"}),
        ({"tokenizer__ggml__fim_pre_token_id": 5}, {"infill"}),
        ({"tokenizer__ggml__tokens": words("a", "<|fim_prefix|>")}, {"infill"}),
        ({"tokenizer__ggml__tokens": words("<|fim_prefix|>s")}, set()),
    ],
)
def test_capabilities_are_read_from_keys_and_texts(keys: dict[str, Value], able: set[str]) -> None:
    found = card([header(**keys)]).capabilities
    assert {name for name in found.__struct_fields__ if getattr(found, name)} == able


@pytest.mark.parametrize(
    ("keys", "able"),
    [
        ({}, {"vision"}),
        ({"clip__has_vision_encoder": True}, {"vision"}),
        ({"clip__has_audio_encoder": True}, {"audio"}),
        ({"clip__has_audio_encoder": True, "clip__has_vision_encoder": True}, {"vision", "audio"}),
    ],
)
def test_a_projector_lets_it_see_and_hear(keys: dict[str, Value], able: set[str]) -> None:
    found = card([header()], header({"v.x": (8, 8)}, **keys))
    assert {name for name in ("vision", "audio") if getattr(found.capabilities, name)} == able
    assert found.projector_size == 256


def test_files_that_are_no_models_are_told_apart() -> None:
    assert kind(header(general__architecture="clip")) == "projector"
    assert kind(header(general__type="mmproj")) == "projector"
    assert kind(header(general__type="adapter")) == "adapter"
    assert kind(header()) == "model"


def test_shards_are_one_model() -> None:
    first = header({"token_embd.weight": (8, 4)}, split__count=2, x__embedding_length=8)
    found = card([first, header({"blk.0.attn_k.weight": (8, 8), "output.weight": (8, 4)})])
    assert shards(first) == found.files == 2
    assert (found.n_params, found.size, found.n_embd) == (128, 512, 8)
    assert found.shape.tied == 0


@pytest.mark.parametrize(
    ("keys", "name"),
    [({"general__file_type": 15}, "Q4_K_M"), ({"general__file_type": 1024 + 15}, "Q4_K_M"), ({}, "Q4_K")],
)
def test_the_quantization_is_what_the_file_says_or_most_of_it_has(keys: dict[str, Any], name: str) -> None:
    made = header({"blk.0.a": (256, 64)}, Q4_K, **keys)
    norm = Tensor("norm", (256,), F32, 0)
    assert card([Header(3, made.metadata, (norm, *made.tensors), 0)]).quantization == name


# -- what layers cache ---------------------------------------------------------------------------------------------

K = {"attn_k.weight": (64, 64)}


def layers(parts: list[dict[str, tuple[int, ...]]], **keys: Value) -> list[tuple[int, int, int, int]]:
    """(k, v, window, state) of each layer."""
    tensors = {f"blk.{index}.{name}": shape for index, part in enumerate(parts) for name, shape in part.items()}
    sizes: dict[str, Value] = {"x__embedding_length": 64, "x__attention__head_count": 4}
    found = card([header(tensors, **{**sizes, **keys})]).shape.layers
    return [(layer.k, layer.v, layer.window, layer.state) for layer in found]


def test_heads_may_be_shared_and_differ_by_layer() -> None:
    assert layers([K]) == [(64, 64, 0, 0)]
    assert layers([K], x__attention__head_count_kv=1) == [(16, 16, 0, 0)]
    assert layers([K, K], x__attention__head_count_kv=numbers(4, 2)) == [(64, 64, 0, 0), (32, 32, 0, 0)]
    assert layers([K], x__attention__key_length=32, x__attention__value_length=8) == [(128, 32, 0, 0)]


def test_mla_keeps_the_latent_vector_only() -> None:
    keys = {"kv_lora_rank": 512, "key_length": 576, "value_length": 512, "key_length_mla": 192}
    mla: dict[str, Value] = {f"x__attention__{key}": value for key, value in keys.items()}
    assert layers([{"attn_kv_a_mqa.weight": (64, 64)}], **mla) == [(576, 0, 0, 0)]


def test_windows_follow_their_pattern() -> None:
    window: dict[str, Value] = {"x__attention__sliding_window": 128}
    listed = layers([K, K], **window, x__attention__sliding_window_pattern=numbers(1, 0))
    assert [layer[2] for layer in listed] == [128, 0]
    every = layers([K] * 4, **window, x__attention__sliding_window_pattern=2)
    assert [layer[2] for layer in every] == [128, 0, 128, 0]
    known = header({f"blk.{i}.attn_k.weight": (64, 64) for i in range(6)}, general__architecture="gemma3")
    known.metadata["gemma3.attention.sliding_window"] = 512
    assert [layer.window for layer in card([known]).shape.layers] == [512] * 5 + [0]


def test_recurrent_layers_keep_a_state_and_hybrids_both() -> None:
    ssm = {"ssm_in.weight": (64, 64)}
    keys: dict[str, Value] = {f"x__ssm__{key}": value for key, value in {"conv_kernel": 4, "inner_size": 128}.items()}
    keys |= {"x__ssm__state_size": 16, "x__ssm__group_count": 1}
    state = 3 * (128 + 2 * 16) + 128 * 16
    assert layers([ssm, K, {**ssm, **K}], **keys) == [(0, 0, 0, state), (64, 64, 0, 0), (64, 64, 0, state)]
    assert layers([{"shortconv.conv.weight": (3, 64)}], x__shortconv__l_cache=3) == [(0, 0, 0, 128)]


def test_layers_that_share_or_predict_keep_nothing() -> None:
    assert [layer[0] for layer in layers([K] * 3, x__attention__shared_kv_layers=2)] == [64, 0, 0]
    assert [layer[0] for layer in layers([K] * 3, x__nextn_predict_layers=1)] == [64, 64, 0]


def test_nonsense_in_the_keys_does_no_harm() -> None:
    wrong: dict[str, Value] = {"x__embedding_length": "a", "x__attention__head_count": -3, "x__ssm__inner_size": 2**62}
    assert layers([K, {"ssm_a": (1,)}], **wrong) == [(0, 0, 0, 0), (0, 0, 0, 0)]


# -- the estimate --------------------------------------------------------------------------------------------------

PLAIN = Card(
    n_ctx_train=1024, n_embd=64, n_vocab=100, shape=Shape((Layer(1000, 32, 32),) * 3, 500, 70, 400, heads=4, width=256)
)
ONE = Model(n_ctx=256, parallel=1)
CACHE = 256 * 64 * 2


def test_without_gpus_everything_is_in_memory() -> None:
    found = estimate(PLAIN, ONE)
    assert found.devices == {RAM: PROCESS + 500 + 70 + 3 * (1000 + CACHE) + found.compute}
    assert (found.weights, found.kv) == (3570, 3 * CACHE)


def test_layers_go_to_the_gpu_from_the_last_one_on_and_the_output_counts_as_one() -> None:
    def on_gpu(count: int) -> int:
        found = estimate(PLAIN, Model(n_ctx=256, parallel=1, n_gpu_layers=count), 1)
        return found.devices.get("gpu:0", DEVICE + found.compute) - DEVICE - found.compute

    assert [on_gpu(count) for count in (0, 1, 2)] == [0, 470, 470 + 1000 + CACHE]
    assert on_gpu(4) == on_gpu(99) == on_gpu(-1) == 470 + 3 * (1000 + CACHE)


def test_several_gpus_share_the_layers() -> None:
    found = estimate(PLAIN, ONE, 2).devices
    assert set(found) == {RAM, "gpu:0", "gpu:1"}
    assert found["gpu:0"] - found["gpu:1"] == 1000 + CACHE - 470


def test_the_cache_follows_context_sequences_and_type() -> None:
    kv = estimate(PLAIN, ONE).kv
    assert estimate(PLAIN, Model(n_ctx=256, parallel=3)).kv == 3 * kv
    assert estimate(PLAIN, Model(n_ctx=250, parallel=1)).kv == kv
    assert estimate(PLAIN, Model(n_ctx=0, parallel=1)).kv == 4 * kv
    assert estimate(PLAIN, Model(n_ctx=9999, parallel=1)).kv == 4 * kv
    assert estimate(PLAIN, Model(n_ctx=256, parallel=1, kv="q8_0")).kv == kv // 64 * 34


def test_states_are_kept_for_each_sequence() -> None:
    recurrent = Card(shape=Shape((Layer(10, state=100),)))
    assert estimate(recurrent, Model(parallel=5)).kv == 100 * 4 * (5 + 2 + 1)  # two are kept, one parks


def test_a_model_without_facts_has_no_estimate() -> None:
    assert estimate(Card(cause="file_corrupt"), ONE).total == 0
