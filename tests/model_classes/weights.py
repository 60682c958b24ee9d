"""Random weights under which a model listens to what lies far back, and says printable ASCII."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]
_GAIN = 1.6  # of a matrix: sharp attention, lively logits, yet no layer drowns the others
_EMBEDDING = 0.05  # the residual begins small, so that the layers, not the last token, decide


def multiplies(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it is a matrix to multiply by: as q8_0, unlike f32, it gives a row the same result in any batch."""
    return len(shape) > 1 and shape[-1] % 32 == 0 and "ssm_a" not in name


def draw(name: str, shape: tuple[int, ...], seed: int, speakable: Sequence[bool]) -> Weights:
    """The tensor of this name; `speakable` says which tokens may be the most likely ones: others have logit 0."""
    random = np.random.default_rng([seed, len(name), *name.encode()])
    noise = random.standard_normal(shape)
    match name.split(".", 2)[2] if name.startswith("blk.") else name:
        case "token_embd.weight":
            values = _EMBEDDING * noise
        case "output.weight":
            values = 0.4 * noise * np.asarray(speakable)[:, None]
        case "ssm_a":  # decay per unit of time step; at a step of 0.03, the slowest of a channel lasts 3000 tokens
            values = np.broadcast_to(-np.geomspace(0.01, 4.0, shape[1]), shape)
        case "ssm_dt.bias":  # the time step before softplus
            steps = np.exp(random.uniform(np.log(0.01), np.log(0.1), shape))
            values = steps + np.log(-np.expm1(-steps))
        case "ssm_dt.weight":
            values = 0.2 * noise
        case "ssm_d":
            values = 0.2 * noise
        case "ssm_conv1d.weight" | "shortconv.conv.weight":
            values = noise
        case "attn_q_norm.weight" | "attn_k_norm.weight":  # as sharp as heads without norms
            values = _GAIN * (1 + 0.2 * noise)
        case part if "norm" in part:
            values = 1 + 0.2 * noise
        case part if part.endswith(".bias"):
            values = 0.2 * noise
        case _:
            values = _GAIN / np.sqrt(shape[-1]) * noise
    return values.astype(np.float32)
