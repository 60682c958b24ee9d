"""What an unloaded model leaves behind is there when it comes back, and a folder keeps it over a restart."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests import model_classes
from tests.e2e.server import PATIENCE, Server, until

STORY = "A long story about a fox, a dog and a hen that lived beside the old mill near the river. " * 6


def toml(*models: str, folder: Path | None = None, memory: str = '"64MiB"') -> str:
    where = f'dir = "{folder}"' if folder else ""
    tables = "".join(
        f'[models.{name}]\npath = "{model_classes.path(name)}"\nn_ctx = 1024\nflash_attention = "off"\n'
        for name in models
    )
    return f"[placement]\nmax_models = 1\n[parking]\nmemory = {memory}\n{where}\n{tables}"


def ask(server: Server, model: str) -> tuple[str, int]:
    """The text of a completion, and how much of its prompt was in the cache."""
    body = {"model": model, "prompt": STORY, "max_tokens": 12, "temperature": 0}
    reply = server.http.post("/v1/completions", json=body, timeout=PATIENCE).json()
    return reply["choices"][0]["text"], reply["usage"]["prompt_tokens_details"]["cached_tokens"]


def unload(server: Server, model: str) -> None:
    server.http.post("/models/unload", json={"model": model})
    until(lambda: server.state(model) == "unloaded", what="unloaded")


def test_a_swap_costs_no_prompt(tmp_path: Path) -> None:
    with Server(tmp_path, toml("gqa", "hybrid")) as server:
        first = {model: ask(server, model)[0] for model in ("gqa", "hybrid")}  # each makes the other go
        for model in ("gqa", "hybrid", "gqa"):
            text, cached = ask(server, model)
            assert text == first[model]
            assert cached > 450
        unload(server, "gqa")
        assert ask(server, "gqa")[1] > 450


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that a server has left, and what it had said."""
    place = tmp_path_factory.mktemp("one")
    with Server(place, toml("gqa", folder=place / "park")) as server:
        text, cached = ask(server, "gqa")
        assert cached == 0
    return place / "park", text


def test_a_folder_keeps_it_over_a_restart(tmp_path: Path, kept: tuple[Path, str]) -> None:
    (file,) = kept[0].iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    folder = shutil.copytree(kept[0], tmp_path / "park")
    with Server(tmp_path, toml("gqa", folder=folder)) as server:
        text, cached = ask(server, "gqa")
    assert text == kept[1]
    assert cached > 450


def test_a_damaged_file_is_taken_for_none(tmp_path: Path, kept: tuple[Path, str]) -> None:
    folder = shutil.copytree(kept[0], tmp_path / "park")
    (file,) = folder.iterdir()
    os.truncate(file, 100)
    with Server(tmp_path, toml("gqa", folder=folder)) as server:
        assert ask(server, "gqa") == (kept[1], 0)


def test_without_memory_nothing_is_kept(tmp_path: Path) -> None:
    with Server(tmp_path, toml("gqa", memory="0")) as server:
        ask(server, "gqa")
        unload(server, "gqa")
        assert ask(server, "gqa")[1] == 0
