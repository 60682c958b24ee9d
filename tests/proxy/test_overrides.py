"""Settings of one load, as a request says them."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.dialects.overrides import KEYS, parse
from proxy.errors import BadRequest
from supervisor.config import Model


def test_what_a_client_says_is_checked_like_the_file() -> None:
    assert parse({"n_ctx": 512, "kv": "q8_0", "threads": None}) == {"n_ctx": 512, "kv": "q8_0"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"n_ctx": "8k"}, r"overrides\.n_ctx: expected integer"),
        ({"n_ctx": -1}, r"overrides\.n_ctx: expected integer from 0"),
        ({"kv": "q3"}, r'^overrides\.kv: expected "f32" or'),
        ({"nctx": 1}, r'^overrides\.nctx: expected one of .* did you mean "n_ctx"'),
        ({"path": "/etc/passwd"}, r"overrides\.path: expected one of n_ctx"),
        ([1], r"overrides: expected an object"),
    ],
)
def test_what_may_not_be_said_is_refused_at_its_place(said: Any, expected: str) -> None:
    with pytest.raises(BadRequest, match=expected):
        parse(said)


def test_every_key_is_one_of_a_model() -> None:
    assert set(KEYS) <= set(Model.__struct_fields__)
