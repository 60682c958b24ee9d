"""What a server may answer to `ctl`: whatever it is, there is an exit code and a line, and nothing for a terminal."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from supervisor.ctl import client as client_module
from supervisor.ctl import main as ctl
from tests.fuzz import engine

_MODEL = {
    "id": "a", "aliases": ["b"], "meta": {"ftype": "Q4"}, "memory": {"estimated": 5, "vram": 1},
    "status": {"value": "loaded", "state": "ready", "since": 1.0, "restarts": 1, "cause": "crashed",
               "progress": {"stages": ["x"], "current": "x", "value": 0.5}, "log_tail": ["\x1b[2J"]},
    "runtime": {"in_flight": 1, "load_ms": 5, "pid": 3},
}  # fmt: skip
_REQUEST = {"id": "r", "model": "a", "state": "generating", "since": 1.0, "endpoint": "/x", "prompt_tokens": 3}
_DEATH = {"role": "w:a", "model": "a", "at": 1.0, "cause": "c", "message": "m", "report": "x", "pid": 1, "exit_code": 1}
_REPORT = {
    "id": "x", "death": _DEATH, "born": 1.0, "died": 2.0, "phase": "idle", "phase_since": 1.5,
    "memory": {"peak": 5}, "requests": [{"id": "r", "began": 1.5}], "stack": "s", "log_tail": ["l"],
}  # fmt: skip
_ALL: list[Any] = [
    {"data": [_MODEL], "models": [{"model": "a", "queued": 1}], "deaths": [_DEATH]}, [_REQUEST], _MODEL, _REPORT,
    {"recent": [_REQUEST], "success": True, "added": ["a"]}, {"error": {"code": "x", "message": "m", "status": 400}},
]  # fmt: skip
_METRICS = b'# HELP x y\n# TYPE x gauge\nx{model="a"} 1\nllama_supervisor_memory_bytes{model="a",kind="resident"} 5\n'
_PROGRESS = b'{"progress":{"u":{"done":1,"total":2}}}'
_EVENTS = b'id: b.1\ndata: {"model":"a","event":"download_progress","data":%b}\n\n' % _PROGRESS
CORPUS = [*(json.dumps(value).encode() for value in _ALL), _METRICS, _EVENTS, b"\x1b[2Jlog line\n"]
WORDS = [b"null", b"[]", b"{}", b'""', b"-1", b"1e400", b'"\\u001b[2J"', b"\x1b[31m", b"NaN", b"data: ", b"\n\n"]
_COMMANDS = (
    "status", "status a", "requests", "requests --ended", "deaths", "report", "report x", "reload", "load a",
    "load a --wait", "unload a", "cancel r", "rm a", "logs", "logs a", "pull a/b", "pull a/b --no-wait",
    "status --json", "deaths --json",
)  # fmt: skip


class _Said:
    """In place of a reply."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data

    def pieces(self) -> Iterator[bytes]:
        yield self._data

    def lines(self) -> Iterator[bytes]:
        yield from self._data.splitlines(keepends=True)


def fuzz(data: bytes) -> None:
    command = _COMMANDS[sum(data[:8]) % len(_COMMANDS)]

    @contextlib.contextmanager
    def opened(self: object, method: str, path: str, query: Mapping[str, str] | None, *more: object) -> Iterator[_Said]:
        yield _Said(data)

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(client_module.Client, "_open", opened)
        patch.setattr("time.sleep", lambda seconds: None)  # before it asks again
        code = ctl.main(["--url", "http://127.0.0.1:1", *command.split()])
    assert code in (0, 1), code
    assert "Traceback" not in err.getvalue()
    assert "\x1b" not in out.getvalue() + err.getvalue(), command


def run(count: int, seed: int) -> str:
    return engine.run("answers", fuzz, CORPUS, WORDS, count, seed)
