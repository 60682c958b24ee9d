"""A fast and long answer leaves the page to its reader, whatever else the machine has to do.

What the page does is counted: the characters that each frame puts into the document are those that have come, and those
of the block they belong to. Times are measured in the page's own CPU time, against a loop of known length.
"""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.ui.pages import answers, paced

SENTENCE = "The quick brown fox jumps over the lazy dog and then some more of it. "
BLOCK = f"{SENTENCE * 6}\n\n```python\nprint('x')\nfor i in range(10):\n    print(i)\n```\n\n- one\n- two\n\n"
PARTS = {"text": (BLOCK, 20_000), "one endless line": (SENTENCE, 4000)}
LARGEST = 12_000  # characters: a block has 8,000 at most, the answers 90,000 and 18,000
LONGEST = 50.0  # milliseconds of a task, on a machine that does the loop in
LOOP = 1.5  # milliseconds

WATCH = """() => {
  window.shift = 0
  window.most = 0
  new PerformanceObserver((list) => list.getEntries().forEach((entry) =>
    window.shift += entry.hadRecentInput ? 0 : entry.value)).observe({type: 'layout-shift'})
  let length = 0
  new MutationObserver((records) => {
    const added = records.flatMap((each) => each.type === 'characterData' ? [each.target] : [...each.addedNodes])
    const put = added.reduce((sum, node) => sum + (node.isConnected ? node.textContent.length : 0), 0)
    const now = document.querySelector('[data-testid=assistant] [data-testid=content]')?.textContent.length ?? 0
    if (length) window.most = Math.max(window.most, put - Math.max(0, now - length))
    length = now
  }).observe(document.body, {subtree: true, childList: true, characterData: true})
}"""
CALIBRATE = """() => {
  const times = []
  for (let round = 0; round < 60; round++) {
    const began = performance.now()
    const seen = new Map()
    for (let n = 0; n < 12_000; n++) seen.set(`key ${n % 500}`, (seen.get(`key ${n % 500}`) ?? 0) + n)
    times.push(performance.now() - began)
  }
  return times.slice(20).reduce((sum, each) => sum + each, 0) / 40
}"""
# In the page, and seldom: to be asked from outside costs it more than the text does.
ENDED = """() => new Promise((done) => { const timer = setInterval(() => {
  if (document.querySelector('[data-testid=send]')) done(clearInterval(timer)) }, 500) })"""


@pytest.mark.parametrize("kind", PARTS)
def test_a_fast_long_stream_leaves_the_page_responsive(page: Page, browser: Browser, kind: str) -> None:
    block, tokens = PARTS[kind]
    page.evaluate(WATCH)
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("sampling-max_tokens").fill(str(tokens))
    page.keyboard.press("Escape")
    page.get_by_test_id("message").fill(paced(block, keep=True, rate=4000))
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    try:
        page.get_by_test_id("send").click()
        expect(page.get_by_test_id("stop")).to_be_visible()
        page.evaluate(ENDED)
    finally:
        trace = browser.stop_tracing()
    length, slower = len(answers(page)[0]), max(1.0, page.evaluate(CALIBRATE) / LOOP)
    assert length > 15_000
    assert page.evaluate("window.shift") < 0.001
    assert 0 < page.evaluate("window.most") < LARGEST
    assert second(trace) < LONGEST * slower


def longest(trace: bytes) -> list[float]:
    """The CPU times of the page's main thread's tasks in milliseconds, the longest ones first."""
    events = json.loads(trace)["traceEvents"]
    names = [e for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"]
    main = {(e["pid"], e["tid"]) for e in names}
    tasks = [e for e in events if e["name"].endswith("RunTask") and (e["pid"], e["tid"]) in main and "tdur" in e]
    assert len(tasks) > 20  # the fewer, the busier the machine, which draws seldom then
    return sorted((task["tdur"] / 1000 for task in tasks), reverse=True)[:5]


def second(trace: bytes) -> float:
    """The longest but one: a collection of garbage may fall into any task."""
    return longest(trace)[1]
