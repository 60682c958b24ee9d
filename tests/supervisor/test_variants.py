"""[models.NAME] with a base: another name for a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config import Config, ConfigError, Model, Sampling
from supervisor.configfile import load

ECHO = 'worker = "tests.echo_worker:main"\n'
BASE = f'[models.qwen3]\n{ECHO}aliases = ["q"]\ndescription = "whole"\nchat_template_kwargs = {{ a = 1, b = 1 }}\n'


def read(folder: Path, text: str) -> Config:
    (folder / "models.toml").write_text(text)
    return load(folder / "models.toml")


def test_a_variant_is_a_name_and_no_model(tmp_path: Path) -> None:
    config = read(tmp_path, BASE + '[models.fast]\nbase = "q"\naliases = ["f"]\n')
    assert set(config.models) == {"qwen3"}
    assert config.variants["fast"].base == "qwen3"
    assert config.names == {"q": "qwen3", "qwen3": "qwen3", "f": "fast", "fast": "fast"}


def test_it_is_as_its_base_where_it_says_nothing(tmp_path: Path) -> None:
    text = BASE + "[models.qwen3.sampling]\ntop_k = 5\nmin_p = 0.5\n[models.fast]\nbase = 'qwen3'\nname = 'Fast'\n"
    config = read(tmp_path, text + "sampling = { top_k = 9 }\nchat_template_kwargs = { b = 2 }\n")
    shown = config.models["qwen3"].variant("fast", config.variants["fast"])
    assert (shown.name, shown.title, shown.description, shown.aliases) == ("fast", "Fast", "whole", ())
    assert shown.sampling == Sampling(top_k=9, min_p=0.5)
    assert shown.chat_template_kwargs == {"a": 1, "b": 2}
    assert shown.worker == "tests.echo_worker:main"


def test_defaults_reach_variants_through_their_base_only(tmp_path: Path) -> None:
    config = read(tmp_path, "[defaults]\nn_ctx = 7\n[defaults.force]\ntop_k = 1\n" + BASE + "[models.f]\nbase='q'\n")
    assert config.variants["f"].n_ctx == Model().n_ctx
    assert config.models["qwen3"].force.top_k == 1
    assert config.models["qwen3"].variant("f", config.variants["f"]).force.top_k == 1


def test_default_model_may_be_a_variant(tmp_path: Path) -> None:
    read(tmp_path, BASE + '[models.fast]\nbase = "q"\n[admission]\ndefault_model = "fast"\n')


def test_a_base_may_be_found_later_in_a_folder(tmp_path: Path) -> None:
    config = read(tmp_path, '[sources]\nmodels_dir = "."\n[models.fast]\nbase = "later"\n')
    assert config.variants["fast"].base == "later"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = 'qwen4'", r'\[models\.v\]\.base: expected a model\'s name, got "qwen4"; did you mean "qwen3"'),
        ("base = 'v'", r"\[models\.v\]\.base: expected a model that has no base itself"),
        ("base = 'w'\n[models.w]\nbase = 'q'", r'\[models\.v\]\.base: .*"w" is a variant too'),
        (
            "base = 'q'\nn_ctx = 5",
            r'\[models\.v\]\.n_ctx: expected no such key beside "base", got 5; it shares one load',
        ),
        ("base = 'q'\npin = true", r"\[models\.v\]\.pin"),
        ("base = 'q'\npath = 'x'", r"\[models\.v\]\.path"),
        ("base = 'q'\naliases = ['q']", r"\[models\.v\]\.aliases\[0\]: .* has it already"),
        ("base = 'q'\nsystem_prompt_mode = 'never'", r"\[models\.v\]\.system_prompt_mode"),
        ("base = 'q'\n[models.v.force]\ntop_k = 'x'", r"\[models\.v\]\.force\.top_k"),
        ("base = 'q'\nchat_template_kwargs = { enable_thinking = 1 }", r"kwargs\.enable_thinking: expected true or"),
        ("base = 'q'\nchat_template_kwargs = { x = [1979-05-27] }", r"kwargs\.x\[0\]: expected what JSON can say"),
    ],
)
def test_wrong_variants(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, BASE + f"[models.v]\n{text}\n")


def test_defaults_have_no_base(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[defaults\]\.base"):
        read(tmp_path, BASE + "[defaults]\nbase = 'q'\n")
