"""The queue for models in the whole tree, with echo workers: few loads, whole streams, nobody forgotten."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.server import PATIENCE, Server, Stream, text_of, until
from tests.echo_worker import expected

ECHO = '[defaults]\nworker = "tests.echo_worker:main"\n'
STORY = "one two three four five six seven eight nine ten "
DEEDS = 251
SLOW = '{"echo": {"rate": 50}} ' + STORY


def loads(server: Server, model: str) -> int:
    return len(re.findall(rf"→ LOADING model={model} ", server.log.read_text()))


def at_once(server: Server, count: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_fifty_requests_of_an_unloaded_model_are_one_load(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + '[models.a]\nfile = "load=0.3"\n') as server:
        replies = at_once(server, 50, lambda number: server.chat("a", f"number {number}"))
        assert [text_of(reply) for reply in replies] == [f"number {number}" for number in range(50)]
        assert all(float(reply.headers["x-queue-ms"]) > 0 for reply in replies)
        assert loads(server, "a") == 1


def test_mixed_requests_swap_no_more_than_there_are_models(tmp_path: Path) -> None:
    """None of them comes too late for the load of its model: the first load lasts until all are there."""
    gate = tmp_path / "gate"
    gate.touch()
    tables = "[placement]\nmax_models = 1\n" + "".join(f'[models.{name}]\nfile = "gate={gate}"\n' for name in "ABC")
    with Server(tmp_path, ECHO + tables) as server, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.chat, name, SLOW) for name in "AABACABC"]
        until(lambda: sum(row["queued"] for row in server.http.get("/queue").json()["models"]) == 8)
        gate.unlink()
        assert [text_of(reply.result(PATIENCE)) for reply in asked] == ["".join(expected(STORY))] * 8
        assert [loads(server, name) for name in "ABC"] == [1, 1, 1]


def test_two_models_take_turns_under_load_and_no_stream_is_cut(tmp_path: Path) -> None:
    """Several clients ask for both all the time, with room for one: each turn ends, and each stream is whole."""
    tables = '[admission]\nmax_wait = "300ms"\n[placement]\nmax_models = 1\n[models.a]\n[models.b]\n'
    with Server(tmp_path, ECHO + tables) as server:
        served = {"a": 0, "b": 0}

        def ask(number: int) -> None:
            model = "ab"[number % 2]
            while min(served.values()) < 6 or min(loads(server, name) for name in "ab") < 2:
                stream = Stream(server, model, SLOW).join()
                assert (stream.text, stream.error) == ("".join(expected(STORY)), None)
                served[model] += 1

        at_once(server, 6, ask)


def test_a_waiting_client_is_told_when_and_for_whom_it_waits(tmp_path: Path) -> None:
    tables = '[placement]\nmax_models = 1\n[models.a]\npreload = true\n[models.b]\nfile = "load=0.2"\n'
    with Server(tmp_path, ECHO + tables) as server:
        until(lambda: server.state("a") == "ready")
        assert text_of(server.chat("b", "known from now on")) == "known from now on"
        hold = tmp_path / "hold"
        hold.touch()
        first = Stream(server, "a", json.dumps({"echo": {"at": 3, "hold": str(hold)}}) + STORY).begun()
        second = Stream(server, "b", "hello")
        row = until(lambda: next((r for r in server.http.get("/queue").json()["models"] if r.get("blocked_by")), 0))
        assert (row["model"], row["queued"], row["blocked_by"]) == ("b", 1, ["a"])
        assert 0 < row["eta_ms"] <= 10_200
        hold.unlink()
        assert first.join().error is None
        assert second.join().text == "hello"


_THREE = """
[admission]
max_wait = "500ms"
[placement]
max_models = 2
[models.a]
parallel = 1
replicas = 2
[models.b]
[models.c]
n_ctx = {n_ctx}
"""


def test_random_requests_cancels_unloads_and_reloads_all_end_right(tmp_path: Path) -> None:
    """Three models, room for two. Never more processes than that; nobody waits for ever; no stream is cut by a swap."""
    with Server(tmp_path, ECHO + _THREE.format(n_ctx=512)) as server:
        ended, most = list[str](), list[int]()

        def client(number: int) -> None:
            draw = random.Random(number)
            with httpx.Client(base_url=server.url, timeout=PATIENCE, verify=False) as http:
                for _ in range(DEEDS):
                    ended.append(_act(server, http, draw))

        watching = threading.Event()
        watcher = threading.Thread(target=_watch, args=(server, watching, most))
        watcher.start()
        try:
            at_once(server, 40, client)
        finally:
            watching.set()
            watcher.join()
        assert set(ended) <= {"ok", "left", "model_unloaded", "cancelled"}, set(ended)
        assert ended.count("ok") > len(ended) / 4
        assert max(most) == 2
        until(lambda: all(r["queued"] == r["in_flight"] == 0 for r in server.http.get("/queue").json()["models"]))
        for name in "abc":
            assert text_of(server.chat(name, "still here")) == "still here"


_ONE_RELOAD = threading.Lock()  # at a time: it is one file


def _act(server: Server, http: httpx.Client, draw: random.Random) -> str:
    """One deed of a client; how it ended."""
    model, kind = draw.choice("abc"), draw.random()
    if kind < 0.05:
        http.post("/models/unload", json={"model": model})
        return "ok"
    if kind < 0.08:
        with _ONE_RELOAD:
            server.write(ECHO + _THREE.format(n_ctx=draw.choice([512, 1024])))
            assert http.post("/admin/reload").status_code == 200
        return "ok"
    if kind < 0.25:
        stream = Stream(server, model, SLOW * 4)
        time.sleep(draw.uniform(0, 0.5))
        stream.leave()
        stream.join()
        return _code(stream) if stream.error else "left"
    timer = threading.Timer(draw.uniform(0, 0.5), _cancel_one, [server, draw.random()])
    if kind < 0.35:
        timer.start()
    stream = Stream(server, model, SLOW).join()
    if timer.ident is not None:  # what it cancels must not be another test's
        timer.cancel()
        timer.join()
    if stream.error:
        return _code(stream)
    assert stream.text == "".join(expected(STORY))
    return "ok"


def _code(stream: Stream) -> str:
    assert stream.error is not None
    return str(stream.error["code"])


def _cancel_one(server: Server, which: float) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE, verify=False) as http:
        rows = http.get("/requests").json()
        if rows:
            http.post(f"/requests/{rows[int(which * len(rows))]['id']}/cancel")


def _watch(server: Server, over: threading.Event, most: list[int]) -> None:
    """Counts the processes that have a model, again and again."""
    while not over.wait(0.1):
        most.append(sum(title.startswith("lsv:w:") for title in server.titles().values()))
