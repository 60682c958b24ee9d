"""What each architecture needs in its file: the keys, as GGUFWriter names them, and the tensors with their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layer = Literal["attention", "mamba", "convolution"]
Shapes = dict[str, tuple[int, ...]]

WINDOW = 64
_WIDTH, _HEADS, _HEAD, _FF = 64, 2, 32, 64  # heads of 32, as q8_0 KV needs
_INNER, _STATE, _RANK, _CONV = 2 * _WIDTH, 16, 32, 4  # llama.cpp has mamba's inner width fixed at twice the width
_EXPERTS, _TAPS = 4, 3

_BASE: dict[str, object] = {"embedding_length": _WIDTH, "layer_norm_rms_eps": 1e-5}
_HEADED: dict[str, object] = {**_BASE, "head_count": _HEADS, "rope_dimension_count": _HEAD}
_GQA: dict[str, object] = {**_HEADED, "head_count_kv": 1, "feed_forward_length": _FF, "block_count": 2}
_MAMBA: dict[str, object] = {
    "ssm_conv_kernel": _CONV,
    "ssm_inner_size": _INNER,
    "ssm_state_size": _STATE,
    "ssm_time_step_rank": _RANK,
}
_SANDWICH: dict[str, object] = {**_HEADED, "head_count_kv": [0, 1, 0], "feed_forward_length": _FF, "block_count": 3}


@dataclass(frozen=True)
class Architecture:
    """`kv` is the number of KV heads; `norms` are per layer, `head_norms` per layer of attention."""

    name: str
    keys: dict[str, object]
    layers: tuple[Layer, ...]
    kv: int = 1
    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    head_norms: tuple[str, ...] = ()
    output_norm: str = "output_norm"
    biased: bool = False
    experts: bool = False
    inner_norms: bool = False
    feeds: bool = True


ALL = {
    "gqa": Architecture("llama", _GQA, ("attention",) * 2),
    "moe": Architecture(
        "llama", {**_GQA, "expert_count": _EXPERTS, "expert_used_count": 2}, ("attention",) * 2, experts=True
    ),
    "swa": Architecture(
        "gemma3",
        {
            **_GQA,
            "block_count": 4,
            "key_length": _HEAD,
            "value_length": _HEAD,
            "sliding_window": WINDOW,
            "sliding_window_pattern": [True, False, True, False],
        },
        ("attention",) * 4,
        norms=("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
        head_norms=("attn_q_norm", "attn_k_norm"),
    ),
    "recurrent": Architecture(
        "mamba",
        {**_BASE, **_MAMBA, "block_count": 2, "feed_forward_length": 0, "head_count": 0},
        ("mamba",) * 2,
        norms=("attn_norm",),
        feeds=False,
    ),
    "hybrid": Architecture("jamba", {**_SANDWICH, **_MAMBA}, ("mamba", "attention", "mamba"), inner_norms=True),
    "rollback": Architecture(
        "lfm2",
        {**_SANDWICH, "shortconv_l_cache": _TAPS},
        ("convolution", "attention", "convolution"),
        head_norms=("attn_q_norm", "attn_k_norm"),
        output_norm="token_embd_norm",
    ),
    "mrope": Architecture(
        "qwen2vl", {**_GQA, "rope_dimension_sections": [4, 6, 6, 0]}, ("attention",) * 2, biased=True
    ),
    "spm": Architecture("llama", _GQA, ("attention",) * 2),
}


def tensors(architecture: Architecture, n_vocab: int) -> Shapes:
    """Every tensor of the file and its shape, rows first."""
    shapes: Shapes = {
        "token_embd.weight": (n_vocab, _WIDTH),
        f"{architecture.output_norm}.weight": (_WIDTH,),
        "output.weight": (n_vocab, _WIDTH),
    }
    for number, layer in enumerate(architecture.layers):
        parts = _mixer(layer, architecture) | _feed(architecture)
        parts |= {f"{norm}.weight": (_WIDTH,) for norm in architecture.norms}
        shapes |= {f"blk.{number}.{name}": shape for name, shape in parts.items()}
    return shapes


def _mixer(layer: Layer, architecture: Architecture) -> Shapes:
    match layer:
        case "attention":
            return _attention(architecture)
        case "mamba":
            return _mamba(architecture)
        case "convolution":
            return {
                "shortconv.conv.weight": (_WIDTH, _TAPS),
                "shortconv.in_proj.weight": (3 * _WIDTH, _WIDTH),
                "shortconv.out_proj.weight": (_WIDTH, _WIDTH),
            }


def _attention(architecture: Architecture) -> Shapes:
    widths = {"q": _HEADS * _HEAD, "k": architecture.kv * _HEAD, "v": architecture.kv * _HEAD}
    biases = {f"attn_{part}.bias": (width,) for part, width in widths.items() if architecture.biased}
    return {
        **{f"attn_{part}.weight": (width, _WIDTH) for part, width in widths.items()},
        "attn_output.weight": (_WIDTH, _HEADS * _HEAD),
        **biases,
        **{f"{norm}.weight": (_HEAD,) for norm in architecture.head_norms},
    }


def _mamba(architecture: Architecture) -> Shapes:
    norms = {"ssm_dt_norm.weight": (_RANK,), "ssm_b_norm.weight": (_STATE,), "ssm_c_norm.weight": (_STATE,)}
    return {
        "ssm_in.weight": (2 * _INNER, _WIDTH),
        "ssm_conv1d.weight": (_INNER, _CONV),
        "ssm_conv1d.bias": (_INNER,),
        "ssm_x.weight": (_RANK + 2 * _STATE, _INNER),
        "ssm_dt.weight": (_INNER, _RANK),
        "ssm_dt.bias": (_INNER,),
        "ssm_a": (_INNER, _STATE),
        "ssm_d": (_INNER,),
        "ssm_out.weight": (_WIDTH, _INNER),
        **(norms if architecture.inner_norms else {}),
    }


def _feed(architecture: Architecture) -> Shapes:
    if not architecture.feeds:
        return {}
    shapes: Shapes = {"ffn_gate": (_FF, _WIDTH), "ffn_up": (_FF, _WIDTH), "ffn_down": (_WIDTH, _FF)}
    if architecture.experts:
        experts = {f"{name}_exps.weight": (_EXPERTS, *shape) for name, shape in shapes.items()}
        return {"ffn_gate_inp.weight": (_EXPERTS, _WIDTH), **experts}
    return {f"{name}.weight": shape for name, shape in shapes.items()}
