"""llama-server's options in an INI file, as keys of ours."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.presets import read


def table(options: str) -> dict[str, Any]:
    tables, warnings = read(f"[m]\n{options}\n")
    assert warnings == []
    found = tables["m"]
    sampling = found.pop("sampling")
    return {**found, **sampling}


LORA = {"path": "a.gguf"}


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ("model = /x/y.gguf", {"path": "/x/y.gguf"}),
        ("LLAMA_ARG_MODEL = y.gguf", {"path": "y.gguf"}),
        ("hf = u/r", {"hf": "u/r"}),
        ("hf-repo = u/r:Q8_0", {"hf": "u/r:Q8_0"}),
        ("mmproj = p.gguf", {"mmproj": "p.gguf"}),
        ("c = 4096", {"n_ctx": 4096, "parallel": 1}),
        ("ctx-size = 4096\nparallel = 4", {"n_ctx": 1024, "parallel": 4}),
        ("LLAMA_ARG_CTX_SIZE = 4096\nLLAMA_ARG_N_PARALLEL = 2", {"n_ctx": 2048, "parallel": 2}),
        ("ctx-size = 4096\nparallel = 4\nkv-unified = 1", {"n_ctx": 4096, "parallel": 1}),
        ("ctx-size = 0\nparallel = -1", {"n_ctx": 0, "parallel": 1}),
        ("np = 8", {"parallel": 8}),
        ("n-gpu-layers = 12", {"n_gpu_layers": 12}),
        ("ngl = all", {"n_gpu_layers": -1}),
        ("gpu-layers = auto", {"n_gpu_layers": -1}),
        ("fa = on", {"flash_attention": "on"}),
        ("flash-attn = auto", {"flash_attention": "auto"}),
        ("flash-attn = 0", {"flash_attention": "off"}),
        ("cache-type-k = q8_0\ncache-type-v = q8_0", {"kv": "q8_0"}),
        ("no-mmap = true", {"mmap": False}),
        ("mmap = 0\nmlock = on", {"mmap": False, "mlock": True}),
        ("load-mode = mmap+mlock", {"mmap": True, "mlock": True}),
        ("b = 64\nub = 32\nt = -1", {"n_batch": 64, "n_ubatch": 32, "threads": 0}),
        ("load-on-startup = true\njinja = on", {"preload": True}),
        ("alias = a, b\ntags = x", {"aliases": ["a", "b"], "tags": ["x"]}),
        ("temp = 0.5\n--top-k = 3\nseed = 7", {"temperature": 0.5, "top_k": 3, "seed": 7}),
        ("samplers = top_k;temperature", {"samplers": ["top_k", "temperature"]}),
        ("chat-template-file = t.jinja", {"chat_template": "t.jinja"}),
        ("lora = a.gguf, b.gguf", {"lora": [{"path": "a.gguf"}, {"path": "b.gguf"}]}),
        (
            "lora-scaled = a.gguf:0.5,b:c:-1",
            {"lora": [LORA | {"scale": 0.5}, {"path": "b:c", "scale": -1.0}]},
        ),
        ("lora = a.gguf\nlora-init-without-apply = true", {"lora": [LORA | {"scale": 0.0}]}),
    ],
)
def test_options_become_keys(options: str, keys: dict[str, Any]) -> None:
    assert table(options) == keys


def test_what_all_have_stands_below_what_one_says() -> None:
    text = "version = 1\n; a comment\n[*]\nctx-size = 10\ntemp = 1\n# another\n[a]\ntemp = 0\n[b]\nhost = x ; y\n"
    tables, warnings = read(text)
    assert [tables[name]["n_ctx"] for name in "ab"] == [10, 10]
    assert [tables[name]["sampling"]["temperature"] for name in "ab"] == [0.0, 1.0]
    assert warnings == ["[b].host: not known here, ignored"]


def test_keys_and_values_of_different_types_are_not_possible() -> None:
    tables, warnings = read("[a]\ncache-type-k = q8_0\n")
    assert "kv" not in tables["a"]
    assert warnings == ["[a].cache-type-k: K and V of one type only, ignored"]


def test_percent_signs_and_equal_signs_are_text() -> None:
    assert table("model = a=b%20c") == {"path": "a=b%20c"}
