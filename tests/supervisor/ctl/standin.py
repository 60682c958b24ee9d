"""A small HTTP server in a thread that says what it was told to say, to commands that ask."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import pytest

from supervisor.__main__ import main


class Asked:
    """A request. `answer` and `stream` may be called by a route, once."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.method, (self.path, _, self.query) = handler.command, handler.path.partition("?")
        length = int(handler.headers.get("content-length") or 0)
        self.body: Any = json.loads(handler.rfile.read(length)) if length else None
        self.headers = {name.lower(): value for name, value in handler.headers.items()}

    def answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self._handler.send_response(status)
        for name, value in ({"content-length": str(len(data))} | (headers or {})).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.write(data)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer({"error": {"message": message, "type": "x", "code": code, "status": status, "param": None}}, status)

    def stream(self) -> Callable[[str], None]:
        """Begins an answer without an end; what is given to the function is sent at once."""
        self._handler.send_response(200)
        self._handler.send_header("content-type", "text/event-stream")
        self._handler.end_headers()
        self._handler.wfile.flush()

        def send(text: str) -> None:
            self._handler.wfile.write(text.encode())
            self._handler.wfile.flush()

        return send


Route = Callable[[Asked], None]


class StandIn:
    """`with StandIn({"GET /models": route}) as server:`; all that was asked is in `asked`. Unknown routes are 404."""

    def __init__(
        self, routes: dict[str, Route], certificate: tuple[str, str] | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def handle_all(self) -> None:
                asked = Asked(self)
                outer.asked.append(asked)
                route = routes.get(f"{asked.method} {asked.path}")
                if route is None:
                    asked.refuse(404, "not_found", f"{asked.path}: no such route")
                else:
                    route(asked)

            do_GET = do_POST = do_DELETE = handle_all

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = False
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, method: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, path)]


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """JSON, line by line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Ctl:
    """`ctl("status", "a")` runs the command against a server and catches what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *where: str) -> None:
        self._capsys, self._where = capsys, where

    def __call__(self, *words: str) -> Ran:
        self._capsys.readouterr()
        try:
            code = main(["ctl", *self._where, *words])
        except SystemExit as exit:  # argparse
            code = int(exit.code or 0)
        return Ran(code, *self._capsys.readouterr())
