"""Pictures of every screen, phone and desktop, light and dark: python -m tests.e2e.ui.screens FOLDER

Models are echo workers under other names, and the answer is written here, so that two runs give the same pictures.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.e2e.server import Server, until
from tests.e2e.ui.pages import CHROMIUM, FLAGS, choose, finished, paced, send, watched
from tests.e2e.ui.test_features import png

MODELS = """
[defaults]
worker = "tests.echo_worker:main"
n_ctx = 16384
[models."qwen3-8b"]
aliases = ["default"]
preload = true
file = "template={{ enable_thinking }}"
[models."gemma-3-4b"]
[models."mistral-small-24b"]
file = "load=600"
[models."phi-4-mini"]
file = "fail=permanent"
[models."smollm2-135m"]
"""
QUESTION = "How do I solve a quadratic equation in Python?"
ANSWER = """The roots of $ax^2 + bx + c = 0$ are

$$
x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}
$$

so a function for them is short:

```python
from cmath import sqrt

def roots(a: float, b: float, c: float) -> tuple[complex, complex]:
    d = sqrt(b * b - 4 * a * c)
    return (-b + d) / (2 * a), (-b - d) / (2 * a)
```

> [!TIP]
> `cmath` also takes the root of a negative number.
"""
TIMINGS = {"cache_n": 0, "prompt_n": 34, "prompt_ms": 95.0, "prompt_per_second": 358.0, "predicted_n": 187,
           "predicted_ms": 3900.0, "predicted_per_second": 47.7}  # fmt: skip
MEMORY = "".join(
    f"llama_supervisor_memory_{line}\n"
    for line in (
        f'budget_bytes{{device="gpu:0"}} {24 * 2**30}',
        f'budget_bytes{{device="ram"}} {28 * 2**30}',
        f'placed_bytes{{model="qwen3-8b",device="gpu:0"}} {6 * 2**30}',
        f'placed_bytes{{model="gemma-3-4b",device="gpu:0"}} {4 * 2**30}',
        f'placed_bytes{{model="mistral-small-24b",device="ram"}} {15 * 2**30}',
    )
)
SIZES: dict[str, dict[str, object]] = {
    "desktop": {"viewport": {"width": 1440, "height": 900}},
    "tablet": {"viewport": {"width": 768, "height": 1024}},
    "phone": {
        "viewport": {"width": 375, "height": 812},
        "has_touch": True,
        "is_mobile": True,
        "device_scale_factor": 2,
    },
}


def answered(route: Route) -> None:
    chunks: list[dict[str, object]] = [
        {"choices": [{"index": 0, "delta": {"reasoning_content": "The quadratic formula."}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": ANSWER}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "timings": TIMINGS},
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    route.fulfill(body=body, content_type="text/event-stream")


def listed(route: Route) -> None:
    """What the root measures on a machine with a GPU."""
    sizes = {"qwen3-8b": 5.0, "gemma-3-4b": 3.1, "mistral-small-24b": 14.3, "phi-4-mini": 2.5, "smollm2-135m": 0.1}
    found = route.fetch().json()
    for model in found["data"]:
        size = int(sizes[model["id"]] * 2**30)
        up = model["status"]["state"] == "ready"
        model["memory"] = {"estimated": int(size * 1.1), "vram": size if up else None, "ram": 2**28 if up else None,
                           "kv": 2**30 if up else None}  # fmt: skip
        model["capabilities"] = {"vision": "gemma" in model["id"], "reasoning": "qwen" in model["id"]}
    route.fulfill(json=found)


def ended(n: int, now: float) -> dict[str, object]:
    counts = {"prompt_tokens": 300 + 117 * n, "cached_tokens": 120 * (n % 3), "generated": 90 + 41 * n}
    times = {"since": now - 400 + 37 * n, "queue_ms": 2, "first_ms": 180 + 35 * n, "total_ms": 2400 + 900 * n}
    return {"id": f"r{n}", "state": "done", "outcome": "worker_died" if n == 3 else "ok"} | counts | times


def activity(route: Route) -> None:
    now = time.time()
    base = {"model": "qwen3-8b", "endpoint": "/v1/chat/completions", "stream": True, "key": "alice"}
    running = [
        base
        | {"id": "1", "state": "generating", "since": now - 6, "prompt_tokens": 812, "generated": 240, "first_ms": 900},
        base | {"id": "2", "state": "loading", "model": "mistral-small-24b", "since": now - 3, "queue_position": 1},
    ]
    recent = [base | ended(n, now) for n in range(9)]
    route.fulfill(json={"running": running, "recent": recent})


class Counter:
    """A counter of tokens that grows by 30 to 50 a second."""

    def __init__(self) -> None:
        self.asked, self.began = 0, time.monotonic()

    def __call__(self, route: Route) -> None:
        self.asked += 1
        counted = 40 * (time.monotonic() - self.began) + 9 * (self.asked % 3)
        route.fulfill(body=f'llamacpp:tokens_predicted_total{{model="qwen3-8b"}} {counted}\n{MEMORY}')


def log(route: Route) -> None:
    lines = (
        f"12:00:{n:02d} INFO worker.engine step={4000 + n} sequences=3 batch=128 ms={21 + n % 5}" for n in range(60)
    )
    route.fulfill(body="\n".join(lines) + "\n")


def tour(page: Page, shot: Callable[[str], None]) -> None:
    expect(page.get_by_test_id("welcome")).to_contain_text("Loaded")
    shot("welcome")
    page.get_by_test_id("files").set_input_files(
        [
            {"name": "notes.md", "mimeType": "text/markdown", "buffer": b"# Notes\n" * 40},
            {"name": "picture.png", "mimeType": "image/png", "buffer": png(64, 48)},
        ]
    )
    expect(page.get_by_test_id("refusal")).to_be_visible()
    shot("files")
    for _ in range(2):
        page.get_by_test_id("attachment-remove").first.click()
    send(page, QUESTION)
    finished(page)
    expect(page.locator(".katex").first).to_be_visible()
    shot("chat")
    page.get_by_test_id("model-button").click()
    shot("picker")
    page.get_by_test_id("model-about").first.click()
    shot("model")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.get_by_test_id("preset-button").click()
    shot("settings")
    page.keyboard.press("Escape")
    page.get_by_test_id("model-button").click()
    page.locator("[data-testid=model-row][data-model=gemma-3-4b]").get_by_test_id("model-beside").click()
    send(page, "And with numpy?")
    expect(page.get_by_test_id("pair").locator(".katex-display")).to_have_count(2)
    page.get_by_test_id("message").fill("Which of them is faster?")
    shot("side-by-side")
    page.get_by_test_id("message").fill("")
    if not page.get_by_test_id("models-link").is_visible() or page.viewport_size["width"] < 800:  # type: ignore[index]
        page.get_by_test_id("sidebar-button").click()
        shot("sidebar")
    page.get_by_test_id("models-link").click()
    expect(page.get_by_test_id("chart")).to_contain_text("tokens/s")
    page.wait_for_timeout(5000)  # some points for the chart
    shot("models")
    page.get_by_test_id("tab-activity").click()
    expect(page.get_by_test_id("activity")).to_be_visible()
    shot("requests")
    page.get_by_test_id("tab-logs").click()
    expect(page.get_by_test_id("log")).to_contain_text("step=4059")
    shot("logs")
    page.evaluate("location.hash = '#/'")
    choose(page, "phi-4-mini")
    expect(page.get_by_test_id("load-strip")).to_contain_text("told to fail")
    shot("failed")
    page.route("**/v1/models", lambda route: route.fulfill(json={"data": []}))
    page.reload()
    expect(page.get_by_test_id("welcome")).to_contain_text("There is no model yet")
    shot("empty")
    page.route("**/v1/models", lambda route: route.fulfill(status=401, json={"error": {"message": "no key"}}))
    page.reload()
    expect(page.get_by_test_id("key-screen")).to_be_visible()
    shot("key")


def pictures(browser: Browser, server: Server, folder: Path) -> None:
    for size, options in SIZES.items():
        for theme in ("light", "dark"):
            page, faults = watched(browser, server.url, color_scheme=theme, **options)
            routes = {
                "**/v1/models": listed,
                "**/chat/completions": answered,
                "**/activity": activity,
                "**/logs/stream*": log,
            }
            for path, handle in routes.items():
                page.route(path, handle)
            page.route("**/metrics", Counter())
            page.goto(server.url)

            def shot(name: str, page: Page = page, end: str = f"{size}-{theme}") -> None:
                page.wait_for_timeout(300)  # fades
                page.screenshot(path=folder / f"{name}-{end}.png", scale="css")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}-{end} is too wide"

            tour(page, shot)
            page.context.close()
            assert faults == [], faults


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Server(Path(tempfile.mkdtemp()), MODELS) as server, sync_playwright() as playwright:
        until(lambda: server.state("qwen3-8b") == "ready")
        for name in ("phi-4-mini", "mistral-small-24b", "gemma-3-4b"):
            server.http.post("/models/load", json={"model": name})
        until(lambda: server.state("gemma-3-4b") == "ready")
        server.chat("gemma-3-4b", paced("x", fault="SIGSEGV", at=0))
        until(lambda: server.state("gemma-3-4b") == "ready")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        pictures(browser, server, folder)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
