"""One download against a stand-in of a hub: whole or not at all, whatever the network does."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from supervisor import hub as caches
from supervisor import pulled
from supervisor.control import Download, Downloaded, DownloadFailed, Message, Planned
from tests.e2e.server import until
from tests.hub import SIGNATURE, Hub, revision
from worker.download import failure, job, remote, transfer
from worker.download.cache import Cache
from worker.download.job import Job

DATA = bytes(range(256)) * 1200  # 307,200 bytes
TOKEN = "hf_verysecret"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "llama"))
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    monkeypatch.setattr(remote, "_PAUSE", 0.01)
    with Hub() as stand_in:
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", stand_in.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        stand_in.add("u/r", {"README.md": b"#", "r-Q4_K_M.gguf": DATA, "r-Q8_0.gguf": DATA * 2})
        yield stand_in


def run(spec: str, tmp_path: Path, token: str = "", **more: Any) -> list[Message]:
    told: list[Message] = []
    Job(Download(spec, str(tmp_path / "state"), token), told.append, **more).run()
    return told


def failed(told: list[Message], tmp_path: Path) -> DownloadFailed:
    """How it failed; nothing bears a final name then."""
    assert isinstance(told[-1], DownloadFailed), told
    assert listed() == {}
    assert [path for path in blobs(tmp_path) if not path.endswith(".pulled.incomplete")] == []
    assert pulled.names(str(tmp_path / "state")) == set()
    return told[-1]


def listed() -> dict[str, tuple[tuple[str, ...], str]]:
    places = caches.caches(os.environ)
    return {files.name: (files.paths, files.projector) for files in caches.offered(places, lambda _: None)}


def blobs(tmp_path: Path) -> list[str]:
    folder = tmp_path / "hub" / "models--u--r" / "blobs"
    return sorted(os.listdir(folder)) if folder.exists() else []


def content(name: str) -> bytes:
    return b"".join(Path(path).read_bytes() for path in listed()[name][0])


def test_a_model_is_fetched_into_the_cache_as_its_own_library_lays_it_out(hub: Hub, tmp_path: Path) -> None:
    told = run("u/r", tmp_path)
    assert isinstance(told[0], Planned)
    assert told[0].name == "u/r:Q4_K_M"
    assert list(told[0].files.values()) == [(0, len(DATA))]
    assert isinstance(told[-1], Downloaded)
    assert content("u/r:Q4_K_M") == DATA
    link = listed()["u/r:Q4_K_M"][0][0]
    digest = hashlib.sha256(DATA).hexdigest()
    assert os.readlink(link) == f"../../blobs/{digest}"
    assert f"/snapshots/{revision('u/r')}/" in link
    assert (tmp_path / "hub/models--u--r/refs/main").read_text() == revision("u/r")
    assert blobs(tmp_path) == [digest]
    assert pulled.names(str(tmp_path / "state")) == {"u/r:Q4_K_M"}


@pytest.mark.parametrize(
    ("asked", "files", "chosen"),
    [
        ("u/x", ["a-BF16.gguf", "a-Q4_K_M.gguf", "a-Q8_0.gguf"], ["a-Q4_K_M.gguf"]),
        ("u/x", ["a-BF16.gguf", "a-Q8_0.gguf", "a-Q4_0.gguf"], ["a-Q4_0.gguf"]),
        ("u/x", ["a-TQ1_0.gguf"], ["a-TQ1_0.gguf"]),
        ("u/x:q8_0", ["a-Q4_K_M.gguf", "a-Q8_0.gguf"], ["a-Q8_0.gguf"]),
        ("u/x:Q8_0", ["Q8_0/a-Q8_0-00001-of-00002.gguf", "Q8_0/a-Q8_0-00002-of-00002.gguf", "a-Q4_0.gguf"],
         ["Q8_0/a-Q8_0-00001-of-00002.gguf", "Q8_0/a-Q8_0-00002-of-00002.gguf"]),
        ("u/x", ["a-Q4_K_M.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"], ["a-Q4_K_M.gguf", "mmproj-BF16.gguf"]),
    ],
)  # fmt: skip
def test_the_files_of_the_quantization_are_chosen(hub: Hub, asked: str, files: list[str], chosen: list[str]) -> None:
    hub.add("u/x", {name: name.encode() for name in files})
    assert [part.path for part in remote.plan(asked, "").parts] == chosen


def test_shards_and_a_projector_come_together(hub: Hub, tmp_path: Path) -> None:
    shards = {f"s-Q4_0-0000{number}-of-00002.gguf": DATA[:number] for number in (1, 2)}
    hub.add("u/r", {**shards, "mmproj-F16.gguf": b"p"})
    assert isinstance(run("u/r:q4_0", tmp_path)[-1], Downloaded)
    paths, projector = listed()["u/r:Q4_0"]
    assert [os.path.basename(path) for path in paths] == list(shards)
    assert Path(projector).read_bytes() == b"p"


def test_a_missing_shard_is_noticed_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.add("u/r", {"s-Q4_0-00001-of-00002.gguf": DATA})
    assert "not all of it" in failed(run("u/r", tmp_path), tmp_path).message
    assert hub.sent("s-Q4_0-00001-of-00002.gguf") == []


def test_a_cut_connection_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    nearly = len(DATA) * 99 // 100
    hub.faults.cuts["r-Q4_K_M.gguf"] += [100_000, nearly]
    assert isinstance(run("u/r", tmp_path)[-1], Downloaded)
    assert hub.sent("r-Q4_K_M.gguf") == ["", "bytes=100000-", f"bytes={nearly}-"]
    assert content("u/r:Q4_K_M") == DATA


def test_after_too_many_cuts_it_fails_and_the_next_one_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cuts["r-Q4_K_M.gguf"] += [100_000] * 20
    error = failed(run("u/r", tmp_path), tmp_path)
    assert "the connection ended" in error.message or "closed" in error.message
    assert "asked again, it goes on at 100000 bytes" in error.message
    hub.faults.cuts.clear()
    told = run("u/r", tmp_path)
    assert isinstance(told[0], Planned)
    assert list(told[0].files.values()) == [(100_000, len(DATA))]
    assert hub.sent("r-Q4_K_M.gguf")[-1] == "bytes=100000-"
    assert content("u/r:Q4_K_M") == DATA


def test_a_server_without_ranges_sends_everything_again(hub: Hub, tmp_path: Path) -> None:
    hub.faults.ranges = False
    hub.faults.cuts["r-Q4_K_M.gguf"] += [100_000]
    assert isinstance(run("u/r", tmp_path)[-1], Downloaded)
    assert content("u/r:Q4_K_M") == DATA


def test_passing_errors_are_tried_again(hub: Hub, tmp_path: Path) -> None:
    hub.faults.statuses += [500, 503]
    hub.faults.store_statuses += [500, 429, 502]
    assert isinstance(run("u/r", tmp_path)[-1], Downloaded)
    assert content("u/r:Q4_K_M") == DATA


def test_a_wrong_checksum_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.faults.digests["r-Q4_K_M.gguf"] = "0" * 64
    error = failed(run("u/r", tmp_path), tmp_path)
    assert "is not what the hub says: its checksum is " + hashlib.sha256(DATA).hexdigest() in error.message
    assert sum(path.stat().st_size for path in (tmp_path / "hub/models--u--r/blobs").iterdir()) == 0


def test_a_wrong_beginning_from_before_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cuts["r-Q4_K_M.gguf"] += [100_000] * 20
    run("u/r", tmp_path)
    hub.faults.cuts.clear()
    (part,) = (tmp_path / "hub/models--u--r/blobs").iterdir()
    part.write_bytes(b"x" * 100_000)
    assert isinstance(run("u/r", tmp_path)[-1], Downloaded)
    assert content("u/r:Q4_K_M") == DATA


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_a_wrong_size_fails(hub: Hub, tmp_path: Path, size: int) -> None:
    hub.faults.sizes["r-Q4_K_M.gguf"] = size
    assert f"has {len(DATA)} bytes, not the {size}" in failed(run("u/r", tmp_path), tmp_path).message


def test_a_length_that_is_a_lie_fails(hub: Hub, tmp_path: Path) -> None:
    hub.faults.lengths["r-Q4_K_M.gguf"] = 5
    assert "has 5 bytes" in failed(run("u/r", tmp_path), tmp_path).message


def test_a_blob_that_is_there_is_checked_and_replaced_if_it_is_wrong(hub: Hub, tmp_path: Path) -> None:
    run("u/r", tmp_path)
    before = len(hub.sent("r-Q4_K_M.gguf"))
    run("u/r", tmp_path)
    assert len(hub.sent("r-Q4_K_M.gguf")) == before
    (tmp_path / "hub/models--u--r/blobs" / hashlib.sha256(DATA).hexdigest()).write_bytes(DATA[::-1])
    assert isinstance(run("u/r", tmp_path)[-1], Downloaded)
    assert content("u/r:Q4_K_M") == DATA


@pytest.mark.parametrize(
    ("spec", "statuses", "code", "says"),
    [
        ("u/none", [], "repo_not_found", "u/none is not on the hub, or private"),
        ("u/r:Q2_K", [], "repo_not_found", "u/r has no Q2_K; there is: Q4_K_M, Q8_0"),
        ("u/r", [500] * 3, "download_failed", "the hub answers 500 for u/r"),
        ("u/r", [403], "download_failed", "HF_TOKEN is wrong, or may not read it"),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: Hub, tmp_path: Path, spec: str, statuses: list[int], code: str, says: str
) -> None:
    hub.faults.statuses += statuses
    error = failed(run(spec, tmp_path), tmp_path)
    assert error.code == code
    assert says in error.message


def test_a_hub_that_is_not_there_is_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    error = failed(run("u/r", tmp_path), tmp_path)
    assert error.code == "download_failed"
    assert "the hub does not answer" in error.message


def test_room_on_the_disk_is_looked_for_first(hub: Hub, tmp_path: Path) -> None:
    error = failed(run("u/r", tmp_path, free=lambda _: len(DATA) + 1000), tmp_path)
    assert f"u/r:Q4_K_M needs {len(DATA):,} bytes more" in error.message
    assert hub.sent("r-Q4_K_M.gguf") == []


def test_a_disk_that_fills_up_ends_it_and_what_is_there_is_kept(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = transfer.Sink.write

    def full(self: transfer.Sink, data: bytes) -> None:
        if self.size > 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data[:100_001])

    monkeypatch.setattr(transfer, "_CHUNK", 100_001)
    monkeypatch.setattr(transfer.Sink, "write", full)
    error = failed(run("u/r", tmp_path), tmp_path)
    assert error.message == "no room left on the disk; what is there is kept"
    monkeypatch.setattr(transfer.Sink, "write", write)
    told = run("u/r", tmp_path)
    assert isinstance(told[0], Planned)
    assert next(iter(told[0].files.values()))[0] > 200_000
    assert content("u/r:Q4_K_M") == DATA


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    told = run("u/r", tmp_path)
    assert isinstance(told[-1], DownloadFailed)
    assert "file/models--u--r" in told[-1].message


def test_stopped_it_keeps_what_is_there(hub: Hub, tmp_path: Path) -> None:
    hub.hold("r-Q4_K_M.gguf", 200_000)
    told: list[Message] = []
    work = Job(Download("u/r", str(tmp_path / "state")), told.append)
    thread = threading.Thread(target=work.run)
    thread.start()
    assert hub.reached.wait(90)
    work.stop()
    hub.go.set()
    thread.join(90)
    assert not thread.is_alive()
    assert not isinstance(told[-1], Downloaded | DownloadFailed)
    assert listed() == {}
    assert len(blobs(tmp_path)) == 1


def test_two_downloads_share_a_file_one_after_the_other(hub: Hub, tmp_path: Path) -> None:
    hub.add("u/r", {"a-Q4_0.gguf": DATA, "b-Q8_0.gguf": DATA * 2, "mmproj-F16.gguf": DATA * 3})
    hub.hold("mmproj-F16.gguf", 200_000)
    results: dict[str, list[Message]] = {}
    threads = [
        threading.Thread(target=lambda quant=quant: results.update({quant: run(f"u/r:{quant}", tmp_path)}))
        for quant in ("Q4_0", "Q8_0")
    ]
    for thread in threads:
        thread.start()
    assert hub.reached.wait(90)
    until(lambda: len([name for name in blobs(tmp_path) if len(name) == 64]) == 2, what="both models")
    hub.go.set()
    for thread in threads:
        thread.join(90)
    assert [type(told[-1]) for told in results.values()] == [Downloaded, Downloaded]
    assert hub.sent("mmproj-F16.gguf") == [""]


def test_the_token_goes_to_the_hub_only_and_is_in_no_text(hub: Hub, tmp_path: Path) -> None:
    hub.token = TOKEN
    assert "HF_TOKEN" in failed(run("u/r", tmp_path), tmp_path).message
    hub.faults.store_statuses += [403]
    error = failed(run("u/r", tmp_path, token=TOKEN), tmp_path)
    assert "403" in error.message
    assert TOKEN not in error.message
    assert SIGNATURE not in error.message
    assert isinstance(run("u/r", tmp_path, token=TOKEN)[-1], Downloaded)
    assert {asked.authorization for asked in hub.asked if asked.host == "store"} == {""}


def test_texts_are_cleaned_of_secrets() -> None:
    text = f"GET https://store/x?{SIGNATURE}&a=1\nwith {TOKEN}"
    assert failure.clean(text, TOKEN) == "GET https://store/x?… with …"


def test_the_library_s_own_partial_files_are_left_alone(hub: Hub, tmp_path: Path) -> None:
    part = remote.plan("u/r", "").parts[0]
    cache = Cache(str(tmp_path / "hub"), remote.plan("u/r", ""))
    cache.prepare()
    theirs = Path(f"{cache.blob(part)}.incomplete")
    theirs.write_bytes(b"\0" * 1000)
    assert isinstance(run("u/r", tmp_path)[-1], Downloaded)
    assert theirs.read_bytes() == b"\0" * 1000
    assert job._RESERVE > 0
