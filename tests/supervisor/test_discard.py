"""Deleting from the caches: what nobody else uses, and nothing more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor import hub, pulled
from supervisor.discard import discard
from supervisor.hub import Caches
from supervisor.shelf import Files


@pytest.fixture
def places(tmp_path: Path) -> Caches:
    (tmp_path / "llama").mkdir()
    return Caches(str(tmp_path / "hub"), str(tmp_path / "llama"))


def put(places: Caches, name: str, blob: str, revision: str = "main1", repository: str = "u/r") -> str:
    """A file of a repository; returns its path in the snapshot."""
    folder = Path(places.hub) / ("models--" + repository.replace("/", "--"))
    for part in ("blobs", "refs", f"snapshots/{revision}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / blob).write_text(blob)
    (folder / "refs" / "main").write_text(revision)
    link = folder / "snapshots" / revision / name
    link.symlink_to(f"../../blobs/{blob}")
    return str(link)


def left(places: Caches) -> list[str]:
    return sorted(name for _, _, names in os.walk(places.hub) for name in names)


def offered(places: Caches) -> dict[str, Files]:
    return {files.name: files for files in hub.offered(places, lambda _: None)}


def test_the_last_model_takes_its_repository_along(places: Caches) -> None:
    model, projector = put(places, "a-Q4_0.gguf", "1"), put(places, "mmproj-F16.gguf", "2")
    (Path(places.hub) / ".locks" / "models--u--r").mkdir(parents=True)
    discard([model, projector], [], places)
    assert left(places) == []
    assert os.listdir(places.hub) == [".locks"]
    assert os.listdir(Path(places.hub) / ".locks") == []


def test_other_models_and_their_projector_stay(places: Caches) -> None:
    model, projector = put(places, "a-Q4_0.gguf", "1"), put(places, "mmproj-F16.gguf", "2")
    put(places, "a-Q8_0.gguf", "3")
    discard([model, projector], [], places)
    assert list(offered(places)) == ["u/r:Q8_0"]
    assert offered(places)["u/r:Q8_0"].projector == projector
    assert left(places) == ["2", "3", "a-Q8_0.gguf", "main", "mmproj-F16.gguf"]


def test_links_of_other_revisions_go_with_the_blob(places: Caches) -> None:
    put(places, "a-Q4_0.gguf", "1", revision="old")
    model = put(places, "a-Q4_0.gguf", "1b", revision="old2")
    os.unlink(model)
    os.symlink("../../blobs/1", model)
    os.unlink(Path(places.hub) / "models--u--r" / "blobs" / "1b")
    discard([model], [], places)
    assert left(places) == []


def test_a_blob_that_somebody_else_uses_stays(places: Caches, tmp_path: Path) -> None:
    model = put(places, "a-Q4_0.gguf", "1")
    elsewhere = tmp_path / "mine.gguf"
    elsewhere.symlink_to(os.path.realpath(model))
    put(places, "README.md", "9")
    discard([model], [str(elsewhere)], places)
    assert elsewhere.read_text() == "1"
    assert left(places) == ["1", "9", "README.md", "main"]


def test_two_names_of_one_blob_are_two_models(places: Caches) -> None:
    first, second = put(places, "a-Q4_0.gguf", "1"), put(places, "a-Q8_0.gguf", "1")
    discard([first], [second], places)
    assert left(places) == ["1", "a-Q8_0.gguf", "main"]


def test_a_download_under_way_in_the_repository_is_left_alone(places: Caches) -> None:
    model = put(places, "a-Q4_0.gguf", "1")
    part = Path(places.hub) / "models--u--r" / "blobs" / "2.pulled.incomplete"
    part.write_text("half")
    discard([model], [], places)
    assert part.read_text() == "half"


def test_llama_cpp_s_cache_loses_file_and_manifest(places: Caches) -> None:
    folder = Path(places.llama)
    for name in ("u_r_a-Q4_0.gguf", "u_r_a-Q4_0.gguf.etag", "manifest=u=r=latest.json", "u_other_b.gguf"):
        (folder / name).write_text("")
    discard([str(folder / "u_r_a-Q4_0.gguf")], [], places)
    assert os.listdir(folder) == ["u_other_b.gguf"]


def test_nothing_outside_the_caches_is_deleted(places: Caches, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_text("mine")
    for path in (mine, tmp_path / "hub" / "models--u--r" / "snapshots" / ".." / ".." / ".." / "mine.gguf"):
        if os.path.lexists(path):
            with pytest.raises(PermissionError):
                discard([str(path)], [], places)
    link = put(places, "a-Q4_0.gguf", "1")
    os.unlink(link)
    os.symlink(mine, link)
    discard([link], [], places)
    assert mine.read_text() == "mine"


def test_what_was_fetched_is_remembered_until_it_is_deleted(tmp_path: Path) -> None:
    state = str(tmp_path)
    assert pulled.names(state) == pulled.names("") == set()
    pulled.add(state, "u/r:Q4_0")
    pulled.add(state, "u/r:Q8_0")
    assert pulled.names(state) == {"u/r:Q4_0", "u/r:Q8_0"}
    pulled.remove(state, "u/r:Q4_0")
    pulled.remove(state, "u/none")
    assert pulled.names(state) == {"u/r:Q8_0"}
