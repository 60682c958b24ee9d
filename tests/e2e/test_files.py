"""Which files a real server opens, in every process, while somebody tries to have it open others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.e2e.server import until
from tests.e2e.watched import PROMPT, TOKEN, WITHIN, Watched, attack, hostile, use


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One that has served everybody, the hostile ones included; the tests look at what it did."""
    server = Watched(tmp_path_factory.mktemp("watched"))
    try:
        until(server.healthy, WITHIN, "health")
        use(server)
        attack(server, hostile(server, Random(1)))
        yield server
    finally:
        server.close()


def test_nothing_outside_the_configured_places_is_touched(server: Watched) -> None:
    assert server.touched() == []


def test_a_look_from_outside_is_seen(server: Watched) -> None:
    """The last test would notice, also where no hook looks."""
    (server.outside / "secret.txt").read_text()
    assert server.touched() == ["secret.txt"]


def test_a_model_that_is_a_link_out_of_its_folder_is_listed_with_the_reason_and_not_loaded(server: Watched) -> None:
    body = {"model": "link", "messages": [{"role": "user", "content": "x"}]}
    answer = server.http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["cause"]) == (503, "config_error")
    assert "leads out of the folder" in answer.json()["error"]["message"]


def test_what_is_opened_is_ours_the_interpreters_or_the_systems(server: Watched) -> None:
    assert server.odd() == []


def test_only_the_state_folder_is_written_to_and_no_program_is_started(server: Watched) -> None:
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    written = {
        arguments[0]
        for _, event, arguments in server.told()
        if event == "open" and int(arguments[2]) & writing and not arguments[0].isdigit()
    }
    places = (str(server.place / "state"), "/proc/", "/dev/null")
    assert {path for path in written if not path.startswith(places)} == set()
    changed = {
        (event, arguments[0])
        for _, event, arguments in server.told()
        if event in ("os.remove", "os.rename", "os.link", "os.symlink", "os.rmdir", "os.truncate", "os.chmod")
        and not arguments[0].isdigit()  # a descriptor
    }
    assert {each for each in changed if not each[1].startswith(str(server.place / "state"))} == set()
    started = [event for _, event, _ in server.told() if event in ("os.exec", "os.posix_spawn", "os.system")]
    assert started == []


def test_nobody_is_called(server: Watched) -> None:
    called = [arguments for _, event, arguments in server.told() if event == "socket.connect"]
    assert called == []


def test_what_stays_open_or_mapped_lies_within(server: Watched) -> None:
    for process in server.family():
        paths = {found.path for found in process.open_files()} | {found.path for found in process.memory_maps()}
        assert not [path for path in paths if path.startswith(str(server.outside))]


def test_no_child_is_given_the_token_and_none_shows_a_secret(server: Watched) -> None:
    inherited = {pid: arguments == ["True"] for pid, event, arguments in server.told() if event == "inherited"}
    assert len(inherited) > 4
    assert {pid for pid, has in inherited.items() if has} == {server.process.pid}
    for process in server.family():
        assert TOKEN.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
        assert TOKEN not in " ".join(process.cmdline())
    told = server.log.read_text() + server.http.get("/logs").text
    told += "".join(path.read_text() for path in (server.place / "state" / "deaths").iterdir())
    for secret in (TOKEN, "aKeyThatNobodyLogs", PROMPT):
        assert secret not in told
