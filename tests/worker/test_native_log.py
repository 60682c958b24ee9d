"""llama.cpp's log outlives whoever listened to it first."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from worker.native_log import NativeLog

SPEAK = """
import gc
from worker import binding
from worker.native_log import NativeLog

def error():
    binding.model_load_from_file(b"/nowhere.gguf", binding.model_default_params())

first = NativeLog()
error()
assert first.errors, "nothing heard"
del first
gc.collect()
wrong = []
junk = [binding.LogCallback(lambda *_: wrong.append(1)) for _ in range(200)]
error()
assert not wrong, "another callback is called in its place"
second = NativeLog()
error()
print(second.reason)
"""


def test_lines_after_a_log_is_gone_reach_nobody_and_end_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "nowhere.gguf" in done.stdout


def test_the_last_log_made_hears() -> None:
    gone = weakref.ref(NativeLog())
    log = NativeLog()
    gc.collect()
    assert gone() is None
    assert log.reason == ""
