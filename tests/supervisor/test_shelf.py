"""Which files make which model: in a folder, in caches, in memory of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor import hub, keepsakes, shelf
from supervisor.card import Card
from supervisor.control import Footprint
from supervisor.hub import Absent, Caches, resolve
from supervisor.keepsakes import Keepsakes
from supervisor.shelf import Files, group, legal, look, siblings

PAIR = ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("names", "title", "found"),
    [
        (["b.gguf", "a.GGUF"], "", [("a", ["a.GGUF"], ""), ("b", ["b.gguf"], "")]),
        (["x-00002-of-00002.gguf", "x-00001-of-00002.gguf"], "", [("x", PAIR, "")]),
        (["w.gguf", "mmproj-f16.gguf"], "gemma", [("gemma", ["w.gguf"], "mmproj-f16.gguf")]),
        (["w.gguf", "mmproj-Q8_0.gguf", "mmproj-BF16.gguf"], "g", [("g", ["w.gguf"], "mmproj-BF16.gguf")]),
        (["w.gguf", "w.mmproj.gguf"], "g", [("g", ["w.gguf"], "w.mmproj.gguf")]),
        (PAIR, "big", [("big", PAIR, "")]),
        (["a.gguf", "b.gguf", "mmproj.gguf"], "two", [(name, [f"{name}.gguf"], "mmproj.gguf") for name in "ab"]),
        (["w.gguf", "mmproj.gguf"], "", [("w", ["w.gguf"], "")]),
        (["mmproj.gguf"], "g", []),
    ],
)  # fmt: skip
def test_files_that_belong_together_are_one_model(
    names: list[str], title: str, found: list[tuple[str, list[str], str]]
) -> None:
    made = [Files(name, tuple(f"/f/{path}" for path in paths), p and f"/f/{p}") for name, paths, p in found]
    assert group(names, "/f", title) == made


def test_folders_in_folders_are_named_by_the_whole_way(tmp_path: Path) -> None:
    for name in ("top.gguf", "pub/model/w.gguf", "pub/model/mmproj.gguf", ".hidden/x.gguf", "a/b/c/d/e/deep.gguf"):
        touch(tmp_path / name)
    found, folders = look(str(tmp_path))
    assert [files.name for files in found] == ["top", "pub/model"]
    assert found[1].projector.endswith("pub/model/mmproj.gguf")
    assert str(tmp_path / "pub") in folders


def test_a_folder_that_is_not_there_is_an_error_and_one_inside_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(str(tmp_path / "none"))
    (tmp_path / "loop").symlink_to(tmp_path / "nowhere")
    assert look(str(tmp_path))[0] == []


def test_names_are_made_legal() -> None:
    assert [legal(name) for name in ("a b", "Ünï", "-x-", "…", "q" * 300)] == ["a-b", "n", "x", "model", "q" * 200]


def test_the_shards_of_a_first_one_follow_from_its_name() -> None:
    assert siblings("/x/a.gguf") == ("/x/a.gguf",)
    assert siblings("/x/a-00001-of-00003.gguf") == tuple(f"/x/a-0000{i}-of-00003.gguf" for i in (1, 2, 3))


# -- caches --------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> Caches:
    places = Caches(str(tmp_path / "hub"), str(tmp_path / "llama"))
    snapshots = Path(places.hub) / "models--user--repo-GGUF" / "snapshots"
    for name in ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", "UD/m-UD-Q2_K_XL-00001-of-00001.gguf"):
        touch(snapshots / "rev2" / name)
    touch(snapshots / "rev1" / "m-IQ1_S.gguf")
    refs = touch(snapshots.parent / "refs" / "main")
    refs.write_text("rev2")
    touch(Path(places.llama) / "other_thing_t-Q5_K_M.gguf")
    touch(Path(places.llama) / "other_thing_mmproj-f16.gguf")
    touch(Path(places.llama) / "manifest=other=thing=latest.json")
    return places


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("user/repo-GGUF", "rev2/m-Q4_K_M.gguf"),
        ("user/repo-GGUF:q8_0", "rev2/m-Q8_0.gguf"),
        ("user/repo-GGUF:UD-Q2_K_XL", "rev2/UD/m-UD-Q2_K_XL-00001-of-00001.gguf"),
        ("other/thing", "llama/other_thing_t-Q5_K_M.gguf"),
    ],
)
def test_a_repository_leads_to_a_file(places: Caches, spec: str, file: str) -> None:
    found = resolve(spec, places)
    assert isinstance(found, Files)
    assert found.paths[0].endswith(file)
    assert "mmproj" in found.projector


def test_what_is_not_there_says_what_is_or_how_to_get_it(places: Caches) -> None:
    absent = resolve("user/repo-GGUF:Q6_K", places)
    assert isinstance(absent, Absent)
    assert "is in the local cache, but not Q6_K; there is: Q4_K_M, Q8_0, UD-Q2_K_XL; " in absent.problem
    absent = resolve("nobody/x:Q8_0", places)
    assert isinstance(absent, Absent)
    way_out = 'POST /models {"model": "nobody/x:Q8_0"} fetches it'
    assert absent.problem.startswith(f"nobody/x is in no local cache; {way_out}")


def test_without_a_main_the_newest_revision_counts(places: Caches) -> None:
    folder = Path(places.hub) / "models--user--repo-GGUF"
    (folder / "refs" / "main").unlink()
    os.utime(folder / "snapshots" / "rev2", (1, 1))
    found = resolve("user/repo-GGUF", places)
    assert isinstance(found, Files)
    assert found.paths[0].endswith("rev1/m-IQ1_S.gguf")


def test_the_caches_offer_all_they_have(places: Caches) -> None:
    visited: list[str] = []
    names = [files.name for files in hub.offered(places, visited.append)]
    assert names == ["other/thing:Q5_K_M", "user/repo-GGUF:Q4_K_M", "user/repo-GGUF:Q8_0", "user/repo-GGUF:UD-Q2_K_XL"]
    assert visited == ["other/thing", "user/repo-GGUF"]
    assert hub.offered(Caches("/none", "/none"), visited.append) == []


@pytest.mark.parametrize(
    ("environment", "caches"),
    [
        ({"HOME": "/h"}, ("/h/.cache/huggingface/hub", "/h/.cache/llama.cpp")),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, ("/x/huggingface/hub", "/x/llama.cpp")),
        ({"HF_HOME": "/hf", "LLAMA_CACHE": "/l"}, ("/hf/hub", "/l")),
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/hf"}, ("/c", "/.cache/llama.cpp")),
    ],
)
def test_caches_are_where_the_libraries_have_them(environment: dict[str, str], caches: tuple[str, str]) -> None:
    assert hub.caches(environment) == Caches(*caches)


# -- what is kept --------------------------------------------------------------------------------------------------


def test_a_card_is_kept_until_its_file_is_another(tmp_path: Path) -> None:
    file = str(touch(tmp_path / "a.gguf"))
    kept = Keepsakes(str(tmp_path / "state"))
    first = keepsakes.identity([file])
    kept.keep(file, first, Card(name="one"))
    kept.save_cards()
    kept = Keepsakes(str(tmp_path / "state"))
    assert kept.card(file, first) == Card(name="one")
    os.utime(file, ns=(1, 1))
    assert kept.card(file, keepsakes.identity([file])) is None


def test_cards_of_files_that_are_gone_are_dropped(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    kept = Keepsakes(state)
    for name in "ab":
        kept.keep(name, ((1, 2, 3),), Card(name=name))
    kept.save_cards()
    kept = Keepsakes(state)
    assert kept.card("a", ((1, 2, 3),)) == Card(name="a")
    kept.save_cards()
    assert Keepsakes(state).card("b", ((1, 2, 3),)) is None


def test_memory_is_kept_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepsakes, "MOST_MEMORIES", 2)
    kept = Keepsakes(str(tmp_path))
    for number, key in enumerate("abca"):
        kept.remember(key, Footprint({"ram": number}))
    assert Keepsakes(str(tmp_path)).memory == {"c": Footprint({"ram": 2}), "a": Footprint({"ram": 3})}


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00garbage", b"\x93\x01\x02\x03", b"\x82\xa7version\xcd\x03\xe7\xa5cards\x80"]
)
def test_whatever_stands_in_the_state_folder_does_no_harm(tmp_path: Path, content: bytes) -> None:
    for name in ("cards.msgpack", "memory.msgpack"):
        (tmp_path / name).write_bytes(content)
    kept = Keepsakes(str(tmp_path))
    assert kept.memory == {}
    assert kept.card("a", ((1, 2, 3),)) is None


def test_a_state_folder_that_cannot_be_written_is_said_and_gone_without(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    kept = Keepsakes(str(tmp_path / "file" / "state"))
    kept.remember("a", Footprint({"ram": 1}))
    assert kept.memory == {"a": Footprint({"ram": 1})}
    assert "Not a directory" in kept.problem


def test_the_state_folder_is_where_such_things_belong() -> None:
    assert keepsakes.folder("/s", {}) == "/s"
    assert keepsakes.folder("", {"XDG_STATE_HOME": "/x"}) == "/x/llama-supervisor"
    assert keepsakes.folder("", {"HOME": "/h"}) == "/h/.local/state/llama-supervisor"


def test_look_tells_each_folder_before_it_touches_it(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "x.gguf")
    visited: list[str] = []
    shelf.look(str(tmp_path), visited.append)
    assert visited == [str(tmp_path), str(tmp_path / "in")]
