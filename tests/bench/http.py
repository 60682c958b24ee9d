"""Decode throughput as a streaming client sees it, against the bare loop; and the way back to an unloaded model."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench import decode, streams
from tests.bench.table import Pairs, Row
from tests.e2e.server import SMOLLM2, Server
from worker.protocol import Text

_TOKENS = 64
_STORY = " ".join(f"Line {number}: the fox and the hen walked by the old mill." for number in range(260))


def rows() -> Iterator[Row]:
    models = "".join(f"{SMOLLM2.format(name=f's{count}')}n_ctx = 512\nparallel = {count}\n" for count in decode.PAIRS)
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder), f"[placement]\nmax_models = 1\n{models}") as server,
    ):
        for count in decode.PAIRS:
            yield _streamed(server, count)
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder), SMOLLM2.format(name="a") + "n_ctx = 8192\nparallel = 1\n") as server,
    ):
        yield _return(server)


def _streamed(server: Server, count: int) -> Row:
    model = decode.load(count)
    prompt = model.text.prompt(Text((decode.PROMPT,)))
    body = {"model": f"s{count}", "prompt": decode.PROMPT, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
    streams.run(server.port, body, count, _TOKENS)
    pairs = Pairs([], [])
    for _ in range(decode.PAIRS[count]):
        rate = streams.run(server.port, body, count, _TOKENS)
        pairs.second.append(rate.speed)
        pairs.first.append(count * _TOKENS / decode.bare(model._context, prompt, rate.ahead, _TOKENS)[0])
    model._context.close()
    what = f"streamed over HTTP ÷ bare ctypes loop, {count} sequence{'s' * (count > 1)}"
    return Row(what, f"{pairs.ratio:.2f}", pairs.rates, "≥ 0.94", pairs.ratio >= 0.94)


def _return(server: Server) -> Row:
    """Back to a conversation of 4,000 tokens after its model was unloaded: with its states kept, and without."""
    chat = {"model": "a", "messages": [{"role": "user", "content": _STORY}], "max_tokens": 2, "temperature": 0}
    prompt_n, _ = _first(server, chat)
    kept, computed = [], []
    for _ in range(3):
        for times, reuse in ((kept, True), (computed, False)):
            server.http.post("/models/unload", json={"model": "a", "wait": True})
            while server.state("a") != "unloaded":
                time.sleep(0.01)
            times.append(_first(server, {**chat, "cache_prompt": reuse})[1])
    ratio = statistics.median(kept) / statistics.median(computed)
    seconds = f"{statistics.median(kept):.2f} s, load included; computed anew {statistics.median(computed):.1f} s"
    what = "back to a conversation after its model was unloaded: first token ÷ computing it again"
    return Row(what, f"{ratio:.2f}", f"{prompt_n} tokens: {seconds}", "≤ 0.15", ratio <= 0.15)


def _first(server: Server, chat: dict[str, object]) -> tuple[int, float]:
    """Tokens of the prompt, and seconds to the first token."""
    began = time.perf_counter()
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**chat, "stream": True}, timeout=300) as reply:
        first, tokens = 0.0, 0
        for line in reply.iter_lines():
            if '"content":"' in line:
                first = first or time.perf_counter() - began
            if '"timings"' in line:
                timings = json.loads(line[6:])["timings"]
                tokens = timings["prompt_n"] + timings["cache_n"]
    return tokens, first
