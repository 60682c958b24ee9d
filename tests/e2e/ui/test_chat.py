"""Talking to models in the pages: streaming, branches, settings, keeping, the reader's place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.server import ROOT, Server, until
from tests.e2e.ui.pages import GATE, HOLD, WORDS, answers, between, finished, held, paced, pick, send, watched


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((ROOT / "proxy/ui/package-lock.json").read_text())["packages"]
    assert len(packages) > 20
    assert not [name for name, package in packages.items() if "resolved" in package]


def test_an_answer_streams_in_and_stays_after_a_reload(page: Page) -> None:
    send(page, held(WORDS, after=10))
    content = page.get_by_test_id("assistant").get_by_test_id("content")
    expect(content).to_contain_text("word9")
    assert "word10" not in content.inner_text()  # it comes in pieces
    HOLD.unlink()
    expect(content).to_have_text(WORDS)
    finished(page)
    assert re.search(r"40 tokens.*tokens/s.*prompt \d+", page.get_by_test_id("statistics").inner_text(), re.S)
    expect(page.get_by_test_id("badge")).to_have_text("a")
    page.reload()
    expect(content).to_have_text(WORDS)
    expect(page.get_by_test_id("conversation")).to_have_count(1)


def test_text_is_markdown_and_hostile_text_is_only_text(page: Page) -> None:
    text = "**bold** `code` <img src=x onerror=window.hacked=1> <script>window.hacked=1</script> " \
        "[link](javascript:window.hacked=1) ![picture](http://elsewhere.example/x.png)"  # fmt: skip
    send(page, text)
    finished(page)
    content = page.get_by_test_id("assistant").get_by_test_id("content")
    expect(content.locator("strong")).to_have_text("bold")
    expect(content.locator("code")).to_have_text("code")
    expect(content).to_contain_text("<img src=x")
    assert content.locator("img, script, [onerror], a[href^=javascript]").count() == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_keeps_what_there_is_and_frees_the_model(page: Page, pages_server: Server, way: str) -> None:
    send(page, held(f"{WORDS} " * 10, after=10))
    expect(page.get_by_test_id("assistant").get_by_test_id("content")).to_contain_text("word2")
    page.get_by_test_id("stop").click() if way == "button" else page.keyboard.press("Escape")
    expect(page.get_by_test_id("assistant")).to_contain_text("stopped")
    before = answers(page)
    assert before[0].startswith("word0 word1")
    until(lambda: pages_server.http.get("/v1/models/a").json()["runtime"]["in_flight"] == 0)
    assert answers(page) == before
    send(page, "and on")
    expect(page.get_by_test_id("assistant").last).to_contain_text("and on")


def test_another_answer_is_a_branch(page: Page) -> None:
    send(page, "first question")
    finished(page)
    send(page, "second question")
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    finished(page)
    page.get_by_test_id("regenerate").first.click()
    expect(page.get_by_test_id("branch")).to_have_text("2/2")
    finished(page)
    assert answers(page) == ["first question"]
    page.get_by_test_id("branch-left").click()
    expect(page.get_by_test_id("branch")).to_have_text("1/2")
    assert answers(page) == ["first question", "second question"]


def test_an_edited_question_is_a_branch(page: Page) -> None:
    send(page, "one")
    finished(page)
    page.get_by_test_id("user").hover()
    page.get_by_test_id("edit").click()
    page.get_by_test_id("edit-field").fill("two")
    page.get_by_test_id("edit-send").click()
    expect(page.get_by_test_id("branch")).to_have_text("2/2")
    expect(page.get_by_test_id("assistant").get_by_test_id("content")).to_have_text("two")
    finished(page)
    page.get_by_test_id("branch-left").click()
    assert answers(page) == ["one"]


def test_choosing_a_model_loads_it_and_looking_does_not(page: Page, pages_server: Server) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    GATE.touch()
    page.keyboard.press("Control+/")
    row = page.locator("[data-testid=model-row][data-model=b]")
    expect(row).to_contain_text("Not loaded")
    assert pages_server.state("b") == "unloaded"
    page.get_by_test_id("model-search").fill("b")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("model-button")).to_contain_text(re.compile(r"b\s*\d+ %"))
    send(page, "hello b")
    expect(page.get_by_test_id("waiting")).to_contain_text("Loading b")
    GATE.unlink()
    finished(page)
    expect(page.get_by_test_id("badge")).to_have_text("b")
    page.get_by_test_id("badge").click()  # again, with another one
    pick(page, "a")
    finished(page)
    expect(page.get_by_test_id("badge")).to_have_text("a")
    expect(page.get_by_test_id("branch")).to_have_text("2/2")


def test_a_model_that_cannot_load_is_told_with_its_cause(page: Page, pages_server: Server) -> None:
    page.get_by_test_id("model-button").click()
    pick(page, "broken")
    send(page, "hello")
    failure = page.get_by_test_id("failure")
    expect(failure).to_contain_text("told to fail: permanent")
    generation = pages_server.status("broken")["since"]
    page.get_by_test_id("retry").click()
    until(lambda: pages_server.status("broken")["since"] != generation, what="a second try")
    expect(failure).to_contain_text("told to fail: permanent")
    expect(page.get_by_test_id("assistant")).to_have_count(1)  # the one without a word was replaced
    page.get_by_test_id("models-link").click()
    broken = page.locator("[data-testid=model][data-model=broken]")
    expect(broken.get_by_test_id("status")).to_have_text("Failed")
    expect(broken.get_by_test_id("cause")).to_contain_text("Could not be loaded: told to fail: permanent")


def test_a_worker_that_dies_leaves_its_text_and_a_cause(page: Page) -> None:
    page.get_by_test_id("model-button").click()
    pick(page, "mortal")
    send(page, paced(WORDS, rate=100, fault="SIGKILL", at=10))
    expect(page.get_by_test_id("failure")).to_contain_text("cut off")
    expect(page.get_by_test_id("failure")).to_contain_text("the worker of mortal")
    assert answers(page)[0].startswith("word0 word1")
    expect(page.get_by_test_id("retry")).to_be_enabled()


def test_the_models_page_loads_and_unloads(page: Page, pages_server: Server) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    page.get_by_test_id("models-link").click()
    b = page.locator("[data-testid=model][data-model=b]")
    expect(b.get_by_test_id("status")).to_have_text("Not loaded")
    GATE.touch()
    b.get_by_test_id("load").click()
    expect(b.get_by_test_id("status")).to_contain_text("Loading ·")
    GATE.unlink()
    expect(b.get_by_test_id("status")).to_have_text("Loaded")
    b.get_by_test_id("unload").click()
    expect(b.get_by_test_id("status")).to_have_text("Not loaded")
    expect(b).to_contain_text("unloaded on request")
    assert pages_server.state("b") == "unloaded"


def test_chats_are_found_renamed_deleted_and_had_back(page: Page) -> None:
    for text in ("about apples", "about pears"):
        page.get_by_test_id("new-chat").click()
        expect(page.get_by_test_id("welcome")).to_be_visible()
        send(page, text)
        finished(page)
    chats = page.get_by_test_id("conversation")
    expect(chats).to_have_count(2)
    page.get_by_test_id("chat-search").fill("apples")
    expect(chats).to_have_count(1)
    chats.hover()
    page.get_by_test_id("rename").click()
    page.get_by_test_id("rename-field").fill("Fruit")
    page.keyboard.press("Enter")
    expect(chats).to_have_text("Fruit")
    page.get_by_test_id("chat-search").fill("")
    with page.expect_download() as saving:
        page.get_by_test_id("settings-button").click()
        page.get_by_test_id("export").click()
    page.keyboard.press("Escape")
    for left in (1, 0):
        chats.first.hover()
        page.get_by_test_id("delete").first.click()
        expect(chats).to_have_count(left)
    page.get_by_test_id("toast").last.get_by_text("Undo").click()
    expect(chats).to_have_count(1)
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("import").set_input_files(
        {"name": "chats.jsonl", "mimeType": "text/plain", "buffer": Path(saving.value.path()).read_bytes()}
    )
    expect(page.get_by_test_id("toast").last).to_have_text("2 chats imported")
    page.keyboard.press("Escape")
    expect(chats).to_have_count(3)
    page.get_by_test_id("chat-search").fill("Fruit")
    expect(chats.first).to_have_text("Fruit")
    chats.first.get_by_role("link").click()
    expect(page.get_by_test_id("assistant").get_by_test_id("content")).to_have_text("about apples")


def test_settings_are_sent_only_when_set(page: Page) -> None:
    sent: list[dict[str, object]] = []
    page.on("request", lambda asked: sent.append(asked.post_data_json) if "chat/comp" in asked.url else None)
    send(page, "one")
    finished(page)
    page.get_by_test_id("settings-button").click()
    expect(page.get_by_test_id("sampling-temperature")).to_have_attribute("placeholder", "0.8")
    page.get_by_test_id("sampling-temperature").fill("0.25")
    page.get_by_test_id("sampling-max_tokens").fill("2")
    page.get_by_test_id("system").fill("Be brief.")
    page.keyboard.press("Escape")
    send(page, "two three four")
    expect(page.get_by_test_id("assistant").last.get_by_test_id("content")).to_have_text("two three")
    assert "temperature" not in sent[0]
    assert [message["role"] for message in sent[0]["messages"]] == ["user"]  # type: ignore[attr-defined]
    assert (sent[1]["temperature"], sent[1]["max_tokens"], "top_p" in sent[1]) == (0.25, 2, False)
    assert sent[1]["messages"][0] == {"role": "system", "content": "Be brief."}  # type: ignore[index]


def test_it_works_below_another_path_and_on_a_phone(browser: Browser, pages_server: Server) -> None:
    with between(pages_server, "/box/llm/") as reverse:
        page, faults = watched(browser, reverse.url, viewport={"width": 390, "height": 844})
        page.goto(f"{reverse.url}/")
        send(page, "hello from below")
        expect(page.get_by_test_id("assistant").get_by_test_id("content")).to_have_text("hello from below")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.get_by_test_id("sidebar-button").click()
        page.get_by_test_id("models-link").click()
        expect(page.get_by_test_id("model")).to_have_count(5)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.context.close()
    assert faults == []


def test_nothing_moves_while_text_streams_in(page: Page) -> None:
    page.get_by_test_id("message").fill(paced("short lines of text " * 30, rate=200))  # the field grows
    page.wait_for_timeout(200)
    page.evaluate(
        "window.shift = 0; new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.shift += "
        "entry.hadRecentInput ? 0 : entry.value)).observe({type: 'layout-shift'})"
    )
    page.get_by_test_id("send").click()
    finished(page)
    assert page.evaluate("window.shift") < 0.001


def test_the_readers_place_is_kept_while_text_streams_in(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 420})
    send(page, held("short lines of text " * 60, after=120))
    scroll = page.get_by_test_id("scroll")
    away = "element => element.scrollHeight - element.scrollTop - element.clientHeight"
    expect(page.get_by_test_id("assistant").get_by_test_id("content")).to_contain_text("lines of text short " * 20)
    assert scroll.evaluate(away) < 40
    scroll.evaluate("element => element.scrollTop = 20")
    expect(page.get_by_test_id("latest")).to_be_visible()
    HOLD.unlink()
    finished(page)
    assert scroll.evaluate("element => element.scrollTop") == 20
    page.get_by_test_id("latest").click()
    expect(page.get_by_test_id("latest")).to_be_hidden()
    assert scroll.evaluate(away) < 40
