"""The llama.cpp worker as a process: loads, serves, refuses broken files, leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from supervisor.config import Model
from supervisor.control import LoadFailed, Phase, Ready
from tests import models, vector_models
from tests.worker.rig import PATIENCE, Worker, end, generate, text
from worker.protocol import Chat, Tokenize, Tokens

ENTRY = "worker.main:main"


def test_a_real_model_in_a_real_process() -> None:
    with Worker(ENTRY) as worker:
        ready = worker.load(Model(name="smol/lm", path=models.smollm(), n_ctx=256, parallel=2))
        assert isinstance(ready, Ready)
        assert ready.facts.slots == 2
        assert worker.ping().phase is Phase.IDLE
        link = worker.link()
        worker.crowd(2)  # takes turns from now on, with nobody
        chat = Chat([{"role": "user", "content": "Say hello."}])
        events = link.ask(1, chat, temperature=0, max_tokens=16)
        assert "ello" in text(events)
        assert end(events).timings.predicted_n <= 16
        assert worker.ping().steps > 8
        link.send(Tokenize(2, ("hello",)))
        assert isinstance(link.event(), Tokens)
        link.send(generate(3, "Once", max_tokens=-1, ignore_eos=True))
        assert worker.stop(1.0) == 0
        assert list(link.events(3))[-1].code == "model_unloaded"  # type: ignore[union-attr]
        assert "Traceback" not in worker.stderr()


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        ("empty", "file_corrupt", "magic"),
        ("random", "file_corrupt", "magic"),
        ("cut", "file_corrupt", "not within the file bounds"),
        ("header", "file_corrupt", "read"),
        ("strange", "load_error", "llamo"),
    ],
)
def test_a_broken_file_is_refused_for_good_with_the_reason(kind: str, cause: str, words: str) -> None:
    with Worker(ENTRY) as worker:
        failed = worker.load(Model(name="broken", path=models.broken()[kind]))
        assert isinstance(failed, LoadFailed)
        assert (failed.cause, failed.permanent) == (cause, True)
        assert words in failed.message
        assert worker.process.wait(PATIENCE) == 78


def test_a_missing_file_is_named() -> None:
    with Worker(ENTRY) as worker:
        failed = worker.load(Model(name="gone", path="/nowhere/x.gguf"))
        assert failed == LoadFailed("file_missing", "no such file: /nowhere/x.gguf", True)
        assert worker.process.wait(PATIENCE) == 78


def test_a_bad_template_file_is_named(tmp_path: object) -> None:
    with Worker(ENTRY) as worker:
        failed = worker.load(Model(name="t", path=models.tiny(), n_ctx=128, chat_template="/nowhere/t.jinja"))
        assert isinstance(failed, LoadFailed)
        assert "/nowhere/t.jinja" in failed.message


def test_the_protocol_and_the_host_import_nothing_heavy() -> None:
    code = "import sys, worker.protocol, worker.process, tests.echo_worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "llama_cpp", "jinja2"} & set(loaded)


@pytest.mark.parametrize("path", [models.tiny, vector_models.encoder])
def test_what_a_load_has_measured_the_next_one_takes_over(path: Callable[[], str]) -> None:
    model = Model(name="m", path=path())
    with Worker(ENTRY) as worker:
        first = worker.load(model)
        assert isinstance(first, Ready)
        assert list(first.costs) == [1, 8, 64]
        assert all(seconds > 0 for seconds in first.costs.values())
    known = {1: 0.5, 64: 2.0}
    with Worker(ENTRY) as worker:
        again = worker.load(model, costs=known)
        assert isinstance(again, Ready)
        assert again.costs == known
