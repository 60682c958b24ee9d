"""Which files a real server opens, in every process, while somebody tries to have it open others: an audit hook looks.

The hook is there before the first line of ours (sitecustomize). What llama.cpp opens it cannot see; what stays open or
mapped of that is looked at in /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest

from tests import models
from tests.e2e.server import ROOT, free_port, still_there, until

_HOOK = """
import json, os, sys
_fd = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_SEEN = {{"open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir",
         "os.truncate", "os.chmod", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen", "socket.connect"}}
def _hook(event, arguments):
    if event in _SEEN:
        told = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in arguments]
        os.write(_fd, (json.dumps([os.getpid(), event, os.getcwd(), told]) + "\\n").encode())
os.write(_fd, (json.dumps([os.getpid(), "inherited", "", [str({secret!r} in os.environ.values())]]) + "\\n").encode())
sys.addaudithook(_hook)
"""
TOKEN = "hf_thisMustNotGetAnywhere"
PROMPT = "what was said to a model is nobody's affair"
WITHIN = 60


class Watched:
    """A server whose processes all tell what they open. `place` has everything that it may know of."""

    def __init__(self, folder: Path) -> None:
        self.place, self.outside = folder / "place", folder / "outside"
        hooks, state, found = folder / "hooks", self.place / "state", self.place / "models"
        for each in (self.place, self.outside, hooks, state, found):
            each.mkdir()
        self.events, self.log = folder / "events", folder / "log"
        (hooks / "sitecustomize.py").write_text(_HOOK.format(log=str(self.events), secret=TOKEN))
        (self.outside / "secret.txt").write_text("secret {{ messages }}")
        shutil.copy(models.tiny(), self.outside / "secret.gguf")
        shutil.copy(models.tiny(), found / "good.gguf")
        (found / "link.gguf").symlink_to(self.outside / "secret.gguf")
        template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if n %}{% include n %}{% endif %}"
        (self.place / "template.jinja").write_text(template)
        port = free_port()
        (self.place / "models.toml").write_text(
            f'[server]\nlisten = ["127.0.0.1:{port}"]\n[state]\ndir = "state"\n[sources]\nmodels_dir = "models"\n'
            "[admission]\nallow_load_overrides = true\n[parking]\nmemory = 0\n"
            f'[models.a]\npath = "models/good.gguf"\nn_ctx = 64\nchat_template = "template.jinja"\n'
        )
        environment = {**os.environ, "PYTHONPATH": f"{hooks}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "HF_TOKEN": TOKEN}
        environment["HOME"] = str(self.place)
        environment.pop("SPT_NOENV", None)  # as it is outside of tests
        command = [sys.executable, "-m", "supervisor", str(self.place / "models.toml")]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, cwd=self.place, env=environment)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN)

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def family(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def told(self) -> Iterator[tuple[int, str, list[str]]]:
        """Process, event, and its arguments, a path made absolute and links resolved."""
        for line in self.events.read_text().splitlines():
            pid, event, folder, arguments = json.loads(line)
            if event not in ("inherited", "socket.connect") and not arguments[0].isdigit():
                arguments[0] = os.path.realpath(os.path.join(folder, arguments[0]))
            yield pid, event, arguments

    def close(self) -> None:
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(WITHIN)
        finally:
            self.http.close()
            for process in still_there(family):
                process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One that has served everybody, the hostile ones included; the tests look at what it did."""
    server = Watched(tmp_path_factory.mktemp("watched"))
    try:
        until(server.healthy, WITHIN, "health")
        use(server)
        attack(server)
        yield server
    finally:
        server.close()


def use(server: Watched) -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 2}
    headers = {"authorization": "Bearer lsv-aKeyThatNobodyLogs"}
    until(lambda: server.http.post("/v1/chat/completions", json=body, headers=headers).status_code == 200, WITHIN)
    assert server.http.get("/").status_code in (200, 404, 503)
    worker = next(process for process in server.family() if "lsv:w:a" in " ".join(process.cmdline()))
    worker.kill()
    until(lambda: server.http.get("/admin/deaths").json()["deaths"], WITHIN, "a death")
    id = server.http.get("/admin/deaths").json()["deaths"][0]["report"]
    until(lambda: server.http.get(f"/admin/deaths/{id}").status_code == 200, WITHIN, "a report")
    until(lambda: server.http.post("/v1/chat/completions", json=body).status_code == 200, WITHIN)


