"""What the pages do when something breaks: they say so, lose nothing, and come back by themselves."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.server import Server, until
from tests.e2e.ui.pages import (
    GATE,
    HOLD,
    KEY,
    MODELS,
    WORDS,
    answer,
    answers,
    between,
    choose,
    finished,
    held,
    pick,
    send,
    watched,
)


def test_a_proxy_that_is_killed_is_missed_for_a_moment_only(page: Page, pages_server: Server) -> None:
    send(page, held(WORDS, after=10))
    expect(answer(page)).to_contain_text("word5")
    pages_server.kill("proxy-0")
    HOLD.unlink()
    expect(page.get_by_test_id("failure")).to_contain_text("The connection was lost before the answer was complete")
    assert answers(page)[0].startswith("word0 word1")
    expect(page.get_by_test_id("offline")).to_have_count(0)
    page.get_by_test_id("retry").click()
    expect(page.get_by_test_id("branch")).to_have_text("2/2")
    expect(answer(page)).to_have_text(WORDS)
    finished(page)


def no_stream(route: Route) -> None:
    """As a server answers that keeps none."""
    error = {"message": "no stream of this conversation is kept", "code": "not_found", "status": 404}
    route.fulfill(status=404, json={"error": error})


def test_a_server_that_does_not_answer_is_told_and_found_again(browser: Browser, pages_server: Server) -> None:
    with between(pages_server) as line:
        page, faults = watched(browser, line.url)
        page.route("**/v1/stream?*", no_stream)
        page.goto(line.url)
        expect(page.get_by_test_id("welcome")).to_contain_text("Loaded")
        page.context.set_offline(True)
        line.cut()
        expect(page.get_by_test_id("offline")).to_be_visible()
        page.context.set_offline(False)
        expect(page.get_by_test_id("offline")).to_have_count(0)
        send(page, held(WORDS, after=10))
        expect(answer(page)).to_contain_text("word5")
        line.cut()
        expect(page.get_by_test_id("failure")).to_contain_text("cut off")
        HOLD.unlink()
        page.get_by_test_id("continue").click()
        expect(answer(page)).to_contain_text("word39")
        expect(page.get_by_test_id("failure")).to_have_count(0)
        page.context.close()
    assert faults == []


def test_what_was_shown_outlives_a_reload(page: Page) -> None:
    page.route("**/v1/stream?*", no_stream)
    send(page, held(WORDS, after=10))
    expect(answer(page)).to_contain_text("word3")
    page.reload()
    expect(answer(page)).to_contain_text("word3")
    expect(page.get_by_test_id("assistant")).to_contain_text("interrupted")
    expect(page.get_by_test_id("continue")).to_be_visible()


def test_what_others_do_is_told_by_the_feed(page: Page, pages_server: Server) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    page.get_by_test_id("model-button").click()
    row = page.locator("[data-testid=model-row][data-model=b]")
    expect(row).to_contain_text("Not loaded")
    GATE.touch()
    pages_server.http.post("/models/load", json={"model": "b"})
    expect(row.get_by_test_id("status")).to_contain_text(re.compile(r"Loading · \d+ %"))
    GATE.unlink()
    expect(row.get_by_test_id("status")).to_have_text("Loaded")


def test_without_the_feed_the_poll_tells(page: Page, pages_server: Server) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    page.route("**/models/sse", lambda route: route.abort())
    page.reload()
    GATE.touch()
    choose(page, "b")
    expect(page.get_by_test_id("load-strip")).to_contain_text("Loading b")
    GATE.unlink()
    expect(page.get_by_test_id("model-button")).to_contain_text("Loaded")
    expect(page.get_by_test_id("load-strip")).to_have_count(0)
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/v1/models") else None)
    until(lambda: page.wait_for_timeout(200) or len(asked) > 3, what="it is asked each second")


def test_a_load_is_called_off_and_one_that_fails_says_why(page: Page, pages_server: Server) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    GATE.touch()
    choose(page, "b")
    page.get_by_test_id("load-cancel").click()
    until(lambda: pages_server.state("b") == "unloaded")
    expect(page.get_by_test_id("model-button")).to_contain_text("Not loaded")
    choose(page, "broken")
    strip = page.get_by_test_id("load-strip")
    expect(strip).to_contain_text("Could not be loaded: told to fail: permanent")
    since = pages_server.status("broken")["since"]
    page.get_by_test_id("load-retry").click()
    until(lambda: pages_server.status("broken")["since"] != since, what="a second try")
    expect(strip).to_contain_text("told to fail")


def test_a_model_that_is_gone_leaves_its_conversations_readable(page: Page) -> None:
    send(page, "remember me")
    finished(page)

    def fewer(route: Route) -> None:
        listed = route.fetch().json()
        listed["data"] = [model for model in listed["data"] if model["id"] != "a"]
        route.fulfill(json=listed)

    page.route("**/v1/models", fewer)
    page.reload()
    expect(page.get_by_test_id("gone")).to_contain_text("a answered in this chat")
    page.get_by_test_id("gone-read").click()
    expect(answer(page)).to_have_text("remember me")
    page.reload()
    page.get_by_test_id("gone-pick").click()
    pick(page, "mortal")
    send(page, "and on")
    expect(page.get_by_test_id("badge").last).to_have_text("mortal")
    finished(page)


@pytest.mark.parametrize("role", ["model", "router"])
def test_where_there_is_one_model_there_is_nothing_to_choose(page: Page, role: str) -> None:
    def alone(route: Route) -> None:
        listed = route.fetch().json()
        kept = ("a", "b") if role == "model" else ("a",)
        route.fulfill(json=listed | {"data": [model for model in listed["data"] if model["id"] in kept]})

    page.route("**/v1/models", alone)
    page.route("**/props", lambda route: route.fulfill(json=route.fetch().json() | {"role": role}))
    page.reload()
    send(page, "only you")
    expect(answer(page)).to_have_text("only you")
    finished(page)
    expect(page.get_by_test_id("model-button")).to_have_count(0)
    expect(page.get_by_test_id("badge")).to_be_disabled()
    page.keyboard.press("Control+/")
    page.get_by_test_id("only-model").click()
    expect(page.get_by_test_id("model-info")).to_contain_text("Context of one request")
    expect(page.get_by_test_id("model-search")).to_have_count(0)


def test_a_key_is_asked_for_and_bounds_what_is_shown(browser: Browser, built: None, tmp_path: Path) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    key = f'[[keys]]\nname = "alice"\nsha256 = "{digest}"\nmodels = ["a", "mortal"]\n'
    with Server(tmp_path, f"{MODELS}\n{key}") as server:
        page, faults = watched(browser, server.url)
        page.goto(server.url)
        page.get_by_test_id("key").fill("wrong")
        page.get_by_test_id("key-send").click()
        expect(page.get_by_test_id("key-screen")).to_contain_text("does not know this key")
        page.get_by_test_id("key").fill(KEY)
        page.get_by_test_id("key-send").click()
        expect(page.get_by_test_id("welcome")).to_be_visible()
        send(page, "let in")
        expect(answer(page)).to_have_text("let in")
        finished(page)
        page.reload()
        expect(answer(page)).to_have_text("let in")
        page.get_by_test_id("models-link").click()
        expect(page.get_by_test_id("read-only")).to_be_visible()
        expect(page.get_by_test_id("model")).to_have_count(2)
        expect(page.get_by_test_id("pull")).to_have_count(0)
        mortal = page.locator("[data-testid=model][data-model=mortal]")
        mortal.get_by_test_id("load").click()
        expect(mortal.get_by_test_id("status")).to_have_text("Loaded")
        assert page.evaluate("JSON.stringify(localStorage)").count(KEY) == 0  # not kept unless the reader says so
        page.context.close()
        assert faults == []
