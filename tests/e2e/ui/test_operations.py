"""The pages for who runs the box, and what holds for every page: no barrier, no shift, no request to elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.server import Server, until
from tests.e2e.ui.barriers import AXE, SMALL, THEMES, barriers
from tests.e2e.ui.pages import answer, choose, finished, held, paced, send


def row(**more: object) -> dict[str, object]:
    """A request as GET /activity shows it."""
    known = {"id": "r1", "model": "a", "endpoint": "/v1/chat/completions", "stream": True, "state": "generating"}
    return known | {"since": time.time() - 3, "prompt_tokens": 1200, "cached_tokens": 900, "generated": 41} | more


def test_a_death_is_told_with_its_cause_and_its_last_words(page: Page, pages_server: Server) -> None:
    choose(page, "mortal")
    send(page, paced("a b c", fault="SIGSEGV", at=1))
    expect(page.get_by_test_id("failure")).to_be_visible()
    page.get_by_test_id("models-link").click()
    mortal = page.locator("[data-testid=model][data-model=mortal]")
    expect(mortal.get_by_test_id("deaths").locator("summary").first).to_contain_text("crashed with SIGSEGV")
    mortal.locator("details.past > summary").click()
    mortal.get_by_test_id("deaths").locator("summary").first.click()
    expect(mortal.get_by_test_id("deaths")).to_contain_text("exit code -11")
    expect(mortal.get_by_test_id("deaths")).to_contain_text("1 requests lost")
    expect(mortal.get_by_test_id("deaths").locator("pre").first).to_contain_text("loaded")
    until(lambda: pages_server.state("mortal") == "ready", what="it comes back")
    expect(mortal.get_by_test_id("status")).to_have_text("Loaded")


def test_memory_that_is_not_known_is_a_dash(page: Page) -> None:
    def known(route: Route) -> None:
        listed = route.fetch().json()
        for model in listed["data"]:
            nothing = {"estimated": 2 * 2**30, "vram": None, "ram": None, "kv": None}
            model["memory"] = nothing | ({"vram": 3 * 2**30, "kv": 2**30} if model["id"] == "a" else {})
        route.fulfill(json=listed)

    page.route("**/v1/models", known)
    page.get_by_test_id("models-link").click()
    a = page.locator("[data-testid=model][data-model=a]")
    expect(a).to_contain_text(re.compile(r"estimated\s*2.0 GiB\s*GPU\s*3.0 GiB\s*RAM\s*—\s*KV cache\s*1.0 GiB"))
    expect(page.get_by_test_id("models-page")).to_contain_text(re.compile(r"Memory held\s*3.0 GiB"))


def test_requests_are_listed_and_ended(page: Page) -> None:
    cancelled: list[str] = []
    running = [row(), row(id="r2", state="queued", queue_position=2, prompt_tokens=None, generated=None)]
    recent = [row(id="r0", state="done", outcome="worker_died", first_ms=500, total_ms=2500, queue_ms=12)]

    def listed(route: Route) -> None:
        left = [each for each in running if each["id"] not in cancelled]
        route.fulfill(json={"running": left, "recent": recent})

    def cancel(route: Route) -> None:
        cancelled.append(route.request.url.split("/")[-2])
        route.fulfill(json={"success": True})

    page.route("**/activity", listed)
    page.route("**/requests/*/cancel", cancel)
    page.get_by_test_id("models-link").click()
    page.get_by_test_id("tab-activity").click()
    expect(page.get_by_test_id("request").first).to_contain_text("1,200")
    expect(page.get_by_test_id("request").nth(1)).to_contain_text("queued, number 2")
    expect(page.get_by_test_id("activity")).to_contain_text("worker_died")
    expect(page.get_by_test_id("activity")).to_contain_text("20.0")  # tokens/s: 40 in 2 s
    page.get_by_test_id("request-cancel").first.click()
    expect(page.get_by_test_id("request")).to_have_count(1)
    assert cancelled == ["r1"]


def test_a_log_is_followed_and_filtered(page: Page) -> None:
    text = "".join(f"{'ERROR' if number % 10 == 0 else 'INFO'} line {number}\n" for number in range(300))
    page.route("**/logs/stream/a", lambda route: route.fulfill(body=f"\x1b[31m<b>red</b>\x1b[0m\n{text}"))
    page.get_by_test_id("models-link").click()
    page.locator("[data-testid=model][data-model=a]").get_by_test_id("log-link").click()
    log = page.get_by_test_id("log")
    expect(log).to_contain_text("<b>red</b>")
    expect(log).to_contain_text("INFO line 299")
    assert log.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40
    page.get_by_test_id("log-filter").fill("error")
    expect(log).not_to_contain_text("INFO")
    assert log.inner_text().count("ERROR") == 30


def test_the_speed_of_all_models_is_drawn_from_the_metrics(page: Page) -> None:
    asked: list[float] = []

    def metrics(route: Route) -> None:
        asked.append(time.monotonic())
        counted = 100 * (asked[-1] - asked[0])
        route.fulfill(body=f'llamacpp:tokens_predicted_total{{model="a"}} {counted}\n', content_type="text/plain")

    page.route("**/metrics", metrics)
    page.get_by_test_id("models-link").click()
    expect(page.get_by_test_id("chart")).to_contain_text(re.compile(r"\b(9|10)\d tokens/s"))


def test_models_are_fetched_and_deleted_where_the_server_can(page: Page, pages_server: Server) -> None:
    pulled: list[object] = []

    def orders(route: Route) -> None:
        if route.request.method == "POST":
            pulled.append(route.request.post_data_json)
            found = (
                {"success": True} if pulled[-1] else {"error": {"message": "model: required", "code": "missing_field"}}
            )
            route.fulfill(json=found, status=200 if pulled[-1] else 400)
        else:
            route.fallback()

    page.route(re.compile(r"/models(\?.*)?$"), orders)
    page.get_by_test_id("models-link").click()
    page.get_by_test_id("pull-name").fill("user/repo:Q4_K_M")
    with page.expect_response(lambda response: response.request.method == "POST"):  # handlers run in the page's calls
        page.get_by_test_id("pull-send").click()
    assert pulled[-1] == {"model": "user/repo:Q4_K_M"}


def test_a_page_that_is_only_looked_at_loads_nothing(page: Page, pages_server: Server) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    for place in ("#/models", "#/activity", "#/logs/b", "#/"):
        page.goto(f"{pages_server.url}/{place}")
    page.get_by_test_id("model-button").click()
    expect(page.locator("[data-testid=model-row][data-model=b]")).to_contain_text("Not loaded")
    assert pages_server.state("b") == "unloaded"


def talk(page: Page) -> None:
    send(page, paced("# Title\n\nsome `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet a = 1\n```", keep=True))
    finished(page)
    expect(answer(page)).to_contain_text("let a = 1")


def browse(page: Page) -> None:
    page.get_by_test_id("model-button").click()
    expect(page.get_by_test_id("model-row").first).to_be_visible()


def adjust(page: Page) -> None:
    page.get_by_test_id("settings-button").click()
    expect(page.get_by_test_id("sampling-temperature")).to_be_visible()


def operate(tab: str) -> Callable[[Page], None]:
    def opened(page: Page) -> None:
        page.route("**/activity", lambda route: route.fulfill(json={"running": [row()], "recent": [row(outcome="ok")]}))
        page.route("**/logs/stream*", lambda route: route.fulfill(body="a line\n"))
        page.get_by_test_id("models-link").click()
        page.get_by_test_id(f"tab-{tab}").click()
        expect(
            page.get_by_test_id({"models": "model", "activity": "request", "logs": "log"}[tab]).first
        ).to_be_visible()

    return opened


def waits(page: Page) -> None:
    send(page, held("one two three", after=2))
    expect(answer(page)).to_contain_text("two")
    page.get_by_test_id("message").fill("and then this")
    page.get_by_test_id("send-next").click()
    expect(page.get_by_test_id("queue")).to_be_visible()


def fails(page: Page) -> None:
    choose(page, "broken")
    send(page, "hello")
    expect(page.get_by_test_id("failure")).to_be_visible()
    expect(page.get_by_test_id("load-strip")).to_be_visible()


def compare(page: Page) -> None:
    page.get_by_test_id("model-button").click()
    page.locator("[data-testid=model-row][data-model=thinker]").get_by_test_id("model-beside").click()
    send(page, "both of you")
    expect(page.get_by_test_id("pair").get_by_test_id("content")).to_have_count(2)
    finished(page)


def learn(page: Page) -> None:
    page.get_by_test_id("model-button").click()
    page.get_by_test_id("model-about").first.click()
    expect(page.get_by_test_id("model-info")).to_contain_text("Context of one request")


def attach(page: Page) -> None:
    files = [{"name": f"{n}.md", "mimeType": "text/markdown", "buffer": b"# Notes"} for n in range(5)]
    page.get_by_test_id("files").set_input_files(files)  # type: ignore[arg-type]
    page.get_by_test_id("attachments-all").click()
    expect(page.get_by_test_id("preview-grid")).to_be_visible()


def lock(page: Page) -> None:
    page.route("**/v1/models", lambda route: route.fulfill(status=401, json={"error": {"message": "no"}}))
    page.reload()
    expect(page.get_by_test_id("key-screen")).to_be_visible()


SCREENS: dict[str, Callable[[Page], None]] = {
    "welcome": lambda page: None,
    "chat": talk,
    "failure": fails,
    "queue": waits,
    "side by side": compare,
    "picker": browse,
    "information": learn,
    "files": attach,
    "settings": adjust,
    "models": operate("models"),
    "requests": operate("activity"),
    "logs": operate("logs"),
    "key": lock,
}
WIDTHS = {"desktop": (1280, 800), "phone": (360, 740)}


@pytest.mark.parametrize("screen", SCREENS)
def test_no_barrier_on_any_screen(page: Page, screen: str) -> None:
    page.emulate_media(reduced_motion="reduce")  # half of a fade has no contrast
    SCREENS[screen](page)
    page.evaluate(AXE.read_text())
    touch = page.context.new_cdp_session(page)
    for name, (width, height) in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        touch.send("Emulation.setTouchEmulationEnabled", {"enabled": name == "phone"})
        assert name != "phone" or page.evaluate(SMALL) == []
        for theme, options in THEMES.items():
            if (name, theme) == ("phone", "dark"):
                continue  # its colours have been seen
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            assert barriers(page, options) == [], f"{name}, {theme}"


def test_memory_is_shown_against_what_there_is(page: Page) -> None:
    page.get_by_test_id("models-link").click()
    memory = page.get_by_test_id("memory")
    expect(memory).to_contain_text("RAM")
    expect(memory).to_contain_text(re.compile(r"of \d+(\.\d)? GiB for models"))
    lines = ['budget_bytes{device="gpu:0"} 8589934592']
    lines += [f'placed_bytes{{model="{name}",device="gpu:0"}} {2**30 * size}' for name, size in (("a", 2), ("b", 3))]
    body = "".join(f"llama_supervisor_memory_{line}\n" for line in lines)
    page.route("**/metrics", lambda route: route.fulfill(body=body, content_type="text/plain"))
    expect(memory).to_contain_text(re.compile(r"GPU 0\s*5.0 GiB\s*of 8.0 GiB for models"))
    expect(memory.locator("li")).to_have_text([re.compile(r"b\s*3.0 GiB"), re.compile(r"a\s*2.0 GiB.*would make room")])


def test_a_download_is_paused_and_goes_on(page: Page) -> None:
    """The hub's part is played here; tests/e2e/test_downloads.py has it for real."""
    name, state, orders = "user/repo:Q4_K_M", {"up": False}, list[tuple[str, str]]()

    def listed(route: Route) -> None:
        found = route.fetch().json()
        if state["up"]:
            status = {"state": "downloading", "since": time.time(), "queued": 0, "restarts": 0}
            status["progress"] = {"https://hub/x.gguf": {"done": 2**30, "total": 4 * 2**30}}
            entry = {"id": name, "aliases": [], "path": "", "context_length": 0, "status": status, "meta": None}
            found["data"].append(entry | {"runtime": None, "source": "cache", "can_remove": True})
        route.fulfill(json=found)

    def ordered(route: Route) -> None:
        asked = route.request
        orders.append((asked.method, asked.url.rpartition("/")[2].partition("?")[0]))
        if not (asked.post_data_json or asked.method == "DELETE"):
            route.fulfill(status=400, json={"error": {"message": "model: required", "code": "missing_model"}})
            return
        state["up"] = asked.method == "POST" and "unload" not in asked.url
        route.fulfill(json={"success": True, "model": name})

    page.route("**/v1/models", listed)
    page.route(
        re.compile(r"/models(/unload)?(\?.*)?$"), lambda r: r.fallback() if "/v1/" in r.request.url else ordered(r)
    )
    page.get_by_test_id("models-link").click()
    page.get_by_test_id("pull-name").fill(name)
    page.get_by_test_id("pull-send").click()
    row = page.locator(f"[data-testid=model][data-model='{name}']")
    expect(row).to_contain_text("1.0 GiB of 4.0 GiB")
    row.get_by_test_id("pull-pause").click()
    paused = page.get_by_test_id("paused")
    expect(paused).to_contain_text("paused at 1.0 GiB of 4.0 GiB")
    page.reload()
    paused.get_by_test_id("pull-on").click()
    expect(row).to_contain_text("1.0 GiB of 4.0 GiB")
    expect(paused).to_have_count(0)
    row.get_by_test_id("pull-discard").click()
    expect(row).to_have_count(0)
    expect(paused).to_have_count(0)
    sent = [order for order in orders if order != ("POST", "models")]
    assert sent == [("POST", "unload"), ("DELETE", "models")]


def test_the_servers_own_log_comes_live(page: Page, pages_server: Server) -> None:
    page.goto(f"{pages_server.url}/#/logs/a")
    expect(page.get_by_test_id("log")).to_contain_text("loaded")
    page.goto(f"{pages_server.url}/#/logs/")
    expect(page.get_by_test_id("log")).to_contain_text("/v1/models")
    pages_server.http.get("/v1/models/a", headers={"x-request-id": "seen-in-the-log"})
    expect(page.get_by_test_id("log")).to_contain_text("seen-in-the-log")