def hostile(server: Watched) -> list[str]:
    secret = f"{server.outside}/secret"
    up = "../" * 12 + secret[1:]
    names = [secret, up, f"file://{secret}", f"a/{up}", f"models/../../outside/{'secret'}", "~root/.ssh/id_rsa"]
    names = [f"{name}{end}" for name in names for end in (".gguf", ".txt\0")]
    return [*names, "/etc/passwd", "/proc/self/environ", "link", "\r\nx: y", "a" * 10_000, "ä\u202e", "%2e%2e/secret"]


def attack(server: Watched) -> None:
    for name in hostile(server):
        say = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        requests: list[tuple[str, str, Any]] = [
            ("POST", "/v1/chat/completions", {**say, "model": name}),
            ("POST", "/v1/chat/completions", {**say, "model": "a", "chat_template_kwargs": {"n": name}}),
            ("POST", "/v1/chat/completions", {**say, "model": "a", "grammar": name, "lora": [{"path": name}]}),
            ("POST", "/v1/chat/completions", {**say, "model": "a", "json_schema": {"$ref": f"file://{name}"}}),
            ("POST", "/v1/chat/completions", {"model": "a", "messages": [image(name)]}),
            ("POST", "/models/load", {"model": "a", "overrides": {"path": name, "mmproj": name}}),
            ("POST", "/models/load", {"model": name}),
            ("DELETE", f"/models?model={quote(name)}", None),
            ("GET", f"/v1/models/{quote(name)}", None),
            ("GET", f"/props?model={quote(name)}", None),
            ("GET", f"/logs?model={quote(name)}", None),
            ("GET", f"/admin/deaths/{quote(name, safe='')}", None),
            ("GET", f"/upstream/{quote(name)}/props", None),
            ("GET", f"/{quote(name)}", None),
            ("GET", f"/assets/{quote(name, safe='')}", None),
        ]
        for method, path, body in requests:
            answer = server.http.request(method, path, json=body)
            assert answer.status_code < 500 or answer.status_code in (501, 503), (method, path, body, answer.text)
            assert "secret {{" not in answer.text


def image(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def test_nothing_outside_the_configured_places_is_touched(server: Watched) -> None:
    touched = [(event, path) for _, event, (path, *_) in server.told() if path.startswith(str(server.outside))]
    assert touched == []


def test_a_model_that_is_a_link_out_of_its_folder_is_listed_with_the_reason_and_not_loaded(server: Watched) -> None:
    body = {"model": "link", "messages": [{"role": "user", "content": "x"}]}
    answer = server.http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["cause"]) == (503, "config_error")
    assert "leads out of the folder" in answer.json()["error"]["message"]


def test_what_is_opened_is_ours_the_interpreters_or_the_systems(server: Watched) -> None:
    prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)}
    system = ("/proc/", "/sys/", "/dev/", "/usr/share/zoneinfo", "/usr/lib/", "/lib/", "/lib64/", "/usr/local/lib/")
    exactly = ("/etc/localtime", "/etc/mime.types", "/etc/ssl/openssl.cnf", "/etc/nsswitch.conf", "/etc/hosts", "/")
    ours = (str(ROOT), str(server.place), str(server.events.parent / "hooks"))
    known = (*prefixes, *filter(None, sys.path), *ours, *system)
    odd = {
        (event, path)
        for _, event, (path, *_) in server.told()
        if event in ("open", "os.listdir", "os.scandir") and not path.isdigit()
        if not path.startswith(known) and path not in exactly and not path.startswith("/etc/ssl/")
    }
    assert odd == set()


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
