"""Model files that are broken, or are cut, replaced or deleted while they are in use. Rows 12 and 13."""

from __future__ import annotations

import os
import random
import struct
import time
from pathlib import Path

import httpx

from tests import models
from tests.e2e.server import until
from tests.faults.history import Hit
from tests.faults.rows import Row
from tests.faults.scene import RECOVERY, Scene

_STARTS = 2  # of one bad file, at most
_LOAD = 60.0
_LOOP = "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a %}{% endfor %}{% endfor %}"


def broken_file(scene: Scene) -> Hit:
    """It fails to load and says why, or serves after all; nobody else notices."""
    path = scene.server.file.parent / "broken.gguf"
    kind, data = damaged(Path(models.tiny()).read_bytes(), scene.draw)
    _replace(path, data)
    before, began = _starts(scene), time.monotonic()
    answer = scene.post("/models/load", {"model": "broken", "wait": True}, _LOAD)
    scene.tally(f"{kind}: {'loaded' if answer.status_code == 200 else 'refused'}")
    if answer.status_code == 200:
        said = scene.post("/v1/completions", {"model": "broken", "prompt": "x", "max_tokens": 3}, _LOAD)
        assert said.status_code == 200 or said.json()["error"]["code"], said.text
        assert scene.post("/models/unload", {"model": "broken", "wait": True}, _LOAD).status_code == 200
    else:
        assert answer.status_code == 503, f"{kind}: {answer.text}"
        until(lambda: scene.state("broken") == "failed", RECOVERY, f"{kind}: it is given up")
        assert scene.status("broken")["cause"], f"{kind}: no cause"
    starts = _starts(scene) - before
    assert starts <= _STARTS, f"{kind}: {starts} starts"
    return scene.undisturbed(began)


def damaged(whole: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A kind of damage, and a file that has it."""
    kind = draw.choice(["empty", "random", "short", "cut", "header", "flipped", "zeros", "counts", "tensors"])
    head, at = 3000, draw.randrange(8, 3000)
    match kind:
        case "empty":
            return kind, b""
        case "random":
            return kind, draw.randbytes(draw.randrange(1, 20_000))
        case "short":
            return kind, b"GGUF" + struct.pack("<IQQ", 3, 2 ** draw.randrange(64), 2 ** draw.randrange(64)) + b"\0" * 13
        case "cut":
            return kind, whole[: draw.randrange(len(whole))]
        case "header":
            return kind, whole[: draw.randrange(head)]
        case "flipped":
            places = {draw.randrange(head) for _ in range(draw.randint(1, 20))}
            return kind, bytes(byte ^ (1 << draw.randrange(8)) if n in places else byte for n, byte in enumerate(whole))
        case "zeros":
            return kind, whole[:at] + b"\0" * 100 + whole[at + 100 :]
        case "counts":
            return kind, whole[:at] + struct.pack("<Q", 2 ** draw.randrange(20, 64)) + whole[at + 8 :]
        case _:
            at = draw.randrange(head, len(whole))
            return kind, whole[:at] + draw.randbytes(500) + whole[at + 500 :]


def file_in_use(scene: Scene) -> Hit:
    """Cut under its mapping: that worker dies, and the next load names the cause. Replaced or deleted: it serves on."""
    path, whole = scene.server.file.parent / "cut.gguf", Path(models.tiny()).read_bytes()
    _replace(path, whole)
    assert scene.post("/models/load", {"model": "cut", "wait": True}, _LOAD).status_code == 200
    assert _ask(scene).status_code == 200
    kind, began = scene.draw.choice(["cut", "cut", "replaced", "deleted"]), time.monotonic()
    if kind == "cut":
        os.truncate(path, scene.draw.randrange(len(whole) // 2))
        answer = until(lambda: (found := _ask(scene)).status_code != 200 and found, RECOVERY, "it is noticed")
        error = answer.json()["error"]
        assert error["code"] in ("worker_died", "model_load_failed", "model_failed", "model_backoff"), error
    elif kind == "deleted":
        path.unlink()
    else:
        _replace(path, whole)
    if kind != "cut":
        assert _ask(scene).status_code == 200, kind
        assert scene.post("/models/unload", {"model": "cut", "wait": True}, _LOAD).status_code == 200
    if kind != "replaced":
        answer = scene.post("/models/load", {"model": "cut", "wait": True}, _LOAD)
        assert answer.status_code == 503, answer.text
        until(lambda: scene.state("cut") == "failed", RECOVERY)
        assert scene.status("cut")["cause"] in ("file_corrupt", "file_missing", "load_error"), scene.status("cut")
        _replace(path, whole)
    mended = time.monotonic()
    assert scene.post("/models/load", {"model": "cut", "wait": True}, _LOAD).status_code == 200
    assert _ask(scene).status_code == 200
    recovery = time.monotonic() - mended
    assert scene.post("/models/unload", {"model": "cut", "wait": True}, _LOAD).status_code == 200
    return Hit(None, began, time.monotonic(), recovery)


def _replace(path: Path, data: bytes) -> None:
    """Another file under this name; whoever has the old one mapped keeps it."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.rename(path)


def _ask(scene: Scene) -> httpx.Response:
    return scene.post("/v1/completions", {"model": "cut", "prompt": "x" * 50, "max_tokens": 50}, _LOAD)


def _starts(scene: Scene) -> int:
    """Loads that were begun so far, the second try of one included."""
    told = scene.server.log.read_text()
    return told.count("→ LOADING model=broken") + told.count("trying once more model=broken")


ROWS = (
    Row("12", "a broken GGUF", broken_file, 160),
    Row("13", "a GGUF cut, replaced or deleted in use", file_in_use, 10),
)
