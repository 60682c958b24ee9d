"""A real server in whose processes an audit hook tells which files are opened; and what the hostile ask of it.

The hook is there before the first line of ours (sitecustomize). What llama.cpp opens it cannot see: the kernel tells
of that, for the folder that nobody may touch (inotify); what stays open or mapped is in /proc.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import httpx
import psutil

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
_NONBLOCK, _OPENED = 0o4000, 0x20  # inotify_init1(2), inotify(7)
_PIECES = (
    "..", "..", "/", "/", "\\", "%2e", "%2f", "%252e%252e%252f", "\0", "etc", "passwd", "secret.gguf", "secret.txt",
    "~", "\r\n", "\u202e", "C:", "file://", ".", "models", "link", "a", "good.gguf", ":latest", "@", "$(id)", "{id}",
    "*", " ", "é", "\ufeff",
)  # fmt: skip
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
        self._inotify = _opens(self.outside)
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

    def touched(self) -> list[str]:
        """What was opened, listed or changed where nobody may, by whomever."""
        heard = [(event, path) for _, event, (path, *_) in self.told() if path.startswith(str(self.outside))]
        return [*map(str, heard), *_read(self._inotify)]

    def odd(self) -> list[str]:
        """What was opened or listed beside our files, the interpreter's and the system's."""
        prefixes = {sys.prefix, sys.base_prefix, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)}
        system = ("/proc/", "/sys/", "/dev/", "/usr/share/zoneinfo", "/usr/lib/", "/lib/", "/lib64/", "/usr/local/lib/")
        exactly = ("/etc/localtime", "/etc/mime.types", "/etc/ssl/openssl.cnf", "/etc/nsswitch.conf", "/etc/hosts", "/")
        ours = (str(ROOT), str(self.place), str(self.events.parent / "hooks"))
        known = (*prefixes, *filter(None, sys.path), *ours, *system, "/etc/ssl/")
        opened = ("open", "os.listdir", "os.scandir")
        paths = {path for _, event, (path, *_) in self.told() if event in opened and not path.isdigit()}
        return sorted(path for path in paths if not path.startswith(known) and path not in exactly)

    def close(self) -> None:
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(WITHIN)
        finally:
            self.http.close()
            os.close(self._inotify)
            for process in still_there(family):
                process.kill()


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


def hostile(server: Watched, draw: Random, more: int = 20) -> list[str]:
    """Names that would be files if they were paths; `more`: so many at random."""
    secret = f"{server.outside}/secret"
    up = "../" * 12 + secret[1:]
    names = [secret, up, f"file://{secret}", f"a/{up}", f"models/../../outside/{'secret'}", "~root/.ssh/id_rsa"]
    names = [f"{name}{end}" for name in names for end in (".gguf", ".txt\0", "")]
    names += [
        "/etc/passwd",
        "/proc/self/environ",
        "link",
        "\r\nx: y",
        "a" * 10_000,
        "ä\u202e",
        "%2e%2e/secret",
        "\0",
        ".",
    ]
    return names + ["".join(draw.choices((*_PIECES, secret), k=draw.randint(1, 12))) for _ in range(more)]


def attack(server: Watched, names: list[str]) -> list[float]:
    """Has the server told each of them, wherever a name, an id, a path or an address may stand. The seconds of each."""
    return [_ask(server, *request) for name in names for request in _requests(name)]


def _requests(name: str) -> list[tuple[str, str, Any]]:
    say = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    part, escaped = quote(name, safe=""), "".join(f"%{byte:02x}" for byte in name.encode())
    return [
        ("POST", "/v1/chat/completions", {**say, "model": name}),
        ("POST", "/v1/chat/completions", {**say, "model": "a", "chat_template_kwargs": {"n": name}}),
        ("POST", "/v1/chat/completions", {**say, "model": "a", "grammar": name, "lora": [{"path": name}]}),
        ("POST", "/v1/chat/completions", {**say, "model": "a", "json_schema": {"$ref": f"file://{name}"}}),
        ("POST", "/v1/chat/completions", {"model": "a", "messages": [image(name)]}),
        ("POST", "/api/show", {"model": name}),
        ("POST", "/models/load", {"model": "a", "overrides": {"path": name, "mmproj": name}}),
        ("POST", "/models/load", {"model": name}),
        ("POST", "/models/unload", {"model": name}),
        ("POST", "/slots/0?action=save", {"model": "a", "filename": name}),
        ("DELETE", f"/models?model={quote(name)}", None),
        ("GET", f"/v1/models/{quote(name)}", None),
        ("GET", f"/v1/models/{escaped}", None),
        ("GET", f"/props?model={quote(name)}", None),
        ("GET", f"/logs?model={quote(name)}", None),
        ("GET", f"/logs/stream/{part}", None),
        ("GET", f"/admin/deaths/{part}", None),
        ("GET", f"/upstream/{quote(name)}/props", None),
        ("GET", f"/{quote(name)}", None),
        ("GET", f"/{escaped}", None),
        ("GET", f"/assets/{part}", None),
    ]


def _ask(server: Watched, method: str, path: str, body: Any) -> float:
    began = time.monotonic()
    with server.http.stream(method, path, json=body) as answer:
        if path.startswith("/logs/stream"):
            return time.monotonic() - began  # it has no end
        text = answer.read().decode("utf-8", "replace")
    assert answer.status_code < 500 or answer.status_code in (501, 503), (method, path, body, text)
    assert "secret {{" not in text
    return time.monotonic() - began


def image(url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def _opens(folder: Path) -> int:
    """A descriptor that tells who opens what is in a folder. OSError where the kernel has none to give."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.inotify_init1(_NONBLOCK))
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(folder), _OPENED) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return fd


def _read(fd: int) -> list[str]:
    """The names that were opened since it was last asked."""
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return []
    names, at = [], 0
    while at < len(data):
        length = struct.unpack_from("iIII", data, at)[3]
        names.append(data[at + 16 : at + 16 + length].rstrip(b"\0").decode("utf-8", "replace"))
        at += 16 + length
    return names
