"""Sampling parameters that are more than a number, in every spelling that files and clients use. API.md, 5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from supervisor.schema import Parsed

ORDER = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
_LETTERS = {
    "e": "penalties", "d": "dry", "s": "top_n_sigma", "k": "top_k", "y": "typ_p", "p": "top_p", "m": "min_p",
    "x": "xtc", "t": "temperature", "i": "infill", "a": "adaptive_p",
}  # fmt: skip
NAMES = frozenset(_LETTERS.values())
_ALIASES = {
    "temp": "temperature", "nucleus": "top_p", "typ": "typ_p", "typical": "typ_p", "typical_p": "typ_p",
    **{name.replace("_", ""): name for name in NAMES},
}  # fmt: skip
MAX_SAMPLERS = 64
MAX_BREAKERS = 64
MAX_BIASES = 2**16

Bias = tuple[int | str, float]  # a token, or text that stands for each of its tokens; −∞ = never


def parse_samplers(value: object) -> tuple[str, ...]:
    """Names in order, from a list, from names joined by `;`, or from letters; unknown ones are skipped.

    Raises ValueError.
    """
    if isinstance(value, str):
        if ";" not in value and _name(value) not in NAMES:
            return tuple(_LETTERS[letter] for letter in value[:MAX_SAMPLERS] if letter in _LETTERS)
        value = value.split(";")
    if not isinstance(value, list | tuple) or len(value) > MAX_SAMPLERS:
        raise ValueError
    if not all(isinstance(word, str) for word in value):
        raise ValueError
    return tuple(name for name in map(_name, value) if name in NAMES)


def _name(word: str) -> str:
    plain = word.strip().lower().replace("-", "_")
    return _ALIASES.get(plain, plain)


def parse_breakers(value: object) -> tuple[str, ...]:
    """Texts that end a repetition for the DRY sampler; at least one. Raises ValueError."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_BREAKERS:
        raise ValueError
    if not all(isinstance(text, str) and text and "\0" not in text for text in value):
        raise ValueError
    return tuple(value)


def parse_bias(value: object) -> tuple[Bias, ...]:
    """Pairs of token and number, from a list of pairs or an object; false means never. Raises ValueError."""
    if not isinstance(value, Mapping | list | tuple) or len(value) > MAX_BIASES:
        raise ValueError
    if isinstance(value, Mapping):
        return tuple((_token(int(key) if _is_id(key) else key), _amount(item)) for key, item in value.items())
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        raise ValueError
    return tuple((_token(token), _amount(amount)) for token, amount in value)


def _is_id(key: object) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 11


def _token(value: object) -> int | str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    raise ValueError


def _amount(value: object) -> float:
    if value is False:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
        raise ValueError
    return float(value)


Samplers = Annotated[
    tuple[str, ...], Parsed(f"list of at most {MAX_SAMPLERS} names of samplers, or their letters", parse_samplers)
]
Breakers = Annotated[tuple[str, ...], Parsed(f"list of 1 to {MAX_BREAKERS} strings that are not empty", parse_breakers)]
LogitBias = Annotated[
    tuple[Bias, ...],
    Parsed(
        f"list of at most {MAX_BIASES} pairs of a token id ≥ 0 or string and a number or false, or an object of them",
        parse_bias,
    ),
]
