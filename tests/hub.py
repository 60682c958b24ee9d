"""A stand-in of a model hub: repositories, files with checksums, ranges, a second host for the bytes; and faults."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

SIGNATURE = "signature=very-secret"
_PIECE = 16 * 1024


@dataclass
class Asked:
    """One request that came."""

    host: str  # "hub" or "store"
    path: str
    authorization: str
    range: str


@dataclass
class Faults:
    """What goes wrong. By file: where the connection is cut, once each; what is said instead of size and checksum."""

    cuts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # Content-Length of the bytes
    statuses: list[int] = field(default_factory=list)  # of the next answers, whatever is asked
    store_statuses: list[int] = field(default_factory=list)  # of the next answers of the second host
    ranges: bool = True


class Hub:
    """`with Hub() as hub: hub.add("user/repo", {"a.gguf": data})`. `endpoint` is for HF_ENDPOINT."""

    def __init__(self, token: str = "") -> None:
        """`token`: without it nothing is given."""
        self.token, self.faults, self.asked = token, Faults(), list[Asked]()
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.held: dict[str, int] = {}  # files that stop at this byte until `go` is set
        self.go = threading.Event()
        self.reached = threading.Event()
        self._servers = [_serve(self, "hub"), _serve(self, "store")]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def store(self) -> str:
        return f"http://localhost:{self._servers[1].server_port}"

    def add(self, repository: str, files: dict[str, bytes]) -> None:
        self.repositories[repository] = files

    def hold(self, path: str, at: int) -> None:
        """The file's bytes stop there until `go` is set; `reached` says that they do."""
        self.held[path] = at
        self.go.clear()
        self.reached.clear()

    def sent(self, path: str) -> list[str]:
        """The Range of each request for the bytes of a file, "" for all of it."""
        return [asked.range for asked in self.asked if asked.host == "store" and asked.path.endswith("/" + path)]

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.go.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _serve(hub: Hub, host: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            headers = self.headers
            hub.asked.append(Asked(host, path, headers.get("Authorization", ""), headers.get("Range", "")))
            try:
                (_info_or_redirect if host == "hub" else _bytes)(hub, self, path)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def _answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _info_or_redirect(hub: Hub, handler: BaseHTTPRequestHandler, path: str) -> None:
    if hub.faults.statuses:
        _answer(handler, hub.faults.statuses.pop(0), b"{}")
        return
    if hub.token and handler.headers.get("Authorization") != f"Bearer {hub.token}":
        _answer(handler, 401, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")
        return
    if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
        _info(hub, handler, match[1])
    elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        _answer(handler, 302, Location=f"{hub.store}/{match[1]}/{match[3]}?{SIGNATURE}")
    else:
        _answer(handler, 404, b"{}")


def _info(hub: Hub, handler: BaseHTTPRequestHandler, repository: str) -> None:
    files = hub.repositories.get(repository)
    if files is None:
        _answer(handler, 404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")
        return
    siblings = [_sibling(hub, name, data) for name, data in files.items()]
    info: dict[str, Any] = {"id": repository, "modelId": repository, "sha": revision(repository), "siblings": siblings}
    _answer(handler, 200, json.dumps(info).encode(), Content_Type="application/json")


def _sibling(hub: Hub, name: str, data: bytes) -> dict[str, Any]:
    size = hub.faults.sizes.get(name, len(data))
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if not name.endswith(".gguf"):
        return {"rfilename": name, "size": size, "blobId": git}
    digest = hub.faults.digests.get(name, hashlib.sha256(data).hexdigest())
    return {
        "rfilename": name,
        "size": size,
        "blobId": git,
        "lfs": {"size": size, "sha256": digest, "pointerSize": 130},
    }


def revision(repository: str) -> str:
    return hashlib.sha1(repository.encode()).hexdigest()


def _bytes(hub: Hub, handler: BaseHTTPRequestHandler, path: str) -> None:
    if hub.faults.store_statuses:
        _answer(handler, hub.faults.store_statuses.pop(0))
        return
    user, repository, name = path.lstrip("/").split("/", 2)
    data = hub.repositories[f"{user}/{repository}"][name]
    start = _start(handler.headers.get("Range", "")) if hub.faults.ranges else 0
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(hub.faults.lengths.get(name, len(data) - start)))
    handler.end_headers()
    _send(hub, name, data, start, handler.wfile.write)
    handler.close_connection = True


def _start(header: str) -> int:
    match = re.fullmatch(r"bytes=([0-9]+)-", header)
    return int(match[1]) if match else 0


def _send(hub: Hub, name: str, data: bytes, at: int, write: Callable[[bytes], Any]) -> None:
    cuts = hub.faults.cuts[name]
    end = cuts.pop(0) if cuts else len(data)
    while at < end:
        piece = data[at : min(at + _PIECE, end)]
        if name in hub.held and at <= hub.held[name] < at + len(piece):
            piece = piece[: hub.held[name] - at] or piece[:1]
            write(piece)
            hub.reached.set()
            hub.go.wait(300)
            hub.held.pop(name, None)
        else:
            write(piece)
        at += len(piece)
